"""What the monotonic clock says of a stream whose time is the count of its samples.

How late a block is: the time at which it came, minus how long all samples up to it last. A busy machine or a bursty
driver makes that larger, nothing makes it smaller. Its floor therefore says when sound was there to be heard; a floor
that jumps means that sound is missing, and one that slides that the device's clock is fast or slow.

CLOCK_MONOTONIC does not jump with the system's time; where that is synchronised, NTP keeps its rate right too.
"""

from __future__ import annotations

import math
import time

from .backlog import Block

STRETCH = 10.0  # seconds: among so many, some block is not late
STALL = 0.2  # seconds later than the block before: what came meanwhile is still to come, or missing
MISSING = 0.1  # seconds that may be left when the rest has come
HELD = 2.0  # seconds of sound that are held back until that is known, at most
KNOWN_AFTER = 600.0  # seconds of sound before its drift is told
KNOWN_TO = 5.0  # ppm, standard error with which it is told


class Floor:
    """The least of the values of the last 10 to 20 seconds."""

    def __init__(self) -> None:
        self._before = self._current = math.inf
        self._until = -math.inf

    def add(self, now: float, value: float) -> float:
        """Take a value; the least one."""
        if now >= self._until:
            self._before, self._current, self._until = self._current, value, now + STRETCH
        self._current = min(self._current, value)
        return min(self._before, self._current)


class Stalls:
    """Blocks of a device, with what is missing after a stall marked as lost, and `heard` when each was there.

    A driver that was kept waiting delivers afterwards what it had room for, in one go. Blocks are held back meanwhile.
    Either they make up for the time that passed, and nothing was lost; or the device is back at its pace and some is
    missing. What came in one go is dropped then, since the place where sound is missing may lie within it.

    Attributes:
        found: how often sound was missing
        lost: samples per channel that were missing, or dropped so
    """

    def __init__(self, rate: int) -> None:
        self.found = self.lost = 0
        self._rate = rate
        self._floor = Floor()
        self._count = 0  # samples, lost ones included
        self._late: float | None = None  # seconds, of the last block; arbitrary zero
        self._usual = 0.0  # the same before a stall
        self._held: list[Block] = []
        self._steady = 0  # blocks at the device's pace since

    def take(self, block: Block) -> list[Block]:
        """Take a block as it comes; the blocks that can be passed on."""
        assert block.heard is not None
        at, before = block.heard, self._late
        self._count += block.lost + len(block.samples)
        late = self._late = at - self._count / self._rate
        there = at - late + self._floor.add(at, late)
        block = block._replace(heard=there)
        if not self._held:
            if before is None or late - before <= STALL:
                return [block]
            self._usual, self._steady = before, 0
        elif late - self._usual <= MISSING:
            passed, self._held = [*self._held, block], []
            return passed
        elif before is not None and self._back_at_pace(block, late - before):
            return [block._replace(lost=block.lost + self._missing(), heard=there + late - self._usual)]
        self._held.append(block)
        return []

    def _back_at_pace(self, block: Block, later: float) -> bool:
        """Whether this block, and the one before it, came as far apart as they are long; the one before may have begun
        with what was kept.
        """
        steady = abs(later) <= len(block.samples) / self._rate / 2
        self._steady = self._steady + 1 if steady else 0
        return self._steady == 2 or sum(len(each.samples) for each in self._held) > HELD * self._rate

    def end(self) -> list[Block]:
        """No more will come: whatever was missing, as a last block without samples."""
        return [self._held[-1]._replace(samples=self._held[-1].samples[:0], lost=self._missing())] if self._held else []

    def _missing(self) -> int:
        """Drop what is held, and count it with what never came."""
        assert self._late is not None
        missing = round((self._late - self._usual) * self._rate)
        dropped = sum(len(each.samples) for each in self._held)
        known = sum(each.lost for each in self._held)
        self._late = self._usual
        self._count += missing
        self._held = []
        self.found += 1
        self.lost += missing + dropped
        return missing + dropped + known


class Drift:
    """How fast a device's clock is against the monotonic clock, over all the time that it was heard.

    The floor of each stretch of time is a point, a line through them the drift; after a gap, whose length is itself an
    estimate, a parallel one. Least squares in running sums: months take no more memory than a minute.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._tt = self._tl = self._ll = 0.0  # sums over all lines, each about its own mean: time, lateness
        self._points = self._lines = 0
        self._seconds = 0.0
        self._begin()

    def _begin(self) -> None:
        """A new line."""
        self._count = 0  # samples since its beginning
        self._started: float | None = None
        self._n, self._time, self._late = 0, 0.0, 0.0  # points, and their means
        self._least = (math.inf, 0.0)  # lateness and time of the point to be
        self._until = STRETCH

    def take(self, block: Block) -> None:
        """Take a block as it comes."""
        if block.heard is None:
            return
        if block.lost:
            self._begin()
        if self._started is None:
            self._started = block.heard
        self._count += len(block.samples)
        self._seconds += len(block.samples) / self._rate
        passed = block.heard - self._started
        self._least = min(self._least, (passed - self._count / self._rate, passed))
        if passed >= self._until:
            self._point(*self._least)
            self._least, self._until = (math.inf, 0.0), passed + STRETCH

    def _point(self, late: float, at: float) -> None:
        self._lines += self._n == 0
        self._points += 1
        self._n += 1
        ahead, above = at - self._time, late - self._late
        self._time += ahead / self._n
        self._late += above / self._n
        self._tt += ahead * (at - self._time)
        self._tl += ahead * (late - self._late)
        self._ll += above * (late - self._late)

    @property
    def uncertainty(self) -> float:
        """Standard error of the estimate, in ppm; infinite while there is none."""
        free = self._points - self._lines - 1
        if free < 1 or not self._tt:
            return math.inf
        rest = max(0.0, self._ll - self._tl * self._tl / self._tt)
        return 1e6 * math.sqrt(rest / free / self._tt)

    @property
    def ppm(self) -> float | None:
        """Parts per million by which the device is fast (slow: negative), or None while that is not known to 5 ppm
        (standard error), which takes ten minutes at least.
        """
        known = self._seconds >= KNOWN_AFTER and self.uncertainty <= KNOWN_TO
        return -1e6 * self._tl / self._tt if known else None


class WallClock:
    """The system's time against the monotonic clock, since this was made."""

    def __init__(self) -> None:
        self._apart = time.time() - time.monotonic()

    @property
    def moved(self) -> float:
        """Seconds by which the system's time was set forward (back: negative) since then."""
        return time.time() - time.monotonic() - self._apart
