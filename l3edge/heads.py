"""Heads: what a few clips taught, as a small JSON file that goes with one model.

A head names what an embedding sounds like. Embeddings are brought to unit length and standardised; each label then has
a linear function of them, and a softmax over these, divided by a fitted temperature, gives scores that mean what they
say (Guo et al. 2017, "On Calibration of Modern Neural Networks"). How far an embedding is from the nearest label's mean
tells what is none of them: "unknown".

    format          "l3edge-head 1"
    model           str, the model's name, for people
    model_sha256    str, of the model file: a head is of no use to another model
    hop             s, between the windows that it learned from
    kind            "nearest-mean", or "logistic"
    labels          list of str [m]; of those in `BACKGROUND` the decision is "unknown"
    clips           list of int [m], clips that each label was learned from
    mean, scale     list [d], of embeddings of unit length
    means           lists [m, d], of each label's standardised embeddings
    weights, bias   lists [m, d] and [m], of "logistic" alone; of "nearest-mean" they follow from the means
    temperature     that the linear functions are divided by
    threshold       distance from the nearest mean, root mean square over d, beyond which an embedding is "unknown"
    validation      what cross-validation found, see `Validation`; null where there were too few clips for it

A head file is untrusted: its size, types, shapes and numbers are checked before anything is made of them.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .errors import HeadError
from .model_file import replacing
from .tags import MOST_TAGS, are_names, checked_embeddings

FORMAT = "l3edge-head 1"
KINDS = ("nearest-mean", "logistic")
UNKNOWN = "unknown"  # what is decided of a sound that is none of the labels
BACKGROUND = (UNKNOWN, "background")  # labels of sounds that are to be called so
MOST_BYTES = 16 << 20  # of a file
MOST_VALUES = 1 << 14  # of an embedding
LARGEST, LEAST = 1e6, 1e-6  # of a number, and of what is divided by

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


@dataclasses.dataclass(frozen=True, eq=False)
class Head:
    """A head, ready to label; fields as in the file."""

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
        """Distance of one embedding [d] from the nearest label's mean, root mean square over the values."""
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
    """Rows [..., d] of length 1: what is left of an embedding when loudness is taken from it; zeros stay zeros."""
    x = np.nan_to_num(np.asarray(values, np.float64), nan=0.0, posinf=0.0, neginf=0.0)  # what a float model makes of
    length = np.sqrt(np.sum(x * x, axis=-1, keepdims=True))  # what is no sound
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


# --- the file ---------------------------------------------------------------------------------------------------------


def write(head: Head, path: str | os.PathLike[str]) -> None:
    """Write a head file: complete under its name, or not at all. It is checked as `read` would."""
    document: dict[str, Any] = {"format": FORMAT}
    for field in dataclasses.fields(head):
        value = getattr(head, field.name)
        if isinstance(value, Validation):
            value = value._asdict() | {"candidates": [candidate._asdict() for candidate in value.candidates]}
        if value is not None or field.name == "validation":
            document[field.name] = _listed(value) if isinstance(value, np.ndarray) else value
    lines = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in document.items()]
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    _parse(text.encode())
    with replacing(Path(path)) as part:
        part.write_text(text)


def _listed(array: Floats) -> Any:
    """Nested lists of the shortest decimals that give the same float32."""
    if array.ndim > 1:
        return [_listed(row) for row in array]
    return [float(str(value)) for value in array.astype(np.float32)]


