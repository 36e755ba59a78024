"""What the Edge TPU compiler maps: one table of operators, one of rules, each row with its source.

Nobody outside Google has the compiler's source, and no Edge TPU was at hand: this is what its documentation says and
what its users and maintainers reported, and each rule says which of the two it is.

    documented   coral.ai's list of requirements and operators, or its copy by Axis (the same compiler, ARTPEC-7)
    reported     an issue shows the compiler's output for it
    inferred     our reading of reports that give no limit; the number in the rule is ours, on the safe side
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from l3edge.flatbuffer import CONVOLUTIONS, Model, Operator, Subgraph, Tensor

MAPPED, MAY_NOT_MAP, NOT_MAPPED, REFUSED = "mapped", "may not map", "not mapped", "refused"
SEVERITY = (MAPPED, MAY_NOT_MAP, NOT_MAPPED, REFUSED)  # refused: the compiler gives up the whole model

CORAL = "https://coral.ai/docs/edgetpu/models-intro/"
COMPILER = "https://coral.ai/docs/edgetpu/compiler/"
AXIS = "https://developer.axis.com/computer-vision/on-device/system-on-chip/artpec-7/supported-ops/"
AXIS_TIPS = "https://developer.axis.com/computer-vision/on-device/system-on-chip/artpec-7/optimization-tips/"
LIBCORAL = "coral/tools/partitioner/utils.cc of https://github.com/google-coral/libcoral takes one subgraph only"
REGISTER = "tensorflow/lite/kernels/register.cc at tensorflow 00b1ec2ad4b0"


def issue(*numbers: int) -> str:
    """Where it was reported."""
    return ", ".join(f"https://github.com/google-coral/edgetpu/issues/{number}" for number in numbers)


# What the compiler maps at all, and the newest version of it that TensorFlow of the compiler's time (16.0, July 2021)
# registered. The versions are read from a register.cc of early 2022, so a little too generous, but for two that
# reports show refused: CONV_2D 6 (issue 631) and TRANSPOSE_CONV 4 (issue 845).
OPERATORS = {
    "ADD": 4, "AVERAGE_POOL_2D": 3, "CONCATENATION": 3, "CONV_2D": 5, "DEPTHWISE_CONV_2D": 6, "EXPAND_DIMS": 1,
    "FULLY_CONNECTED": 9, "L2_NORMALIZATION": 2, "LOGISTIC": 3, "MAXIMUM": 4, "MAX_POOL_2D": 3, "MEAN": 3,
    "MINIMUM": 4, "MUL": 5, "PACK": 3, "PAD": 4, "PRELU": 1, "QUANTIZE": 3, "REDUCE_MAX": 3, "REDUCE_MIN": 3,
    "RELU": 3, "RELU6": 3, "RELU_N1_TO_1": 1, "RESHAPE": 1, "RESIZE_BILINEAR": 4, "RESIZE_NEAREST_NEIGHBOR": 4,
    "RSQRT": 2, "SLICE": 5, "SOFTMAX": 3, "SPACE_TO_DEPTH": 2, "SPLIT": 4, "SQUARED_DIFFERENCE": 2, "SQUEEZE": 2,
    "STRIDED_SLICE": 6, "SUB": 5, "SUM": 2, "TANH": 3, "TRANSPOSE": 5, "TRANSPOSE_CONV": 3,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": 3,
}  # fmt: skip

# What to do about operators that audio models meet, and that no Edge TPU runs.
INSTEAD = {
    "RFFT2D": "compute the spectrum on the host: export with `--target edgetpu`, which takes log-mel frames",
    "LOG": "take the logarithm on the host: export with `--target edgetpu`, which takes log-mel frames",
    "COMPLEX_ABS": "compute the spectrum on the host: export with `--target edgetpu`, which takes log-mel frames",
    "DEQUANTIZE": "let the model return int8 (inference_output_type = tf.int8) and scale on the host",
    "LEAKY_RELU": "use RELU or PRELU",
    "HARD_SWISH": "use RELU6",
    "ELU": "use RELU or PRELU",
    "GELU": "use RELU",
    "VAR_HANDLE": "pass state in and out as tensors",
    "READ_VARIABLE": "pass state in and out as tensors",
    "ASSIGN_VARIABLE": "pass state in and out as tensors",
    "WHILE": "unroll the loop",
    "IF": "export one graph for each branch",
    "SPLIT_V": "use SLICE, one for each part",
    "UNPACK": "use SLICE and RESHAPE",
    "GATHER": "use SLICE and CONCATENATION",
    "MIRROR_PAD": "use PAD, with zeros",
    "PADV2": "use PAD, with zeros",
}

LARGE_BYTES = 1 << 18
LARGE_POOL, UNSEEN_POOL = 64, 256
LARGE_MEAN = 64 * 128
SOFTMAX_VALUES = 16_000


@dataclass(frozen=True)
class Case:
    """One operator in its model, as the rules see it."""

    model: Model
    subgraph: Subgraph
    index: int
    readers: Mapping[int, set[str]]  # of each tensor of the subgraph, the operators that read it

    @cached_property
    def operator(self) -> Operator:
        return self.subgraph.operators[self.index]

    @cached_property
    def inputs(self) -> list[Tensor | None]:
        """As the operator has them; None for one left out."""
        return [self.subgraph.tensors[i] if i >= 0 else None for i in self.operator.inputs]

    @cached_property
    def outputs(self) -> list[Tensor]:
        return [self.subgraph.tensors[i] for i in self.operator.outputs]

    @cached_property
    def activations(self) -> list[Tensor]:
        """Whatever is computed or fed: inputs that are no constants, and outputs."""
        return [tensor for tensor in self.inputs if tensor and not tensor.buffer_bytes] + self.outputs

    def input(self, position: int) -> Tensor | None:
        return self.inputs[position] if position < len(self.inputs) else None

    def values(self, position: int) -> NDArray[Any] | None:
        """A constant input, None where it is absent or computed."""
        tensor = self.input(position)
        return self.model.constant(tensor) if tensor else None

    def axes(self, position: int, rank: int) -> set[int] | None:
        """A constant input of axes, none negative; None where it is computed."""
        values = self.values(position)
        return (
            None
            if values is None or values.dtype.kind not in "iu"
            else {int(axis) % rank if rank else 0 for axis in values.ravel()}
        )


class Rule(NamedTuple):
    """`broken` gives the reason why the verdict holds for a case, or None. No operators: the rule is for all."""

    name: str
    operators: tuple[str, ...]
    verdict: str
    broken: Callable[[Case], str | None]
    advice: str
    certainty: str
    source: str


def printable(name: str) -> str:
    """A name out of a file, for a terminal."""
    return "".join(c if c.isprintable() else "?" for c in name[:80])


def named(tensor: Tensor) -> str:
    """A tensor for people: `name` int8 [1, 8, 64, 1]."""
    return f"`{printable(tensor.name)}` {tensor.dtype} {list(tensor.shape)}"


def first(tensors: list[Tensor], wrong: Callable[[Tensor], bool], what: str) -> str | None:
    """What is wrong with the first tensor of which it is wrong."""
    return next((f"{named(tensor)} {what}" for tensor in tensors if wrong(tensor)), None)


def size(tensor: Tensor) -> int:
    """Bytes of a tensor's values."""
    width = {"int8": 1, "uint8": 1, "bool": 1, "int16": 2, "float16": 2, "int64": 8, "float64": 8, "complex64": 8}
    return int(np.prod(tensor.shape, dtype=object)) * width.get(tensor.dtype, 4)


