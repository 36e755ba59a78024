"""The network as a table of layers, and what follows from the table: shapes, receptive field, state, cost.

Axes are (time, frequency). Convolutions are "valid" or "same" in time and always "same" in frequency; pools are valid.
A row with kernel k, dilation d and stride s reads e = (k - 1) d + 1 columns for each column it makes, every s columns.
In a stream it has to keep the last max(0, e - s) columns of its input: its state. Where s > e it skips max(0, s - e)
columns between those it reads.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .errors import OptionError

Pair = tuple[int, int]  # time, frequency
Shape = tuple[int, int, int]  # time, frequency, channels

MOST_LAYERS = 64
MOST_FILTERS = 4096
MOST_EXTENT = 64


class Conv(NamedTuple):
    """Convolution with bias, and ReLU unless told otherwise."""

    filters: int
    kernel: Pair = (3, 3)
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    padding: str = "valid"  # in time: "valid" or "same"
    relu: bool = True
    depthwise: bool = False  # each filter reads the one input channel of its own number


class Pool(NamedTuple):
    """Maximum or mean over blocks of `size`, every `stride`."""

    size: Pair = (2, 2)
    stride: Pair = (2, 2)
    kind: str = "maximum"  # or "mean"


Layer = Conv | Pool


def l3_stack(filters: Sequence[int], padding: str = "valid") -> tuple[Layer, ...]:
    """L3 stack (Arandjelovic & Zisserman 2017, fig. 2): two 3x3 convolutions a block, pools between blocks."""
    blocks: list[Layer] = []
    for count in filters:
        blocks += [Conv(count, padding=padding), Conv(count, padding=padding), Pool()]
    return tuple(blocks[:-1])


def strided_stack(filters: Sequence[int]) -> tuple[Layer, ...]:
    """The L3 stack with one strided 3x3 convolution in place of its first block, valid in time.

    The first block is the largest in memory and learns the least; images have long been entered so (Howard et al.
    2017). What it saves in training and in a hop goes into the width of the other blocks.
    """
    first, *others = filters
    return (Conv(first, stride=(2, 2)), *l3_stack(others))


def separable_stack(
    filters: Sequence[int], dense: int = 1, padding: str = "valid", halvings: int = 3
) -> tuple[Layer, ...]:
    """The L3 stack with convolutions in two parts, depthwise 3x3 and pointwise 1x1 (Howard et al. 2017, MobileNets).

    The first `dense` blocks have whole convolutions: on few channels the parts save nothing. Time is halved by the
    first `halvings` pools alone, and what follows the block behind them looks at frequency alone, so that more blocks
    change neither the stride nor the receptive field.
    """
    blocks: list[Layer] = []
    channels = 1
    for number, count in enumerate(filters):
        kernel = (3 if number <= halvings else 1, 3)
        for _ in range(2):
            if number < dense:
                blocks.append(Conv(count, kernel, padding=padding))
            else:
                blocks.append(Conv(channels, kernel, padding=padding, depthwise=True))
                blocks.append(Conv(count, (1, 1), padding=padding))
            channels = count
        blocks.append(Pool() if number < halvings else Pool((1, 2), (1, 2)))
    return tuple(blocks[:-1])


def mobilenet_stack(filters: Sequence[int], time: int = 7, halvings: int = 3) -> tuple[Layer, ...]:
    """MobileNet's stack as YAMNet has it (Howard et al. 2017; Plakal & Ellis 2020), valid in time.

    A strided 3x3 convolution of `filters[0]`, then a block of a depthwise and a 1x1 convolution for each other width.
    From the second block on, one that is wider than that before it halves what it looks at: time and frequency, until
    time has been halved `halvings` times, then frequency alone, by a pool in place of the stride. Only the first `time`
    blocks look at several columns, as the receptive field must lie in a window: 75 frames with 7, 59 with 6.
    """
    first, *others = filters
    rows: list[Layer] = [Conv(first, stride=(2, 2))]
    channels, halved_before = first, 1
    for number, count in enumerate(others, 1):
        halved = number > 1 and count > channels
        in_time = halved_before < halvings
        halved_before += halved
        kernel = (3 if number <= time else 1, 3)
        stride = (2, 2) if halved and in_time else (1, 1)
        rows.append(Conv(channels, kernel, stride, depthwise=True))
        if halved and not in_time:
            rows.append(Pool((1, 2), (1, 2)))
        rows.append(Conv(count, (1, 1)))
        channels = count
    return tuple(rows)


def mobilenet_window(filters: Sequence[int], width: int) -> tuple[Layer, ...]:
    """More blocks of `mobilenet_stack`, after one of `width`, on all columns of a window and padded as YAMNet's are."""
    rows: list[Layer] = []
    channels = width
    for count in filters:
        stride = (2, 2) if count > channels else (1, 1)
        rows += [Conv(channels, (3, 3), stride, padding="same", depthwise=True), Conv(count, (1, 1), padding="same")]
        channels = count
    return tuple(rows)


def extent(layer: Layer, axis: int = 0) -> int:
    """Columns (axis 0) or bins (axis 1) that one output of a layer reads."""
    if isinstance(layer, Pool):
        return layer.size[axis]
    return (layer.kernel[axis] - 1) * layer.dilation[axis] + 1


def read(layer: Conv, inputs: int) -> int:
    """Input channels, of so many, that one filter reads."""
    return 1 if layer.depthwise else inputs


