"""The two graphs of a model file, over the same weights: a step of the stream, and a whole window.

Both take a waveform. `window` is the network as trained: 16000 samples in, one embedding out. `stream` is the same
layers with one change: in front of each convolution stand the last columns of its input (its state), so that a step
makes exactly the columns that are new. Convolutions are valid in time and `Spec` puts the frames of a step where
every pool begins on a pool boundary, so nothing else has state.

With `ranges`, weights and activations are fake-quantised as the converter wants them: weights symmetric per channel
in [-127, 127], activations asymmetric per tensor. A state carries its producer's range, so that it leaves one step
and enters the next as the same int8.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l3edge import frontend
from l3edge.spec import Conv, LogMel, Pool, Spec
from training.backend import tf
from training.tf_ops import GRAPH_OPS

Weights = tuple[NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True)
class Network:
    """A trained audio tower, batch normalisation folded: relu(conv(x, kernel) + bias) for each convolution.

    weights: (kernel float32 [time, frequency, inputs, filters], bias float32 [filters]) each.
    ranges: None for float32; for int8 the largest value of each convolution's output (the smallest is 0, ReLU).
    """

    spec: Spec
    weights: Sequence[Weights]
    ranges: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if len(self.weights) != len(self.spec.convolutions):
            raise ValueError(f"{len(self.weights)} convolutions for {len(self.spec.convolutions)} in the spec")


def input_range(log_mel: LogMel) -> tuple[float, float]:
    """The range of log-mel that int8 covers: from silence to the magnitude of a full-scale constant, sum(window).

    It is a property of the front end and not of the data, so that a louder room than the training set saturates late.
    """
    return math.log(log_mel.offset), math.log(float(frontend.window(log_mel).sum()))


class _Quantiser:
    """Fake quantisation where the network has ranges, nothing where it has none."""

    def __init__(self, network: Network) -> None:
        self.ranges = network.ranges
        self.inputs = input_range(network.spec.log_mel)

    def input(self, x: Any, convolution: int) -> Any:
        """x as the input of convolution i: log-mel for the first, its predecessor's output for the others."""
        return self._activation(x, self.inputs) if convolution == 0 else self.output(x, convolution - 1)

    def output(self, x: Any, convolution: int) -> Any:
        return self._activation(x, (0.0, self.ranges[convolution])) if self.ranges else x

    def _activation(self, x: Any, limits: tuple[float, float]) -> Any:
        return tf.quantization.fake_quant_with_min_max_args(x, *limits) if self.ranges else x

    def kernel(self, kernel: NDArray[np.float32]) -> Any:
        if not self.ranges:
            return kernel
        # A filter of zeros still needs a scale.
        largest = np.maximum(np.abs(kernel).max(axis=(0, 1, 2)), np.float32(1e-9))
        return tf.quantization.fake_quant_with_min_max_vars_per_channel(kernel, -largest, largest, 8, narrow_range=True)


def _rows(network: Network) -> Iterator[tuple[Pool | Conv, int]]:
    """The rows of the layer table, each with the number of the convolution it is, or that precedes it."""
    convolution = -1
    for layer in network.spec.layers:
        convolution += isinstance(layer, Conv)
        yield layer, convolution


def _convolve(x: Any, layer: Conv, weights: Weights, quantise: _Quantiser, convolution: int) -> Any:
    side = (layer.kernel[1] - 1) // 2
    kernel, bias = weights
    x = tf.nn.conv2d(x, quantise.kernel(kernel), 1, [[0, 0], [0, 0], [side, side], [0, 0]])
    return quantise.output(tf.nn.relu(tf.nn.bias_add(x, bias)), convolution)


def _pool(x: Any, size: tuple[int, int]) -> Any:
    return tf.nn.max_pool2d(x, size, size, "VALID")


def _log_mel(samples: Any, network: Network, quantise: _Quantiser) -> Any:
    mel = frontend.log_mel(samples, network.spec.log_mel, GRAPH_OPS)  # [frames, bands]
    return quantise.input(mel[tf.newaxis, ..., tf.newaxis], 0)  # [1, frames, bands, 1]


def columns_of(network: Network, log_mel: Any) -> Any:
    """All output columns of log-mel float32 [b, frames, bands, 1]: [b, columns, bands', embedding_size]."""
    quantise = _Quantiser(network)
    x = quantise.input(log_mel, 0)
    for layer, i in _rows(network):
        x = _pool(x, layer.size) if isinstance(layer, Pool) else _convolve(x, layer, network.weights[i], quantise, i)
    return x


def module(network: Network) -> Any:
    """A tf.Module with the signatures `stream` and `window`.

    stream: samples float32 [step_samples], state_i -> columns [1, columns_per_hop, embedding_size], state_i.
    window: samples float32 [window] -> embedding [1, embedding_size].
    """
    spec, quantise = network.spec, _Quantiser(network)

    def window(samples: Any) -> dict[str, Any]:
        x = columns_of(network, _log_mel(samples[: spec.samples_seen], network, quantise))  # [1, 2, 8, 256]
        return {"embedding": _pool(x, x.shape[1:3])[:, 0, 0]}  # [1, 256]

    def stream(samples: Any, *states: Any) -> dict[str, Any]:
        x = _log_mel(samples, network, quantise)  # [1, 8, 64, 1]
        outputs: dict[str, Any] = {}
        for layer, i in _rows(network):
            if isinstance(layer, Pool):
                x = _pool(x, layer.size)
                continue
            x = tf.concat([quantise.input(states[i], i), x], 1)  # [1, 2 + 8, 64, 1]
            outputs[f"state_{i}"] = x[:, 1 - layer.kernel[0] :]  # [1, 2, 64, 1]
            x = _convolve(x, layer, network.weights[i], quantise, i)  # [1, 8, 64, 32]
        outputs["columns"] = _pool(x, (1, x.shape[2]))[:, :, 0]  # [1, 1, 256]
        return outputs

    made = tf.Module()
    made.stream = tf.function(
        stream,
        input_signature=[
            tf.TensorSpec([spec.step_samples], tf.float32, "samples"),
            *(tf.TensorSpec(shape, tf.float32, f"state_{i}") for i, shape in enumerate(spec.state_shapes)),
        ],
    )
    made.window = tf.function(window, input_signature=[tf.TensorSpec([spec.window], tf.float32, "samples")])
    return made
