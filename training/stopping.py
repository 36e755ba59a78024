"""SIGINT and SIGTERM, remembered until a step is done."""

from __future__ import annotations

import signal


class Stop:
    """From when it is made on; a second Ctrl-C is not waited for."""

    def __init__(self) -> None:
        self.signal = 0
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: object) -> None:
        self.signal = number
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def asked(self) -> tuple[bool, bool]:
        """(by SIGINT, by SIGTERM)."""
        return self.signal == signal.SIGINT, self.signal == signal.SIGTERM
