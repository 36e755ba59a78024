"""What there is to read: folders, files, manifests or AudioSet's lists -> items, each with labels, group and split.

Sources may be any number of
- folders, searched for video files; an index.csv beside those (columns file and kind, as `synthesize` writes it)
  labels them;
- single video files, or URLs of such (gs://...);
- CSV or JSONL manifests, a row for each video or part of one (`tables` says how);
- AudioSet's segment lists, with the folder of its clips (`audioset` says how).

The group, by which a video goes to its side (`splits`), is what a manifest calls it, else AudioSet's YTID, else the
file: its path relative to the folder or the manifest that it was found by, however a row spells that, the bare name of
a file given by itself, or its URL. It depends neither on where all that lies nor on the other sources, so that files
of the same name in two folders share a side. A manifest or a file that is moved without the other may change sides.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from . import splits, tables
from .audioset import SUBSETS, Clips, Ontology, read_segments, wanted
from .cli import TrainingError, held_out_share
from .folders import Kinds, video_files


class Item(NamedTuple):
    """One video, or a part of one."""

    name: str  # unique; what reports call it, e.g. "a/b.mp4", "abc.mp4@30.000-40.000"
    path: str  # where it is: an absolute local path, or a URL that Beam's FileSystems know
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
    """All items of the sources that `select` means and whose file is there, sorted by name.

    Args:
        clips: the folder of AudioSet's clips, for its segment lists
        ontology: AudioSet's ontology.json: labels that are mids become display names, and `select` knows descendants
        select: labels or named selections (`audioset.wanted`), of which an item must bear one
        held_out: share of the groups in each of validation and test, where no split is stated (`splits`)
        missing_ok: local files of manifests that are missing are counted, on stderr, as AudioSet's always are
        clips_are_cut: clips named by the YTID alone are the part, not the whole video

    Raises TrainingError for what is missing, wrong or contradictory.
    """
    known = Ontology(ontology) if ontology else None
    found = _Found(clips, clips_are_cut)
    for source in map(str, sources):
        found.add(source, f"{Path(source).resolve().name}/" if len(sources) > 1 else "")
    items = found.items
    if not items:
        raise TrainingError(f"no video files in {', '.join(map(str, sources))}")
    if known:
        items = [item._replace(labels=tuple(dict.fromkeys(map(known.display_name, item.labels)))) for item in items]
    if select:
        labels = wanted(select, (label for item in items for label in item.labels), known)
        items = [item for item in items if not labels.isdisjoint(item.labels)]
        if not items:
            raise TrainingError(f"none of {len(found.items)} items bears a label of --select {', '.join(select)}")
    return sorted(_with_splits(found.present(items, missing_ok), held_out))


def is_url(path: str) -> bool:
    """Whether a path is for Beam's FileSystems (gs://..., s3://...): nothing here looks at what is there."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path) is not None


