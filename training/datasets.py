"""Labelled recordings with folds, as published sets and one's own CSV files lay them out.

A dataset is one of

- a folder `<class>/<fold>-<anything>.wav`, .flac or .ogg: how ESC-50 and ESC-10 name their clips (Piczak 2015), or one
  where no name begins so, without folds,
- ESC-50 as published: `meta/esc50.csv` beside `audio/`,
- UrbanSound8K as published (Salamon et al. 2014): `metadata/UrbanSound8K.csv` beside `audio/fold<n>/`,
- a folder with an `index.csv`, as `python -m training.synthesize` leaves beside its videos,
- a CSV file of one's own, with a column for each of

    file      path, file, filename or slice_file_name; relative to the CSV's folder, to `audio` beside that folder,
              or to `audio/fold<n>` there
    class     label, kind, category, class, target or classID
    fold      fold, a whole number; may be missing
    group     group, src_file or fsID: what was cut from one recording; may be missing (each file by itself)

Without folds, each class's groups are dealt to `FOLDS` folds in the order of their SHA-256, so that all folds have all
classes, no group is in two, and the same dataset always gets the same folds. Where a class has fewer groups there are
fewer folds.

What libsndfile does not read (videos, for one) is decoded by PyAV.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import os
import re
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from l3edge import audio

from .cli import TrainingError

FOLDS = 5
HELD_OUT = re.compile(r"([45])-\d+-[A-Z](-\d+)?\.\w+")  # names of ESC-10's and ESC-50's folds 4 and 5
ESC10 = Path(os.environ.get("L3EDGE_DATA", Path(__file__).parents[2] / "shared" / "data")) / "esc10"

_IN_CLASS_FOLDERS = (".ogg", ".wav", ".flac")
_LIBSNDFILE = (*_IN_CLASS_FOLDERS, ".oga", ".mp3", ".aif", ".aiff", ".au", ".caf")
_TABLES = ("meta/esc50.csv", "metadata/UrbanSound8K.csv", "index.csv")
_COLUMNS = {
    "file": ("path", "file", "filename", "slice_file_name"),
    "class": ("label", "kind", "category", "class", "target", "classID"),
    "fold": ("fold",),
    "group": ("group", "src_file", "fsID"),
}


class Clip(NamedTuple):
    """A labelled recording."""

    name: str  # what tells it from the dataset's others: class/file, or as the CSV names it
    path: Path
    label: str
    fold: int
    group: str  # what it was cut from: clips of the same group are not independent of each other


def read(dataset: str | os.PathLike[str], folds: Collection[int] | None = None) -> list[Clip]:
    """The clips of a dataset, in the order of their names.

    folds: only those; the files of others are not so much as opened.
    Raises TrainingError where there is nothing to rotate over, or where a clip is of ESC-50's folds 4 or 5 (ESC-10 is a
    part of it) and `folds` does not name that one.
    """
    dataset = Path(dataset)
    tables = (dataset, *(dataset / name for name in _TABLES))
    table = next((path for path in tables if path.is_file()), None)
    clips = _of_table(table) if table else _of_class_folders(dataset)
    if folds is not None:
        clips = [clip for clip in clips if clip.fold in folds]
    unasked = [clip.path.name for clip in held_out(clips) if folds is None or int(clip.path.name[0]) not in folds]
    if unasked:
        raise TrainingError(
            f"{dataset} holds clips of ESC-50's folds 4 and 5 ({unasked[0]}, {len(unasked)} in all): this project's "
            "development holds them out, so that a last judgement is left; probe folds 1 to 3 with --folds 1 2 3, or "
            "say with --folds 1 2 3 4 5 that you mean them"
        )
    check(clips)
    return sorted(clips)


def held_out(clips: Iterable[Clip]) -> list[Clip]:
    """Those of ESC-50's folds 4 and 5, on which nothing in this project was tried or chosen."""
    return [clip for clip in clips if HELD_OUT.fullmatch(clip.path.name)]


def check(clips: Sequence[Clip]) -> None:
    """TrainingError unless there are two folds at least, and each class is in all of them."""
    folds, labels = sorted({clip.fold for clip in clips}), sorted({clip.label for clip in clips})
    if len(folds) < 2 or len(labels) < 2:
        raise TrainingError(
            f"a probe needs two folds and two classes at least; found folds {folds}, classes {_some(labels)}"
        )
    have = {(clip.label, clip.fold) for clip in clips}
    missing = [f"{label} in fold {fold}" for label in labels for fold in folds if (label, fold) not in have]
    if missing:
        raise TrainingError(f"each class must be in each fold; there is no {', no '.join(missing[:5])}")


def load(clip: Clip, sample_rate: int) -> NDArray[np.float32]:
    """A clip's sound at this rate, float32 [n], mono; an Error names a file that cannot be decoded."""
    if clip.path.suffix.lower() in _LIBSNDFILE:
        samples, rate = audio.read(clip.path)
        return audio.resample(audio.to_mono(samples).samples, rate, sample_rate)
    return _decode(clip.path, sample_rate)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown or "none"


