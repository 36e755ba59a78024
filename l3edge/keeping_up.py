"""What to do when computing falls behind the sound: nothing, drop what is oldest, or fail."""

from __future__ import annotations

import time
from collections.abc import Iterator

from .backlog import Block
from .errors import BehindError, OptionError

POLICIES = ("skip", "catch-up", "fail")
LIMIT = 2.0  # seconds
SKIPPED_TO = 0.25  # of the limit: dropping a block at a time would leave no window whole


class KeepingUp:
    """Blocks, as far as there is time for them.

    A block is behind by the time since its last sample was there to be heard; one that nobody waited for (`heard` is
    None) never is. Policies:
        "skip": when a block is more than `limit` seconds behind, it and those after it are dropped until one is at most
            a quarter of that behind; they are `lost` of that one
        "catch-up": all blocks, however late
        "fail": BehindError when a block is more than `limit` behind

    Attributes:
        behind: seconds, of the last block
        dropped: samples per channel dropped
    """

    def __init__(self, blocks: Iterator[Block], policy: str, limit: float = LIMIT) -> None:
        if policy not in POLICIES:
            raise OptionError(f"what to do when behind must be one of {', '.join(POLICIES)}; got {policy!r}")
        if not limit > 0:
            raise OptionError(f"the limit must be a positive number of seconds, got {limit!r}")
        self.policy, self.limit = policy, limit
        self.behind = 0.0
        self.dropped = 0
        self._blocks = blocks

    def __iter__(self) -> Iterator[Block]:
        missing = 0  # samples before the next block, for what was dropped
        for block in self._blocks:
            self.behind = 0.0 if block.heard is None else max(0.0, time.monotonic() - block.heard)
            if self.policy == "fail" and self.behind > self.limit:
                raise BehindError(
                    f"computing is {self.behind:.1f} s behind the sound, {self.limit:g} s are allowed; take a cheaper "
                    "model or a faster machine, or drop what is too old with --when-behind skip"
                )
            if self.policy == "skip" and self.behind > self.limit * (SKIPPED_TO if missing else 1):
                self.dropped += len(block.samples)
                missing += block.lost + len(block.samples)
                empty = block.samples[:0]
                continue
            yield block._replace(lost=block.lost + missing)
            missing = 0
        if missing:
            yield Block(empty, missing)
