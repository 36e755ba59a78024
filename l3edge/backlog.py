"""Blocks between whoever hears and whoever reads, where hearing must never wait."""

from __future__ import annotations

import queue
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Block(NamedTuple):
    """Samples as the device delivered them."""

    samples: NDArray[np.float32]  # [n, channels]
    lost: int = 0  # samples per channel that are missing between the block before and this one
    heard: float | None = None  # time.monotonic() when its last sample was there; None where nobody waits for it


class Backlog:
    """A queue for one thread that hears and one that reads. Beyond `limit` samples blocks are dropped whole, and the
    next one that fits says how many are missing before it.

    Attribute `dropped`: samples per channel that did not fit.
    """

    def __init__(self, limit: int) -> None:
        self.dropped = 0
        self._limit = limit
        self._waiting: queue.SimpleQueue[Block | None] = queue.SimpleQueue()  # None: no more will come
        self._put = 0  # samples; written by who hears only, as _taken by who reads only: their difference needs no lock
        self._taken = 0
        self._gap = 0  # samples lost since the last block that fitted

    def put(self, block: Block) -> None:
        """Take a block, or count it as lost. Never waits."""
        frames = len(block.samples)
        self._gap += block.lost
        if self._put - self._taken + frames > self._limit:
            self._gap += frames
            self.dropped += frames
            return
        self._waiting.put(block._replace(lost=self._gap))
        self._gap = 0
        self._put += frames

    def end(self) -> None:
        """No more will come. Safe in a signal handler."""
        self._waiting.put(None)

    def get(self, timeout: float | None = None) -> Block | None:
        """The next block, or None at the end; queue.Empty when there is none within `timeout` seconds."""
        block = self._waiting.get(timeout=timeout)
        if block is not None:
            self._taken += len(block.samples)
        return block
