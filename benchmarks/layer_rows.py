"""The operators of a graph as `benchmarks.layers` tells of them: what each multiplies and moves, and its part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from l3edge.flatbuffer import CONVOLUTIONS, Operator, Subgraph
from training import operators

PARTS = FRONT_END, CONVOLVING, REST = "front end", "convolutions", "the rest"


@dataclass(frozen=True)
class Row:
    """An operator, or a PAD and the convolution that reads it; `last` is its number, `first` the PAD's."""

    first: int
    last: int
    title: str  # such as "PAD + CONV_2D 3x3, 1 to 32"
    part: str  # one of PARTS
    dtype: str  # of the kernel, else of the output
    output: tuple[int, ...]
    macs: int
    bytes: int


def rows_of(graph: Subgraph, states: set[int]) -> list[Row]:
    """The graph's operators; states: tensors. The front end is what comes before the first of them or convolution."""
    made: list[Row] = []
    begun = False
    for first, last in _joined(graph):
        joined = graph.operators[first : last + 1]
        convolves = joined[-1].name in CONVOLUTIONS
        begun = begun or convolves or any(states & set(operator.inputs) for operator in joined)
        part = CONVOLVING if convolves else REST if begun else FRONT_END
        made.append(_row(graph, first, last, part))
    return made


def _joined(graph: Subgraph) -> Iterator[tuple[int, int]]:
    first = 0
    for last, operator in enumerate(graph.operators):
        after = graph.operators[last + 1] if last + 1 < len(graph.operators) else None
        if operator.name == "PAD" and after and after.name in CONVOLUTIONS and operator.outputs[0] in after.inputs:
            continue
        yield first, last
        first = last + 1


def _row(graph: Subgraph, first: int, last: int, part: str) -> Row:
    joined = graph.operators[first : last + 1]
    inside = {index for operator in joined[:-1] for index in operator.outputs}
    read = {index for operator in joined for index in operator.inputs if index >= 0} - inside
    output = graph.tensors[joined[-1].outputs[0]]
    macs = operators.macs(graph, joined[-1])
    return Row(
        first,
        last,
        " + ".join(operator.name for operator in joined) + _kernel(graph, joined[-1]),
        part,
        graph.tensors[joined[-1].inputs[1]].dtype if macs else output.dtype,
        output.shape,
        macs,
        sum(operators.size(graph.tensors[index]) for index in (*read, *joined[-1].outputs)),
    )


def _kernel(graph: Subgraph, operator: Operator) -> str:
    if operator.name not in operators.SUMMED:
        return ""
    shape = graph.tensors[operator.inputs[1]].shape
    if operator.name == "FULLY_CONNECTED":
        return f" {shape[1]} to {shape[0]}"
    filters, height, width, inputs = shape
    return f" {height}x{width}, " + (f"{inputs} to {filters}" if operator.name == "CONV_2D" else f"{inputs}")
