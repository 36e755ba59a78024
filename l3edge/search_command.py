"""The command `l3edge search`: a sound and an archive in, the moments most like it out."""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import index, search
from .commands import describe, load_model
from .display import Progress, Terminal, clock
from .errors import AudioError, Error, OptionError
from .folders import SUFFIXES, bar, printable
from .model import Model
from .model_file import replacing
from .sinks.lines import FORMATS
from .spec import Spec
from .stream import hop_samples

FOLDER = ".l3edge"  # of an index, in its archive
HOP = 0.5  # s, between the moments of a new index
UNREADABLE = "unreadable.json"  # in the index's folder: {file: [size, mtime_ns]} of what people were told of
MOST_UNREADABLE = 1 << 24  # bytes


def add_parser(sub: Any, model: argparse.ArgumentParser) -> None:
    """Add the command to the subparsers `sub`; `model` has the options that choose one."""
    parser = sub.add_parser(
        "search",
        parents=[model],
        help="find the moments of an archive that sound most like a sound",
        description="Find the moments of an archive, a folder of audio files at any depth, that sound most like QUERY. "
        "A moment is a window of the model, a second long: of those of a file that overlap only the best is shown, and "
        "what lasts longer may be shown as several. The first search indexes the archive; later ones add what is new.",
    )
    parser.add_argument(
        "query", type=Path, metavar="QUERY", help="an audio file; of one longer than a window, the mean"
    )
    parser.add_argument("archive", type=Path, metavar="ARCHIVE", help="a folder")
    parser.add_argument("--top", type=int, default=10, metavar="N", help="moments to show (default: 10)")
    parser.add_argument(
        "--hop",
        type=float,
        metavar="S",
        help=f"seconds between the moments of a new index (default: {HOP:g}, or what is nearest to it for the model)",
    )
    parser.add_argument("--format", choices=FORMATS, default="text", help="of the lines (default: text)")
    parser.add_argument(
        "--index", type=Path, metavar="DIR", help=f"where the index is (default: {FOLDER} in the archive)"
    )
    parser.set_defaults(run=run, tags=False, head=None)


def run(args: argparse.Namespace) -> int:
    """`l3edge search`. Returns the exit status."""
    if args.top < 1:
        raise OptionError(f"--top must be at least 1, got {args.top}")
    model = load_model(args)
    if args.hop is not None:
        hop_samples(args.hop, model.spec)
    wanted = search.query(model, args.query)
    files = search.files(args.archive)
    if not files:
        raise AudioError(f"no audio file in {args.archive}; there must be some, at any depth: {', '.join(SUFFIXES)}")
    opened = _opened(args, model)
    failed = _add(model, opened, files)
    live = [opened.entries[name] for name, file in files.items() if opened.is_current(name, file.size, file.mtime_ns)]
    window = model.spec.window / model.spec.sample_rate
    moments = search.search(opened, sorted(live, key=lambda entry: entry.row), wanted, window, args.top)
    _tell(moments, args)
    if failed:
        left = "1 file that cannot be read is" if failed == 1 else f"{failed} files that cannot be read are"
        print(f"l3edge: warning: {left} left out", file=sys.stderr)
    return 0


def _opened(args: argparse.Namespace, model: Model) -> index.Index:
    """The archive's index, made if there is none; Error where it is of another model or hop."""
    folder = args.index or args.archive / FOLDER
    if not args.index and folder.is_symlink():
        raise Error(f"{folder} is a link, which may lead anywhere; say where the index is with --index DIR")
    try:
        opened = index.create(folder, index.About.of(model, args.hop or _default_hop(model.spec)))
    except OSError as error:
        raise Error(f"{folder}: no index can be made there ({error.strerror}); say where with --index DIR") from error
    about = opened.about
    if (about.model_sha256, about.embedding_size) != (model.identity, model.spec.embedding_size):
        raise Error(
            f"{folder}: made with model {about.model} (SHA-256 {about.model_sha256[:12]}...), not with {model.name} "
            f"({model.identity[:12]}...): search with --model {about.model}, or remove the folder to index anew"
        )
    if args.hop not in (None, about.hop):
        raise OptionError(f"--hop {args.hop:g}: {folder} has moments every {about.hop:g} s; remove it to index anew")
    hop_samples(about.hop, model.spec)
    return opened


def _default_hop(spec: Spec) -> float:
    """HOP, or the nearest to it that the model has."""
    return max(1, round(HOP * spec.sample_rate / spec.grid)) * spec.grid / spec.sample_rate


def _add(model: Model, opened: index.Index, files: Mapping[str, search.File]) -> int:
    """Add what is new or has changed; the number of files that could not be, of which people are told once."""
    new = [name for name, file in files.items() if not opened.is_current(name, file.size, file.mtime_ns)]
    if not new:
        return 0
    told, failed = _unreadable(opened.folder / UNREADABLE), {}
    with opened.writing() as writer, bar(len(new)) as progress:
        writer.compact({name for name, file in files.items() if opened.is_current(name, file.size, file.mtime_ns)})
        for number, name in enumerate(new, 1):
            path, size, mtime_ns = files[name]
            if opened.is_current(name, size, mtime_ns):
                continue  # by another process, since we looked
            try:
                writer.add(name, size, mtime_ns, _shown(model, path, opened.about.hop, progress, number))
            except Error as error:
                failed[name] = [size, mtime_ns]
                if told.get(name) == failed[name]:
                    continue
                if progress:
                    progress.clear()
                print(f"l3edge: warning: {describe(error, path)}", file=sys.stderr)
        if failed != told:
            with replacing(opened.folder / UNREADABLE) as part:
                part.write_text(json.dumps(failed))
    return len(failed)


def _unreadable(path: Path) -> dict[str, Any]:
    """What was told of before. A list that is none costs no more than to be told again."""
    if not path.is_file() or path.stat().st_size > MOST_UNREADABLE:
        return {}
    try:
        told = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _shown(
    model: Model, path: Path, hop: float, progress: Progress | None, number: int
) -> Iterator[NDArray[np.float32]]:
    """Embeddings of a file, and on the way a bar."""
    begun = time.monotonic()
    for block, done, seconds in search.embeddings_of(model, path, hop):
        yield block
        if progress and progress.due:
            speed = done / max(1e-6, time.monotonic() - begun)
            progress.show(number, path.name, done / seconds if seconds else None, speed)


def _tell(moments: Sequence[search.Moment], args: argparse.Namespace) -> None:
    terminal = Terminal(sys.stdout)
    if args.format == "csv":
        csv.writer(sys.stdout, lineterminator="\n").writerow(["file", "time", "score"])
    for moment in moments:
        name = os.fsencode(moment.file).decode("utf-8", "replace")
        score = float(str(np.float32(moment.score)))
        if args.format == "jsonl":
            print(json.dumps({"file": moment.file, "time": moment.time, "score": score}))
        elif args.format == "csv":
            csv.writer(sys.stdout, lineterminator="\n").writerow([terminal.shown(name), moment.time, score])
        else:
            print(f"{moment.score:6.3f}  {clock(moment.time):>10}  {terminal.shown(printable(moment.file))}")
