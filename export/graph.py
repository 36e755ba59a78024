"""The graphs of a model file, over the same weights: steps of the stream, and a whole window.

`window` is the network as trained: a second of sound in, one embedding out. `stream` is the same layers on the new
frames alone (`export.streaming`); `stream_10` takes ten hops in one call. All take a waveform, and with it the front
end; the Edge TPU has no FFT, so for it the step takes int8 log-mel.

With `ranges`, weights and activations are fake-quantised as the converter wants them: weights symmetric per channel
in [-127, 127], activations asymmetric per tensor. A state carries its producer's range, so that it leaves one step
and enters the next as the same int8.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l3edge import frontend
from l3edge.frontend import Decibel
from l3edge.layers import Conv, Layer, Pool, read, same_padding
from l3edge.spec import Spec
from training.backend import tf
from training.tf_ops import GRAPH_OPS

from . import streaming
from .streaming import Operation

Weights = tuple[NDArray[np.float32], NDArray[np.float32]]
Range = tuple[float, float]


@dataclass(frozen=True)
class Network:
    """A trained audio tower, batch normalisation folded: relu(conv(x, kernel) + bias) for each convolution.

    weights: (kernel float32 [time, frequency, inputs, filters], bias float32 [filters]) each; a depthwise kernel is
    [time, frequency, filters, 1].
    ranges: None for float32; for int8 the (smallest, largest) value of each convolution's output, 0 in between.
    affine: (scale, shift) of the front end's output, where published weights normalise their input.
    """

    spec: Spec
    weights: Sequence[Weights]
    ranges: Sequence[Range] | None = None
    affine: tuple[float, float] = (1.0, 0.0)

    def __post_init__(self) -> None:
        inputs = 1
        if len(self.weights) != len(self.spec.convolutions):
            raise ValueError(f"{len(self.weights)} convolutions for {len(self.spec.convolutions)} in the spec")
        for layer, (kernel, bias) in zip(self.spec.convolutions, self.weights, strict=True):
            wanted = kernel_shape(layer, inputs)
            if kernel.shape != wanted or bias.shape != (layer.filters,):
                raise ValueError(f"kernel {kernel.shape} and bias {bias.shape} where the spec has kernel {wanted}")
            inputs = layer.filters


def kernel_shape(layer: Conv, inputs: int) -> tuple[int, int, int, int]:
    """As TensorFlow has it, for so many input channels."""
    return (*layer.kernel, *((inputs, 1) if layer.depthwise else (inputs, layer.filters)))


def input_range(network: Network) -> Range:
    """The range of the network's input that int8 covers; 0 is in it, as padding must be exact.

    It is a property of the front end and not of the data, so that a louder room than the training set saturates late:
    for log-mel from silence to the magnitude of a full-scale constant, sum(window).
    """
    front = network.spec.front_end
    if isinstance(front, Decibel):
        limits = (-front.RANGE, 0.0)
    else:
        limits = (math.log(front.offset), math.log(float(frontend.window(front).sum())))
    scale, shift = network.affine
    values = [scale * limit + shift for limit in limits]
    return min(0.0, *values), max(0.0, *values)


def fake_quant(limits: Range) -> Callable[[Any], Any]:
    """Rounds to the 256 values that int8 has in a range, as the converter wants activations marked."""
    return lambda x: tf.quantization.fake_quant_with_min_max_args(x, *limits)


def _identity(x: Any) -> Any:
    return x


def quantised_kernel(kernel: NDArray[np.float32], layer: Conv) -> Any:
    """A kernel rounded to int8, symmetric, with a scale for each filter."""
    filters_last = np.swapaxes(kernel, 2, 3) if layer.depthwise else kernel
    # A filter of zeros still needs a scale.
    largest = np.maximum(np.abs(filters_last).max(axis=(0, 1, 2)), np.float32(1e-9))
    rounded = tf.quantization.fake_quant_with_min_max_vars_per_channel(
        filters_last, -largest, largest, 8, narrow_range=True
    )
    return tf.reshape(rounded, kernel.shape)  # one of the axes that were swapped has one element


def _convolve(x: Any, layer: Conv, kernel: Any, bias: Any, quantise: Callable[[Any], Any]) -> Any:
    padding = "SAME"
    if layer.padding == "valid":  # in time: "same" in frequency is up to us
        sides = same_padding(x.shape[2], layer, 1)
        x = tf.pad(x, [[0, 0], [0, 0], sides, [0, 0]]) if any(sides) else x
        padding = "VALID"
    if layer.depthwise:
        x = tf.nn.depthwise_conv2d(x, kernel, (1, *layer.stride, 1), padding)
    else:
        x = tf.nn.conv2d(x, kernel, layer.stride, padding, dilations=layer.dilation)
    x = tf.nn.bias_add(x, bias)
    return quantise(tf.nn.relu(x) if layer.relu else x)


def pool(x: Any, layer: Pool) -> Any:
    """A row of the table."""
    if layer.size == layer.stride == (1, 1):
        return x  # of two such pools in a row LiteRT 2.3's XNNPACK gives memory that nothing was written to
    if layer.kind == "mean":
        return tf.nn.avg_pool2d(x, layer.size, layer.stride, "VALID")
    return tf.nn.max_pool2d(x, layer.size, layer.stride, "VALID")


def _wide_enough(limits: Range, incoming: Range, kernel: NDArray[np.float32]) -> Range:
    """The range of an output, but not so narrow that XNNPACK refuses the convolution: it wants the product of the
    input's and the kernel's scale to be less than 256 times the output's. A layer that hardly fires may be so.
    """
    least = max(map(abs, incoming)) * float(np.abs(kernel).max()) / 10_000
    low, high = limits
    return (low, high) if high - low >= least else (low, low + least)


def operations(network: Network) -> list[Operation]:
    """The rows of the table with their weights and ranges."""
    int8 = network.ranges is not None
    limits: Range = input_range(network)
    made, convolution = [], 0
    for layer in network.spec.rows:
        restore = fake_quant(limits) if int8 else _identity
        apply: Callable[[Any], Any] = functools.partial(pool, layer=layer)
        if isinstance(layer, Conv):
            kernel, bias = network.weights[convolution]
            if network.ranges is not None:
                limits = _wide_enough(network.ranges[convolution], limits, kernel)
                kernel = quantised_kernel(kernel, layer)
            quantise = fake_quant(limits) if int8 else _identity
            apply = functools.partial(_convolve, layer=layer, kernel=kernel, bias=bias, quantise=quantise)
            convolution += 1
        made.append(Operation(layer, apply, restore))
    return made


def heard(samples: Any, network: Network) -> Any:
    """Samples [n] to the network's input, float32 [1, frames, bins, 1]."""
    x = frontend.features(samples, network.spec.front_end, GRAPH_OPS)  # [frames, bins]
    if network.affine != (1.0, 0.0):
        x = x * np.float32(network.affine[0]) + np.float32(network.affine[1])
    return entering(x[tf.newaxis, ..., tf.newaxis], network)


