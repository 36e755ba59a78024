"""Which source videos are trained on, which are held out.

A group is a source video: all items cut from it, and whatever else the manifest says belongs together. It goes by a
hash of its own name, never by its rank among the others, so that a video does not change sides when others come or go,
when the manifest is sorted differently, or when a selection leaves half of it out: what a model of yesterday trained on
is not what a probe of today holds out. (Rank-based or shuffled splits, as in the published l3embedding
data/avc/subsets.py, deal all anew when one file is added.)

Small sets are the exception: of fewer than 3 groups none is held out; from 3 on validation and test get at least one
each and leave one to train, from 10 on at least two. The exception acts only where the hash says otherwise: at a tenth,
for either in 3 of 100 sets of 50 groups, in 3 of 10,000 of 100. Once both have that many by hash, no group moves any
more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

SPLITS = ("train", "validation", "test")


def position(group: str) -> float:
    """Where a group falls in [0, 1): the first 8 bytes of the SHA-256 of its name."""
    return int.from_bytes(hashlib.sha256(group.encode("utf-8", "surrogateescape")).digest()[:8], "big") / 2**64


def assign(groups: Iterable[str], held_out: float, stated: Mapping[str, str]) -> dict[str, str]:
    """Group -> split. `stated` ones stay; others: test below `held_out`, validation below twice that, else train.

    Where that leaves too few held out (see above), the lowest go to test first, then to validation.
    """
    free = sorted({group for group in groups if group not in stated}, key=lambda group: (position(group), group))
    total = len(free) + len(stated)
    least = 0 if total < 3 or not held_out else 1 if total < 10 else 2
    splits = dict(stated)
    for split, below, others in (("test", held_out, least + 1), ("validation", 2 * held_out, 1)):
        taken = sum(position(group) < below for group in free) if total >= 3 else 0
        if not stated:
            taken = min(taken, len(free) - others)
        taken = max(taken, least - sum(side == split for side in stated.values()), 0)
        splits.update(dict.fromkeys(free[:taken], split))
        free = free[taken:]
    splits.update(dict.fromkeys(free, "train"))
    return splits