def kept(layer: Layer) -> int:
    """Columns of its input that a layer keeps from one step of a stream to the next."""
    return max(0, extent(layer) - layer.stride[0])


def skipped(layer: Layer) -> int:
    """Columns of its input that a layer passes over, before each block that it reads in a step."""
    return max(0, layer.stride[0] - extent(layer))


def same_padding(length: int, layer: Conv, axis: int) -> Pair:
    """Zeros before and after, for ceil(length / stride) outputs (TensorFlow's "SAME")."""
    outputs = -(-length // layer.stride[axis])
    total = max(0, (outputs - 1) * layer.stride[axis] + extent(layer, axis) - length)
    return total // 2, total - total // 2


def check(layers: Sequence[Layer]) -> None:
    """OptionError where a row is impossible."""
    if not 1 <= len(layers) <= MOST_LAYERS or not isinstance(layers[0], Conv):
        raise OptionError(f"layers must be 1 to {MOST_LAYERS} rows, the first a convolution; got {len(layers)}")
    inputs = 1
    for number, layer in enumerate(layers):
        pairs = (layer.size, layer.stride) if isinstance(layer, Pool) else (layer.kernel, layer.stride, layer.dilation)
        if min(min(pair) for pair in pairs) < 1 or max(extent(layer, 0), extent(layer, 1)) > MOST_EXTENT:
            raise OptionError(f"layer {number}: sizes must be from 1 to {MOST_EXTENT}, got {layer}")
        if isinstance(layer, Conv):
            if not 1 <= layer.filters <= MOST_FILTERS:
                raise OptionError(f"layer {number}: filters must be from 1 to {MOST_FILTERS}, got {layer.filters}")
            if max(layer.stride) > 1 and max(layer.dilation) > 1:
                raise OptionError(f"layer {number}: a stride or a dilation, not both: TensorFlow trains no such layer")
            if layer.padding not in ("valid", "same"):
                raise OptionError(f'layer {number}: padding must be "valid" or "same", got {layer.padding!r}')
            if layer.depthwise and layer.filters != inputs:
                raise OptionError(
                    f"layer {number}: depthwise, so filters must be its {inputs} inputs, got {layer.filters}"
                )
            if layer.depthwise and (layer.stride[0] != layer.stride[1] or layer.dilation != (1, 1)):
                raise OptionError(
                    f"layer {number}: a depthwise row has the same stride in time and frequency, and no dilation: "
                    f"TensorFlow trains no other; got {layer}"
                )
            inputs = layer.filters
        elif layer.kind not in ("maximum", "mean"):
            raise OptionError(f'layer {number}: a pool\'s kind must be "maximum" or "mean", got {layer.kind!r}')


def stride(layers: Sequence[Layer]) -> int:
    """Frames from one output column to the next."""
    return math.prod(layer.stride[0] for layer in layers)


def receptive_field(layers: Sequence[Layer]) -> int:
    """Frames that one output column depends on."""
    frames, step = 1, 1
    for layer in layers:
        frames += (extent(layer) - 1) * step
        step *= layer.stride[0]
    return frames


def alignment(layers: Sequence[Layer], latest: int) -> Pair:
    """(offset, column): the latest frame, not after `latest`, at which a step may begin its frames, and the output
    column that it begins with then; columns before 0 are those that begin before the signal.

    A step's first `stride` frames are the last of those that its first column depends on: each layer's input, with the
    columns it kept in front and less those it skips, then begins where one of its outputs begins.
    """
    ahead = receptive_field(layers) - stride(layers)
    column = (latest - ahead) // stride(layers)
    return column * stride(layers) + ahead, column


def shapes(
    layers: Sequence[Layer], frames: int, bins: int, *, step: bool = False, channels: int = 1
) -> Iterator[Shape]:
    """Output shape of each layer for `frames` frames; in a step each layer has what it kept in front of its input."""
    time = frames
    for layer in layers:
        if step:
            time //= layer.stride[0]
        elif isinstance(layer, Conv) and layer.padding == "same":
            time = -(-time // layer.stride[0])
        else:
            time = max(0, (time - extent(layer)) // layer.stride[0] + 1)
        if isinstance(layer, Conv):
            bins, channels = -(-bins // layer.stride[1]), layer.filters
        else:
            bins = max(0, (bins - layer.size[1]) // layer.stride[1] + 1)
        yield time, bins, channels


def state_shapes(layers: Sequence[Layer], frames: int, bins: int) -> list[tuple[int, int, int, int]]:
    """Shape [1, time, frequency, channels] of the state of each layer that has one, for steps of `frames` frames."""
    before = [(frames, bins, 1), *shapes(layers, frames, bins, step=True)]
    return [(1, kept(layer), *shape[1:]) for layer, shape in zip(layers, before, strict=False) if kept(layer)]


def macs(layers: Sequence[Layer], made: Sequence[Shape], inputs: int = 1) -> int:
    """Multiply-accumulates, given the layers' output shapes."""
    count = 0
    for layer, (time, bins, channels) in zip(layers, made, strict=True):
        if isinstance(layer, Conv):
            count += time * bins * channels * read(layer, inputs) * math.prod(layer.kernel)
        inputs = channels
    return count


def parameters(layers: Sequence[Layer]) -> int:
    """Weights and biases."""
    inputs, count = 1, 0
    for layer in layers:
        if isinstance(layer, Conv):
            count += (math.prod(layer.kernel) * read(layer, inputs) + 1) * layer.filters
            inputs = layer.filters
    return count
