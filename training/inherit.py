"""A student's first layers from its teacher's: the weights of a .tflite in place of random ones.

What a network heard in years of sound lies in its weights, and a student of the same form begins with it: it is left to
learn what changed, here windows without padding and a stride of 8 in time (a start from the teacher's layers: Sanh et
al. 2019, "DistilBERT", section 3).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from l3edge import flatbuffer

from .backend import tf, tf_keras
from .cli import TrainingError

_CONVOLUTIONS = (tf_keras.layers.Conv2D, tf_keras.layers.DepthwiseConv2D)


class Weights(NamedTuple):
    """A convolution with its bias, float32."""

    kernel: NDArray[np.float32]  # [time, frequency, inputs, filters]; depthwise [time, frequency, filters, 1]
    bias: NDArray[np.float32]  # [filters]


def convolutions(path: Path) -> list[Weights]:
    """The convolutions of a .tflite's main graph, in its order."""
    model = flatbuffer.parse(path.read_bytes())
    graph = model.subgraphs[0]

    def values(index: int) -> NDArray[np.float32]:
        tensor = graph.tensors[index]
        stored = np.asarray(model.constant(tensor), np.float64)
        if not tensor.scales:
            return stored.astype(np.float32)
        shape = [1] * stored.ndim
        shape[tensor.quantized_dimension] = -1
        scale, zero = (np.reshape(each, shape) for each in (tensor.scales, tensor.zero_points))
        return ((stored - zero) * scale).astype(np.float32)

    made = []
    for operator in graph.operators:
        if operator.name in flatbuffer.CONVOLUTIONS:
            kernel, bias = values(operator.inputs[1]), values(operator.inputs[2])
            order = (1, 2, 3, 0)  # stored [filters, time, frequency, inputs]; depthwise [1, time, frequency, filters]
            made.append(Weights(kernel.transpose(order), bias))
    return made


def inherit(tower: tf_keras.Model, teacher: list[Weights], features: NDArray[np.float32]) -> int:
    """Give an audio tower its teacher's first convolutions, as many as are alike; returns how many.

    Where a kernel has one column in place of the teacher's three, these are summed: right for what lasts. Batch
    normalisation begins with the statistics of `features`, float32 [b, frames, bins, 1], and gives their mean and
    deviation back, so that the tower computes what the teacher's layers do.
    """
    x, number, layers = tf.constant(features), 0, tower.layers[1:]
    for layer in layers:
        if isinstance(layer, _CONVOLUTIONS):
            if number == len(teacher) or (kernel := _fitted(teacher[number].kernel, layer)) is None:
                break
            layer.set_weights([kernel])
            number += 1
        elif isinstance(layer, tf_keras.layers.BatchNormalization):
            mean, variance = (each.numpy() for each in tf.nn.moments(x, [0, 1, 2]))
            gamma = np.sqrt(variance + layer.epsilon)
            layer.set_weights([gamma, teacher[number - 1].bias + mean, mean, variance])
        x = layer(x, training=False)
    return number


def _fitted(kernel: NDArray[np.float32], layer: Any) -> NDArray[np.float32] | None:
    """A teacher's kernel as a layer has it; None where the layer is another."""
    (own,) = [weight.shape for weight in layer.weights[:1]]
    if own[0] == 1 < kernel.shape[0]:
        kernel = kernel.sum(axis=0, keepdims=True)
    return kernel if kernel.shape == tuple(own) and not layer.use_bias else None


def begin(tower: tf_keras.Model, path: Path, features: NDArray[np.float32]) -> None:
    """`inherit` from a teacher's file, and say how much it was; TrainingError where nothing fits."""
    total = sum(isinstance(layer, _CONVOLUTIONS) for layer in tower.layers)
    count = inherit(tower, convolutions(path), features)
    if not count:
        raise TrainingError(
            f"--inherit: the student's first convolution is another than that of {path.name}; of yamnet, students such "
            "as mobilenet:32-64-128-128-256-256-512 inherit"
        )
    print(f"{count} of {total} convolutions begin with the weights of {path.name}", file=sys.stderr)