def _unlisted(case: Case) -> str | None:
    operator = case.operator
    if operator.custom:
        return f"custom operator {printable(operator.name)!r}"
    return None if operator.name in OPERATORS else f"{operator.name} is not among the operators of the Edge TPU"


def _version(case: Case) -> str | None:
    newest = OPERATORS.get(case.operator.name, case.operator.version)
    if case.operator.version <= newest:
        return None
    return f"{case.operator.name} version {case.operator.version}; compiler 16.0 knows it up to {newest}"


def _dtype(case: Case) -> str | None:
    weights = [tensor for tensor in case.inputs[:2] if tensor and tensor.dtype.startswith(("float", "bfloat"))]
    return first(
        [*case.activations, *weights], lambda tensor: tensor.dtype not in ("int8", "uint8"), "is not int8 or uint8"
    )


def _unquantised(case: Case) -> str | None:
    return first(
        case.activations,
        lambda tensor: tensor.dtype in ("int8", "uint8") and len(tensor.scales) != 1,
        "has no scale, or one for each channel: not quantised for the Edge TPU",
    )


def _dimensions(case: Case) -> str | None:
    for tensor in case.activations:
        outer = tensor.shape[:-3]
        if any(n > 1 for n in outer):
            batch = f"a batch of {outer[0]}; " if len(outer) == 1 else ""
            return f"{named(tensor)}: {batch}of more than three dimensions only the inner three may be larger than 1"
    return None


