"""One graph of a TFLite file as it is after one of its operators: what it takes to time them one by one.

The file's bytes stay where they are; only what decides what runs is written over, so no schema's library is needed
and any engine reads it: the graph is the first, has fewer operators, and gives what it had given by then and what its
last operator made. Slots are those of `l3edge.flatbuffer`.
"""

from __future__ import annotations

import struct

from l3edge.bounded import Reader
from l3edge.flatbuffer import Subgraph, parse

SUBGRAPHS, SIGNATURES = 2, 7  # slots of the model
OUTPUTS, OPERATORS = 2, 3  # slots of a subgraph


def truncated(content: bytes, operators: int, graph: int = 0) -> bytes:
    """The flatbuffer of the first so many operators of a graph, with that graph alone and no signature."""
    reader = Reader(content)
    root = reader.table(reader.number(0, "I"))
    table = reader.tables(root, SUBGRAPHS)[graph]
    first, _ = reader.vector(root, SUBGRAPHS, 4)
    made = bytearray(content)
    struct.pack_into("<I", made, first, table - first)
    for of, slot, count in ((root, SUBGRAPHS, 1), (root, SIGNATURES, 0), (table, OPERATORS, operators)):
        start, before = reader.vector(of, slot, 4)
        if before:
            struct.pack_into("<I", made, start - 4, count)
    kept = outputs(parse(content).subgraphs[graph], operators)
    made += bytes(-len(made) % 4)
    struct.pack_into("<I", made, (field := reader.field(table, OUTPUTS, 4)), len(made) - field)
    made += struct.pack(f"<I{len(kept)}i", len(kept), *kept)
    return bytes(made)


def outputs(graph: Subgraph, operators: int) -> list[int]:
    """Tensors that the graph of the first so many operators gives: the whole graph's so far, then those that would yet
    be read, or an engine would leave out what nobody reads, and its last operator's.
    """
    kept, left = graph.operators[:operators], graph.operators[operators:]
    made = [index for operator in kept for index in operator.outputs]
    read = {index for operator in left for index in operator.inputs}
    given = [index for index in graph.outputs if index in made]
    return given + [index for index in made if index not in given and (index in read or index in kept[-1].outputs)]