def entering(x: Any, network: Network) -> Any:
    """The network's input, float32 [b, frames, bins, 1], in its range."""
    return x if network.ranges is None else fake_quant(input_range(network))(x)


def columns_of(network: Network, inputs: Any) -> Any:
    """All output columns of inputs float32 [b, frames, bins, 1]: [b, columns, bins', channels]."""
    return streaming.window(entering(inputs, network), operations(network))


def embedding_of(columns: Any, spec: Spec) -> Any:
    """All columns [b, columns, bins', channels] of a window to its embedding [b, embedding_size]."""
    if spec.embedding == "flatten":
        columns = tf.transpose(columns, [0, 2, 1, 3])
    else:
        columns = _over_all(columns, columns.shape[1])
    return tf.reshape(columns, [-1, spec.embedding_size])


def _over_all(x: Any, columns: int) -> Any:
    """The maximum over all bins and over blocks of columns: [b, n, bins, channels] -> [b, n / columns, channels]."""
    size = (columns, x.shape[2])
    x = pool(x, Pool(size, size)) if size != (1, 1) else x
    return tf.reshape(x, [-1, x.shape[1], x.shape[3]])  # and no slice, which the Edge TPU may not map in this form


def window_function(network: Network) -> Any:
    """samples float32 [window] -> embedding [1, embedding_size], a tf.function."""
    spec, rows = network.spec, operations(network)

    def window(samples: Any) -> dict[str, Any]:
        x = heard(samples[: spec.samples_seen], network)  # [1, 76, 64, 1]
        return {"embedding": embedding_of(streaming.window(x, rows), spec)}  # [1, 2, 8, 256] -> [1, 256]

    return tf.function(window, input_signature=[tf.TensorSpec([spec.window], tf.float32, "samples")])


def step_function(network: Network, hops: int = 1, *, waveform: bool = True) -> Any:
    """One call of the stream, `hops` hops long, as a tf.function.

    samples float32 [samples_of(hops)] (or, without waveform, log_mel [1, frames, bands, 1]) and state_i
    -> columns [1, columns, embedding_size] and state_i.
    """
    spec, rows = network.spec, operations(network)
    frames = hops * spec.frames_per_hop

    def stream(new: Any, *states: Any) -> dict[str, Any]:
        x = heard(new, network) if waveform else entering(new, network)  # [1, 8, 64, 1]
        body, rest = rows[: len(spec.layers)], rows[len(spec.layers) :]
        x, kept = streaming.step(x, states, body)
        if not rest:
            return {"columns": _over_all(x, 1), **{f"state_{i}": state for i, state in enumerate(kept)}}
        windows, last = streaming.windows(x, states[len(kept) :], spec, rest[0].restore)
        made = streaming.window(windows, rest)  # [hops, time, bins, channels]
        made = tf.reshape(_over_all(made, made.shape[1]), [1, hops, spec.embedding_size])
        return {"columns": made, **{f"state_{i}": state for i, state in enumerate([*kept, *last])}}

    first = (
        tf.TensorSpec([spec.samples_of(hops)], tf.float32, "samples")
        if waveform
        else tf.TensorSpec([1, frames, spec.front_end.bins, 1], tf.float32, "log_mel")
    )
    states = [tf.TensorSpec(shape, tf.float32, f"state_{i}") for i, shape in enumerate(spec.state_shapes)]
    return tf.function(stream, input_signature=[first, *states])


def random_weights(layers: Sequence[Layer], seed: int) -> list[Weights]:
    """He-normal kernels and small biases: a network that has learned nothing, and whose activations stay in bounds."""
    rng = np.random.default_rng(seed)
    weights, inputs = [], 1
    for layer in layers:
        if isinstance(layer, Conv):
            deviation = (2 / (math.prod(layer.kernel) * read(layer, inputs))) ** 0.5
            kernel = rng.normal(0, deviation, kernel_shape(layer, inputs))
            weights.append((kernel.astype(np.float32), rng.normal(0, 0.2, layer.filters).astype(np.float32)))
            inputs = layer.filters
    return weights
