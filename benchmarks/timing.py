"""Timing that a noisy machine cannot fool: stages take turns, and ratios are of the same round, with their interval.

What disturbs the machine disturbs all stages of a round alike, so the ratio of two stages in one round is worth more
than either time. A ratio is the median over the rounds; its interval, that of 95 %, is from resampling the rounds
(bootstrap, percentiles; Efron & Tibshirani 1993, ch. 13), from a fixed seed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

TURN = 20  # calls of a stage before the next one's turn
LEAST = 3  # of a slow one: a median of fewer is none
WARM_UP = 2  # rounds that are not counted
PERCENTILES = (50, 90, 99)
RESAMPLED = 2000
INTERVAL = (2.5, 97.5)  # percent

Call = Callable[[], Any]
Clock = Callable[[], int]  # nanoseconds; `time.process_time_ns` leaves out what the cores do for others meanwhile
Times = NDArray[np.float64]  # [rounds, calls], microseconds


@dataclass(frozen=True)
class Ratio:
    """How many times as much, and the 95 % interval of the median over the rounds of a run; another may differ more."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{shown(self.value)} ({shown(self.low)} to {shown(self.high)})"

    def plain(self) -> dict[str, float]:
        """As JSON has it."""
        return {name: float(f"{number:.5g}") for name, number in asdict(self).items()}


def shown(number: float) -> str:
    """Three digits that count, such as 0.123, 12.3 and 1,230."""
    return f"{float(f'{number:.3g}'):,g}"


def timed(function: Call, clock: Clock = time.perf_counter_ns) -> float:
    """Microseconds of one call."""
    begin = clock()
    function()
    return (clock() - begin) / 1000


def affordable(stages: Mapping[str, Call], seconds: float) -> dict[str, int]:
    """Calls of each stage in a turn: as many as take so long, from LEAST to TURN."""
    turns = {}
    for name, stage in stages.items():
        stage()
        turns[name] = int(np.clip(1e6 * seconds / timed(stage), LEAST, TURN))
    return turns


def in_turns(
    stages: Mapping[str, Call],
    rounds: int,
    turn: int | Mapping[str, int] = TURN,
    warm_up: int = WARM_UP,
    clock: Clock = time.perf_counter_ns,
) -> dict[str, Times]:
    """So many rounds, in each of which every stage has its turn of so many calls, the same for all or each its own."""
    times: dict[str, list[list[float]]] = {name: [] for name in stages}
    for count in range(warm_up + rounds):
        for name, stage in stages.items():
            calls = turn if isinstance(turn, int) else turn[name]
            microseconds = [timed(stage, clock) for _ in range(calls)]
            if count >= warm_up:
                times[name].append(microseconds)
    return {name: np.array(values) for name, values in times.items()}


def ratio(times: Times, over: Times) -> Ratio:
    """Of two stages that took turns: the medians of their turns, round by round."""
    return of_rounds(np.median(times, axis=1) / np.median(over, axis=1))


def of_rounds(ratios: NDArray[np.float64]) -> Ratio:
    """The median of what was found in each round."""
    rng = np.random.default_rng(0)
    drawn = np.median(ratios[rng.integers(0, len(ratios), (RESAMPLED, len(ratios)))], axis=1)
    low, high = np.percentile(drawn, INTERVAL)
    return Ratio(float(np.median(ratios)), float(low), float(high))


def spread(times: Times) -> dict[str, float]:
    """Percentiles and the longest, in microseconds."""
    shown = {f"p{p}": round(float(np.percentile(times, p)), 1) for p in PERCENTILES}
    return {**shown, "max": round(float(times.max()), 1)}
