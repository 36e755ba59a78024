"""Files of arrays (.npz), which grow as a journal: a line of JSON, then records of one size, in the order they came.

An .npz cannot be appended to. A journal can, and what a killed process leaves of it is whole records and a rest to cut
off. When it is finished its records become arrays: what is wide, such as embeddings, a megabyte at a time, the rest
in memory.

    embeddings      float32 [t, d]
    times           float64 [t], seconds in the stream, centres of the windows
    levels, changes float32 [t], of `records.Hop`; NaN where there is none
    gaps            [g] of time, seconds, lost
    events          [e] of label, onset, offset (NaN while it goes on), score
    missed          [m] of time, records: how many could not be written from that time on
    model, model_sha256, hop, window, source, sample_rate, l3edge
    started         float64, unix time of time zero; NaN where sound has none
    tags, tag_names         float32 [t, n] and str [n], of a stream with tags
    labels, label_names, label      float32 [t, m], str [m] and str [t], of a stream with a head
"""

from __future__ import annotations

import errno
import json
import math
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ..model_file import replacing, store_names
from ..records import About, Event, Gap, Record
from .jsonl import facts

FORMAT = "l3edge journal 1"
HOP, GAP, EVENT, MISSED = 1, 2, 3, 4  # kinds of records; 0 is what a file system leaves of bytes it never stored
WIDE = {"embedding": "embeddings", "tags": "tags", "labels": "labels"}  # fields of a hop, and their arrays
BLOCK = 1 << 20  # bytes of records that are in memory at a time
LONGEST_HEADER = 1 << 20  # bytes
MOST_VALUES = 1 << 16  # of an embedding, or of tags
LONGEST_NAME = 255  # characters, of a tag or label in a header
LEAST_LABEL = 16  # characters that a label has room for: as many as the longest of a head, and "unknown"


def _layout(values: int, tags: int, labels: int, width: int) -> np.dtype[Any]:
    """Of a record. A gap has its seconds in `value` and what was lost in `count`; an event has its onset in `time`, its
    offset in `value`, its score in `level`."""
    return np.dtype(
        [
            ("kind", "u1"),
            ("time", "<f8"),
            ("value", "<f8"),
            ("count", "<i8"),
            ("level", "<f4"),
            ("change", "<f4"),
            ("label", f"<U{width}"),
            ("embedding", "<f4", (values,)),
            ("tags", "<f4", (tags,)),
            ("labels", "<f4", (labels,)),
        ]
    )


class NpzFormat:
    """Records as bytes of a part."""

    def __init__(self, about: About) -> None:
        self._about = about
        self._width = max(LEAST_LABEL, *map(len, about.labels)) if about.labels else LEAST_LABEL
        self._layout = _layout(about.embedding_size, len(about.tags), len(about.labels), self._width)

    def header(self) -> bytes:
        return (json.dumps({"format": FORMAT, "label_width": self._width, **facts(self._about)}) + "\n").encode()

    def record(self, record: Record) -> bytes:
        if isinstance(record, Gap):
            return self._bytes(GAP, time=record.time, value=record.seconds, count=record.lost)
        if isinstance(record, Event):
            offset = math.nan if record.offset is None else record.offset
            return self._bytes(EVENT, time=record.onset, value=offset, level=record.score, label=record.label)
        told = {"time": record.time, "level": record.level, "embedding": record.embedding}
        optional = {"change": record.change, "tags": record.tags, "labels": record.labels, "label": record.label}
        return self._bytes(HOP, **told, **{name: value for name, value in optional.items() if value is not None})

    def missed(self, count: int, time: float) -> bytes:
        return self._bytes(MISSED, time=time, count=count)

    def _bytes(self, kind: int, **values: Any) -> bytes:
        made = np.zeros((), self._layout)
        made["kind"] = kind
        for name in ("change", "tags", "labels"):
            made[name] = np.nan
        for name, value in values.items():
            made[name] = value
        return made.tobytes()


def finish(part: Path, target: Path) -> bool:
    """Make an .npz of a part; where it has no record, remove it. Whether it had one.

    A part that is no journal is kept under a name that ends in `.broken`, and ValueError raised.
    """
    if not target.exists():  # else it was finished by a process that was killed before it could remove the part
        try:
            journal = _Journal(part)
        except ValueError:
            part.rename(part.with_suffix(".broken"))
            raise
        if journal.count:
            _room(part)
            with replacing(target) as made, made.open("wb") as out:
                _save(journal, out)
                out.flush()
                os.fsync(out.fileno())
    finished = target.exists()
    if finished:
        store_names(part.parent)  # else a power cut may take both, where the file system has no journal
    part.unlink()
    return finished


