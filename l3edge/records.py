"""What a stream tells its sinks: a record for each hop, gap and event; and, once, what they come from.

Time is that of the stream: seconds since the first sample, counted in samples, what was lost included. `About.unix`
makes wall-clock time of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Hop(NamedTuple):
    """An embedding, and what else is known of its window."""

    time: float  # s, the centre of the window
    embedding: NDArray[np.float32]  # [d]
    level: float  # dBFS, root mean square of what was heard since the hop before
    change: float | None = None  # cosine distance from the embedding one window earlier; None where there is none
    tags: NDArray[np.float32] | None = None  # [n], 0 to 1, in the order of About.tags; None where not asked for
    labels: NDArray[np.float32] | None = None  # [m], 0 to 1, in the order of About.labels; None without a head
    label: str | None = None  # what the head decided; None without a head


class Gap(NamedTuple):
    """Samples that never arrived, or were dropped: no window spans them."""

    time: float  # s, where it begins
    seconds: float  # how long it is
    lost: int  # samples per channel, at the source's rate


class Event(NamedTuple):
    """A sound that a head heard; told when it begins, with `offset` None, and again when it has ended."""

    label: str
    onset: float  # s, centre of its first window
    offset: float | None  # s, centre of its last window
    score: float  # 0 to 1, the highest so far


Record = Hop | Gap | Event


@dataclass(frozen=True)
class About:
    """What the records of a stream come from."""

    model: str
    model_sha256: str
    embedding_size: int
    window: float  # s
    hop: float  # s
    source: str  # for people: the microphone, the file
    sample_rate: int  # Hz, of the source
    tags: tuple[str, ...] = ()  # names of Hop.tags
    labels: tuple[str, ...] = ()  # names of Hop.labels
    # Unix time of time zero, by the wall clock as it is set now; None where sound has none, as in a file.
    started: Callable[[], float | None] = lambda: None

    def unix(self, time: float) -> float | None:
        """Wall-clock time of a time in the stream."""
        started = self.started()
        return None if started is None else started + time
