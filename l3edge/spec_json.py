"""A spec as JSON, and from JSON that is untrusted: every key and type is checked before anything is made of it."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, get_type_hints

from .errors import ModelFileError
from .layers import MOST_LAYERS, Conv, Layer, Pair, Pool, l3_stack

# A row's "kind" stands for the class and for the one field that is no key of its own. So the two kinds that there have
# been from the beginning are written as they always were, and a reader that does not know the others says so.
KINDS: dict[str, tuple[type[Conv] | type[Pool], str, Any]] = {
    "conv": (Conv, "depthwise", False),
    "depthwise_conv": (Conv, "depthwise", True),
    "pool": (Pool, "kind", "maximum"),
    "mean_pool": (Pool, "kind", "mean"),
}


def rows(layers: Sequence[Layer]) -> list[dict[str, Any]]:
    """A layer table as JSON values; `layer` is the inverse of a row."""
    made = []
    for layer in layers:
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in layer._asdict().items()}
        name, field = next(
            (name, field)
            for name, (cls, field, value) in KINDS.items()
            if isinstance(layer, cls) and values.get(field) == value
        )
        del values[field]
        made.append({"kind": name, **values})
    return made


def layer(document: object, where: str) -> Layer:
    """A row of a layer table."""
    made, field, value = KINDS[kind(document, list(KINDS), where)]
    of: Any = made  # for mypy, to which a union of classes is not hashable
    types = {name: hint for name, hint in _types(of).items() if name != field}
    values = _checked(document, {**types, "kind": "str"}, where)
    del values["kind"]
    return made(**values, **{field: value})


@functools.cache
def _types(made: Any) -> dict[str, str]:
    """Names of the types of a kind of row, by field."""
    return {name: "Pair" if hint == Pair else hint.__name__ for name, hint in get_type_hints(made).items()}


def kind(document: object, known: Sequence[object], where: str) -> str:
    """The "kind" of a JSON object, one of those known."""
    found = document.get("kind") if isinstance(document, dict) else None
    if not isinstance(found, str) or found not in known:
        raise ModelFileError(f"{where}.kind must be one of {known}, got {str(found)[:80]!r}")
    return found


def upgraded(document: object) -> object:
    """A spec as it was written before layers were a table of their own: run directories of 0.1.0's beginnings."""
    if not isinstance(document, dict) or "filters" not in document or "layers" in document:
        return document
    older = dict(document)
    filters, log_mel = older.pop("filters"), older.pop("log_mel", None)
    if not isinstance(filters, list) or len(filters) > MOST_LAYERS or not all(type(count) is int for count in filters):
        raise ModelFileError(f"spec.filters must be a list of integers, got {str(filters)[:80]!r}")
    front_end = {**log_mel, "kind": "log_mel"} if isinstance(log_mel, dict) else log_mel
    return {
        **older,
        "layers": rows(l3_stack(filters)),
        "front_end": front_end,
        "streaming": True,
        "embedding": "maximum",
    }


def fields(cls: type, document: object, where: str) -> dict[str, Any]:
    """The fields of dataclass `cls` from untrusted JSON, types checked."""
    return _checked(document, {f.name: str(f.type) for f in dataclasses.fields(cls)}, where)


def _checked(document: object, types: dict[str, str], where: str) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise ModelFileError(f"{where} must be a JSON object, got {type(document).__name__}")
    if set(document) != set(types):
        missing, unknown = sorted(set(types) - set(document)), sorted(set(document) - set(types))
        raise ModelFileError(f"{where}: missing {missing}, unknown {str(unknown)[:200]}")
    values = {}
    for name, value in document.items():
        expected = types[name]
        if expected in ("tuple[int, ...]", "Pair"):
            most = 2 if expected == "Pair" else 16
            good = isinstance(value, (list, tuple)) and len(value) <= most and all(type(v) is int for v in value)
            good = good and (expected != "Pair" or len(value) == 2) and all(abs(v) < 2**31 for v in value)
            value = tuple(value) if good else value
        elif expected == "int":
            good = type(value) is int and abs(value) < 2**31
        elif expected == "float":
            # math.isfinite would overflow on an integer of 400 digits
            good = (type(value) is int and abs(value) < 2**31) or (type(value) is float and math.isfinite(value))
        elif expected == "tuple[Layer, ...]":
            good = isinstance(value, (list, tuple)) and len(value) <= MOST_LAYERS
        else:
            good = isinstance(value, {"str": str, "bool": bool}.get(expected, dict))
        if not good:
            raise ModelFileError(f"{where}.{name} must be {expected}, got {str(value)[:80]!r}")
        values[name] = value
    return values
