"""Files of arrays (.npz), which grow as a journal: a line of JSON, then records of one size, in the order they came.

An .npz cannot be appended to. A journal can, and what a killed process leaves of it is whole records and a rest to cut
off. When it is finished its records become arrays, in memory about the size of the journal.

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
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..model_file import replacing
from ..records import About, Event, Gap, Record
from .jsonl import facts

FORMAT = "l3edge journal 1"
HOP, GAP, EVENT, MISSED = 1, 2, 3, 4  # kinds of records; 0 is what a file system leaves of bytes it never stored
LONGEST_HEADER = 1 << 20  # bytes
MOST_VALUES = 1 << 16  # of an embedding, or of tags
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
            header, records = _read(part)
        except ValueError:
            part.rename(part.with_suffix(".broken"))
            raise
        if len(records):
            _room(part)
            with replacing(target) as made, made.open("wb") as out:
                np.savez(out, **_arrays(header, records))
                out.flush()
                os.fsync(out.fileno())
    part.unlink()
    return target.exists()


def _room(part: Path) -> None:
    """OSError where its arrays would not fit beside it: rather than to fill a card again and again."""
    disk = os.statvfs(part.parent)
    if disk.f_bavail * disk.f_frsize < part.stat().st_size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _read(part: Path) -> tuple[dict[str, Any], NDArray[Any]]:
    """Header and whole records of a part, which is untrusted; ValueError where it is no journal."""
    with part.open("rb") as file:
        line = file.readline(LONGEST_HEADER)
        size = os.fstat(file.fileno()).st_size
    if not line.endswith(b"\n"):
        if size < LONGEST_HEADER:  # killed in the first write
            return {}, np.zeros(0)
        raise ValueError("no header")
    try:
        header = json.loads(line)
        values, width = header["embedding_size"], header["label_width"]
        tags, labels = header["tags"], header["labels"]
        if header["format"] != FORMAT or not all(type(n) is int and 0 <= n <= MOST_VALUES for n in (values, width)):
            raise ValueError("another format")
        for names in (tags, labels):
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise ValueError("names that are no texts")
        for name in ("window", "hop", "sample_rate", "started"):
            header[name] = math.nan if header[name] is None else float(header[name])
        for name in ("model", "model_sha256", "source", "l3edge"):
            header[name] = str(header[name])
        layout = _layout(values, len(tags), len(labels), max(1, width))
    except (KeyError, TypeError, RecursionError, OverflowError) as error:
        raise ValueError("not a header") from error
    count = (size - len(line)) // layout.itemsize
    if not count:
        return header, np.zeros(0, layout)
    return header, np.memmap(part, layout, "r", len(line), (count,))


def _arrays(header: dict[str, Any], records: NDArray[Any]) -> dict[str, Any]:
    hops, gaps, events, missed = (records[records["kind"] == kind] for kind in (HOP, GAP, EVENT, MISSED))
    width = records.dtype["label"].itemsize // 4
    made = {
        "embeddings": hops["embedding"],
        "times": hops["time"],
        "levels": hops["level"],
        "changes": hops["change"],
        "gaps": _table(gaps, time=("time", "<f8"), seconds=("value", "<f8"), lost=("count", "<i8")),
        "events": _table(
            events,
            label=("label", f"<U{width}"),
            onset=("time", "<f8"),
            offset=("value", "<f8"),
            score=("level", "<f4"),
        ),
        "missed": _table(missed, time=("time", "<f8"), records=("count", "<i8")),
        **{name: header[name] for name in ("model", "model_sha256", "source", "l3edge")},
        **{name: np.float64(header[name]) for name in ("hop", "window", "started")},
        "sample_rate": np.int64(header["sample_rate"]),
    }
    if header["tags"]:
        made |= {"tags": hops["tags"], "tag_names": np.array(header["tags"])}
    if header["labels"]:
        made |= {"labels": hops["labels"], "label_names": np.array(header["labels"]), "label": hops["label"]}
    return made


def _table(rows: NDArray[Any], /, **columns: tuple[str, str]) -> NDArray[Any]:
    """Some fields of rows under names of their own: name=(field, type)."""
    table = np.zeros(len(rows), [(name, kind) for name, (_, kind) in columns.items()])
    for name, (field, _) in columns.items():
        table[name] = rows[field]
    return table
