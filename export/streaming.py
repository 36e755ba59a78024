"""The streaming transform: a network valid in time, run on new columns alone, makes exactly the columns that are new.

A layer with extent e and stride s makes output j of the inputs [j s, j s + e). Where a step brings n s new inputs and
the last e - s before them were kept, it makes the n outputs that the new inputs complete, and keeps the last e - s of
what it read; where s > e, the first s - e of each s new inputs lie between two outputs, and the first are left out.
Nothing is computed twice, and nothing differs from the whole window's output but where it was computed.
Layer upon layer this holds if each layer's input begins where one of its outputs begins, and brings a whole number of
them. `Spec` chooses the first frame of a step so (`l3edge.layers.alignment`) and refuses what cannot be so, with the
reason and the nearest spec that can: a stride that a hop is no multiple of, padding in time, an operation on the whole
window. In int8 the state is the int8 that its producer made, so equal means equal bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from l3edge.layers import Layer, kept, skipped
from l3edge.spec import Spec
from training.backend import tf


class Operation(NamedTuple):
    """A row of the table with its arithmetic.

    apply: [1, time, frequency, channels] -> the same, "valid" in time.
    restore: a state as this layer's input, which in int8 means with its producer's scale.
    """

    layer: Layer
    apply: Callable[[Any], Any]
    restore: Callable[[Any], Any]


def window(x: Any, operations: Sequence[Operation]) -> Any:
    """All columns of an input of any length: the network as it was trained."""
    for operation in operations:
        x = operation.apply(x)
    return x


def windows(x: Any, states: Sequence[Any], spec: Spec, restore: Callable[[Any], Any]) -> tuple[Any, list[Any]]:
    """The columns of the windows that new columns [1, n, bins, channels] complete, [hops, columns, bins, channels], and
    the state for the next step: what a spec's `window_layers` are given.
    """
    hops = x.shape[1] // spec.columns_per_hop
    if spec.columns_kept:
        x = tf.concat([restore(states[0]), x], 1)
    first = x.shape[1] - spec.columns - (hops - 1) * spec.columns_per_hop
    begins = [first + i * spec.columns_per_hop for i in range(hops)]
    made = tf.concat([x[:, begin : begin + spec.columns] for begin in begins], 0) if hops > 1 else x[:, first:]
    return made, [x[:, -spec.columns_kept :]] if spec.columns_kept else []


def step(x: Any, states: Sequence[Any], operations: Sequence[Operation]) -> tuple[Any, list[Any]]:
    """The columns that new inputs x complete, and the states for the next step, one for each layer that keeps any."""
    before, after = iter(states), []
    for operation in operations:
        columns = kept(operation.layer)
        if columns:
            x = tf.concat([operation.restore(next(before)), x], 1)
            after.append(x[:, -columns:])
        elif skipped(operation.layer):
            x = x[:, skipped(operation.layer) :]
        x = operation.apply(x)
    return x, after