def _room(part: Path) -> None:
    """OSError where its arrays would not fit beside it: rather than to fill a card again and again."""
    disk = os.statvfs(part.parent)
    if disk.f_bavail * disk.f_frsize < part.stat().st_size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class _Journal:
    """A part, which is untrusted; ValueError where it is no journal.

    Attributes:
        header: what is in its first line
        count: whole records in it
    """

    def __init__(self, part: Path) -> None:
        self._part = part
        with part.open("rb") as file:
            line = file.readline(LONGEST_HEADER)
            size = os.fstat(file.fileno()).st_size
        self.header: dict[str, Any] = {}
        self.count = 0
        if not line.endswith(b"\n") and size < LONGEST_HEADER:
            return  # killed in the first write
        try:
            self.header = _checked(json.loads(line))
        except (KeyError, TypeError, RecursionError, OverflowError) as error:
            raise ValueError("not a header") from error
        names = (len(self.header["tags"]), len(self.header["labels"]))
        self.layout = _layout(self.header["embedding_size"], *names, self.header["label_width"])
        self._begin = len(line)
        self.count = (size - len(line)) // self.layout.itemsize

    def blocks(self) -> Iterator[NDArray[Any]]:
        """All records, some of them at a time."""
        most = max(1, BLOCK // self.layout.itemsize)
        with self._part.open("rb") as file:
            file.seek(self._begin)
            for begin in range(0, self.count, most):
                yield np.fromfile(file, self.layout, min(most, self.count - begin))


def _checked(header: Any) -> dict[str, Any]:
    """A header whose values have the types that they should have; ValueError, KeyError or TypeError where not."""
    sizes, names = (header["embedding_size"], header["label_width"]), (header["tags"], header["labels"])
    if header["format"] != FORMAT or not all(type(size) is int and 0 <= size <= MOST_VALUES for size in sizes):
        raise ValueError("another format")
    for each in names:
        if not isinstance(each, list) or len(each) > MOST_VALUES:
            raise ValueError("no list of names")
        if not all(isinstance(name, str) and len(name) <= LONGEST_NAME for name in each):
            raise ValueError("names that are no texts")
    if type(header["sample_rate"]) is not int or not 0 < header["sample_rate"] < 1 << 32:
        raise ValueError("no sample rate")
    numbers = {name: header[name] for name in ("window", "hop", "started")}
    return {
        **header,
        **{name: math.nan if value is None else float(value) for name, value in numbers.items()},
        **{name: str(header[name]) for name in ("model", "model_sha256", "source", "l3edge")},
        "label_width": max(1, header["label_width"]),
    }


def _save(journal: _Journal, out: IO[bytes]) -> None:
    """What `np.savez` would of the arrays, without having them in memory."""
    narrow = np.zeros(
        journal.count, [(name, journal.layout[name]) for name in journal.layout.names or () if name not in WIDE]
    )
    begin = 0
    for block in journal.blocks():
        for name in narrow.dtype.names or ():
            narrow[name][begin : begin + len(block)] = block[name]
        begin += len(block)
    hops = int(np.count_nonzero(narrow["kind"] == HOP))
    with zipfile.ZipFile(out, "w", allowZip64=True) as archive:
        for name, array in _arrays(journal.header, narrow).items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
        for field, name in WIDE.items():
            width = journal.layout[field].shape[0]
            if field != "embedding" and not width:
                continue
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                shape = {"descr": "<f4", "fortran_order": False, "shape": (hops, width)}
                np.lib.format.write_array_header_1_0(member, shape)
                for block in journal.blocks():
                    member.write(block[field][block["kind"] == HOP].tobytes())


def _arrays(header: dict[str, Any], rows: NDArray[Any]) -> dict[str, Any]:
    """All but those of WIDE."""
    hops, gaps, events, missed = (rows[rows["kind"] == kind] for kind in (HOP, GAP, EVENT, MISSED))
    made = {
        "times": hops["time"],
        "levels": hops["level"],
        "changes": hops["change"],
        "gaps": _table(gaps, time="time", seconds="value", lost="count"),
        "events": _table(events, label="label", onset="time", offset="value", score="level"),
        "missed": _table(missed, time="time", records="count"),
        **{name: header[name] for name in ("model", "model_sha256", "source", "l3edge")},
        **{name: np.float64(header[name]) for name in ("hop", "window", "started")},
        "sample_rate": np.int64(header["sample_rate"]),
    }
    if header["tags"]:
        made["tag_names"] = np.array(header["tags"])
    if header["labels"]:
        made |= {"label_names": np.array(header["labels"]), "label": hops["label"]}
    return made


def _table(rows: NDArray[Any], /, **columns: str) -> NDArray[Any]:
    """Some fields of rows under names of their own: name=field."""
    table = np.zeros(len(rows), [(name, rows.dtype[field]) for name, field in columns.items()])
    for name, field in columns.items():
        table[name] = rows[field]
    return table
