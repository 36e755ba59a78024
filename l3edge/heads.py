"""Heads: what a few clips taught, for one model.

A head names what an embedding sounds like. Embeddings are brought to unit length and standardised; each label then has
a linear function of them, and a softmax over these, divided by a fitted temperature, gives scores that mean what they
say (Guo et al. 2017, "On Calibration of Modern Neural Networks"). How far an embedding is from the nearest label's mean
tells what is none of them: "unknown".

`l3edge.head_file` reads and writes them, `l3edge.learning` makes them.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .tags import checked_embeddings

KINDS = ("nearest-mean", "logistic")
UNKNOWN = "unknown"  # what is decided of a sound that is none of the labels
BACKGROUND = (UNKNOWN, "background")  # labels of sounds that are to be called so

Floats = NDArray[np.float64]


class Candidate(NamedTuple):
    """A way to fit a head, and how it did on clips that it had not learned from."""

    kind: str
    strength: float  # of the regularisation of "logistic"; 0 for "nearest-mean"
    clips_right: float  # share, each clip decided by the mean of its windows' scores
    windows_right: float  # share, each clip counting the same
    log_loss: float  # nats, of the calibrated scores of windows


class Validation(NamedTuple):
    """What cross-validation found, no windows of one clip being on both sides."""

    folds: int
    clips: int  # that were judged
    within: float  # share of the windows judged, of no background, that lie within the threshold
    candidates: tuple[Candidate, ...]
    chosen: int  # index of the candidate that the head is
    confusion: tuple[tuple[int, ...], ...]  # [m, m], clips of the chosen one: of a label (row), decided as (column)


@dataclass(frozen=True, eq=False)
class Head:
    """A head, ready to label; fields as in its file, see `l3edge.head_file`."""

    model: str
    model_sha256: str
    hop: float
    kind: str
    labels: tuple[str, ...]  # [m]
    clips: tuple[int, ...]  # [m]
    mean: Floats  # [d]
    scale: Floats  # [d]
    means: Floats  # [m, d]
    weights: Floats | None  # [m, d]
    bias: Floats | None  # [m]
    temperature: float
    threshold: float
    validation: Validation | None

    @property
    def embedding_size(self) -> int:
        """Values of an embedding."""
        return len(self.mean)

    def scores(self, embeddings: Any) -> NDArray[np.float32]:
        """How sure the head is of each label: 0 to 1, in the order of `labels`, adding up to 1.

        embeddings: [d] or [k, d]. Returns float32 [m] or [k, m]; the same bits for an embedding alone or among others.
        Raises OptionError for another shape.
        """
        values = checked_embeddings(embeddings, self.embedding_size)
        rows = [self._scores(row) for row in values.reshape(-1, self.embedding_size)]
        return np.array(rows, np.float32).reshape(*values.shape[:-1], len(self.labels))

    def decide(self, embeddings: Any) -> Any:
        """The label of the highest score, or "unknown" where that is a background or the embedding is like none.

        embeddings: [d] or [k, d]. Returns a str, or a list of k.
        """
        values = checked_embeddings(embeddings, self.embedding_size)
        decided = [self._decide(row) for row in values.reshape(-1, self.embedding_size)]
        return decided[0] if values.ndim == 1 else decided

    def novelty(self, embedding: NDArray[Any]) -> float:
        """Distance of one embedding [d] from the nearest label's mean, root mean square over the values.

        Infinite where a value is no finite number: a float model makes such of what is no sound.
        """
        if not np.isfinite(embedding).all():
            return np.inf
        apart = self.means - self._standardised(embedding)
        return float(np.sqrt(np.mean(apart * apart, axis=1).min()))

    def _standardised(self, embedding: NDArray[Any]) -> Floats:
        made: Floats = (unit(embedding) - self.mean) / self.scale
        return made

    # One embedding at a time: a matrix product may add in another order for another number of rows.
    def _scores(self, embedding: NDArray[Any]) -> Floats:
        weights, bias = self._linear
        return softmax((weights @ self._standardised(embedding) + bias) / self.temperature)

    def _decide(self, embedding: NDArray[Any]) -> str:
        label = self.labels[int(np.argmax(self._scores(embedding)))]
        return UNKNOWN if label in BACKGROUND or self.novelty(embedding) > self.threshold else label

    @functools.cached_property
    def _linear(self) -> tuple[Floats, Floats]:
        return (self.weights, self.bias) if self.weights is not None and self.bias is not None else nearest(self.means)


def unit(values: NDArray[Any]) -> Floats:
    """Rows [..., d] of length 1: an embedding less its loudness. Zeros stay zeros, and no numbers become such."""
    x = np.nan_to_num(np.asarray(values, np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    length = np.sqrt(np.sum(x * x, axis=-1, keepdims=True))
    made: Floats = x / np.where(length > 0, length, 1)
    return made


def softmax(logits: Floats) -> Floats:
    """Over the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    made: Floats = powers / powers.sum(axis=-1, keepdims=True)
    return made


def nearest(means: Floats) -> tuple[Floats, Floats]:
    """Weights [m, d] and bias [m] of the linear functions whose softmax is that of -|z - mean|² / 2d."""
    d = means.shape[1]
    return means / d, -np.mean(means * means, axis=1) / 2