def _of_class_folders(folder: Path) -> list[Clip]:
    files = [path for path in folder.glob("*/*") if path.suffix.lower() in _IN_CLASS_FOLDERS]
    if not files:
        raise TrainingError(
            f"{folder} holds no <class>/<fold>-*.ogg, .wav or .flac, and none of {', '.join(_TABLES)}: name a dataset "
            "of one of these kinds or a CSV file, or set L3EDGE_DATA to the folder that holds esc10"
        )
    folds = {path: re.match(r"(\d{1,9})-", path.name) for path in files}
    if not any(folds.values()):
        names = {path: f"{path.parent.name}/{path.name}" for path in files}
        return _dealt([Clip(name, path, path.parent.name, 0, name) for path, name in names.items()], folder)
    clips = []
    for path, fold in folds.items():
        if not fold:
            raise TrainingError(
                f"{path}: the name must begin with the number of its fold and a hyphen, as others here do; in a set "
                "without folds none does, or a CSV file has the columns path and label"
            )
        label, group = path.parent.name, re.sub(r"^(\d+-\d+)-[A-Z].*$", r"\1", path.stem)
        clips.append(Clip(f"{label}/{path.name}", path, label, int(fold[1]), group))
    return clips


def _of_table(path: Path) -> list[Clip]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise TrainingError(f"{path} cannot be read as a CSV file: {error}") from error
    header = [] if not rows else [name for name in rows[0] if name]
    columns = {role: next((name for name in names if name in header), None) for role, names in _COLUMNS.items()}
    for role in ("file", "class"):
        if columns[role] is None:
            raise TrainingError(
                f"{path} has no column for the {role}: expected {', '.join(_COLUMNS[role])}; "
                f"found {', '.join(header) or 'no rows'}"
            )
    clips = [_of_row(path, number, row, columns) for number, row in enumerate(rows, 2)]
    name, times = Counter(clip.name for clip in clips).most_common(1)[0]
    if times > 1:
        raise TrainingError(f"{path} names {name} {times} times: a clip has one row, and one class")
    return clips if columns["fold"] else _dealt(clips, path)


def _of_row(table: Path, number: int, row: Mapping[str, str | None], columns: Mapping[str, str | None]) -> Clip:
    value = {role: (row[name] or "").strip() if name else "" for role, name in columns.items()}
    if not value["file"] or not value["class"]:
        raise TrainingError(f"{table}, line {number}: {columns['file']} and {columns['class']} must not be empty")
    if columns["fold"] and not re.fullmatch(r"\d{1,9}", value["fold"]):
        raise TrainingError(f"{table}, line {number}: fold must be a whole number, got {value['fold']!r}")
    name, beside = value["file"], table.parent.parent / "audio"
    places = [table.parent / name, beside / name, beside / f"fold{value['fold']}" / name]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise TrainingError(f"{table}, line {number}: there is no file {name} at {' or '.join(map(str, places[:2]))}")
    return Clip(name, path, value["class"], int(value["fold"] or 0), value["group"] or name)


def _dealt(clips: Sequence[Clip], dataset: Path) -> list[Clip]:
    """The clips with folds, class by class."""
    groups = {label: sorted({c.group for c in clips if c.label == label}, key=digest) for label in labels_of(clips)}
    single = [label for label, own in groups.items() if len(own) < 2]
    if len(groups) - len(single) < 2:
        raise TrainingError(
            f"{dataset} has no folds, and of its {len(groups)} classes {len(groups) - len(single)} have two "
            "recordings at least: to be taught and tested a class needs two, and a probe needs two such classes"
        )
    if single:
        print(f"warning: left out, of one recording each: {', '.join(single)}", file=sys.stderr)
    clips = [clip for clip in clips if clip.label not in single]
    groups = {label: own for label, own in groups.items() if label not in single}
    count = min(FOLDS, *map(len, groups.values()))
    fold: dict[str, int] = {}
    for label in groups:
        fresh = (group for group in groups[label] if group not in fold)
        fold |= {group: 1 + i % count for i, group in enumerate(fresh)}
    return [clip._replace(fold=fold[clip.group]) for clip in clips]


def labels_of(clips: Sequence[Clip]) -> list[str]:
    """The classes, in the order of their names."""
    return sorted({clip.label for clip in clips})


def digest(text: str) -> str:
    """What things are dealt by, so that none moves when others come or go: SHA-256, hexadecimal."""
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def _decode(path: Path, sample_rate: int) -> NDArray[np.float32]:
    """The first audio stream of a media file at this rate, float32 [n], mono."""
    try:
        import av

        from .tracks import mono
    except ImportError as error:
        raise TrainingError(f"{path}: reading it needs the packages av and pillow ({error}); install them") from error
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise TrainingError(f"{path} has no sound")
            frames = [(frame.sample_rate, mono(frame)) for frame in container.decode(container.streams.audio[0])]
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise TrainingError(f"{path} cannot be decoded: {error}") from error
    if not frames:
        raise TrainingError(f"{path} has no sound: its audio stream is empty")
    stretches = itertools.groupby(frames, key=lambda frame: frame[0])  # a stream's rate may change
    return np.concatenate(
        [
            audio.resample(np.concatenate([samples for _, samples in stretch]), rate, sample_rate)
            for rate, stretch in stretches
        ]
    )
