"""Events: from the scores of windows, which flicker, to sounds that begin and end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import OptionError
from .heads import UNKNOWN
from .records import Event

ROUNDING = 1e-6  # s, of times that are sums


class Detector:
    """The events of a stream of labelled windows.

    A label begins where it is decided with a score of at least `on`, and is told once it has lasted `minimum` seconds.
    It goes on while its score is at least `off` and the window is not "unknown"; what interrupts it for no longer than
    `hold` seconds does not end it. Each event is told twice, see `records.Event`; those of one label never overlap.
    """

    def __init__(
        self, labels: Sequence[str], on: float = 0.6, off: float = 0.4, minimum: float = 0.3, hold: float = 0.3
    ) -> None:
        if not 0 <= off <= on <= 1:
            raise OptionError(f"scores must be 0 <= off <= on <= 1, got off {off!r}, on {on!r}")
        if not (0 <= minimum < float("inf") and 0 <= hold < float("inf")):
            raise OptionError(f"minimum and hold must be seconds, at least 0; got {minimum!r}, {hold!r}")
        self._labels, self._on, self._off = tuple(labels), on, off
        self._minimum, self._hold = minimum - ROUNDING, hold + ROUNDING
        self._going: dict[str, Event] = {}  # what has begun; offset is the last window so far
        self._told: set[str] = set()  # of these, the ones that have lasted long enough

    def hop(self, time: float, scores: Sequence[Any] | NDArray[np.float32], label: str) -> list[Event]:
        """What a window tells: its centre, the scores of all labels, and what was decided."""
        told, time = [], float(time)  # which may be one of `embed`, NumPy's
        for name, score in zip(self._labels, map(float, scores), strict=True):
            before = self._going.get(name)
            begins = score >= self._on and label == name != UNKNOWN
            goes_on = before and score >= self._off and label != UNKNOWN
            if not (begins or goes_on):
                if before and time - _last(before) > self._hold:
                    told += self._end(name)
                continue
            now = Event(name, before.onset if before else time, time, max(score, before.score if before else 0.0))
            self._going[name] = now
            if name not in self._told and time - now.onset >= self._minimum:
                self._told.add(name)
                told.append(now._replace(offset=None))
        return told

    def gap(self) -> list[Event]:
        """Samples were lost: nobody knows whether what went on still does, so it ends with its last window."""
        return [event for name in list(self._going) for event in self._end(name)]

    flush = gap  # the end of the stream

    def _end(self, name: str) -> list[Event]:
        event = self._going.pop(name)
        if name not in self._told:
            return []
        self._told.remove(name)
        return [event]


def _last(event: Event) -> float:
    assert event.offset is not None  # of what goes on, see `Detector._going`
    return event.offset
