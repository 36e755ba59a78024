"""One writer to a folder or file, among the processes of a machine; however a holder ends, its lock ends with it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from ..errors import Error, OptionError


def hold(path: Path, flags: int) -> int:
    """The descriptor of what is at `path`, opened with `flags`, which holds the lock until it is closed.

    Error where another holds it; OptionError where the file system has no locks; OSError where it does not open.
    """
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise Error(f"{path} is in use by another l3edge: end that one, or give this one a place of its own") from None
    except OSError as error:
        os.close(descriptor)
        raise OptionError(f"{path} cannot be locked ({error.strerror}): give a place on a local disk") from error
    return descriptor
