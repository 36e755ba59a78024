"""One process at a time: a file that is locked while its owner lives, however that ends."""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
import tempfile
from pathlib import Path

from .errors import InUseError, OptionError


def take(descriptor: int, refusal: str) -> None:
    """Lock an open file until it is closed; InUseError with that text where another holds it, OSError where no file can
    be locked there.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InUseError(refusal) from None


def hold(path: Path, flags: int) -> int:
    """The descriptor of what is at `path`, opened with `flags`, which holds the lock until it is closed.

    InUseError where another holds it; OptionError where the file system has no locks; OSError where it does not open.
    """
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o644)
    try:
        take(descriptor, f"{path} is in use by another l3edge: end that one, or give this one a place of its own")
    except BaseException as error:
        os.close(descriptor)
        if isinstance(error, OSError):
            raise OptionError(f"{path} cannot be locked ({error.strerror}): give a place on a local disk") from error
        raise
    return descriptor


class Lock:
    """Held from when it is made until `close`, or until the process has gone, by kill -9 too.

    Raises InUseError, with the other's process id, where another process holds it.
    """

    def __init__(self, path: Path, what: str, way_out: str) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            owner = os.pread(self._file, 20, 0).decode(errors="replace").strip()
            take(self._file, f"{what} is in use by process {owner or 'unknown'}: {way_out}")
        except BaseException:
            os.close(self._file)
            raise
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        """Let it go. The file stays: removing it would let two hold locks of one name."""
        os.close(self._file)


def runtime_folder() -> Path:
    """A folder of this user's alone, gone at the next boot: $XDG_RUNTIME_DIR, else one among the temporary files.

    PermissionError where that is not this user's own.
    """
    given = Path(os.environ.get("XDG_RUNTIME_DIR") or os.devnull)
    if given.is_dir() and os.access(given, os.W_OK):
        return given
    path = Path(tempfile.gettempdir()) / f"l3edge-{os.getuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise PermissionError(f"{path} is not this user's own folder; remove it, or set XDG_RUNTIME_DIR")
    return path


def microphone_lock(name: str, host_api: str) -> Lock:
    """The lock of a microphone, among this user's processes."""
    key = hashlib.sha256(f"{host_api}\n{name}".encode()).hexdigest()[:16]
    way_out = "end that one, choose another microphone with --device, or share this one with --share"
    return Lock(runtime_folder() / f"l3edge-microphone-{key}.lock", f"microphone {name}", way_out)
