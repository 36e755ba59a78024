"""Figures of a stream that runs for months: kept in constant memory, for people and for Prometheus.

A figure has a name, what it counts or measures, and a value now; `FIGURES` has all that a stream may report. What
counts up since the stream began is a counter, and ends in `_total` in Prometheus' text format (version 0.0.4); the
others are gauges.
"""

from __future__ import annotations

import contextlib
import math
import os
from bisect import bisect_left
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

PREFIX = "l3edge_"
STEPS_PER_DECADE = 20  # of the latency's buckets: each 12 % wider than the one before
LEAST_LATENCY, MOST_LATENCY = 1e-3, 1e3  # s, of the buckets
THERMAL = Path("/sys/class/thermal/thermal_zone0/temp")  # thousandths of a degree, on Linux boards


class Figure(NamedTuple):
    """What a figure is."""

    counter: bool
    help: str


FIGURES = {
    "hops": Figure(True, "Embeddings computed"),
    "seconds": Figure(True, "Seconds of sound, what was lost included"),
    "compute_seconds": Figure(True, "Seconds spent on computing embeddings"),
    "lost_samples": Figure(True, "Samples per channel that never arrived or were dropped"),
    "lost_seconds": Figure(True, "The same in seconds"),
    "gaps": Figure(True, "Places where samples were lost; no window spans one"),
    "dropped_samples": Figure(True, "Samples among the lost that were dropped because computing was behind"),
    "clipped": Figure(True, "Values at or over full scale"),
    "non_finite": Figure(True, "Values that were NaN or infinite, and were taken as zero"),
    "stuck_samples": Figure(True, "Samples per channel in blocks of the microphone that had one value throughout"),
    "stalls": Figure(True, "Times that the microphone was silent for a while and then went on"),
    "behind_seconds": Figure(False, "How far computing is behind the sound"),
    "overflows": Figure(True, "Times that the driver said it lost sound"),
    "reconnects": Figure(True, "Times that the microphone went away and came back"),
    "connected": Figure(False, "Whether the microphone delivers, 1 or 0"),
    "level_dbfs": Figure(False, "Level of the last block, root mean square"),
    "latency_p50_seconds": Figure(False, "From sound to result, median since the beginning"),
    "latency_p99_seconds": Figure(False, "From sound to result, 99th percentile since the beginning"),
    "latency_worst_seconds": Figure(False, "From sound to result, the longest since the beginning"),
    "drift_ppm": Figure(False, "Microphone's clock against the monotonic one, parts per million; fast is positive"),
    "clock_step_seconds": Figure(False, "What the wall clock has moved against the monotonic one since the beginning"),
    "started_timestamp_seconds": Figure(False, "Unix time of the first sample, as the wall clock had it then"),
    "resident_bytes": Figure(False, "Resident memory of the process"),
    "temperature_celsius": Figure(False, "Of the processor, where the system offers it"),
}


class Latency:
    """Quantiles of all latencies since the beginning, of a histogram in constant memory; 12 % is its resolution."""

    def __init__(self) -> None:
        decades = math.log10(MOST_LATENCY / LEAST_LATENCY)
        steps = range(round(decades * STEPS_PER_DECADE) + 1)
        self._edges = [LEAST_LATENCY * 10 ** (step / STEPS_PER_DECADE) for step in steps]
        self._counts = [0] * (len(self._edges) + 1)
        self.count = 0
        self.worst = 0.0  # s

    def add(self, seconds: float) -> None:
        """Take a latency."""
        self._counts[bisect_left(self._edges, seconds)] += 1
        self.count += 1
        self.worst = max(self.worst, seconds)

    def quantile(self, share: float) -> float:
        """Seconds that a share of the latencies, 0 to 1, did not exceed: the upper edge of a bucket; 0 of none."""
        below = 0
        for count, edge in zip(self._counts, [*self._edges, math.inf], strict=True):
            below += count
            if below and below >= share * self.count:
                return min(edge, self.worst)
        return 0.0


def of_process() -> dict[str, float]:
    """What the system says of this process and its processor; without what it does not say."""
    made: dict[str, float] = {}
    with contextlib.suppress(OSError, ValueError, IndexError):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        made["resident_bytes"] = float(pages * os.sysconf("SC_PAGE_SIZE"))
    with contextlib.suppress(OSError, ValueError):
        made["temperature_celsius"] = int(THERMAL.read_text()) / 1000
    return made


def prometheus(figures: Mapping[str, float], sinks: Mapping[str, Mapping[str, float]]) -> str:
    """Figures, and those of each sink by its name, in Prometheus' text format."""
    lines = []
    for name, value in figures.items():
        counter, told = FIGURES[name]
        full = f"{PREFIX}{name}_total" if counter else PREFIX + name
        lines += [f"# HELP {full} {told}", f"# TYPE {full} {'counter' if counter else 'gauge'}", f"{full} {value!r}"]
    if any(sinks.values()):
        lines += [f"# HELP {PREFIX}sink Figures of each sink", f"# TYPE {PREFIX}sink gauge"]
    for sink, own in sinks.items():
        lines += [f'{PREFIX}sink{{sink="{_quoted(sink)}",figure="{_quoted(name)}"}} {v!r}' for name, v in own.items()]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
