"""What there is to read: folders, files, manifests or AudioSet's lists -> items, each with labels, group and split.

    python -m training.prepare VIDEOS --out SHARDS

VIDEOS may be any number of
- folders, searched for video files; an index.csv beside them (columns file and kind, as `synthesize` writes) labels them;
- single video files, or URLs of such (gs://...);
- CSV or JSONL manifests, one video or part of one in a row (see `tables`);
- AudioSet's segment lists, with --clips FOLDER (see `audioset`).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from . import splits
from .cli import TrainingError

# fmt: off
EXTENSIONS = frozenset({
    ".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4",
    ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv",
})
# fmt: on


class Item(NamedTuple):
    """One video, or a part of one."""

    name: str  # unique; what reports call it, e.g. "a/b.mp4", "abc.mp4@30.000-40.000"
    path: str  # where it is: a local path, or a URL that Beam's FileSystems know
    start: float | None = None  # s, on the file's own decoded clock from its first picture or sample; None: beginning
    end: float | None = None  # s; None: to the end
    labels: tuple[str, ...] = ()
    group: str = ""  # the source video
    split: str = ""  # "train", "validation" or "test"; `read` always sets it


def read(
    sources: Sequence[str | Path],
    *,
    clips: Path | None = None,
    ontology: Path | None = None,
    select: Sequence[str] = (),
    held_out: float = 0.1,
    missing_ok: bool = False,
    clips_are_cut: bool = False,
) -> list[Item]:
    """All items of the sources, sorted by name. Raises TrainingError."""
    items = [item for source in sources for item in _folder(Path(source), len(sources) > 1)]
    if not items:
        raise TrainingError(f"no video files in {', '.join(map(str, sources))}")
    sides = splits.assign((item.group for item in items), held_out, {})
    return sorted(item._replace(split=sides[item.group]) for item in items)


def _folder(source: Path, prefixed: bool) -> Iterator[Item]:
    """A folder is searched for EXTENSIONS; a file is taken whatever its name.

    Names are relative to the given folder, so that the split does not depend on where the folder lies.
    """
    if not source.exists():
        raise TrainingError(f"no such file or folder: {source}")
    files = [source] if source.is_file() else sorted(p for p in source.rglob("*") if p.is_file())
    for path in files:
        if source.is_dir() and (path.suffix.lower() not in EXTENSIONS or path.name.startswith(".")):
            continue
        name = path.name if source.is_file() else path.relative_to(source).as_posix()
        if prefixed and source.is_dir():
            name = f"{source.resolve().name}/{name}"
        yield Item(name, str(path), group=name)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say what to read."""
    parser.add_argument("videos", nargs="+", metavar="VIDEOS", help="folders (searched), video files, manifests")


def from_arguments(args: argparse.Namespace) -> list[Item]:
    """`read` what the options say. Raises TrainingError."""
    return read(args.videos)
