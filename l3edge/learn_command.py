"""The command `l3edge learn`: clips in folders in, a head out; or clips of a label from the microphone."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import sources
from .clips import SILENCE, Clip, embedded, gathered, labelled
from .commands import describe, load_model
from .display import Terminal, dbfs
from .errors import AudioError, Error, OptionError
from .folders import bar
from .head_file import write
from .heads import BACKGROUND, KINDS, Head, Validation
from .learning import Windows, learn
from .microphone import Block
from .model import Model
from .model_file import replacing
from .results import Recorder
from .sources import Interrupt, Source
from .stream import hop_samples
from .tags import are_names

CLIPS, CLIP_SECONDS = 5, 3.0  # that are recorded
CUE_SECONDS = 1.0  # in which people get ready for a clip
QUIET = -60.0  # dBFS of a clip, below which hardly anything can have been meant


def add_parser(
    sub: Any, model: argparse.ArgumentParser, seconds: Callable[[str], float], device: Callable[[str], int | str]
) -> None:
    """Add the command to the subparsers `sub`; `model` has the options that choose one."""
    parser = sub.add_parser(
        "learn",
        parents=[model],
        help="learn labels from a few clips of each",
        description="Learn to label sounds from a few clips of each: DIR has a sub-folder for each label, named after "
        f"it, with audio files of some seconds. Sounds in a sub-folder called {' or '.join(BACKGROUND)} are learned to "
        "be none of them. With --record the clips come from the microphone.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="one sub-folder of audio files for each label")
    parser.add_argument("--output", type=Path, metavar="HEAD", help="write what was learned there (a .json file)")
    parser.add_argument(
        "--hop", type=float, default=0.1, metavar="S", help="seconds between the windows learned from (default: 0.1)"
    )
    parser.add_argument("--record", metavar="LABEL", help="first record clips into DIR/LABEL")
    parser.add_argument("--clips", type=int, metavar="N", help=f"to record; Ctrl-C ends it sooner (default: {CLIPS})")
    parser.add_argument(
        "--duration", type=seconds, metavar="S", help=f"of each clip to record, in seconds (default: {CLIP_SECONDS:g})"
    )
    parser.add_argument("--device", type=device, metavar="D", help="microphone: index or part of its name")
    parser.set_defaults(run=run, tags=False, head=None)


def run(args: argparse.Namespace) -> int:
    """`l3edge learn`. Returns the exit status."""
    if args.output is None and args.record is None:
        raise OptionError("say where to write the head (--output HEAD), or whose clips to record (--record LABEL)")
    if args.record is None and any(given is not None for given in (args.clips, args.duration, args.device)):
        raise OptionError("--clips, --duration and --device are of what is recorded: give --record LABEL as well")
    if args.clips is not None and args.clips < 1:
        raise OptionError(f"--clips must be at least 1, got {args.clips}")
    if args.output is not None and not args.output.parent.is_dir():
        raise OptionError(f"--output {args.output}: the folder {args.output.parent} does not exist")
    if args.record is not None:
        status = _record(args)
        if status or args.output is None:
            return status
    return _learn(args)


# --- from clips to a head ---------------------------------------------------------------------------------------------


def _learn(args: argparse.Namespace) -> int:
    paths = labelled(args.folder)
    model = load_model(args)
    hop_samples(args.hop, model.spec)  # a wrong hop is one mistake, not one of every clip
    clips = _heard(model, args.hop, paths)
    labels = sorted({label for label, _ in paths})
    windows = gathered(clips, labels)
    head = learn(windows, labels, model, args.hop)
    write(head, args.output)
    print(Terminal(sys.stdout).shown("\n".join([*_counts(head, windows), *_judgement(head)])))
    print(f"\n{args.output} written; try: l3edge stream --head {args.output}")
    return 0


def _heard(model: Model, hop: float, paths: Sequence[tuple[str, Path]]) -> list[Clip]:
    """Embed the clips; those that cannot be read are told, and left out unless a label has no other."""
    clips: list[Clip] = []
    bad, heard, begun = 0, 0, time.monotonic()
    with bar(len(paths)) as progress:
        for number, (label, path) in enumerate(paths, 1):
            if progress and progress.due:
                speed = heard * hop / max(1e-6, time.monotonic() - begun)
                progress.show(number, path.name, (number - 1) / len(paths), speed)
            try:
                clips.append(Clip(label, path, *embedded(model, path, hop)))
                heard += len(clips[-1].levels)
            except (Error, OSError) as error:
                bad += 1
                if progress:
                    progress.clear()
                print(f"l3edge: warning: {describe(error, path)}", file=sys.stderr)
    if bad:
        print(f"l3edge: warning: {bad} of {len(paths)} clips could not be read, and were left out", file=sys.stderr)
    if lost := {label for label, _ in paths} - {clip.label for clip in clips}:
        raise AudioError(f"no clip of {', '.join(sorted(lost))} could be read: mend them, or take the folder away")
    return clips


# --- what is told -----------------------------------------------------------------------------------------------------


def _counts(head: Head, windows: Windows) -> list[str]:
    width = max(5, *map(len, head.labels))
    lines = [f"{'label':{width}}  clips  windows"]
    for number, (label, clips) in enumerate(zip(head.labels, head.clips, strict=True)):
        means = "  (unknown)" if label in BACKGROUND else ""
        lines.append(f"{label:{width}}  {clips:5}  {np.sum(windows.label == number):7}{means}")
    return lines


def _judgement(head: Head) -> list[str]:
    """How good it is, or why nobody knows."""
    threshold = f"unknown: farther than {head.threshold:.3f} from the nearest label's mean"
    if head.validation is None:
        return [
            "",
            "not cross-validated: that takes two clips of a label. The nearest mean decides; scores and threshold are",
            f"guesses from the clips themselves. {threshold}",
        ]
    held = f"set to let {head.validation.within:.0%} of what it knows be known"
    single = [label for label, clips in zip(head.labels, head.clips, strict=True) if clips == 1]
    note = [f"not judged, of one clip each: {', '.join(single)}"] if single else []
    return [*_table(head.validation), *note, "", *_confusion(head.labels, head.validation), "", f"{threshold} ({held})"]


def _table(validation: Validation) -> list[str]:
    lines = [
        "",
        f"cross-validation, {validation.clips} clips in {validation.folds} folds  clips right  windows right  log loss",
    ]
    width = len(lines[1].split("  clips right")[0])
    for number, made in enumerate(validation.candidates):
        name = made.kind if made.kind == KINDS[0] else f"{made.kind}, strength {made.strength:g}"
        mark = "* " if number == validation.chosen else "  "
        lines.append(
            f"{mark + name:{width}}  {made.clips_right:11.1%}  {made.windows_right:13.1%}  {made.log_loss:8.3f}"
        )
    return lines


def _confusion(labels: Sequence[str], validation: Validation) -> list[str]:
    width = max(map(len, labels))
    cell = max(4, len(str(max(map(max, validation.confusion)))) + 2)
    names = [f"{number!s:>{cell}}" for number in range(1, len(labels) + 1)]
    lines = [f"{'clips of (row) taken for (column)':{width + 5}}", f"{'':{width + 5}}{''.join(names)}"]
    for number, (label, row) in enumerate(zip(labels, validation.confusion, strict=True), 1):
        cells = "".join(f"{count or '.':>{cell}}" for count in row)
        lines.append(f"{number:3}  {label:{width}}{cells}")
    return lines


# --- from the microphone to clips -------------------------------------------------------------------------------------


def _record(args: argparse.Namespace) -> int:
    """Record clips one after the other; those that were begun and not ended are left out."""
    if not are_names([args.record]) or "/" in args.record or args.record.startswith("."):
        raise OptionError(f"--record {args.record!r} must be a label: short, printable, without a slash or a first dot")
    folder = args.folder / args.record
    count, seconds = args.clips or CLIPS, args.duration or CLIP_SECONDS
    made = 0
    with _made(folder), Interrupt() as interrupt, sources.microphone(args.device, None, None) as source:
        assert source.microphone
        print(f"{source.name}: {_clips(count)} of {seconds:g} s, {folder}; Ctrl-C ends it", file=sys.stderr)
        blocks = interrupt.until(source.blocks, source.microphone.stop)
        while made < count:
            _cue(f"clip {made + 1} of {count} in {CUE_SECONDS:g} s", source, blocks)
            if not (told := _record_clip(source, blocks, folder, seconds)):
                break
            made += 1
            print(told, flush=True)
    print(f"l3edge: {_clips(made)} of {args.record} recorded", file=sys.stderr)
    if made and args.output is None:
        print(f"l3edge: when each label has some: l3edge learn --output head.json {args.folder}", file=sys.stderr)
    return 128 + interrupt.signal if interrupt.signal else 0


@contextlib.contextmanager
def _made(folder: Path) -> Iterator[None]:
    """A folder, which is taken away again, with those above it, where it was not there and nothing came into it."""
    new = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # not empty
            for each in new:
                each.rmdir()


def _clips(count: int) -> str:
    return "1 clip" if count == 1 else f"{count} clips"


def _cue(text: str, source: Source, blocks: Iterator[Block]) -> None:
    """Say that a clip will begin, and when it does; what is heard until then is not kept."""
    print(text, end="", file=sys.stderr, flush=True)
    missing = round(CUE_SECONDS * source.sample_rate)
    try:
        for block in sources.limited(blocks, missing):
            missing -= block.lost + len(block.samples)
    finally:
        print("" if missing else ": now", file=sys.stderr, flush=True)


def _quiet(level: float) -> str:
    """What to say of a clip's level in dBFS."""
    if level < SILENCE:
        return "; digital silence: is it muted?"
    return "; nearly silent: is the microphone near enough, and its gain up?" if level < QUIET else ""


def _record_clip(source: Source, blocks: Iterator[Block], folder: Path, seconds: float) -> str | None:
    """What to say of a whole clip; None where sound ended before it."""
    number = 1
    while (path := folder / f"{number:03}.wav").exists():
        number += 1
    frames = round(seconds * source.sample_rate)
    missing, energy = frames, 0.0
    with contextlib.suppress(_EndedError), replacing(path) as part:
        recorder = Recorder(part, source.sample_rate, source.channels)
        try:
            for block in sources.limited(blocks, frames):
                recorder.write(block)
                missing -= block.lost + len(block.samples)
                energy += float(np.sum(np.square(block.samples, dtype=np.float64)))
        finally:
            recorder.close()
        if missing:
            raise _EndedError
        level = dbfs(energy / frames / source.channels)
        return f"{path}  {level:.1f} dBFS{_quiet(level)}"
    return None


class _EndedError(Exception):
    """Sound ended within a clip."""