class _Found:
    """Items as they are found, none twice."""

    def __init__(self, clips: Path | None, clips_are_cut: bool) -> None:
        self.items: list[Item] = []
        self._clips, self._cut = clips, clips_are_cut
        self._index: Clips | None = None
        self._kinds = Kinds()
        self._paths: dict[str, str] = {}  # by name
        self._files: dict[str, str] = {}  # path -> the same without links
        self._groups: dict[str, str] = {}  # by file
        self._listed: set[str] = set()  # local paths of manifests: nobody has looked whether they are there

    def add(self, source: str, prefix: str) -> None:
        """Whatever a source is; `prefix` goes before the names in a folder, not before the groups."""
        path = Path(source)
        if is_url(source):
            self._take(Item(source, source, group=source))
        elif path.is_dir():
            for name, file in video_files(path):
                self._take(Item(prefix + name, str(file), labels=self._kinds.labels(file), group=name))
        elif not path.exists():
            raise TrainingError(f"no such file or folder: {source}")
        elif path.suffix.lower() not in tables.SUFFIXES:
            path = path.absolute()
            self._take(Item(path.name, str(path), labels=self._kinds.labels(path), group=path.name))
        elif tables.is_segment_list(path):
            self._add_segments(path)
        else:
            for row in tables.read_rows(path):
                self._add_row(path.parent.absolute(), row)

    def _add_row(self, folder: Path, row: tables.Row) -> None:
        name = place = group = row.path
        if not is_url(row.path):
            name, place = os.path.normpath(row.path), os.path.normpath(folder / row.path)
            group = os.path.relpath(place, folder)
            self._listed.add(place)
        self._take(_item(name, place, row._replace(group=row.group or group)))

    def _add_segments(self, source: Path) -> None:
        if self._clips is None:
            raise TrainingError(f"{source} is a segment list of AudioSet: give the folder of the clips with --clips")
        if self._index is None:
            if not self._clips.is_dir():
                raise TrainingError(f"--clips {self._clips} is not a folder")
            self._index = Clips(video_files(self._clips))
        rows = missing = 0
        for row in read_segments(source):
            rows += 1
            clip = self._index.find(row)
            if clip:
                cut = clip.cut or self._cut
                self._take(_item(clip.name, str(clip.path), row._replace(start=None, end=None) if cut else row))
            else:
                missing += 1
        print(f"{source}: {rows} clips, {missing} of them missing in {self._clips}", file=sys.stderr)
        if missing == rows:
            raise TrainingError(f"{self._clips} has none of the {rows} clips of {source}; their names start with YTIDs")

    def _take(self, item: Item) -> None:
        if item.name in self._paths:
            other = self._paths[item.name]
            places = "it is listed twice" if other == item.path else f"{other} and {item.path}"
            raise TrainingError(f"two videos would be called {item.name}: {places}")
        if item.path not in self._files:
            self._files[item.path] = item.path if is_url(item.path) else os.path.realpath(item.path)
        file = self._files[item.path]
        if self._groups.setdefault(file, item.group) != item.group:
            raise TrainingError(
                f"{file} is in two groups, {self._groups[file]} and {item.group}, so that one part of it could be "
                "trained on and another tested on; give all parts of a video, and all links to it, one group by a "
                "manifest, or leave the others out"
            )
        self._paths[item.name] = item.path
        self.items.append(item)

    def present(self, items: list[Item], missing_ok: bool) -> list[Item]:
        """Those whose file is there, as far as that can be seen here."""
        missing = {path for path in {item.path for item in items} & self._listed if not Path(path).is_file()}
        if not missing:
            return items
        some = ", ".join(sorted(missing)[:3]) + (", ..." if len(missing) > 3 else "")
        if not missing_ok or len(missing) == len({item.path for item in items}):
            raise TrainingError(
                f"{len(missing)} files of the manifest are missing: {some}; --missing-ok leaves them out"
            )
        print(f"warning: {len(missing)} files of the manifest are missing and left out: {some}", file=sys.stderr)
        return [item for item in items if item.path not in missing]


def _item(name: str, path: str, row: tables.Row) -> Item:
    part = ""
    if row.start is not None or row.end is not None:
        part = "@" + "-".join("" if time is None else f"{time:.3f}" for time in (row.start, row.end))
    return Item(name + part, path, row.start, row.end, row.labels, row.group, row.split)


def _with_splits(items: Sequence[Item], held_out: float) -> Iterable[Item]:
    stated: dict[str, Item] = {}
    for item in items:
        if item.split and stated.setdefault(item.group, item).split != item.split:
            other = stated[item.group]
            raise TrainingError(
                f"{other.name} is in {other.split} and {item.name} in {item.split}, but both are of the group "
                f"{item.group}: all parts of a video belong in one split"
            )
    sides = splits.assign({i.group for i in items}, held_out, {group: item.split for group, item in stated.items()})
    return (item._replace(split=sides[item.group]) for item in items)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say what to read."""
    parser.add_argument(
        "videos",
        nargs="+",
        metavar="VIDEOS",
        help="folders (searched), video files or URLs, CSV or JSONL manifests (path, start, end, labels, split, "
        "group), or AudioSet's segment lists",
    )
    parser.add_argument("--clips", type=Path, metavar="FOLDER", help="clips of AudioSet's lists, named by YTID")
    parser.add_argument(
        "--clips-are-cut",
        action="store_true",
        help="YTID.mp4 is the listed part alone, not the whole video; YTID_30.mp4 always is the part",
    )
    parser.add_argument(
        "--ontology", type=Path, metavar="JSON", help="AudioSet's ontology.json, which names the labels"
    )
    parser.add_argument(
        "--select",
        action="append",
        default=[],
        metavar="LABEL",
        help="only what has this label or, with --ontology, one below it; may be given several times. With --ontology "
        f"{' and '.join(SUBSETS)} are the subsets of the OpenL3 paper",
    )
    parser.add_argument(
        "--held-out",
        type=held_out_share,
        default=0.1,
        metavar="SHARE",
        help="of the source videos, in each of validation and test, where the manifest does not say",
    )
    parser.add_argument("--missing-ok", action="store_true", help="leave out files of a manifest that are missing")


def from_arguments(args: argparse.Namespace) -> list[Item]:
    """`read` what the options say. Raises TrainingError."""
    return read(
        args.videos,
        clips=args.clips,
        ontology=args.ontology,
        select=args.select,
        held_out=args.held_out,
        missing_ok=args.missing_ok,
        clips_are_cut=args.clips_are_cut,
    )
