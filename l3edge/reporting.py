"""How a stream does: its latency, its figures, and who is told of them."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Mapping

from . import health
from .figures import Latency, of_process
from .health import Board, Endpoint
from .sinks import Sink

BOARD_SECONDS = 1.0  # between two readings of all figures


class Reporting:
    """Tells the endpoint, if there is one, each second, and sinks when they want to know."""

    def __init__(
        self,
        settings: health.Settings,
        sinks: Mapping[str, Sink],
        figures: Callable[[], dict[str, float]],
        stack: contextlib.ExitStack,
    ) -> None:
        self._sinks, self._figures, self._every = sinks, figures, settings.interval
        self._latency, self._board = Latency(), Board()
        self._boarded, self._told = -math.inf, time.monotonic()
        if settings.port is not None:
            endpoint = stack.enter_context(Endpoint(settings.host, settings.port, self._board))
            host, port = endpoint.address
            host = f"[{host}]" if ":" in host else host
            print(f"l3edge: health at http://{host}:{port}/metrics", file=sys.stderr)

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
