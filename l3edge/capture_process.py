"""A capture process as the process sees it that it captures for; the other side is `capture_child`."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
from typing import Any

from . import children
from .capture_child import Message, unpacked
from .errors import MicrophoneError

TICK = 1.0  # seconds that `hear` waits at most
KILL_SECONDS = 2.0  # until one that was killed has gone; in a driver that hangs it may stay


class CaptureProcess:
    """A capture process, and what comes from it."""

    def __init__(self, options: dict[str, Any], wake: int) -> None:
        try:
            # ALSA and PortAudio tell on stderr, at length, what they also return.
            self._process = children.start("capture_child", json.dumps(options), subprocess.DEVNULL)
        except OSError as error:
            raise MicrophoneError(f"no process to capture in can be started: {error}") from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._orders, self._pipe = self._process.stdin, self._process.stdout
        self._buffer = bytearray()
        self._wake = wake
        self._poll = select.poll()
        for fd in (self._pipe.fileno(), wake):
            self._poll.register(fd, select.POLLIN)

    def tell(self, order: bytes) -> None:
        """What the child shall do; one that has gone does not mind."""
        with contextlib.suppress(OSError, ValueError):
            self._orders.write(order)

    def hear(self) -> Message | None:
        """The next message, or None when woken, or when there is none for TICK; MicrophoneError when none can come."""
        try:
            while (message := unpacked(self._buffer)) is None:
                ready = {fd for fd, _ in self._poll.poll(TICK * 1e3)}
                if self._wake in ready:
                    os.read(self._wake, 64)
                    return None
                if not ready:
                    return None
                data = os.read(self._pipe.fileno(), 1 << 18)
                if not data:
                    raise MicrophoneError(f"its capture process has ended ({self._process.wait(KILL_SECONDS)})")
                self._buffer += data
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            raise MicrophoneError(f"its capture process is broken: {error}") from error
        return message

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(KILL_SECONDS)
        self._orders.close()
        self._pipe.close()
