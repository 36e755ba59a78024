"""SIGINT and SIGTERM, remembered until a step is done."""

from __future__ import annotations

import os
import signal


class Stop:
    """From when it is made on; a second Ctrl-C is not waited for."""

    def __init__(self) -> None:
        self.signal = 0
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: object) -> None:
        self.signal = number
        os.write(2, b"\nstopping after this step; Ctrl-C stops at once\n")  # print is not for signal handlers
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def asked(self) -> tuple[bool, bool]:
        """(by SIGINT, by SIGTERM)."""
        return self.signal == signal.SIGINT, self.signal == signal.SIGTERM
