"""Lines of text, JSON or CSV: on standard output, or in one file that is complete or absent."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..display import Terminal, groups
from ..heads import UNKNOWN
from ..records import About, Event, Gap, Record
from ..results import written
from ..tags import LEAST_SCORE, TEXT_TAGS, in_words, strongest
from . import Sink

FORMATS = ("text", "jsonl", "csv")
TEXT_GROUPS = 24  # characters that stand for an embedding in a line of text
TIME_DIGITS, SCORE_DIGITS = 6, 4  # behind the point: times of events are sums of hops, which are not exact

Line = Callable[[Record], str]


@contextlib.contextmanager
def lines(kind: str, about: About, output: Path | None, flush: bool) -> Iterator[Sink]:
    """A sink that writes lines of a format; flush: whether somebody may wait for each of them."""
    with contextlib.nullcontext(sys.stdout) if output is None else written(output, text=True) as out:
        yield Lines(kind, about, out, flush)
        out.flush()


class Lines(Sink):
    """Each record as a line."""

    def __init__(self, kind: str, about: About, out: IO[Any], flush: bool) -> None:
        terminal = Terminal(out)
        self._out, self._flush = out, flush
        self._line: Line = {
            "text": _Text(terminal, about).line,
            "jsonl": JsonLines(about).line,
            "csv": _Csv(about).line,
        }[kind]
        if kind == "csv":
            out.write(terminal.shown(header(about)))

    def write(self, record: Record) -> None:
        self._out.write(self._line(record))
        if self._flush:
            self._out.flush()


class _Text:
    def __init__(self, terminal: Terminal, about: About) -> None:
        self._terminal, self._about = terminal, about

    def line(self, record: Record) -> str:
        if isinstance(record, Gap):
            return f"{record.time:9.2f} s  {record.seconds:.2f} s lost\n"
        if isinstance(record, Event):
            name = self._terminal.shown(record.label)
            if record.offset is None:
                return f"{record.onset:9.2f} s  {name} begins\n"
            return f"{record.onset:9.2f} s  {name} until {record.offset:.2f} s, score {record.score:.2f}\n"
        small = groups(record.embedding, TEXT_GROUPS)
        change = "    -" if record.change is None else f"{record.change:5.3f}"
        spark = self._terminal.sparkline(small, 0.0, float(small.max()))
        told = f"{record.time:9.2f} s  {record.level:5.1f} dBFS  change {change}  {spark}"
        heard = []
        if record.label is not None and record.labels is not None:
            heard.append(record.label if record.label == UNKNOWN else f"{record.labels.max():.2f} {record.label}")
        if record.tags is not None:
            heard.append(in_words(strongest(self._about.tags, record.tags, least=LEAST_SCORE, most=TEXT_TAGS)))
        if heard:
            told = f"{told}  {self._terminal.shown('  '.join(heard))}".rstrip()
        return told + "\n"


class JsonLines:
    """Records as JSON objects, one a line; floats are the shortest decimals that give the same float32, and null where
    they are not finite.

    A hop has `time` and `embedding`, with tags `tags` (the strongest), with a head `label` and `labels`; a gap `gap`
    (seconds) and `lost`; an event what `event_values` says.
    """

    def __init__(self, about: About) -> None:
        self._about = about

    def line(self, record: Record) -> str:
        if isinstance(record, Gap):
            return f'{{"time": {record.time!r}, "gap": {record.seconds!r}, "lost": {record.lost}}}\n'
        if isinstance(record, Event):
            return json.dumps(event_values(record)) + "\n"
        values = ", ".join(map(str, record.embedding))
        if "n" in values:  # nan, inf: a float model makes such of what is no sound, and JSON has no word for them
            values = ", ".join(str(value) if np.isfinite(value) else "null" for value in record.embedding)
        told = f'{{"time": {record.time!r}, "embedding": [{values}]'
        if record.tags is not None:
            told += f', "tags": {_scores(strongest(self._about.tags, record.tags, least=LEAST_SCORE))}'
        if record.labels is not None:
            told += f', "label": {json.dumps(record.label)}'
            told += f', "labels": {_scores(strongest(self._about.labels, record.labels))}'
        return told + "}\n"


def event_values(event: Event) -> dict[str, Any]:
    """An event for JSON: `event` (its label), `onset`, `offset` (null while it goes on) and `score`, rounded."""
    return {
        "event": event.label,
        "onset": round(event.onset, TIME_DIGITS),
        "offset": None if event.offset is None else round(event.offset, TIME_DIGITS),
        "score": round(event.score, SCORE_DIGITS),
    }


def _scores(named: Sequence[tuple[str, np.float32]]) -> str:
    return f"{{{', '.join(f'{json.dumps(name)}: {score!s}' for name, score in named)}}}"


def header(about: About) -> str:
    """The first line of CSV; a cell with a comma or a quote in it is quoted (RFC 4180).

    People choose the names of labels, so theirs have a prefix: one may be called "time", or as a tag is.
    """
    made = io.StringIO()
    values = [f"e{i}" for i in range(about.embedding_size)]
    labels = [*(f"label:{name}" for name in about.labels), "label"] if about.labels else []
    csv.writer(made, lineterminator="\n").writerow(["time", *values, *about.tags, *labels])
    return made.getvalue()


class _Csv:
    """A row for each hop; for a gap one with its time and empty cells, which readers take as missing values.

    Events are not in it: they are no rows of that table.
    """

    def __init__(self, about: About) -> None:
        self._empty = "," * (about.embedding_size + len(about.tags) + (len(about.labels) + 1 if about.labels else 0))

    def line(self, record: Record) -> str:
        if isinstance(record, Event):
            return ""
        if isinstance(record, Gap):
            return f"{record.time!r}{self._empty}\n"
        parts = [part for part in (record.embedding, record.tags, record.labels) if part is not None]
        cells = [repr(record.time), *map(str, np.concatenate(parts))]
        if record.label is not None:
            made = io.StringIO()
            csv.writer(made, lineterminator="").writerow([record.label])
            cells.append(made.getvalue())
        return ",".join(cells) + "\n"
