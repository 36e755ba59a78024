"""An external delegate for tests: compiled from tests/delegate.c, loaded by an engine, and what it has seen.

library = compile_delegate(tmp_path)
monkeypatch.setenv(LOG, str(log))
... an engine loads it and opens a model ...
assert seen(log).options == [{"device": "usb"}]
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from l3edge.flatbuffer import OPERATORS

LOG = "DELEGATE_LOG"  # the environment variable with the file that the delegate writes to
SOURCE = Path(__file__).parent / "delegate.c"

TYPES = {1: "float32", 2: "int32", 8: "complex64", 9: "int8"}  # TfLiteType, which is not the file's TensorType


@dataclass(frozen=True)
class Tensor:
    """A tensor of a graph: `index` in the interpreter, `constant` if the file holds its values."""

    index: int
    name: str
    type: str
    shape: tuple[int, ...]
    scale: float
    zero_point: int
    constant: bool


@dataclass(frozen=True)
class Node:
    """One operator of a graph, by the name that `l3edge.flatbuffer` gives it."""

    operator: str
    version: int
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor | None, ...]


@dataclass
class Seen:
    """What a delegate's library was told, in order: options of each creation, graphs, and how many it destroyed."""

    options: list[dict[str, str]] = field(default_factory=list)
    graphs: list[list[Node]] = field(default_factory=list)
    destroyed: int = 0


def compile_delegate(folder: Path, no_device: str | None = None) -> Path:
    """The delegate's library in `folder`; skips the test where there is no compiler.

    no_device: make one that finds no device and reports this text; libedgetpu reports "".
    """
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: apt-get install gcc libc6-dev")
    library = folder / ("delegate.so" if no_device is None else "no-device.so")
    flags = ["-std=c11", "-O1", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"]
    failing = [] if no_device is None else [f"-DNO_DEVICE={json.dumps(no_device)}", "-Wno-unused-function"]
    subprocess.run([compiler, *flags, *failing, str(SOURCE), "-o", str(library)], check=True)
    return library


def seen(log: Path) -> Seen:
    """What the delegate wrote to `log`."""
    result = Seen()
    for line in log.read_text().splitlines() if log.exists() else []:
        call: dict[str, Any] = json.loads(line)
        if call["call"] == "create":
            result.options.append(call["options"])
        elif call["call"] == "prepare":
            result.graphs.append([_node(node) for node in call["nodes"]])
        else:
            result.destroyed += 1
    return result


def _node(node: dict[str, Any]) -> Node:
    operator = node["custom"] or OPERATORS[node["operator"]]
    return Node(operator, node["version"], *(tuple(_tensor(t) for t in node[side]) for side in ("inputs", "outputs")))


def _tensor(tensor: dict[str, Any] | None) -> Tensor | None:
    if tensor is None:
        return None
    kind = TYPES.get(tensor["type"], str(tensor["type"]))
    return Tensor(**{**tensor, "type": kind, "shape": tuple(tensor["shape"])})