def read(path: str | os.PathLike[str]) -> Head:
    """Read and check a head file; HeadError says what is wrong with it."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            return _parse(file.read(MOST_BYTES + 1))
    except OSError as error:
        raise HeadError(f"{path}: cannot be read ({error.strerror}); `l3edge learn` makes heads") from error
    except HeadError as error:
        raise HeadError(f"{path}: {error}") from error


def _parse(data: bytes) -> Head:
    if len(data) > MOST_BYTES:
        raise HeadError(f"larger than {MOST_BYTES} bytes")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise HeadError(f"not JSON ({str(error)[:80]}), so not a head; `l3edge learn` makes one") from error
    found = document.get("format") if isinstance(document, dict) else None
    if found != FORMAT:
        raise HeadError(f"not a head that this l3edge reads: its format is {found!r:.80}, expected {FORMAT!r}")
    return _Fields(document).head()


class _Fields:
    """Fields of an untrusted JSON object, each checked as it is taken."""

    def __init__(self, values: Mapping[str, Any], where: str = "") -> None:
        self._values, self._where = values, where

    def head(self) -> Head:
        kind, labels = self.text("kind"), self.get("labels")
        if kind not in KINDS:
            raise HeadError(f"kind must be one of {KINDS}, got {kind!r:.80}")
        if not are_names(labels) or len(set(labels)) < len(labels):
            raise HeadError(f"labels must be 1 to {MOST_TAGS} different names, printable and short")
        m, d = len(labels), len(self.list("mean", 1, MOST_VALUES))
        logistic = kind == "logistic"
        validation = self.get("validation")
        return Head(
            model=self.text("model"),
            model_sha256=self.text("model_sha256"),
            hop=self.number("hop", LEAST),
            kind=kind,
            labels=tuple(labels),
            clips=tuple(self.counts("clips", m)),
            mean=self.array("mean", d),
            scale=self.array("scale", d, least=LEAST),
            means=self.array("means", m, d),
            weights=self.array("weights", m, d) if logistic else None,
            bias=self.array("bias", m) if logistic else None,
            temperature=self.number("temperature", LEAST),
            threshold=self.number("threshold", 0.0),
            validation=None if validation is None else self.nested("validation", validation).validation(m),
        )

    def validation(self, m: int) -> Validation:
        candidates = self.list("candidates", 1, 64)
        confusion = self.list("confusion", m, m)
        return Validation(
            folds=self.count("folds"),
            clips=self.count("clips"),
            within=self.number("within", 0.0),
            candidates=tuple(self.nested("candidates", each).candidate() for each in candidates),
            chosen=self.count("chosen", len(candidates) - 1),
            confusion=tuple(tuple(self.nested("confusion", {"row": row}).counts("row", m)) for row in confusion),
        )

    def candidate(self) -> Candidate:
        figures = ("strength", "clips_right", "windows_right", "log_loss")
        return Candidate(self.text("kind"), *(self.number(name, 0.0) for name in figures))

    def nested(self, name: str, values: Any) -> _Fields:
        if not isinstance(values, dict):
            raise HeadError(f"{self._where}{name} must be a JSON object")
        return _Fields(values, f"{self._where}{name}.")

    def get(self, name: str) -> Any:
        if name not in self._values:
            raise HeadError(f"{self._where}{name} is missing")
        return self._values[name]

    def text(self, name: str) -> str:
        value = self.get(name)
        if not are_names([value]):
            raise HeadError(f"{self._where}{name} must be a short printable text, got {value!r:.80}")
        return str(value)

    def number(self, name: str, least: float) -> float:
        value = self.get(name)
        if not _is_number(value) or value < least:
            raise HeadError(f"{self._where}{name} must be a number from {least:g} to {LARGEST:g}, got {value!r:.80}")
        return float(value)

    def count(self, name: str, most: float = LARGEST) -> int:
        value = self.get(name)
        if type(value) is not int or not 0 <= value <= most:
            raise HeadError(f"{self._where}{name} must be a whole number up to {most:g}, got {value!r:.80}")
        return value

    def list(self, name: str, least: int, most: int) -> Sequence[Any]:
        value = self.get(name)
        if not isinstance(value, list) or not least <= len(value) <= most:
            size = f"{least}" if least == most else f"{least} to {most}"
            raise HeadError(f"{self._where}{name} must be a list of {size}")
        return value

    def counts(self, name: str, size: int) -> Sequence[int]:
        values = self.list(name, size, size)
        if not all(type(value) is int and 0 <= value <= LARGEST for value in values):
            raise HeadError(f"{self._where}{name} must be whole numbers up to {LARGEST:g}")
        return values

    def array(self, name: str, *shape: int, least: float = -LARGEST) -> Floats:
        rows = self.list(name, shape[0], shape[0]) if len(shape) > 1 else [self.get(name)]
        for row in rows:
            if not isinstance(row, list) or len(row) != shape[-1] or not all(map(_is_number, row)) or min(row) < least:
                raise HeadError(f"{self._where}{name} must be numbers {list(shape)}, from {least:g} to {LARGEST:g}")
        return np.array(rows, np.float64).reshape(shape)


def _is_number(value: object) -> bool:
    """Comparing finds NaN, infinity, and integers of hundreds of digits."""
    return type(value) in (int, float) and -LARGEST <= value <= LARGEST  # type: ignore[operator]
