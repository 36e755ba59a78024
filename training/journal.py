"""One shard written so that it can be gone on with after any end: kill -9, a full disk, a lost power supply.

While a shard is in work its records are journal/NAME.tfrecord.part, and journal/NAME.jsonl.part has a line for each
item done, with the offset at which its records end. Whoever goes on cuts both back to the last whole item. When all
items are done the records get their place, DIRECTORY/NAME.tfrecord, and last the journal its own, journal/NAME.jsonl:
a shard that has that is finished. Where the directory is a URL all this happens in a temporary folder, and only what
is finished is copied.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from . import storage
from .children import Decoded
from .cli import TrainingError
from .manifest import Item, is_url

FOLDER = "journal"
_CHUNK = 1 << 20

Decode = Callable[[Sequence[Item]], Iterator[Decoded]]


class Entry(NamedTuple):
    """A line of a journal: what became of one item."""

    name: str
    verdict: str
    reason: str
    samples: int  # of sound kept, at settings.sample_rate
    frames: int
    records: int
    segments: dict[str, int]  # by verdict
    end: int  # bytes of the record file with this item


class Finished(NamedTuple):
    """A finished shard."""

    entries: list[Entry]
    bytes: int  # 0: nothing was kept, there is no file
    sha256: str


def records_path(directory: str, name: str) -> str:
    return storage.join(directory, f"{name}.tfrecord")


def journal_path(directory: str, name: str) -> str:
    return storage.join(directory, FOLDER, f"{name}.jsonl")


def read(directory: str, name: str) -> Finished:
    """The journal of a finished shard. Raises TrainingError."""
    path = journal_path(directory, name)
    try:
        *lines, last = storage.read(path).splitlines()
        end = json.loads(last)
        return Finished([Entry(*json.loads(line)) for line in lines], end["bytes"], end["sha256"])
    except (ValueError, TypeError, KeyError) as error:
        raise TrainingError(f"{path} cannot be read: {error}. Remove it, and the shard is made again") from error


def write_shard(directory: str, name: str, items: Sequence[Item], decode: Decode) -> None:
    """Make a shard, or go on with it, or find it finished. Raises TrainingError."""
    if storage.exists(journal_path(directory, name)):
        return
    try:
        if is_url(directory):
            with tempfile.TemporaryDirectory(prefix="l3edge-") as scratch:
                _fill(Path(scratch), name, items, decode)
                records = Path(records_path(scratch, name))
                if records.exists():
                    storage.publish(records, records_path(directory, name))
                storage.publish(Path(journal_path(scratch, name)), journal_path(directory, name))
        else:
            _fill(Path(directory), name, items, decode)
    except OSError as error:  # Beam's are such too
        raise TrainingError(f"{name} cannot be written to {directory}: {error}") from error


def _fill(directory: Path, name: str, items: Sequence[Item], decode: Decode) -> None:
    records, journal = Path(records_path(str(directory), name)), Path(journal_path(str(directory), name))
    records_part, journal_part = journal.with_name(f"{name}.tfrecord.part"), journal.with_name(f"{name}.jsonl.part")
    journal.parent.mkdir(exist_ok=True)
    with journal_part.open("a+b") as log:
        _lock(log, name)
        if journal.exists():  # whoever held the lock has just finished it, and `log` is that file or an orphan
            journal_part.unlink(missing_ok=True)
            return
        if records.exists():  # it ended between the two renames below
            records.replace(records_part)
        with records_part.open("a+b") as file:
            done = _resume(log, file, items)
            digest = _digest(file)
            for item, decoded in zip(items[done:], decode(items[done:]), strict=True):
                file.write(decoded.data)
                digest.update(decoded.data)
                file.flush()
                os.fsync(file.fileno())  # the journal must not be ahead of the records when the power fails
                entry = Entry(item.name, *decoded[:-1], end=file.tell())
                log.write(json.dumps(entry).encode() + b"\n")
                log.flush()
            size = file.tell()
        if size:
            records_part.replace(records)
        else:
            records_part.unlink()
        log.write(json.dumps({"bytes": size, "sha256": digest.hexdigest()}).encode() + b"\n")
        log.flush()
        os.fsync(log.fileno())
        journal_part.replace(journal)


def _lock(file: BinaryIO, name: str) -> None:
    """A runner may start a shard anew while a lost worker still writes it. The lock goes with the file's end."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise TrainingError(f"another process is writing {name}; try again when it has ended") from None


def _resume(log: BinaryIO, file: BinaryIO, items: Sequence[Item]) -> int:
    """Cut both files back to the last whole item; returns how many there are."""
    size = os.fstat(file.fileno()).st_size
    log.seek(0)
    done = read = end = 0
    for line in log:
        entry = _entry(line)
        if entry is None or done == len(items) or entry.name != items[done].name or entry.end > size:
            break
        done, read, end = done + 1, read + len(line), entry.end
    log.truncate(read)
    file.truncate(end)
    log.seek(0, os.SEEK_END)
    file.seek(0, os.SEEK_END)
    return done


def _entry(line: bytes) -> Entry | None:
    try:
        return Entry(*json.loads(line)) if line.endswith(b"\n") else None
    except (ValueError, TypeError):
        return None


def _digest(file: BinaryIO) -> Any:
    digest = hashlib.sha256()
    file.seek(0)
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest
