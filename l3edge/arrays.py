"""The type of an array: `numpy.typing.NDArray` without its import, which takes as long as three of our modules."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

Scalar = TypeVar("Scalar", bound=np.generic)
NDArray = np.ndarray[Any, np.dtype[Scalar]]