def _computed_parameters(case: Case) -> str | None:
    positions = {"TRANSPOSE_CONV": (0, 1, 3)}.get(case.operator.name, (1, 2))
    tensors = [tensor for position in positions if (tensor := case.input(position))]
    return first(tensors, lambda tensor: not tensor.buffer_bytes, "is computed, not constant")


def _computed_arguments(case: Case) -> str | None:
    tensors = case.inputs[:1] if case.operator.name == "SPLIT" else case.inputs[1:]
    return first([t for t in tensors if t], lambda tensor: not tensor.buffer_bytes, "is computed, not constant")


def _fused(case: Case) -> str | None:
    slot = 1 if case.operator.name == "CONCATENATION" else 5
    code = case.operator.options.int8(slot)
    names = {1: "RELU", 2: "RELU_N1_TO_1", 3: "RELU6", 4: "TANH", 5: "SIGN_BIT"}
    return f"{names.get(code, code)} fused into {case.operator.name}" if code else None


def _constant_part(case: Case) -> str | None:
    constants = [(tensor, case.values(i)) for i, tensor in enumerate(case.inputs) if tensor and tensor.buffer_bytes]
    for tensor, values in constants:
        zero = tensor.zero_points[0] if tensor.zero_points else 0
        if len(case.inputs) != 2 or values is None or (values != zero).any():
            return f"{named(tensor)} is a constant, one of {len(case.inputs)} parts, or not all zeros"
    return None


def _pool(case: Case) -> int:
    return case.operator.options.int32(3) * case.operator.options.int32(4)


def _pool_size(least: int, below: float) -> Callable[[Case], str | None]:
    def broken(case: Case) -> str | None:
        width, height = case.operator.options.int32(3), case.operator.options.int32(4)
        return f"a pool of ({height}, {width}) to {named(case.outputs[0])}" if least < _pool(case) <= below else None

    return broken


def _dilation(case: Case) -> str | None:
    slots = (5, 6) if case.operator.name == "DEPTHWISE_CONV_2D" else (4, 5)
    x, y = (case.operator.options.int32(slot, 1) for slot in slots)
    return f"dilation {y} in y and {x} in x" if x != y else None


def _dense_format(case: Case) -> str | None:
    return "weights in the shuffled format" if case.operator.options.int8(1) else None


def _dense_output(case: Case) -> str | None:
    return first(
        case.outputs[:1], lambda tensor: any(n > 1 for n in tensor.shape[:-1]), "is more than one vector (a batch)"
    )


def _reduced_axes(case: Case) -> tuple[tuple[int, ...], set[int]]:
    tensor = case.inputs[0]
    shape = tensor.shape if tensor else ()
    return shape, case.axes(1, len(shape)) or set()


def _reduced_batch(case: Case) -> str | None:
    shape, axes = _reduced_axes(case)
    return f"reduces axis 0 of {list(shape)}, the batch" if len(shape) == 4 and 0 in axes else None


def _mean_channels(case: Case) -> str | None:
    shape, axes = _reduced_axes(case)
    return f"mean over {shape[-1]} channels" if shape and len(shape) - 1 in axes and shape[-1] % 4 else None


def _mean_area(case: Case) -> str | None:
    shape, axes = _reduced_axes(case)
    area = int(np.prod([shape[axis] for axis in axes if axis < len(shape)], dtype=object))
    return f"mean over {area} values of {list(shape)}" if area > LARGE_MEAN else None


def _packed_batch(case: Case) -> str | None:
    axis, rank = case.operator.options.int32(1), len(case.outputs[0].shape)
    return "packs along axis 0, the batch" if axis % max(rank, 1) == 0 else None


def _padded_batch(case: Case) -> str | None:
    pads = case.values(1)
    if pads is None or pads.ndim != 2 or len(pads) < 4:
        return None
    return f"pads the batch by {pads[0].tolist()}" if pads[:-3].any() else None


def _pad_before_add(case: Case) -> str | None:
    return "its output goes into an ADD" if "ADD" in case.readers.get(case.operator.outputs[0], ()) else None


