"""One process at a time in a run directory."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from .cli import TrainingError

LOCK = "lock"


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keep others off an existing run directory while the block runs; the file stays, the lock ends with the process.

    Raises TrainingError where another has it. Machines that share the directory keep off each other where its file
    system knows locks.
    """
    with (directory / LOCK).open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TrainingError(
                f"another process trains in {directory}; wait for it, end it, or give another --run"
            ) from None
        yield
