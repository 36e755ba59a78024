"""`l3edge info`: all that a model file says of itself, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .layers import Conv
from .model_file import ModelFile
from .spec import Spec
from .spec_json import rows

DERIVED = ("receptive_field", "stride", "parameters", "macs_per_hop", "macs_per_window")


def describe(file: ModelFile) -> dict[str, Any]:
    """All that is known of a model without running it; times in samples and frames, as in its spec."""
    metadata = file.metadata
    return {
        "name": file.name,
        "path": str(file.path),
        "bytes": file.path.stat().st_size,
        "sha256": file.sha256,
        "format": metadata["format"],
        "recipe": metadata["recipe"],
        "target": file.target,
        "streaming": file.spec.streaming,
        **metadata["numbers"],
        **{name: getattr(file.spec, name) for name in DERIVED},
        "flatbuffer": metadata["flatbuffer"],
        "signatures": file.signatures,
        "labels": file.labels,
        "tags": file.tags,
        "head": file.head,
        "spec": metadata["spec"],
        "parity": metadata["parity"],
        "provenance": metadata["provenance"],
    }


UNITS = {
    "bytes": "bytes",
    "flatbuffer.bytes": "bytes",
    "sample_rate": "Hz",
    "window": "samples",
    "hop": "samples",
    "samples_seen": "samples of a window",
    "step_start": "samples from the beginning of a hop",
    "columns": "in a window",
    "receptive_field": "frames",
    "stride": "frames",
}


def print_facts(facts: dict[str, Any]) -> None:
    """The same on standard output, for people: tensors and layers a line each."""
    rest = {key: value for key, value in facts.items() if key not in ("signatures", "spec", "tags", "head")}
    spec = Spec.from_json(facts["spec"])
    for name, value in _flat(rest):
        print(f"{name:28} {value}")
    print("\nspec")
    for name, value in _flat({key: value for key, value in facts["spec"].items() if key != "layers"}):
        print(f"  {name:26} {value}")
    shapes = spec.shapes(spec.frames_used)
    for number, (layer, row, shape) in enumerate(zip(spec.rows, rows(spec.rows), shapes, strict=True)):
        size = layer.kernel if isinstance(layer, Conv) else layer.size
        what = [f"{row['kind'].replace('_', ' ')} {size[0]}x{size[1]}"]
        if layer.stride != (1, 1):
            what.append(f"stride {layer.stride[0]}x{layer.stride[1]}")
        if isinstance(layer, Conv):
            what += [f"dilation {layer.dilation[0]}x{layer.dilation[1]}"] if layer.dilation != (1, 1) else []
            what += [layer.padding + " in time", "relu" if layer.relu else "linear"]
        if number == len(spec.layers):
            print(f"  of each window anew, on its {spec.columns} columns:")
        print(f"  {f'layer {number}':26} {', '.join(what):44} -> {' x '.join(map(str, shape))}")
    for key, table in facts["signatures"].items():
        print(f"\nsignature {key}")
        for side in ("inputs", "outputs"):
            for row in sorted(table[side], key=lambda row: (row["role"] == "state", row["name"])):
                scaled = "" if row["scale"] is None else f"  scale {row['scale']:.6g}, zero point {row['zero_point']}"
                line = f"  {side[:-1]:7} {row['name']:18} {row['dtype']:8} {row['shape']!s:18}{scaled}"
                print(line.rstrip())

    if facts["tags"]:
        _print_named("tags from", facts["tags"], "names", "agreement")
    if facts["head"]:
        _print_named("head trained on", facts["head"], "labels", "figures")


def _print_named(what: str, said: dict[str, Any], names: str, figures_of: str) -> None:
    """What has a score a line each, in the order of the scores, with what was measured of it."""
    print(f"\n{what} {_printable(said['source'])}")
    for name, value in _flat({key: said[key] for key in sorted(set(said) - {names, figures_of, "source"})}):
        print(f"  {name:26} {value}")
    for name, figures in zip(said[names], said[figures_of], strict=True):
        told = ", ".join(f"{figure.replace('_', ' ')} {_shown(value)}" for figure, value in sorted(figures.items()))
        print(f"  {name:34} {told}".rstrip())


def _flat(facts: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested facts as flat ones, with their units."""
    for key, value in facts.items():
        name = prefix + key
        if isinstance(value, dict):
            yield from _flat(value, f"{name}.")
        elif value != []:
            unit = f" {UNITS[name]}" if name in UNITS else ""
            yield _printable(name), _shown(value) + unit


def _shown(value: object) -> str:
    """A value for people; --json has all digits."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return _printable(f"{value:,}" if type(value) is int else str(value))


def _printable(text: str) -> str:
    """Without what would move a terminal's cursor: a file's strings are untrusted."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
