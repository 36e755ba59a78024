"""An index of an archive: the embeddings of its audio files, on disk, growing by appending.

A folder of three files:

    index.json      {"format", "model", "model_sha256", "embedding_size", "hop"}: what every row was made with
    rows.f16        float16 [n, embedding_size], little-endian: embeddings of unit length, a file's after each other
    files.jsonl     {"file", "size", "mtime_ns", "row", "rows"} for each file, in the order of its rows

The list of files is the commit: rows reach the disk before the line that names them, so that whatever ends the process
leaves whole files. What follows the last whole line, and rows that no line names, are cut off before more are added. A
file that has changed since is added again, and its last line counts.

When what is of files that changed or went takes more room than the rest, the rest is copied: its rows into
`rows-N.f16`, and a new list, which begins with {"generation": N}, takes the old one's name; then the old rows go.

An index is untrusted: what it says is checked, no path in it is ever opened, and its own files are opened only where
they are files, never what a link leads to.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import lock
from .errors import AudioError, Error, InUseError
from .head_file import MOST_VALUES
from .heads import unit
from .model import Model
from .model_file import replacing, store_names
from .stream import LONGEST_HOP

FORMAT = "l3edge-index 1"
ABOUT, ROWS, FILES = "index.json", "rows.f16", "files.jsonl"
MOST_ABOUT, MOST_LINE = 1 << 16, 1 << 14  # bytes
MOST_FILES = 1 << 22
MOST_ROWS = 1 << 40
MOST_GENERATIONS = 1 << 40
BLOCK = 4096  # rows in memory at a time
NO_FILE = (errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ESPIPE)  # opening a link, a folder, a socket or pipe
COPIES = re.compile(r"rows(-[0-9]+)?\.f16|\.files\.jsonl\.[0-9a-f]{16}\.part")


class Entry(NamedTuple):
    """A file of the index."""

    file: str  # path relative to the archive
    size: int  # bytes
    mtime_ns: int
    row: int  # its first
    rows: int


@dataclass(frozen=True)
class About:
    """What every row was made with."""

    model: str
    model_sha256: str
    embedding_size: int
    hop: float  # s

    @staticmethod
    def of(model: Model, hop: float) -> About:
        """What rows would be made with now."""
        return About(model.name, model.identity, model.spec.embedding_size, hop)


class Index:
    """An index that was read and checked; `writing` lets it grow."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.about = _about(folder / ABOUT)
        self.entries: dict[str, Entry] = {}
        self.generation = 0  # how often it was copied
        self.rows = 0  # that the list of files names
        self.listed = 0  # bytes of it that are whole lines
        self.read()

    @property
    def rows_path(self) -> Path:
        """Where the rows are."""
        return _rows_path(self.folder, self.generation)

    @property
    def row_bytes(self) -> int:
        """Of a row on disk."""
        return 2 * self.about.embedding_size

    def read(self) -> None:
        """Read the list of files, from its beginning."""
        path = self.folder / FILES
        self.entries.clear()
        self.generation = self.rows = self.listed = 0
        try:
            file = _open(path, "rb")
        except FileNotFoundError:
            return
        with file:
            while (line := file.readline(MOST_LINE)).endswith(b"\n"):
                values = _values(line, path)
                if not self.listed and values.keys() == {"generation"}:
                    self.generation = _generation(values, path)
                else:
                    entry = _entry(values, self.rows, path)
                    self.entries[entry.file] = entry
                    self.rows += entry.rows
                self.listed += len(line)
                if len(self.entries) > MOST_FILES:
                    raise _damaged(path, f"more than {MOST_FILES} files")
        if len(line) == MOST_LINE:
            raise _damaged(path, f"a line of more than {MOST_LINE} bytes")
        if self.rows and _size(self.rows_path) < self.rows * self.row_bytes:
            raise _damaged(self.rows_path, "shorter than the list of files says")

    def blocks(self, entry: Entry) -> Iterator[NDArray[np.float32]]:
        """Rows of a file, float32 [at most BLOCK, embedding_size] after each other; what is no number is 0."""
        if not entry.rows:
            return
        shape = (entry.rows, self.about.embedding_size)
        try:
            with _open(self.rows_path, "rb") as file:
                mapped = np.memmap(file, "<f2", "r", entry.row * self.row_bytes, shape)
        except FileNotFoundError:
            raise Error(f"{self.folder}: another process has copied this index meanwhile; search again") from None
        for begin in range(0, entry.rows, BLOCK):
            yield np.nan_to_num(mapped[begin : begin + BLOCK].astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)

    def writing(self) -> Writer:
        """A context in which files are added; Error where another process does so already."""
        return Writer(self)

    def is_current(self, file: str, size: int, mtime_ns: int) -> bool:
        """Whether a file is in the index as it is now."""
        entry = self.entries.get(file)
        return entry is not None and (entry.size, entry.mtime_ns) == (size, mtime_ns)


