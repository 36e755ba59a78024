"""Rotating files of JSON lines or arrays, for months: `[[sink]]` with `kind = "files"`, or `--sink files:dir=heard`.

Each record is appended whole to the current file, whose name ends in `.part`. At a size or after some hours of sound it
is stored, and takes its final name: when it was begun, in UTC, and a number that grows (the order, should the clock
have been set back). What a killed process left is cut to whole records and finished by the next one.

A folder that cannot be written to, because it is full, read-only or gone, is no end: records are counted as failed, and
a line or array of the next file that can be written says how many are missed.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from .. import settings
from ..errors import Error, OptionError
from ..records import About, Event, Hop, Record
from . import Sink, journal, jsonl
from .folder import Finisher, Folder, Part
from .trouble import Trouble

RETRY_SECONDS = 1.0
FULL = (errno.ENOSPC, errno.EDQUOT)  # errors after which the same file can be gone on with
MB = 1_000_000


class Format(Protocol):
    """Of records in a part."""

    def header(self) -> bytes: ...
    def record(self, record: Record) -> bytes: ...
    def missed(self, count: int, time: float) -> bytes: ...


FORMATS: dict[str, Callable[[About], Format]] = {"jsonl": jsonl.JsonlFormat, "npz": journal.NpzFormat}
FINISH = {"jsonl": jsonl.finish, "npz": journal.finish}


@dataclass(frozen=True)
class Settings:
    """Of a sink of files."""

    dir: Path  # made if it is not there; the folder that it is in must be
    format: str = "jsonl"  # or npz
    hops: bool = True  # false: gaps and events alone
    max_mb: float = 64.0  # of a file; an .npz needs as much room again while it is made
    max_hours: float = 24.0  # of sound in a file
    keep_mb: float | None = None  # of all files together: the oldest are removed; None keeps all
    fsync_seconds: float = 5.0  # how much a power cut may take

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise OptionError(f"format must be {' or '.join(FORMATS)}, got {self.format!r}")
        settings.check_range("max-mb", self.max_mb, 0.01, 1024)
        settings.check_range("max-hours", self.max_hours, 0.001, 10_000)
        settings.check_range("fsync-seconds", self.fsync_seconds, 0.05, 3600)
        if self.keep_mb is not None and not 2 * self.max_mb <= self.keep_mb <= 1e9:
            raise OptionError(f"keep-mb must be at least twice max-mb, {2 * self.max_mb:g}, got {self.keep_mb:g}")


def open_sink(options: Mapping[str, Any], about: About) -> Sink:
    """Files in a folder; Error where it cannot be, or where another process writes there."""
    return Files(settings.read(Settings, options, "files"), about)


class Files(Sink):
    """The files of one run."""

    def __init__(self, options: Settings, about: About) -> None:
        self._options, self._about = options, about
        self._format = FORMATS[options.format](about)
        self._folder = Folder(options.dir)
        try:
            left = self._folder.enter()
        except OSError as error:
            raise Error(
                f"{options.dir}: cannot be written to ({error.strerror}); give dir a folder that can"
            ) from error
        # The current file is within the bound, too.
        most = None if options.keep_mb is None else int((options.keep_mb - options.max_mb) * MB)
        self._finisher = Finisher(self._folder, FINISH, options.fsync_seconds, most)
        self._finisher.add(left)
        self._trouble = Trouble(f"files in {options.dir}")
        self._begun = 0.0  # time of the stream at which the current file begins
        self._written = self._failed = 0
        self._missed, self._missed_from = 0, 0.0  # records, since the last that was written
        self._retry = 0.0  # when to try again, of the monotonic clock

    def write(self, record: Record) -> None:
        when = record.onset if isinstance(record, Event) else record.time
        if self._finisher.current and when - self._begun >= self._options.max_hours * 3600:
            self._finisher.rotate()
        if self._options.hops or not isinstance(record, Hop):
            self._append(self._format.record(record), when)
        self._tell()

    def _append(self, data: bytes, when: float) -> None:
        """Write a record, or count it as missed; while that fails, it is tried once a second."""
        if (not self._missed or time.monotonic() >= self._retry) and self._put(data, when):
            self._written += 1
            return
        self._failed += 1
        if not self._missed:
            self._missed_from = when
        self._missed += 1

    def _put(self, data: bytes, when: float) -> bool:
        """Whether it was written, and with it how many were missed before."""
        try:
            part = self._current()
            if self._missed:
                data = self._format.missed(self._missed, self._missed_from) + data
            if part.size == 0:
                data, self._begun = self._format.header() + data, when
            part.append(data)
        except (OSError, Error) as error:
            self._retry = time.monotonic() + RETRY_SECONDS
            reason: object = error
            if isinstance(error, OSError):
                reason = error.strerror
            if not isinstance(error, OSError) or error.errno not in FULL:
                self._finisher.rotate()  # what is open may be gone for good, though its folder comes back
            self._trouble.set(f"cannot be written to ({reason}); records are counted, and it is tried every second")
            return False
        self._missed = 0
        self._trouble.clear()
        if part.size >= self._options.max_mb * MB:
            self._finisher.rotate()
        return True

    def _current(self) -> Part:
        """The part being written, a new one where there is none."""
        if self._finisher.current is None:
            self._finisher.add(self._folder.enter())
            self._finisher.current = Part(self._folder.name(self._options.format))
        return self._finisher.current

    def _tell(self) -> None:
        self._trouble.tell()
        self._finisher.trouble.tell()

    def health(self, figures: Mapping[str, float]) -> None:
        self._tell()

    def figures(self) -> dict[str, float]:
        """Records written and failed; files finished, waiting to be, removed, and set aside as broken."""
        finisher = self._finisher
        return {
            "written": self._written,
            "failed": self._failed,
            "files": finisher.finished,
            "waiting": finisher.waiting,
            "removed": finisher.removed,
            "broken": finisher.broken,
        }

    def close(self) -> None:
        if self._missed:
            self._put(b"", self._missed_from)
        self._finisher.close()
        self._tell()
        self._folder.leave()
