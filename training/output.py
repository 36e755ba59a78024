"""The directory that `prepare` or `corpus` writes to: new, begun by the same command, finished, or somebody else's.

A data set that is replaced stays whole until the new one is: that is made in .NAME.partial beside it, then the two
change places. At a URL, where nothing can be renamed as a whole, the old one is removed first.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from . import journal, plan, storage
from .cli import TrainingError
from .manifest import is_url
from .plan import ITEMS, PLAN, SPLITS, Plan
from .records import FORMAT
from .verdicts import VIDEOS
from .videos import STATISTICS

_SHARD = rf"({'|'.join(SPLITS)})-\d{{5,}}-of-\d{{5,}}"
_RECORDS = re.compile(rf"{_SHARD}\.tfrecord")
_JOURNAL = re.compile(rf"{_SHARD}\.(jsonl|jsonl\.part|tfrecord\.part|npy|json)|\..+\.part")

CLIPS = "clips.csv"  # of a corpus of sound: what each clip is made of
SOURCES = "sources.json"  # and what there was to make them of


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
    """Keep other commands on this machine off a local directory. Two at one URL write the same bytes."""
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
            raise TrainingError(f"another command is writing to {out}; wait for it, or end it") from None
        except FileNotFoundError:  # whoever had the lock has just removed it
            pass
        file.close()


def _beside(out: str, suffix: str) -> Path:
    return Path(out).with_name(f".{Path(out).name}.{suffix}")


def begin(out: str, new: Plan, overwrite: bool) -> str | None:
    """Where to write, with the plan in place; None: `out` is finished. Raises TrainingError.

    Under `locked`. What prepare did not write is never removed: a directory that holds such is not replaced.
    """
    if not is_url(out):
        _restore(out)
        if Path(out, STATISTICS).exists():
            _clear(str(_beside(out, "old")))  # left where that was interrupted
    names = _names(out)
    if not _ours(out, names, new):
        if overwrite:
            raise TrainingError(f"{out} was not written by prepare or corpus, so --overwrite will not replace it")
        raise TrainingError(f"{out} is not empty, and not by prepare or corpus; give another --out")
    target = out
    if STATISTICS in names:
        if not overwrite:
            if PLAN not in names:
                raise TrainingError(f"{out} holds a data set already; give another --out, or --overwrite to replace it")
            plan.check(new, out)
            return None
        _check_replaceable(out)
        if is_url(out):
            _clear(out)
        else:
            target = str(_beside(out, "partial"))
    if storage.exists(storage.join(target, PLAN)):
        try:
            plan.check(new, target)
        except TrainingError:
            if not overwrite:
                raise
            _check_replaceable(target)
            _clear(target)
    storage.make_directory(target)
    plan.write(new, target)
    return target


def _names(directory: str) -> set[str]:
    """What is directly in a directory, which need not exist: at a URL files, else whatever it is."""
    if is_url(directory) or not Path(directory).exists():
        return set(storage.files(directory))
    return {path.name for path in Path(directory).iterdir()}


def _ours(out: str, names: set[str], new: Plan) -> bool:
    """Whether its plan and statistics are of prepare, or there is but what a killed one leaves before it has a plan."""
    documents = names & {PLAN, STATISTICS}
    try:
        if not documents:
            others = {name for name in names if not _temporary(name)}
            return not others or (others == {ITEMS} and storage.read(storage.join(out, ITEMS)) == new.content)
        read = [json.loads(storage.read(storage.join(out, name))) for name in documents]
        return all(document["format"] in range(1, FORMAT + 1) for document in read)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def _check_replaceable(directory: str) -> None:
    """Raises TrainingError if there is anything that prepare does not write."""
    names = {name for name in _names(directory) if not _written(name)}
    journals = storage.join(directory, journal.FOLDER)
    names |= {f"{journal.FOLDER}/{name}" for name in _names(journals) if not _JOURNAL.fullmatch(name)}
    if names:
        some = ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")
        raise TrainingError(
            f"{directory} also holds what prepare or corpus did not write, so it is not replaced: {some}"
        )


def _written(name: str) -> bool:
    known = (STATISTICS, VIDEOS, CLIPS, SOURCES, ITEMS, PLAN, journal.FOLDER)
    return name in known or _temporary(name) or _RECORDS.fullmatch(name) is not None


def _temporary(name: str) -> bool:
    return name.startswith(".") and name.endswith(".part")


def finish(target: str, out: str) -> None:
    """Remove what the data set does not need, and bring it to its place."""
    if target != out:
        _check_replaceable(out)  # once more, before what could be gone on with is removed: hours may have passed
    _remove_journals(target)
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
    """Remove a data set, first what makes it one: if that is interrupted, nothing takes the rest for a whole.

    What prepare did not write stays, and a local directory with it.
    """
    storage.remove([storage.join(directory, STATISTICS)])
    _remove_journals(directory)
    names = (name for name in storage.files(directory) if _written(name) and name != PLAN)
    storage.remove(storage.join(directory, name) for name in names)
    storage.remove([storage.join(directory, PLAN)])  # last: with it the directory is known as ours
    _remove_empty(directory)


def _remove_journals(directory: str) -> None:
    folder = storage.join(directory, journal.FOLDER)
    storage.remove(storage.join(folder, name) for name in storage.files(folder) if _JOURNAL.fullmatch(name))
    _remove_empty(folder)


def _remove_empty(directory: str) -> None:
    if not is_url(directory):
        with contextlib.suppress(OSError):
            Path(directory).rmdir()
