"""Heads: what names what an embedding sounds like.

`Labeller` is what all of them do. There are two kinds:

Head          what a few clips taught, for one model. Embeddings are brought to unit length and standardised; each label
              then has a linear function of them, and a softmax over these, divided by a fitted temperature, gives
              scores that mean what they say (Guo et al. 2017, "On Calibration of Modern Neural Networks"). How far an
              embedding is from the nearest label's mean tells what is none of them: "unknown". `l3edge.head_file` reads
              and writes them, `l3edge.learning` makes them.
TrainedHead   a network that a model file holds, in its signature `head`: `python -m training.head` makes it, and
              `python -m export` takes it along. A sound of which no label has a score of `LEAST_SURE` is "unknown".

A file names its head's labels in its `l3edge.json`, under `head`, in the order of the scores:

    labels    list of str, for people; unique
    source    str, what it was trained on
    figures   a table for each label, what was measured on clips that it was not trained on, such as {"clips": 24}
    overall   a table, the same of all labels together
"""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .tags import checked_embeddings

KINDS = ("nearest-mean", "logistic")
UNKNOWN = "unknown"  # what is decided of a sound that is none of the labels
BACKGROUND = (UNKNOWN, "background")  # labels of sounds that are to be called so
LEAST_SURE = 0.5  # score of a label that a trained head decides for

Floats = NDArray[np.float64]
Single = NDArray[np.float32]


class Labeller(abc.ABC):
    """What names what an embedding sounds like: of embeddings the scores of its labels, and a decision."""

    labels: tuple[str, ...]  # [m]

    @property
    @abc.abstractmethod
    def embedding_size(self) -> int:
        """Values of an embedding."""

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
        return self.judge(embeddings)[1]

    def judge(self, embeddings: Any) -> tuple[NDArray[np.float32], Any]:
        """`scores` and `decide` of the same embeddings, for the work of one of them."""
        values = checked_embeddings(embeddings, self.embedding_size)
        rows = values.reshape(-1, self.embedding_size)
        scores = [self._scores(row) for row in rows]
        decided = [self._decide(row, its) for row, its in zip(rows, scores, strict=True)]
        shaped = np.array(scores, np.float32).reshape(*values.shape[:-1], len(self.labels))
        return shaped, decided[0] if values.ndim == 1 else decided

    # One embedding at a time: a matrix product may add in another order for another number of rows.
    @abc.abstractmethod
    def _scores(self, embedding: NDArray[np.float32]) -> NDArray[Any]:
        """Scores [m] of one embedding [d]."""

    @abc.abstractmethod
    def _like_none(self, embedding: NDArray[np.float32], scores: NDArray[Any]) -> bool:
        """Whether one embedding [d] with these scores [m] is like none of the labels."""

    def _decide(self, embedding: NDArray[np.float32], scores: NDArray[Any]) -> str:
        label = self.labels[int(np.argmax(scores))]
        return UNKNOWN if label in BACKGROUND or self._like_none(embedding, scores) else label


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
class Head(Labeller):
    """A head that a few clips taught, ready to label; fields as in its file, see `l3edge.head_file`."""

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

    def _scores(self, embedding: NDArray[Any]) -> Floats:
        weights, bias = self._linear
        return softmax((weights @ self._standardised(embedding) + bias) / self.temperature)

    def _like_none(self, embedding: NDArray[Any], scores: NDArray[Any]) -> bool:
        return self.novelty(embedding) > self.threshold

    @functools.cached_property
    def _linear(self) -> tuple[Floats, Floats]:
        return (self.weights, self.bias) if self.weights is not None and self.bias is not None else nearest(self.means)


class TrainedHead(Labeller):
    """The head that a model file holds; "unknown" is what has no score of `LEAST_SURE`."""

    def __init__(self, labels: Sequence[str], embedding_size: int, score: Callable[[Single], Single]) -> None:
        """score: what the file makes of one embedding [embedding_size], scores [m]."""
        self.labels, self._size, self._score = tuple(labels), embedding_size, score

    @property
    def embedding_size(self) -> int:
        """Values of an embedding."""
        return self._size

    def _scores(self, embedding: Single) -> Single:
        return self._score(embedding)

    def _like_none(self, embedding: Single, scores: Single) -> bool:
        return not np.isfinite(embedding).all() or bool(scores.max() < LEAST_SURE)


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
