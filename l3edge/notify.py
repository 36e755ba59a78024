"""What a service tells systemd (sd_notify(3)): ready, alive, stopping. Nothing where systemd did not ask."""

from __future__ import annotations

import contextlib
import os
import socket
import time


class Notifier:
    """Tells the service manager that started us; without one every call does nothing."""

    def __init__(self) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):
            self._address = "\0" + self._address[1:]
        self._every = _watchdog_seconds() / 3
        self._alive = time.monotonic()

    def tell(self, state: str) -> None:
        """Send a state, such as "READY=1"."""
        if self._address:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(1.0)
                sender.sendto(state.encode(), self._address)

    def alive(self) -> None:
        """Feed the watchdog, when that is due; to be called wherever there is progress."""
        now = time.monotonic()
        if self._every and now - self._alive >= self._every:
            self._alive = now
            self.tell("WATCHDOG=1")


def _watchdog_seconds() -> float:
    """How often systemd wants to hear of us, 0 where it does not."""
    try:
        if os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid()):
            return max(0.0, int(os.environ.get("WATCHDOG_USEC", "0")) / 1e6)
    except ValueError:
        pass
    return 0.0
