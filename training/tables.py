"""CSV and JSONL manifests -> rows, checked, or an error that names the line.

Columns (CSV, with a header) or keys (JSONL, one object in a line), of which only `path` is needed:

    path    of the video, relative to the manifest, or absolute, or a URL
    start   s; without it, from the beginning
    end     s; without it, to the end
    labels  CSV: separated by ; or |        JSONL: a list of strings
    split   train, validation or test; where it is empty, `splits` decides
    group   the source video; without it, the file: several parts of one are one group

A CSV with the columns `file` and `kind`, as `synthesize` writes its index.csv, is one of `path` and `labels`.
Other columns are ignored with one warning. Bytes that are no UTF-8 stay what they are, as in file names.
"""

from __future__ import annotations

import csv
import json
import math
import re
import reprlib
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TextIO, TypeVar

from .cli import TrainingError
from .splits import SPLITS

T = TypeVar("T")

SUFFIXES = (".csv", ".jsonl")
_COLUMNS = ("path", "start", "end", "labels", "split", "group")
_INDEX = {"file": "path", "kind": "labels"}
_INDEX_ALSO = ("seed", "take", "duration")  # what else `synthesize` writes there: known, and of no use here


class Row(NamedTuple):
    """A line of a manifest, as written."""

    line: int
    path: str
    start: float | None = None
    end: float | None = None
    labels: tuple[str, ...] = ()
    split: str = ""
    group: str = ""


class RowError(Exception):
    """What is wrong with a row."""


def is_segment_list(path: Path) -> bool:
    """Whether a CSV is one of AudioSet's, which begin with comments."""
    with _open(path) as file:
        return path.suffix.lower() == ".csv" and file.read(1) == "#"


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a manifest. Raises TrainingError with file and line where one is bad."""
    return _json_rows(path) if path.suffix.lower() == ".jsonl" else checked(path, _csv_fields, _csv_row)


def checked(
    path: Path, split: Callable[[TextIO, Path], Iterator[tuple[int, T]]], make: Callable[[int, T], Row]
) -> Iterator[Row]:
    """`make` of everything that `split` finds in a file, with its line. Raises TrainingError with file and line."""
    line = 1
    with _open(path) as file:
        try:
            for line, raw in split(file, path):
                yield make(line, raw)
        except RowError as error:
            raise TrainingError(f"{path}, line {line}: {error}") from None
        except csv.Error as error:
            raise TrainingError(f"{path}, after line {line}: it is no CSV: {error}") from None


def _open(path: Path) -> TextIO:
    return path.open(newline="", encoding="utf-8-sig", errors="surrogateescape")


def _csv_fields(file: TextIO, path: Path) -> Iterator[tuple[int, tuple[list[str], list[str]]]]:
    reader = csv.reader(file)
    header = [column.strip().lower() for column in next(reader, [])]
    known: tuple[str, ...] = _COLUMNS
    if "path" not in header and "file" in header and "kind" in header:
        known += _INDEX_ALSO
        header = [_INDEX.get(column, column) for column in header]
    if "path" not in header:
        raise TrainingError(
            f"{path} is no manifest: its first line, {','.join(header)[:100]!r}, has no column `path` (others that are "
            f"known: {', '.join(_COLUMNS[1:])}), nor `file` and `kind`, nor is it a segment list of AudioSet"
        )
    if doubled := sorted({column for column in header if header.count(column) > 1 and column in known}):
        raise TrainingError(f"{path}: the column {doubled[0]} is there twice")
    _warn_of_others(path, [column for column in header if column not in known])
    for fields in reader:
        if fields:
            yield reader.line_num, (header, fields)


def _csv_row(line: int, raw: tuple[list[str], list[str]]) -> Row:
    header, fields = raw
    if len(fields) != len(header):
        raise RowError(f"{len(fields)} fields, the header has {len(header)}")
    values = dict(zip(header, (field.strip() for field in fields), strict=True))
    labels = [label.strip() for label in re.split("[;|]", values.get("labels", ""))]
    return _row(line, {**values, "labels": [label for label in labels if label]})


def _json_rows(path: Path) -> Iterator[Row]:
    others: dict[str, None] = {}

    def lines(file: TextIO, _: Path) -> Iterator[tuple[int, str]]:
        return ((line, text) for line, text in enumerate(file, 1) if text.strip())

    def make(line: int, text: str) -> Row:
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise RowError(f"it is no JSON: {error}") from None
        if not isinstance(values, dict):
            raise RowError(f'expected an object such as {{"path": "a.mp4"}}, got {text.strip()[:40]}')
        others.update(dict.fromkeys(key for key in values if key not in _COLUMNS))
        return _row(line, values)

    yield from checked(path, lines, make)
    _warn_of_others(path, list(others))


def _warn_of_others(path: Path, columns: list[str]) -> None:
    if columns:
        print(f"warning: {path}: ignored: {', '.join(columns)}; known are {', '.join(_COLUMNS)}", file=sys.stderr)


def _row(line: int, values: Mapping[str, Any]) -> Row:
    labels = values.get("labels")
    if labels is None:
        labels = []
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise RowError(f"labels must be a list of strings, got {_short(labels)}")
    path, split, group = (_text(values.get(key), key) for key in ("path", "split", "group"))
    if not path:
        raise RowError("the path is empty")
    if split and split not in SPLITS:
        raise RowError(f"the split is {_short(split)}; expected {', '.join(SPLITS)}, or nothing")
    start, end = (seconds(values.get(key), key) for key in ("start", "end"))
    check_part(start, end)
    return Row(line, path, start, end, tuple(dict.fromkeys(_text(label, "labels") for label in labels)), split, group)


def _text(value: object, key: str) -> str:
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (str, int)) or (key == "path" and not isinstance(value, str)):
        raise RowError(f"{key} must be a string, got {_short(value)}")
    text = str(value)
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise RowError(f"{key} is no text: {_short(text)}") from None
    return text


def _short(value: object) -> str:
    return reprlib.repr(value)


def seconds(value: object, key: str) -> float | None:
    """A time, or None where there is none. Raises RowError."""
    if value is None or value == "":
        return None
    try:
        number = float(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not 0 <= number < math.inf:
        raise RowError(f"{key} must be seconds, 0 or more, got {_short(value)}")
    return number


def check_part(start: float | None, end: float | None) -> None:
    """Raises RowError if nothing lies between."""
    if end is not None and end <= (start or 0):
        raise RowError(f"the end, {end} s, is not after the start, {start or 0} s")
