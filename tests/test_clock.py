"""What the monotonic clock says of a stream: simulated devices that stall, lose sound, and run fast or slow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l3edge.backlog import Block
from l3edge.clock import HELD, Drift, Stalls

RATE = 1_000
BLOCK = 50  # samples
JITTER = 0.01  # s


def delivered(stalls: list[tuple[float, float, float]], seed: int) -> list[Block]:
    """Blocks of a device that stalls: after `pace` seconds for `length` seconds, of which it keeps the first `kept`.

    The samples are their true numbers, so that they tell what is missing.
    """
    numbers, there = [], []  # true numbers of samples, and when they can be delivered
    begin = 0
    for pace, length, kept in [*stalls, (1.0, 0.0, 0.0)]:
        stall = begin + round(pace * RATE)
        numbers.append(np.arange(begin, stall))
        there.append((numbers[-1] + 1) / RATE)
        begin = stall + round(length * RATE)
        numbers.append(np.arange(stall, stall + round(kept * RATE)))
        there.append(np.full(len(numbers[-1]), begin / RATE))
    samples, times = np.concatenate(numbers), np.concatenate(there)
    ends = np.arange(BLOCK, len(samples) + 1, BLOCK)
    heard = np.maximum.accumulate(times[ends - 1] + np.random.default_rng(seed).uniform(0, JITTER, len(ends)))
    pieces = [samples[end - BLOCK : end, None].astype(np.float32) for end in ends]
    return [Block(piece, 0, float(at)) for piece, at in zip(pieces, heard, strict=True)]


def passed(blocks: list[Block]) -> tuple[Stalls, list[Block]]:
    stalls = Stalls(RATE)
    made = [block for came in blocks for block in stalls.take(came)]
    return stalls, [*made, *stalls.end()]


def check(blocks: list[Block], losses: int = 0) -> Stalls:
    """Every sample is where it belongs, to the clock's jitter at each loss, and no stretch has a splice in it."""
    tolerance = (losses + 1) * JITTER
    stalls, made = passed(blocks)
    assert sum(block.lost for block in made) == stalls.lost
    count, last = 0, -1.0
    for block in made:
        count += block.lost
        numbers = block.samples[:, 0]
        if len(numbers):
            assert np.all(np.diff(numbers) == 1)
            if not block.lost:
                assert numbers[0] == last + 1
            assert abs(numbers[0] - count) <= tolerance * RATE + losses
            last = numbers[-1]
            assert block.heard is not None
            # When it was there, however late it came.
            assert block.heard == pytest.approx((last + 1) / RATE, abs=tolerance + losses / RATE)
        count += len(numbers)
    return stalls


PACE = st.floats(0.5, 4.0)
SHARE = st.floats(0, 1, allow_subnormal=False)  # 32-bit ARM makes them zero
LOSSES = st.tuples(PACE, st.floats(0.5, 4.0), SHARE).map(lambda x: (x[0], x[1], x[2] * (x[1] - 0.3)))
LOSSLESS = st.tuples(PACE, st.floats(0.0, HELD - 0.5, allow_subnormal=False)).map(lambda x: (x[0], x[1], x[1]))


@settings(max_examples=200)
@given(st.lists(LOSSES, max_size=5), st.integers(0, 1 << 16))
def test_what_is_missing_is_marked(losses: list[tuple[float, float, float]], seed: int) -> None:
    # What was kept must come in one go, and be less than is held back at most.
    losses = [(pace, length, min(kept, HELD - 0.5)) for pace, length, kept in losses]
    blocks = delivered(losses, seed)
    stalls = check(blocks, len(losses))
    assert stalls.found == len(losses)
    missing = sum(round(length * RATE) - round(kept * RATE) for _, length, kept in losses)
    assert stalls.lost >= missing - len(losses) * (JITTER * RATE + 1)


@settings(max_examples=200)
@given(st.lists(LOSSLESS, max_size=5), st.integers(0, 1 << 16))
def test_what_is_only_late_is_not_lost(stalls: list[tuple[float, float, float]], seed: int) -> None:
    blocks = delivered(stalls, seed)
    judged = check(blocks)
    assert (judged.found, judged.lost) == (0, 0)
    assert sum(len(block.samples) for block in passed(blocks)[1]) == sum(len(block.samples) for block in blocks)


def test_a_device_that_ends_after_a_stall() -> None:
    blocks = delivered([(1.0, 1.0, 0.0)], 1)
    begin = next(number for number, block in enumerate(blocks) if block.samples[-1, 0] > 1_000)
    stalls, made = passed(blocks[: begin + 1])
    assert len(made[-1].samples) == 0
    assert made[-1].lost == stalls.lost >= 1_000


def lateness(blocks: int, seed: int) -> np.ndarray:
    """Seconds: exponential, and once in a while the machine is busy for up to a second."""
    random = np.random.default_rng(seed)
    busy = (random.random(blocks) < 0.002) * random.uniform(0, 1, blocks)
    return random.exponential(0.005, blocks) + busy


def estimate(ppm: float, seconds: float, late: np.ndarray, gaps: int = 0, rate: int = 16_000) -> Drift:
    drift, count, random = Drift(rate), 0, np.random.default_rng(1)
    frames = round(seconds / len(late) * rate)
    silent = np.zeros((frames, 1), np.float32)
    losing = set(random.integers(1, len(late), gaps).tolist())
    away = 0.0
    for number, each in enumerate(late):
        count += frames
        lost = 0
        if number in losing:
            away += random.uniform(0.1, 10)
            lost = 1_000  # an estimate that has nothing to do with the truth
        drift.take(Block(silent, lost, 1e5 + away + count / rate / (1 + ppm * 1e-6) + each))
    return drift


@settings(max_examples=20)
@given(st.floats(-200, 200, allow_subnormal=False), st.integers(0, 1 << 16), st.integers(0, 8))
def test_drift_is_known_after_an_hour(ppm: float, seed: int, gaps: int) -> None:
    drift = estimate(ppm, 3_600, lateness(18_000, seed), gaps)
    assert drift.ppm == pytest.approx(ppm, abs=2)
    assert drift.uncertainty < 1


def test_drift_is_not_told_before_it_is_known() -> None:
    assert estimate(50, 590, lateness(5_900, 1)).ppm is None
    assert estimate(50, 700, lateness(7_000, 1)).ppm == pytest.approx(50, abs=5)
    wild = np.random.default_rng(1).uniform(0, 2, 400)  # nothing is ever on time
    drift = estimate(50, 1_600, wild)
    assert drift.ppm is None
    assert drift.uncertainty > 5