class Writer:
    """Adds files to an index, whole or not at all."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._list: IO[bytes]
        self._rows: IO[bytes]

    def __enter__(self) -> Writer:
        index = self._index
        refusal = f"{index.folder}: another process is adding to this index; wait for it"
        with contextlib.ExitStack() as opened:
            self._list = opened.enter_context(_open(index.folder / FILES, "ab"))
            lock.take(self._list.fileno(), refusal)
            if not os.path.samestat(os.fstat(self._list.fileno()), (index.folder / FILES).lstat()):
                raise InUseError(refusal)  # copied while we opened the old one
            index.read()  # somebody may have added to it before our lock
            self._rows = opened.enter_context(_open(index.rows_path, "ab"))
            self._cut()
            self._tidy()
            opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rows.close()
        self._list.close()

    def _cut(self) -> None:
        """Off what belongs to no whole file."""
        self._list.truncate(self._index.listed)
        self._rows.truncate(self._index.rows * self._index.row_bytes)

    def _tidy(self) -> None:
        """Remove what a copy left, or one that was killed."""
        for path in self._index.folder.iterdir():
            if COPIES.fullmatch(path.name) and path != self._index.rows_path:
                path.unlink()

    def compact(self, live: Collection[str]) -> None:
        """Copy what is of `live` files, if all else takes more room than that. Where there is no room for the copy, the
        index stays as it is.
        """
        index = self._index
        kept = sorted((entry for entry in index.entries.values() if entry.file in live), key=lambda entry: entry.row)
        lines, rows = [_line({"generation": index.generation + 1})], 0
        for entry in kept:
            lines.append(_line(entry._replace(row=rows)._asdict()))
            rows += entry.rows
        text = b"".join(lines)
        if index.listed + index.rows * index.row_bytes <= 2 * (len(text) + rows * index.row_bytes):
            return
        try:
            copied = self._copied(kept, text)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
        else:
            self._list.close()
            self._rows.close()
            self._list, self._rows = copied
            index.read()
            store_names(index.folder)  # before the old rows go
        self._tidy()

    def _copied(self, kept: Sequence[Entry], text: bytes) -> tuple[IO[bytes], IO[bytes]]:
        """The list and the rows of a copy, once it is what the index consists of."""
        index = self._index
        with contextlib.ExitStack() as opened:
            rows = opened.enter_context(_open(_rows_path(index.folder, index.generation + 1), "ab"))
            for entry in kept:
                for block in index.blocks(entry):
                    _write(rows, block.astype("<f2").tobytes())
            os.fsync(rows.fileno())
            with replacing(index.folder / FILES) as part:
                files = opened.enter_context(_open(part, "ab"))
                lock.take(files.fileno(), f"{part} is locked")  # before it has the name by which others find it
                _write(files, text)
                os.fsync(files.fileno())
                store_names(index.folder)
            opened.pop_all()
        return files, rows

    def add(self, file: str, size: int, mtime_ns: int, blocks: Iterable[NDArray[np.float32]]) -> None:
        """Append a file with its embeddings, in blocks [k, embedding_size]. Where that fails, nothing was added."""
        index, count = self._index, 0
        try:
            for block in blocks:
                _write(self._rows, unit(block).astype("<f2").tobytes())
                count += len(block)
            os.fsync(self._rows.fileno())
            entry = Entry(file, size, mtime_ns, index.rows, count)
            line = _line(entry._asdict())
            if len(line) >= MOST_LINE:
                raise AudioError(f"{file}: its path is too long to be indexed")
            _write(self._list, line)
            os.fsync(self._list.fileno())
        except BaseException:
            self._cut()
            raise
        index.entries[file] = entry
        index.rows += count
        index.listed += len(line)


def _write(file: IO[bytes], data: bytes) -> None:
    """All of it, unbuffered: of a full disk nothing may be left to be written when the file is closed."""
    view = memoryview(data)
    while len(view):
        view = view[file.write(view) :]


def _open(path: Path, mode: str) -> IO[bytes]:
    """A file of an index, "rb" or "ab". Where it is a link, which may lead to any file of the user's, or a pipe, which
    would keep us waiting: Error.
    """

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)

    try:
        file: IO[bytes] = open(path, mode, buffering=-1 if mode == "rb" else 0, opener=opener)  # noqa: SIM115
    except OSError as error:
        if error.errno not in NO_FILE:
            raise
        raise _damaged(path, "a link, or no file") from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise _damaged(path, "no file")
    return file


def _rows_path(folder: Path, generation: int) -> Path:
    return folder / (f"rows-{generation}.f16" if generation else ROWS)


def create(folder: Path, about: About) -> Index:
    """The index in a folder, made there if there is none."""
    if not os.path.lexists(folder / ABOUT):
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / ABOUT) as part:
            part.write_text(json.dumps({"format": FORMAT, **vars(about)}, indent=1) + "\n")
    return Index(folder)


def _about(path: Path) -> About:
    with _open(path, "rb") as file:
        text = file.read(MOST_ABOUT + 1)
    try:
        values = json.loads(text) if len(text) <= MOST_ABOUT else None
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
        raise _damaged(path, f"not of the format {FORMAT!r}")
    types = {"model": str, "model_sha256": str, "embedding_size": int, "hop": float}
    if {name: type(value) for name, value in values.items()} != types:
        raise _damaged(path, "its values are none that an index has")
    about = About(**values)
    if not (0 < about.embedding_size <= MOST_VALUES and 0 < about.hop <= LONGEST_HOP):
        raise _damaged(path, "its numbers are none that an index has")
    return about


def _line(values: dict[str, Any]) -> bytes:
    return json.dumps(values).encode() + b"\n"


def _values(line: bytes, path: Path) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, "a line that is not JSON") from error
    if not isinstance(values, dict):
        raise _damaged(path, "a line that names no file")
    return values


def _generation(values: dict[str, Any], path: Path) -> int:
    generation = values["generation"]
    if type(generation) is not int or not 0 < generation < MOST_GENERATIONS:
        raise _damaged(path, "of a generation that is none")
    return generation


def _entry(values: dict[str, Any], row: int, path: Path) -> Entry:
    if set(values) != set(Entry._fields) or not isinstance(values["file"], str):
        raise _damaged(path, "a line that names no file")
    numbers = [values[name] for name in Entry._fields[1:]]
    if not all(type(number) is int and abs(number) < 1 << 63 for number in numbers):
        raise _damaged(path, "a line with numbers that are none")
    if values["row"] != row or not 0 <= values["rows"] <= MOST_ROWS:
        raise _damaged(path, f"rows of {values['file']!r:.80} that are not where they must be")
    return Entry(**values)


def _size(path: Path) -> int:
    try:
        with _open(path, "rb") as file:
            return os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        return 0


def _damaged(path: Path, how: str) -> Error:
    return Error(f"{path}: {how}, so this is no index, or a damaged one; remove {path.parent} to index anew")