def _alpha(case: Case) -> str | None:
    alpha = case.input(1)
    if alpha is None or all(n == 1 for n in alpha.shape[:-1]):
        return None
    return f"alpha {list(alpha.shape)} differs between positions"


def _split_batch(case: Case) -> str | None:
    tensor = case.input(1)
    rank = len(tensor.shape) if tensor else 0
    return "splits axis 0, the batch" if rank == 4 and 0 in (case.axes(0, rank) or set()) else None


def _softmax(case: Case) -> str | None:
    tensor = case.inputs[0]
    if tensor is None or (all(n == 1 for n in tensor.shape[:-1]) and size(tensor) <= SOFTMAX_VALUES):
        return None
    return f"{named(tensor)} is not one vector of at most {SOFTMAX_VALUES} values"


def _squeezed(case: Case) -> str | None:
    shape, squeezed = (case.inputs[0] or case.outputs[0]).shape, case.outputs[0].shape
    dropped = len(shape) - len(squeezed)
    if shape[dropped:] == squeezed and all(n == 1 for n in shape[:dropped]):
        return None
    return f"{list(shape)} to {list(squeezed)} drops more than leading ones"


def _strides(case: Case) -> str | None:
    strides, options = case.values(3), case.operator.options
    if strides is None or (strides != 1).any():
        return f"strides {'computed' if strides is None else strides.tolist()}"
    masks = {"ellipsis_mask": options.int32(2), "new_axis_mask": options.int32(3)}
    return next((f"{name} {mask}" for name, mask in masks.items() if mask), None)


def _large(case: Case) -> str | None:
    tensor = max(case.activations, key=size)
    return f"{named(tensor)} is {size(tensor) / 1024:.0f} KiB" if size(tensor) > LARGE_BYTES else None


def _always(reason: str) -> Callable[[Case], str | None]:
    return lambda case: reason


POOLS = ("AVERAGE_POOL_2D", "MAX_POOL_2D")
REDUCERS = ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN")
WITH_PARAMETERS = (*CONVOLUTIONS, "FULLY_CONNECTED", "TRANSPOSE_CONV")
WITH_ARGUMENTS = ("PAD", "RESHAPE", "STRIDED_SLICE", "SLICE", "SPLIT", "TRANSPOSE", "EXPAND_DIMS", *REDUCERS)

