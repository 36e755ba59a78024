"""The command `l3edge embed`: audio files in, an .npz file of each out, on all cores."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import threading
import time
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

from . import embed_workers
from .display import Progress, Terminal
from .embed_file import Embedder, Told
from .errors import AudioError, OptionError
from .folders import SUFFIXES, audio_files, printable
from .session import warnings_above

MOST_JOBS = 1024


def add_parser(sub: Any, model: argparse.ArgumentParser, windows: argparse.ArgumentParser) -> None:
    """Add the command to the subparsers `sub`; `model` and `windows` have the options that choose these."""
    parser = sub.add_parser(
        "embed",
        parents=[model, windows],
        help="embed audio files into .npz files",
        description="Embed each FILE, and the audio files of each folder at any depth, into an .npz file with "
        "embeddings, times, and the identity of the model. A file whose .npz was made before of the same file in the "
        "same way is left as it is: the same command goes on where it was interrupted.",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="an audio file, or a folder of such")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="folder of the .npz files, with the folders that a folder has (default: beside FILE)",
    )
    parser.add_argument(
        "--jobs",
        type=_jobs,
        metavar="N",
        help="files that are embedded at a time, each in a process of its own; they change no bit of the results "
        "(default: one for each core that may be used; 1 with a delegate, as a device is one)",
    )
    parser.add_argument("--overwrite", action="store_true", help="embed what is already embedded too")
    parser.set_defaults(run=run)


def _jobs(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST_JOBS:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to {MOST_JOBS}, got {text!r}")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """`l3edge embed`. Returns the exit status."""
    if args.output and args.output.exists() and not args.output.is_dir():
        raise OptionError(f"{args.output} is a file; --output wants a folder")
    targets = _targets(args.files, args.output)
    embedder = Embedder(args)  # what is wrong with the options is one mistake, not one of every file
    embedder.model.stream(embedder.model.spec.sample_rate, args.hop)
    if args.output:
        for folder in {args.output, *(target.parent for target in targets.values())}:
            folder.mkdir(parents=True, exist_ok=True)
    jobs = min(args.jobs or _default_jobs(args), len(targets))
    failed = 0
    with contextlib.ExitStack() as stack:
        bar = _Bar([printable(path.name) for path in targets])
        stack.callback(bar.clear)
        stack.enter_context(warnings_above(bar.progress))
        reports = _one_by_one(embedder, targets, bar) if jobs == 1 else _together(args, jobs, targets, bar)
        stack.enter_context(contextlib.closing(reports))
        try:
            for target, told in zip(targets.values(), reports, strict=True):
                failed += not told.done
                bar.told()
                line = f"{target}  {told.text}" if told.done else f"l3edge: error: {told.text}"
                out = sys.stdout if told.done else sys.stderr
                print(Terminal(out).shown(printable(line)), file=out, flush=True)
        except KeyboardInterrupt:
            bar.clear()
            again = "the same command without --overwrite" if args.overwrite else "the same command"
            print(f"l3edge: interrupted; what is embedded is whole, and {again} goes on from there", file=sys.stderr)
            return 130
    return 1 if failed else 0


def _default_jobs(args: argparse.Namespace) -> int:
    if args.delegate or args.engine == "edgetpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads: int = args.threads
    return max(1, cores // max(1, threads))


def _targets(files: list[Path], output: Path | None) -> dict[Path, Path]:
    """Audio file to .npz file; OptionError where two would go to one."""
    targets: dict[Path, Path] = {}
    taken: dict[Path, Path] = {}
    for path, folder in _found(files, output):
        target = folder / f"{path.stem}.npz"
        if target in taken:
            raise OptionError(
                f"{taken[target]} and {path} would both be written to {target}; embed them into different folders "
                "with --output, or rename one"
            )
        targets[path], taken[target] = target, path
    return targets


def _found(files: list[Path], output: Path | None) -> Iterator[tuple[Path, Path]]:
    """Each audio file, those of folders too, and the folder of its .npz; AudioError where a folder has none."""
    for path in files:
        if not path.is_dir():
            yield path, output or path.parent
            continue
        inside = list(audio_files(path))
        if not inside:
            raise AudioError(f"no audio file in {path}; there must be some, at any depth: {', '.join(SUFFIXES)}")
        for each in inside:
            yield each, output / each.parent.relative_to(path) if output else each.parent


def _one_by_one(embedder: Embedder, targets: Mapping[Path, Path], bar: _Bar) -> Generator[Told, None, None]:
    for number, (path, target) in enumerate(targets.items()):

        def heard(seconds: float, share: float | None, number: int = number) -> None:
            bar.heard(number, seconds, share)
            bar.draw()

        yield embedder.tell(path, target, heard)


def _together(
    args: argparse.Namespace, jobs: int, targets: Mapping[Path, Path], bar: _Bar
) -> Generator[Told, None, None]:
    told = embed_workers.options(args, bar.progress is not None)
    return embed_workers.embedded(told, jobs, targets, bar.heard, bar.draw if bar.progress else None)


class _Bar:
    """A bar, where stderr is a terminal: of the first file that is not told of yet, with the speed of all."""

    def __init__(self, names: list[str]) -> None:
        terminal = Terminal(sys.stderr)
        self.progress = Progress(terminal, len(names)) if terminal.moves else None
        self._names, self._number = names, 0
        self._begun, self._seconds = time.monotonic(), 0.0
        self._shares: dict[int, float | None] = {}
        self._lock = threading.Lock()

    def heard(self, number: int, seconds: float, share: float | None) -> None:
        """So many more seconds were embedded, of file `number` (from 0) that share; from any thread."""
        with self._lock:
            self._seconds += seconds
            self._shares[number] = share

    def draw(self) -> None:
        """Show it, unless that was just done."""
        if self.progress and self.progress.due:
            share = self._shares.get(self._number, 0.0)
            speed = self._seconds / max(1e-6, time.monotonic() - self._begun)
            self.progress.show(self._number + 1, self._names[self._number], share, speed)

    def told(self) -> None:
        """The next file's turn has come; lines may be written now."""
        self.clear()
        with self._lock:
            self._shares.pop(self._number, None)
        self._number += 1

    def clear(self) -> None:
        """Take it away."""
        if self.progress:
            self.progress.clear()
