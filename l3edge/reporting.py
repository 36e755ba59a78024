"""How a stream does: its latency, its figures, and who is told of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

from .figures import Latency, of_process
from .health import Board
from .sinks import Sink

BOARD_SECONDS = 1.0  # between two readings of all figures


class Reporting:
    """Tells the board of the health endpoint each second, and sinks every `interval` seconds."""

    def __init__(
        self,
        interval: float,
        board: Board,
        sinks: Mapping[str, Sink],
        figures: Callable[[], dict[str, float]],
    ) -> None:
        self._every, self._board, self._sinks, self._figures = interval, board, sinks, figures
        self._latency = Latency()
        self._boarded, self._told = -math.inf, time.monotonic()

    def late(self, seconds: float) -> None:
        """A result came so long after the last sample of its window."""
        self._latency.add(seconds)

    def tell(self) -> None:
        """Let others know how it goes, when that is due."""
        now = time.monotonic()
        if now - self._boarded >= BOARD_SECONDS:
            self._boarded = now
            self._board.write(self._all(), {name: sink.figures() for name, sink in self._sinks.items()})
        if now - self._told >= self._every:
            self._told = now
            for sink in self._sinks.values():
                sink.health(self._board.figures)

    def _all(self) -> dict[str, float]:
        made = self._figures()
        if self._latency.count:
            made["latency_p50_seconds"] = self._latency.quantile(0.5)
            made["latency_p99_seconds"] = self._latency.quantile(0.99)
            made["latency_worst_seconds"] = self._latency.worst
        return made | of_process()

    def summary(self) -> str:
        """Latency, for people; nothing where nobody waited."""
        if not self._latency.count:
            return ""
        p50, p99, worst = self._latency.quantile(0.5), self._latency.quantile(0.99), self._latency.worst
        return f"latency {p50 * 1e3:.0f} ms (p99 {p99 * 1e3:.0f}, worst {worst * 1e3:.0f}); "
