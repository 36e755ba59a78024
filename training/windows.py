"""Which samples an embedding is of."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]  # numbers of windows, ascending


class Hearing(Protocol):
    """What a probe must know of a model: a `Spec`, or a peer's own."""

    @property
    def sample_rate(self) -> int:
        """Hz."""
        ...

    @property
    def window(self) -> int:
        """Samples."""
        ...

    @property
    def embedding_size(self) -> int:
        """Values."""
        ...


def whole_windows(samples: NDArray[np.float32], spec: Hearing, hop: float) -> NDArray[np.float32]:
    """A view [k, window] of the whole windows of samples [n], one every `hop` seconds."""
    if len(samples) < spec.window:
        return np.zeros((0, spec.window), np.float32)
    return np.lib.stride_tricks.sliding_window_view(samples, spec.window)[:: round(hop * spec.sample_rate)]