RULES = (
    Rule("operator", (), NOT_MAPPED, _unlisted,
         "replace it, or move it to the host, before or after the network", "documented", CORAL),
    Rule("version", (), REFUSED, _version,
         "convert with the options that give the older version, such as full int8 and no grouped convolution",
         "reported", f"{issue(631, 845)}; {REGISTER}"),
    Rule("dynamic shape", (), REFUSED,
         lambda case: first(case.activations, lambda tensor: tensor.dynamic, "has a size open until it runs"),
         "give every input a fixed shape before conversion, batch 1", "documented", f"{CORAL}; {issue(829)}"),
    Rule("data type", (), NOT_MAPPED, _dtype,
         "quantise it: int8 weights and activations, inputs and outputs included", "documented", CORAL),
    Rule("quantisation", (), NOT_MAPPED, _unquantised,
         "quantise every activation with one scale for the tensor", "documented", CORAL),
    Rule("dimensions", (), NOT_MAPPED, _dimensions,
         "export with batch 1, and at most three dimensions larger than 1", "documented", f"{CORAL}; {AXIS_TIPS}"),
    Rule("variable", (), NOT_MAPPED,
         lambda case: None if case.operator.name == "UNIDIRECTIONAL_SEQUENCE_LSTM" else first(
             [tensor for tensor in case.inputs if tensor], lambda tensor: tensor.is_variable, "is a variable"),
         "pass state in and out as tensors", "documented", CORAL),
    Rule("parameters", WITH_PARAMETERS, NOT_MAPPED, _computed_parameters,
         "make weights and biases constants", "documented", CORAL),
    Rule("arguments", WITH_ARGUMENTS, NOT_MAPPED, _computed_arguments,
         "make shapes, axes and paddings constants: sizes must be known when compiling", "documented", CORAL),
    Rule("fused activation", (*POOLS, "CONCATENATION"), NOT_MAPPED, _fused,
         "put the activation into the convolution before it, or make it an operator of its own", "documented", CORAL),
    Rule("constant part", ("CONCATENATION",), NOT_MAPPED, _constant_part,
         "concatenate a constant with one other tensor only, and only zeros: or use PAD", "documented", CORAL),
    Rule("pool size", POOLS, NOT_MAPPED, _pool_size(UNSEEN_POOL, float("inf")),
         "use several smaller pools in turn, or return the map and take the maximum on the host", "inferred",
         f"{issue(686)}: pools are left on the CPU by size, no limit is published; "
         f"no report shows one over {UNSEEN_POOL} values mapped"),
    Rule("large pool", POOLS, MAY_NOT_MAP, _pool_size(LARGE_POOL, UNSEEN_POOL),
         "use two smaller pools in turn", "inferred", f"{issue(686)}; 8 x 8 is what Coral's own models have"),
    Rule("dilation", CONVOLUTIONS, NOT_MAPPED, _dilation,
         "use the same dilation in time and frequency", "documented", AXIS),
    Rule("weights format", ("FULLY_CONNECTED",), NOT_MAPPED, _dense_format,
         "convert with the default weights format", "documented", CORAL),
    Rule("one vector", ("FULLY_CONNECTED",), NOT_MAPPED, _dense_output,
         "use CONV_2D 1x1 where positions share a dense layer; batch 1", "documented", CORAL),
    Rule("reduced batch", REDUCERS, NOT_MAPPED, _reduced_batch,
         "reduce time, frequency or channels, not the batch", "documented", AXIS),
    Rule("mean over channels", ("MEAN",), NOT_MAPPED, _mean_channels,
         "make the channels a multiple of 4", "documented", AXIS),
    Rule("large mean", ("MEAN",), MAY_NOT_MAP, _mean_area,
         f"split the tensor into parts of at most {LARGE_MEAN} values and take the mean of their means", "reported",
         f"{issue(461)}: 256 x 128 was left on the CPU, four times 64 x 128 mapped"),
    Rule("packed batch", ("PACK",), NOT_MAPPED, _packed_batch, "pack along an inner axis", "documented", AXIS),
    Rule("padded batch", ("PAD",), NOT_MAPPED, _padded_batch, "do not pad the batch", "documented", AXIS),
    Rule("pad before add", ("PAD",), MAY_NOT_MAP, _pad_before_add,
         "choose sizes that need no padding before the addition", "reported", issue(690)),
    Rule("alpha", ("PRELU",), NOT_MAPPED, _alpha,
         "share alpha over time and frequency: tf.keras.layers.PReLU(shared_axes=[1, 2])", "documented", AXIS),
    Rule("large reshape", ("RESHAPE",), MAY_NOT_MAP, _large, "reshape on the host", "documented",
         f"{AXIS} (without a number; {LARGE_BYTES // 1024} KiB is ours, from {issue(512)})"),
    Rule("large tensor", ("CONCATENATION", *POOLS, "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"), MAY_NOT_MAP, _large,
         "use smaller tensors: fewer channels, or a smaller input", "inferred",
         f"{issue(309, 686)}: left on the CPU for their size (60 x 152 x 90 was too large); {LARGE_BYTES // 1024} KiB "
         "is ours"),
    Rule("resize", ("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"), MAY_NOT_MAP,
         _always("depends on its sizes, to avoid loss of precision"), "compile it and see", "documented", CORAL),
    Rule("softmax", ("SOFTMAX",), NOT_MAPPED, _softmax, "take the softmax on the host", "documented", CORAL),
    Rule("split batch", ("SPLIT",), NOT_MAPPED, _split_batch, "split an inner axis", "documented", AXIS),
    Rule("squeeze", ("SQUEEZE",), NOT_MAPPED, _squeezed, "use RESHAPE, or drop leading ones only", "documented", CORAL),
    Rule("strides", ("STRIDED_SLICE",), NOT_MAPPED, _strides,
         "slice with stride 1 and name every axis; for every second row use a convolution or pool with a stride",
         "documented", f"{CORAL}; {issue(828)}"),
    Rule("transpose", ("TRANSPOSE",), MAY_NOT_MAP, _always("compiler 15 maps none, 16 some"),
         "keep one layout throughout", "reported", issue(342, 433)),
    Rule("transposed convolution", ("TRANSPOSE_CONV",), MAY_NOT_MAP,
         _always("strides over 1 and large ones were left on the CPU"), "resize, then convolve", "reported",
         issue(509, 686)),
)  # fmt: skip
