"""Where the command line's results go: lines in three formats, files that are complete or absent, a recording."""

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
from numpy.typing import NDArray

from .display import Meter, Terminal, groups
from .errors import Error
from .microphone import Block
from .model_file import replacing
from .tags import LEAST_SCORE, TEXT_TAGS, in_words, strongest

FORMATS = ("text", "jsonl", "csv")
TEXT_GROUPS = 24  # characters that stand for an embedding in a line of text
MOST_RECORDED = (1 << 32) - 4096  # bytes of samples: a WAV's sizes have 32 bits, and its header some hundred bytes
SILENCE = 1 << 14  # frames of a gap that are written at a time

Scores = NDArray[np.float32] | None  # of tags, [n]; None where none are wanted
# Takes an embedding, its time, the meter at that time, and the scores of its tags.
Emit = Callable[[NDArray[np.float32], float, Meter, Scores], None]
Line = Callable[[NDArray[np.float32], float, Meter, Scores], str]


@contextlib.contextmanager
def written(path: Path, text: bool = False) -> Iterator[IO[Any]]:
    """A file that appears under its name when it is complete, or not at all.

    What exists and is no regular file, such as /dev/null or a named pipe, is written to and never replaced.
    """
    path = path.resolve()  # a symbolic link stays one
    if path.exists() and not path.is_file():
        with path.open("w", encoding="utf-8", newline="\n") if text else path.open("wb") as special:
            yield special
        return
    if not path.parent.is_dir():
        raise Error(f"{path}: the folder {path.parent} does not exist")
    with replacing(path) as part, part.open("w", encoding="utf-8", newline="\n") if text else part.open("wb") as file:
        yield file


@contextlib.contextmanager
def lines(kind: str, size: int, output: Path | None, flush: bool, tags: Sequence[str] = ()) -> Iterator[Emit]:
    """Writes results of `size` values as lines of a format, to a file or to standard output.

    Values are the shortest decimals that give the same float32. flush: whether somebody may wait for each line.
    tags: names of the scores that come with each result: all of them in CSV, the strongest in the others.
    """
    with contextlib.nullcontext(sys.stdout) if output is None else written(output, text=True) as out:
        terminal = Terminal(out)
        line: Line = {"text": _text(terminal, tags), "jsonl": _jsonl(tags), "csv": _csv}[kind]
        if kind == "csv":
            out.write(terminal.shown(_row(["time", *(f"e{i}" for i in range(size)), *tags])))

        def emit(embedding: NDArray[np.float32], seconds: float, meter: Meter, scores: Scores = None) -> None:
            out.write(line(embedding, seconds, meter, scores))
            if flush:
                out.flush()

        yield emit
        out.flush()


def _text(terminal: Terminal, tags: Sequence[str]) -> Line:
    def line(embedding: NDArray[np.float32], seconds: float, meter: Meter, scores: Scores) -> str:
        small = groups(embedding, TEXT_GROUPS)
        change = "    -" if meter.change is None else f"{meter.change:5.3f}"
        spark = terminal.sparkline(small, 0.0, float(small.max()))
        told = f"{seconds:9.2f} s  {meter.hop_level:5.1f} dBFS  change {change}  {spark}"
        if scores is not None:
            heard = in_words(strongest(tags, scores, least=LEAST_SCORE, most=TEXT_TAGS))
            told = f"{told}  {terminal.shown(heard)}".rstrip()
        return told + "\n"

    return line


def _jsonl(tags: Sequence[str]) -> Line:
    def line(embedding: NDArray[np.float32], seconds: float, _meter: Meter, scores: Scores) -> str:
        told = f'{{"time": {seconds!r}, "embedding": [{", ".join(map(str, embedding))}]'
        if scores is not None:
            heard = (f"{json.dumps(name)}: {score!s}" for name, score in strongest(tags, scores, least=LEAST_SCORE))
            told += f', "tags": {{{", ".join(heard)}}}'
        return told + "}\n"

    return line


def _csv(embedding: NDArray[np.float32], seconds: float, _meter: Meter, scores: Scores) -> str:
    values = map(str, embedding if scores is None else np.concatenate([embedding, scores]))
    return f"{seconds!r},{','.join(values)}\n"


def _row(cells: Sequence[str]) -> str:
    """A line of CSV; a cell with a comma or a quote in it is quoted (RFC 4180)."""
    made = io.StringIO()
    csv.writer(made, lineterminator="\n").writerow(cells)
    return made.getvalue()


class RecordingError(Error):
    """The recording cannot go on; what was heard until then is in it."""


class Recorder:
    """Keeps what is heard as a float32 WAV, with silence where samples were lost, so that time stays right."""

    def __init__(self, path: Path, sample_rate: int, channels: int) -> None:
        try:
            import soundfile
        except (ImportError, OSError) as error:
            raise Error(f"recording needs the package soundfile ({error}); install it") from error
        self._path, self._channels, self._error = path, channels, soundfile.SoundFileError
        self._room = MOST_RECORDED // (4 * channels)  # frames
        with self._named():
            self._file = soundfile.SoundFile(str(path), "w", sample_rate, channels, subtype="FLOAT", format="WAV")

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except self._error as error:
            raise RecordingError(f"{self._path}: cannot be recorded to ({error})") from error

    def write(self, block: Block) -> None:
        """Append a block, or raise RecordingError and keep what there is."""
        self._room -= block.lost + len(block.samples)
        if self._room < 0:
            raise RecordingError(
                f"{self._path}: the recording is full, as a WAV file holds at most 4 GiB; what was heard before is kept"
            )
        with self._named():
            for begin in range(0, block.lost, SILENCE):
                self._file.write(np.zeros((min(SILENCE, block.lost - begin), self._channels), np.float32))
            self._file.write(block.samples)

    def close(self) -> None:
        """Complete the file."""
        with self._named():
            self._file.close()
