"""Policies for when computing is behind the sound, on blocks whose time is known."""

from __future__ import annotations

import fcntl
import os
import sys
import termios
import time
from collections.abc import Iterator

import numpy as np
import pytest

import l3edge
from l3edge import sources
from l3edge.backlog import Block
from l3edge.keeping_up import POLICIES, KeepingUp

FRAMES = 100


def blocks(behind: list[float | None], lost: dict[int, int] | None = None) -> Iterator[Block]:
    """A block for each number of seconds by which it is behind when it is taken."""
    for number, seconds in enumerate(behind):
        heard = None if seconds is None else time.monotonic() - seconds
        yield Block(np.full((FRAMES, 1), number, np.float32), (lost or {}).get(number, 0), heard)


def told(made: list[Block]) -> list[tuple[int, int | None]]:
    """(lost, number) of each block; None for one without samples."""
    return [(block.lost, int(block.samples[0, 0]) if len(block.samples) else None) for block in made]


BEHIND = [0.1, 1.9, 2.5, 2.1, 1.0, 0.6, 0.4, 1.9, 0.0]


def test_skip_drops_the_oldest_until_it_has_caught_up() -> None:
    kept = KeepingUp(blocks(BEHIND, {4: 7}), "skip", 2.0)
    assert told(list(kept)) == [(0, 0), (0, 1), (4 * FRAMES + 7, 6), (0, 7), (0, 8)]
    assert kept.dropped == 4 * FRAMES


def test_skip_marks_what_no_block_comes_after() -> None:
    kept = KeepingUp(blocks([0.0, 9.0, 8.0], {1: 5}), "skip", 2.0)
    assert told(list(kept)) == [(0, 0), (2 * FRAMES + 5, None)]
    assert kept.dropped == 2 * FRAMES


def test_catch_up_drops_nothing() -> None:
    kept = KeepingUp(blocks([99.0, None, 0.0], {2: 3}), "catch-up", 2.0)
    assert told(list(kept)) == [(0, 0), (0, 1), (3, 2)]
    assert kept.dropped == 0


def test_fail_says_how_far_behind() -> None:
    kept, made = KeepingUp(blocks(BEHIND), "fail", 2.0), []
    with pytest.raises(l3edge.BehindError, match=r"2\.5 s behind the sound, 2 s are allowed; .*--when-behind skip"):
        made.extend(kept)
    kept = KeepingUp(blocks(BEHIND), "fail", 3.0)
    assert len(list(kept)) == len(BEHIND)


@pytest.mark.parametrize("policy", POLICIES)
def test_what_nobody_waits_for_is_never_behind(policy: str) -> None:
    assert told(list(KeepingUp(blocks([None] * 3), policy, 0.001))) == [(0, 0), (0, 1), (0, 2)]


def test_impossible_options() -> None:
    for policy, limit in (("hurry", 1.0), ("skip", 0.0), ("skip", float("nan"))):
        with pytest.raises(l3edge.OptionError):
            KeepingUp(iter([]), policy, limit)


@pytest.fixture
def writer(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The end of a pipe whose other end is standard input."""
    read, write = os.pipe()
    with open(read, encoding="utf-8") as stdin:  # noqa: PTH123
        monkeypatch.setattr(sys, "stdin", stdin)
        yield write


def wait_until_read() -> None:
    deadline = time.monotonic() + 30
    while fcntl.ioctl(sys.stdin.fileno(), termios.FIONREAD, bytes(4)) != bytes(4):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_standard_input_is_late_by_when_it_came(writer: int) -> None:
    with sources.standard_input(16_000, 1, "int16", live=True) as source:
        os.write(writer, np.arange(1_600, dtype="<i2").tobytes())
        os.close(writer)
        wait_until_read()
        time.sleep(0.2)  # as a slow model would, computing
        begun = time.monotonic()
        made = list(source.blocks)
    assert sum(len(block.samples) for block in made) == 1_600
    assert all(block.heard is not None and block.heard < begun for block in made)


def test_standard_input_beyond_ten_seconds_is_counted(writer: int) -> None:
    """Whoever writes never waits: it would lose sound that nobody counts."""
    sound = np.random.default_rng(1).integers(-9_000, 9_000, 13 * 16_000).astype("<i2")
    with sources.standard_input(16_000, 1, "int16", live=True) as source:
        rest = memoryview(sound.tobytes())
        while rest:
            rest = rest[os.write(writer, rest) :]
        os.close(writer)
        wait_until_read()
        made = list(source.blocks)
    kept = sum(len(block.samples) for block in made)
    assert 9.8 * 16_000 <= kept <= 10.2 * 16_000
    assert kept + source.lost() == len(sound)
    at = 0
    for block in made:
        at += block.lost
        expected = sound[at : at + len(block.samples)] / np.float32(32768)
        np.testing.assert_array_equal(block.samples[:, 0], expected)
        at += len(block.samples)
