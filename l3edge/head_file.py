"""A head's file: one JSON object, small enough to read.

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

It is untrusted: its size, types, shapes and numbers are checked before anything is made of them.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .errors import HeadError
from .heads import KINDS, Candidate, Floats, Head, Validation
from .model_file import ModelFile, replacing
from .tags import MOST_TAGS, are_names

FORMAT = "l3edge-head 1"
MOST_BYTES = 16 << 20  # of a file
MOST_VALUES = 1 << 14  # of an embedding
LARGEST, LEAST = 1e6, 1e-6  # of a number, and of what is divided by


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


def check(head: Head, model: ModelFile, where: str) -> None:
    """HeadError, which begins with `where`, unless the head is of that model file."""
    if head.model_sha256 != model.sha256:
        raise HeadError(
            f"{where} was learned with model {head.model} (SHA-256 {head.model_sha256[:12]}...), this is "
            f"{model.name} ({model.sha256[:12]}...): load that model, or learn again with this one"
        )
    if head.embedding_size != model.spec.embedding_size:
        raise HeadError(
            f"{where} is for embeddings of {head.embedding_size} values, {model.name} gives "
            f"{model.spec.embedding_size}: it was altered; learn again"
        )


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
