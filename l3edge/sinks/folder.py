"""A folder of files that are written one after the other: their names, and how each is finished.

The file being written ends in `.part`. A thread gives it its final name, which may take long on a card, so that who
writes does not wait for it. It also asks the system to store what was written, and removes the oldest files where they
are bounded.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from .. import lock
from .trouble import Trouble

PART = ".part"
CLOSE_SECONDS = 0.9
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.part")  # of `model_file.replacing`
NAME = re.compile(r"[0-9]{8}T[0-9]{6}Z-([0-9]{6,12})\.(jsonl|npz)(\.part)?")

# Makes of a part what goes under its final name; False where it held no record. ValueError where it is none of ours,
# and is kept under another name.
Finish = Callable[[Path, Path], bool]


class Folder:
    """Names in a folder, of which this process is the only writer.

    A name is when the file was begun, in UTC, and a number that grows by one from file to file whatever the clock does:
    no name is used twice.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = -1
        self._number = 0

    def enter(self) -> list[Path]:
        """Make sure that it is there and ours; the parts that were left in it, where it is new to us.

        Error where another process writes there; OSError where that cannot be.
        """
        if self._lock >= 0 and self._same():
            return []
        self.leave()
        self.path.mkdir(exist_ok=True)
        self._lock = lock.hold(self.path, os.O_RDONLY | os.O_DIRECTORY)
        for path in self.path.iterdir():
            if TEMPORARY.fullmatch(path.name):
                with contextlib.suppress(OSError):  # of a disk that is read-only
                    path.unlink()
        found = self.files(part=True) + self.files(part=False)
        self._number = max([self._number, *map(number, found)])
        return self.files(part=True)

    def _same(self) -> bool:
        """Whether the folder under that name is the one we locked: it may have been removed, or replaced."""
        ours = os.fstat(self._lock)
        with contextlib.suppress(OSError):
            there = self.path.stat()
            return (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)
        return False

    def leave(self) -> None:
        """Let others write there."""
        if self._lock >= 0:
            os.close(self._lock)
        self._lock = -1

    def store(self) -> None:
        """Have the names stored that files have now."""
        if self._lock >= 0:
            os.fsync(self._lock)

    def name(self, suffix: str) -> Path:
        """That of the next file."""
        self._number += 1
        return self.path / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{self._number:06d}.{suffix}"

    def files(self, part: bool) -> list[Path]:
        """Those that are finished, or the parts; the oldest first."""
        named = [(path, NAME.fullmatch(path.name)) for path in self.path.iterdir()]
        return sorted((path for path, match in named if match and (match[3] is not None) == part), key=number)


def number(path: Path) -> int:
    """That in the name of a file."""
    match = NAME.fullmatch(path.name)
    assert match
    return int(match[1])


class Part:
    """A file being written: whole pieces, or nothing of them."""

    def __init__(self, name: Path) -> None:
        self.path = name.with_name(name.name + PART)
        self.size = 0  # bytes
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(self.path, flags, 0o644)

    def append(self, data: bytes) -> None:
        """In one call to the system, so that the end of this process leaves it whole; OSError where it is not there."""
        if os.fstat(self._descriptor).st_nlink == 0:
            raise FileNotFoundError(errno.ENOENT, "the folder was removed")
        try:
            if os.write(self._descriptor, data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            os.ftruncate(self._descriptor, self.size)
            raise
        self.size += len(data)

    def store(self) -> None:
        """Have what was written stored."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


class Finisher:
    """A thread that stores and finishes parts.

    Attributes:
        current: the part being written, to be stored every `seconds`; nobody else closes a part
        finished, removed: files so far
        broken: parts that held something else, set aside
        trouble: of finishing
    """

    def __init__(self, folder: Folder, finish: Mapping[str, Finish], seconds: float, most: int | None) -> None:
        self.current: Part | None = None
        self.finished = self.removed = self.broken = 0
        self.trouble = Trouble(f"files in {folder.path}")
        self._folder, self._finish, self._seconds, self._most = folder, finish, seconds, most
        self._open: deque[Part] = deque()
        self._parts: deque[Path] = deque()  # closed
        self._wake, self._ending = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="l3edge-files", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Parts that are not finished yet, but for the current one."""
        return len(self._open) + len(self._parts)

    def add(self, parts: Iterable[Path]) -> None:
        """Parts of a run before this one."""
        self._parts.extend(parts)
        self._wake.set()

    def rotate(self) -> None:
        """The current part is complete."""
        part, self.current = self.current, None  # in this order: what is open, the thread may close
        if part:
            self._open.append(part)
        self._wake.set()

    def close(self) -> None:
        """Finish what can be finished soon; the next run finishes the rest."""
        self.rotate()
        self._ending = True
        self._wake.set()
        self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        ending = False
        while not ending:
            self._wake.wait(self._seconds)
            self._wake.clear()
            ending = self._ending
            try:
                self._work()
            except Exception as error:  # the thread must not end
                reason = getattr(error, "strerror", None) or error or type(error).__name__
                self.trouble.set(f"cannot be finished ({reason}); tried again while new ones are written")
            else:
                self.trouble.clear()

    def _work(self) -> None:
        """Everything that is to be done; a part that cannot be finished does not keep the others from it."""
        while self._open:
            part = self._open[0]
            self._parts.append(part.path)
            self._open.popleft()
            try:
                part.store()
            finally:
                part.close()
        failed: Exception | None = None
        for _ in range(len(self._parts)):
            try:
                self._name(self._parts[0])
            except FileNotFoundError:  # its folder was removed
                pass
            except ValueError:
                self.broken += 1
            except (OSError, MemoryError) as error:
                self._parts.append(self._parts[0])
                failed = error
            self._parts.popleft()
        if failed:
            raise failed
        if current := self.current:
            current.store()
        self._bound()

    def _name(self, part: Path) -> None:
        """Finish a part under its final name, which no file has."""
        target = part.with_suffix("")
        if self._finish[target.suffix.removeprefix(".")](part, target):
            self.finished += 1
            self._folder.store()

    def _bound(self) -> None:
        if self._most is None:
            return
        with contextlib.suppress(FileNotFoundError):  # the folder was removed
            files = [(path, path.stat().st_size) for path in self._folder.files(part=False)]
            total = sum(size for _, size in files)
            for path, size in files:
                if total <= self._most:
                    break
                path.unlink()
                self.removed += 1
                total -= size
