"""A student's first layers from its teacher's: the weights of a .tflite in place of random ones.

What a network heard in years of sound lies in its weights, and a student of the same form begins with it (a start from
the teacher's layers: Sanh et al. 2019, "DistilBERT", section 3). What the student changes is that it has no padding in
time, a stride of 8 there and another frame step. Each filter's mean and deviation move with that, and the layers after
it hear what they were not made for; so batch normalisation gives every filter the mean and deviation that the teacher's
own has on the same sound (Li et al. 2016, "Revisiting batch normalization for practical domain adaptation", do so from
one domain to another).
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
from .teachers import TfliteTeacher

_CONVOLUTIONS = (tf_keras.layers.Conv2D, tf_keras.layers.DepthwiseConv2D)
_GAIN = 4.0  # by how much a filter is made louder or quieter at the most
Features = NDArray[np.float32]  # [b, frames, bins, 1]


class Weights(NamedTuple):
    """A convolution of a teacher."""

    kernel: NDArray[np.float32]  # [time, frequency, inputs, filters]; depthwise [time, frequency, filters, 1]
    bias: NDArray[np.float32]  # [filters]
    depthwise: bool
    stride: tuple[int, int]
    padding: str
    input: int  # number of the tensor that it reads, and its shape
    shape: tuple[int, ...]


class Moments(NamedTuple):
    """Of what a convolution gives, bias and all, before its ReLU: float32 [filters]."""

    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]


def convolutions(path: Path) -> list[Weights]:
    """The convolutions of a .tflite's main graph, in its order, in float32."""
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
            # stored [filters, time, frequency, inputs]; depthwise [1, time, frequency, filters]
            kernel = values(operator.inputs[1]).transpose((1, 2, 3, 0))
            before, after = graph.tensors[operator.inputs[0]].shape, graph.tensors[operator.outputs[0]].shape
            stride = (round(before[1] / after[1]), round(before[2] / after[2]))
            same = all(-(-before[axis] // stride[axis - 1]) == after[axis] for axis in (1, 2))
            made.append(
                Weights(
                    kernel, values(operator.inputs[2]), operator.name.startswith("DEPTHWISE"), stride,
                    "SAME" if same else "VALID", operator.inputs[0], before,
                )
            )  # fmt: skip
    return made


def moments(teacher: list[Weights], heard: Features) -> list[Moments]:
    """What each convolution of a teacher, one after the other with a ReLU each, gives for what the first hears."""
    x, made = tf.constant(heard), []
    for each in teacher:
        strides = (1, *each.stride, 1)
        convolve = tf.nn.depthwise_conv2d if each.depthwise else tf.nn.conv2d
        x = tf.nn.bias_add(convolve(x, each.kernel, strides, each.padding), each.bias)
        mean, variance = (value.numpy() for value in tf.nn.moments(x, [0, 1, 2]))
        made.append(Moments(mean, np.sqrt(variance)))
        x = tf.nn.relu(x)
    return made


def inherit(tower: tf_keras.Model, teacher: list[Weights], of_teacher: list[Moments], features: Features) -> int:
    """Give an audio tower its teacher's first convolutions, as many as are alike; returns how many.

    of_teacher: what the teacher makes of the sound whose `features` the tower hears.
    Where a kernel has one column in place of the teacher's three, these are summed: right for what lasts.
    """
    x, number = tf.constant(features), 0
    for layer in tower.layers[1:]:
        if isinstance(layer, _CONVOLUTIONS):
            if number == len(teacher) or (kernel := _fitted(teacher[number].kernel, layer)) is None:
                break
            layer.set_weights([kernel])
            number += 1
        elif isinstance(layer, tf_keras.layers.BatchNormalization):
            mean, variance = (each.numpy() for each in tf.nn.moments(x, [0, 1, 2]))
            # A filter that is never on says nothing of its deviation, and is not blown up
            gain = of_teacher[number - 1].deviation / np.sqrt(variance + layer.epsilon)
            gamma = np.clip(gain, 1 / _GAIN, _GAIN) * np.sqrt(variance + layer.epsilon)
            layer.set_weights([gamma, of_teacher[number - 1].mean, mean, variance])
        x = layer(x, training=False)
    return number


def _fitted(kernel: NDArray[np.float32], layer: Any) -> NDArray[np.float32] | None:
    """A teacher's kernel as a layer has it; None where the layer is another."""
    own = tuple(layer.weights[0].shape)
    if own[0] == 1 < kernel.shape[0]:
        kernel = kernel.sum(axis=0, keepdims=True)
    return kernel if kernel.shape == own and not layer.use_bias else None


def begin(tower: tf_keras.Model, path: Path, sound: NDArray[np.float32], rate: int, features: Features) -> None:
    """`inherit` from a teacher's file, and say how much it was; TrainingError where nothing fits.

    sound: float32 [b, n], at the teacher's rate, as the teacher hears it; features: of the same, for the tower.
    """
    total = sum(isinstance(layer, _CONVOLUTIONS) for layer in tower.layers)
    teacher = convolutions(path)
    count = 0
    if teacher:
        ear = TfliteTeacher(path, {"embedding": teacher[0].input}, rate)
        heard = np.concatenate([ear(each, len(each))["embedding"] for each in sound])
        of_teacher = moments(teacher, heard.reshape(-1, *teacher[0].shape[1:]))
        count = inherit(tower, teacher, of_teacher, features)
    if not count:
        raise TrainingError(
            f"--inherit: the student's first convolution is another than that of {path.name}; of yamnet, students such "
            "as mobilenet:32-64-128-128-256-256-512 inherit"
        )
    print(f"{count} of {total} convolutions begin with the weights of {path.name}", file=sys.stderr)
