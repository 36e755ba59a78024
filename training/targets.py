"""What a student's embedding is regressed on: a teacher's, standardised or whitened."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .cli import TrainingError
from .lessons import Lessons

TARGETS = ("standardise", "whiten")
_LEAST = 0.1  # of the deviations' root mean square: what hardly varies here may well elsewhere, and is not blown up
_FITTED = 50_000  # windows, at most, that a target's mean and deviations are taken of


class Target(NamedTuple):
    """What is regressed on: (embedding - mean) @ matrix, of unit variance in each value."""

    mean: NDArray[np.float32]  # [d]
    matrix: NDArray[np.float32]  # [d, components]


def target(
    lessons: Lessons, clips: NDArray[np.int64], kind: str, components: int | None, domain: str | None, seed: int
) -> Target:
    """The target of the windows of these clips.

    kind: "standardise": each value by its own mean and deviation; "whiten": the `components` principal components of
        largest variance (all that are not noise, by default), each scaled to variance 1.
    domain: a label; mean, deviations and components are those of the clips that have it. With few components this is
        SEA's idea (Srivastava et al. 2021): approximate the part of the teacher's space that the domain uses.
    """
    own = clips if domain is None else clips[[domain in lessons.records[i]["labels"] for i in clips]]
    if not len(own):
        raise TrainingError(f"no training clip has the label {domain!r} of --domain")
    chosen = np.random.default_rng(seed).permutation(own)[: max(1, _FITTED // lessons.inside.shape[1])]
    values = np.concatenate([lessons.outputs["embedding"][i][lessons.inside[i]] for i in np.sort(chosen)])
    x = values.astype(np.float64)
    if len(x) < 2 or not x.std(axis=0).any():
        raise TrainingError("the teacher gives the same embedding for all training clips: there is nothing to learn")
    mean = x.mean(axis=0)
    if kind == "standardise":
        matrix = np.diag(1 / deviations(x))
    else:
        variances, axes = np.linalg.eigh(np.cov(x, rowvar=False))
        order = np.argsort(-variances)
        kept = order[variances[order] > 1e-4 * variances.sum()][:components]
        matrix = axes[:, kept] / np.sqrt(variances[kept])
    return Target(mean.astype(np.float32), matrix.astype(np.float32))


def deviations(x: NDArray[Any]) -> NDArray[Any]:
    """[d]: what to divide embeddings [n, d] by, for a variance of 1 in each value, but for those that hardly vary."""
    deviation = x.std(axis=0)
    least = _LEAST * math.sqrt(float(np.mean(deviation**2)))
    return np.maximum(deviation, max(least, 1e-6))
