"""The tensors that go in and out of a model file: read off its flatbuffer, and held to its spec."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from . import flatbuffer as tflite
from .errors import ModelFileError
from .spec import Spec

Signatures = dict[str, dict[str, list[dict[str, Any]]]]

SCORING = ("tags", "head")  # signatures that score an embedding, in float32 whatever the network is computed in
ROLES = ("samples", "log_mel", "columns", "embedding", "scores")  # of the tensors that are called so


def signatures(graph: tflite.Model, named: Signatures | None = None) -> Signatures:
    """What goes in and out of each signature: name, role, dtype, shape, scale and zero point (null where not int8).

    Roles: "samples" (float32 waveform), "log_mel", "state" (state_i out of one step goes into the next), "columns",
    "embedding", "scores". Tensors are in the order of their subgraph.

    named: of a graph without signatures, such as a compiler may leave, the table that names its tensors in order.
    """
    found: Signatures = {}
    for key, signature in graph.signatures.items():
        subgraph = graph.subgraphs[signature.subgraph]
        found[key] = {}
        for side, names, order in (
            ("inputs", signature.inputs, subgraph.inputs),
            ("outputs", signature.outputs, subgraph.outputs),
        ):
            if sorted(names.values()) != sorted(order):
                raise ModelFileError(f"signature {key!r} does not name each of the {side} of its graph, once")
            ordered = sorted(names.items(), key=lambda item: order.index(item[1]))
            found[key][side] = [_tensor(name, subgraph.tensors[i]) for name, i in ordered]
    if not found and named and len(graph.subgraphs) == 1 and len(named) == 1:
        subgraph = graph.subgraphs[0]
        key, table = next(iter(named.items()))
        found[key] = {
            side: [
                _tensor(name, subgraph.tensors[i]) for name, i in zip(_names(table, side, order), order, strict=True)
            ]
            for side, order in (("inputs", subgraph.inputs), ("outputs", subgraph.outputs))
        }
    return found


def _names(table: object, side: str, order: tuple[int, ...]) -> list[str]:
    """The names that an untrusted table gives to so many tensors."""
    rows = table.get(side) if isinstance(table, dict) else None
    names = [row.get("name") if isinstance(row, dict) else None for row in rows] if isinstance(rows, list) else []
    known = [name for name in names if isinstance(name, str)]
    if len(known) != len(order) or len(known) != len(names):
        raise ModelFileError(f"it names {len(known)} {side} in its metadata, and its graph has {len(order)}")
    return known


def _tensor(name: str, tensor: tflite.Tensor) -> dict[str, Any]:
    if len(tensor.scales) > 1 or len(tensor.zero_points) != len(tensor.scales) or tensor.dynamic:
        raise ModelFileError(f"tensor {name[:80]!r} must have a fixed shape and one scale")
    return {
        "name": name,
        "role": name if name in ROLES else "state" if name.startswith("state_") else "unknown",
        "dtype": tensor.dtype,
        "shape": list(tensor.shape),
        "scale": tensor.scales[0] if tensor.scales else None,
        "zero_point": tensor.zero_points[0] if tensor.scales else None,
    }


def step_hops(key: str) -> int | None:
    """Hops of a step signature, "stream" or "stream_N"; None for any other."""
    name, _, count = key.partition("_")
    if name != "stream" or (
        count and not (count.isascii() and count.isdecimal() and len(count) < 7 and count[0] != "0")
    ):
        return None
    return int(count) if count else 1


def check_tensors(found: Signatures, spec: Spec, target: str, scores: Mapping[str, int] | None = None) -> None:
    """The tensors are those of the spec, and fit each other; scores: how many each signature of `SCORING` gives."""
    scores = scores or {}
    wanted = {"stream"} if target == "edgetpu" else {"window", *(["stream"] if spec.streaming else [])}
    wanted |= {key for key in SCORING if scores.get(key)}
    extra = {key for key in found if (step_hops(key) or 0) > 1 and spec.streaming and target == "cpu"}
    if set(found) != wanted | extra:
        raise ModelFileError(f"has signatures {sorted(found)}, expected {sorted(wanted)}")
    results = set()
    for key, table in found.items():
        hops = step_hops(key)
        expected = _scoring(spec, scores[key]) if key in SCORING else _expected(spec, hops, target)
        for side in ("inputs", "outputs"):
            shapes = {row["name"]: tuple(row["shape"]) for row in table[side]}
            if shapes != expected[side]:
                wrong = sorted(n for n in {*shapes, *expected[side]} if shapes.get(n) != expected[side].get(n))
                what = "; ".join(
                    f"{n} is {shapes.get(n, 'absent')}, spec says {expected[side].get(n, 'absent')}" for n in wrong[:3]
                )
                raise ModelFileError(f"signature {key!r} contradicts the file's spec: {what}")
        for row in table["inputs"] + table["outputs"]:
            scaled = row["dtype"] == "int8" and row["scale"] is not None and 0 < row["scale"] < math.inf
            plain = row["dtype"] == "float32" and row["scale"] is None
            if not (scaled or plain) or ((row["role"] == "samples" or key in SCORING) and not plain):
                raise ModelFileError(
                    f"{row['name']} of {key!r} is {row['dtype']} with scale {row['scale']}, expected float32 without "
                    "or (not samples, and not of a signature that scores) int8 with"
                )
            if row["scale"] is not None and not -128 <= row["zero_point"] <= 127:
                raise ModelFileError(f"{row['name']} of {key!r} has zero point {row['zero_point']}, which is no int8")
        results |= {_format(row) for row in table["outputs"] if row["role"] not in ("state", "scores")}
        states = {side: {r["name"]: _format(r) for r in table[side] if r["role"] == "state"} for side in table}
        first = {r["name"]: _format(r) for r in found["stream"]["inputs"] if r["role"] == "state"} if hops else {}
        if not states["inputs"] == states["outputs"] == first:
            raise ModelFileError(f"a state of {key!r} goes out in another format than it comes in")
    if len(results) > 1:
        raise ModelFileError(f"signatures {sorted(found)} give their results in different formats: {sorted(results)}")


def _format(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["dtype"], repr(row["scale"]), repr(row["zero_point"])


def _scoring(spec: Spec, scores: int) -> dict[str, dict[str, tuple[int, ...]]]:
    return {"inputs": {"embedding": (1, spec.embedding_size)}, "outputs": {"scores": (1, scores)}}


def _expected(spec: Spec, hops: int | None, target: str) -> dict[str, dict[str, tuple[int, ...]]]:
    if hops is None:
        return {"inputs": {"samples": (spec.window,)}, "outputs": {"embedding": (1, spec.embedding_size)}}
    states = {f"state_{i}": shape for i, shape in enumerate(spec.state_shapes)}
    new: dict[str, tuple[int, ...]] = {"samples": (spec.samples_of(hops),)}
    if target == "edgetpu":
        new = {"log_mel": (1, spec.frames_per_hop, spec.front_end.bins, 1)}
    columns = (1, hops * spec.results_per_hop, spec.embedding_size)
    return {"inputs": {**new, **states}, "outputs": {"columns": columns, **states}}
