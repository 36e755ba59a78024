"""The directory `prepare` writes to: new, begun by the same command, finished, or somebody else's.

A data set that is replaced stays whole until the new one is: that is made in .NAME.partial beside it, then the two
change places. At a URL, where nothing can be renamed as a whole, the old one is removed first.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from . import journal, plan, storage
from .cli import TrainingError
from .manifest import is_url
from .plan import ITEMS, PLAN, SPLITS, Plan
from .verdicts import VIDEOS
from .videos import STATISTICS


def place(out: str) -> str:
    """The directory's own name: a URL, or an absolute path without links. Raises TrainingError."""
    if is_url(out):
        storage.check(out)
        return out.rstrip("/")
    if Path(out).exists() and not Path(out).is_dir():
        raise TrainingError(f"{out} exists and is not a folder")
    return str(Path(out).resolve())


@contextlib.contextmanager
def locked(out: str) -> Iterator[None]:
    """Keep other `prepare`s on this machine off a local directory. Two at one URL write the same bytes."""
    if is_url(out):
        yield
        return
    path = _beside(out, "lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with _open_locked(path, out):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _open_locked(path: Path, out: str) -> BinaryIO:
    while True:
        file = path.open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(path.stat(), os.fstat(file.fileno())):
                return file
        except BlockingIOError:
            file.close()
            raise TrainingError(f"another prepare is writing to {out}; wait for it, or end it") from None
        except FileNotFoundError:  # whoever had the lock has just removed it
            pass
        file.close()


def _beside(out: str, suffix: str) -> Path:
    return Path(out).with_name(f".{Path(out).name}.{suffix}")


def begin(out: str, new: Plan, overwrite: bool) -> str | None:
    """Where to write, with the plan in place; None: `out` is finished. Raises TrainingError.

    Under `locked`.
    """
    if not is_url(out):
        _restore(out)
        if Path(out, STATISTICS).exists():
            _clear(str(_beside(out, "old")))  # left where that was interrupted
    files = storage.files(out)
    if STATISTICS in files:
        if not overwrite:
            if PLAN not in files:
                raise TrainingError(f"{out} holds a data set already; give another --out, or --overwrite to replace it")
            plan.check(new, out)
            return None
        target = out if is_url(out) else str(_beside(out, "partial"))
        if is_url(out):
            _clear(out)
    else:
        target = out
        if PLAN not in files and _foreign(out, files):
            if overwrite:
                raise TrainingError(f"{out} was not written by prepare, so --overwrite will not replace it")
            raise TrainingError(f"{out} is not empty, and not by prepare; give another --out")
    if storage.exists(storage.join(target, PLAN)):
        try:
            plan.check(new, target)
        except TrainingError:
            if not overwrite:
                raise
            _clear(target)
    storage.make_directory(target)
    plan.write(new, target)
    return target


def _foreign(out: str, files: dict[str, int]) -> bool:
    """Whether there is anything but what a killed `prepare` leaves before it has a plan."""
    if not is_url(out) and Path(out).is_dir():
        files = dict.fromkeys((path.name for path in Path(out).iterdir()), 0)
    return any(not _temporary(name) for name in files)


def _temporary(name: str) -> bool:
    return name.startswith(".") and name.endswith(".part")


def finish(target: str, out: str) -> None:
    """Remove what the data set does not need, and bring it to its place."""
    folder = storage.join(target, journal.FOLDER)
    if is_url(target):
        storage.remove(storage.join(folder, name) for name in storage.files(folder))
    else:
        shutil.rmtree(folder, ignore_errors=True)
    storage.remove(storage.join(target, name) for name in storage.files(target) if _temporary(name))
    if target != out:
        old = _beside(out, "old")
        _clear(str(old))
        try:
            Path(out).replace(old)
            Path(target).replace(out)
        finally:
            _restore(out)
        _clear(str(old))


def abandon(target: str) -> None:
    """Remove a directory out of which no data set came."""
    _clear(target)


def _restore(out: str) -> None:
    """Put back the data set that had been moved away, if the new one did not get to its place."""
    old = _beside(out, "old")
    if not Path(out).exists() and (old / STATISTICS).is_file():
        old.replace(out)


def _clear(directory: str) -> None:
    """Remove a data set, first what makes it one: if that is interrupted, nothing takes the rest for a whole."""
    names = [STATISTICS, VIDEOS, ITEMS]
    if not is_url(directory):
        with contextlib.suppress(FileNotFoundError):
            Path(directory, STATISTICS).unlink()
        shutil.rmtree(directory, ignore_errors=True)
        return
    shards = (name for name in storage.files(directory) if name.endswith(".tfrecord") and name.split("-")[0] in SPLITS)
    folder = storage.join(directory, journal.FOLDER)
    journals = (storage.join(folder, name) for name in storage.files(folder))
    storage.remove([*(storage.join(directory, name) for name in (*names, *shards)), *journals])
    storage.remove([storage.join(directory, PLAN)])  # last: with it the directory is known as ours
