"""What a TFLite flatbuffer says about itself, without an interpreter: tensors, operators, signatures.

Layout: https://flatbuffers.dev/internals/. Fields: tensorflow/compiler/mlir/lite/schema/schema.fbs of TensorFlow 2.21
(the slot numbers below), and the types LiteRT 2.3 added. Fields added later are ignored; operators added later get a
number for a name.

The bytes are untrusted: `l3edge.bounded` checks every offset and bounds the work, nothing recurses on data, and
whatever is wrong raises ModelFileError. Values of weights are not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from .arrays import NDArray
from .bounded import Number, Reader
from .errors import ModelFileError

IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3

# TensorType, in numeric order.
DTYPES = tuple(
    """
    float32 float16 int32 uint8 int64 string bool int16 complex64 int8 float64 complex128 uint64 resource variant
    uint32 uint16 int4 bfloat16 int2 uint4 float8_e4m3fn float8_e5m2
    """.split()  # noqa: SIM905 (a literal is twenty lines longer)
)

# BuiltinOperator, in numeric order.
OPERATORS = tuple(
    """
    ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE EMBEDDING_LOOKUP FLOOR
    FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D LOCAL_RESPONSE_NORMALIZATION LOGISTIC LSH_PROJECTION
    LSTM MAX_POOL_2D MUL RELU RELU_N1_TO_1 RELU6 RESHAPE RESIZE_BILINEAR RNN SOFTMAX SPACE_TO_DEPTH SVDF TANH
    CONCAT_EMBEDDINGS SKIP_GRAM CALL CUSTOM EMBEDDING_LOOKUP_SPARSE PAD UNIDIRECTIONAL_SEQUENCE_RNN GATHER
    BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND TRANSPOSE MEAN SUB DIV SQUEEZE UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE
    BIDIRECTIONAL_SEQUENCE_RNN EXP TOPK_V2 SPLIT LOG_SOFTMAX DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM CAST PRELU MAXIMUM
    ARG_MAX MINIMUM LESS NEG PADV2 GREATER GREATER_EQUAL LESS_EQUAL SELECT SLICE SIN TRANSPOSE_CONV SPARSE_TO_DENSE TILE
    EXPAND_DIMS EQUAL NOT_EQUAL LOG SUM SQRT RSQRT SHAPE POW ARG_MIN FAKE_QUANT REDUCE_PROD REDUCE_MAX PACK LOGICAL_OR
    ONE_HOT LOGICAL_AND LOGICAL_NOT UNPACK REDUCE_MIN FLOOR_DIV REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD RANGE
    RESIZE_NEAREST_NEIGHBOR LEAKY_RELU SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL REVERSE_V2 ADD_N GATHER_ND
    COS WHERE RANK ELU REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG ROUND HARD_SWISH IF WHILE
    NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 SCATTER_ND SELECT_V2 DENSIFY SEGMENT_SUM BATCH_MATMUL
    PLACEHOLDER_FOR_GREATER_OP_CODES CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D IMAG REAL COMPLEX_ABS HASHTABLE
    HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL CONV_3D_TRANSPOSE VAR_HANDLE READ_VARIABLE ASSIGN_VARIABLE
    BROADCAST_ARGS RANDOM_STANDARD_NORMAL BUCKETIZE RANDOM_UNIFORM MULTINOMIAL GELU DYNAMIC_UPDATE_SLICE RELU_0_TO_1
    UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_SUM ATAN2 UNSORTED_SEGMENT_MIN SIGN BITCAST BITWISE_XOR
    RIGHT_SHIFT STABLEHLO_LOGISTIC STABLEHLO_ADD STABLEHLO_DIVIDE STABLEHLO_MULTIPLY STABLEHLO_MAXIMUM STABLEHLO_RESHAPE
    STABLEHLO_CLAMP STABLEHLO_CONCATENATE STABLEHLO_BROADCAST_IN_DIM STABLEHLO_CONVOLUTION STABLEHLO_SLICE
    STABLEHLO_CUSTOM_CALL STABLEHLO_REDUCE STABLEHLO_ABS STABLEHLO_AND STABLEHLO_COSINE STABLEHLO_EXPONENTIAL
    STABLEHLO_FLOOR STABLEHLO_LOG STABLEHLO_MINIMUM STABLEHLO_NEGATE STABLEHLO_OR STABLEHLO_POWER STABLEHLO_REMAINDER
    STABLEHLO_RSQRT STABLEHLO_SELECT STABLEHLO_SUBTRACT STABLEHLO_TANH STABLEHLO_SCATTER STABLEHLO_COMPARE
    STABLEHLO_CONVERT STABLEHLO_DYNAMIC_SLICE STABLEHLO_DYNAMIC_UPDATE_SLICE STABLEHLO_PAD STABLEHLO_IOTA
    STABLEHLO_DOT_GENERAL STABLEHLO_REDUCE_WINDOW STABLEHLO_SORT STABLEHLO_WHILE STABLEHLO_GATHER STABLEHLO_TRANSPOSE
    DILATE STABLEHLO_RNG_BIT_GENERATOR REDUCE_WINDOW STABLEHLO_COMPOSITE STABLEHLO_SHIFT_LEFT STABLEHLO_CBRT
    STABLEHLO_CASE
    """.split()  # noqa: SIM905
)

CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")  # input 1 is the kernel
CUSTOM = OPERATORS.index("CUSTOM")


class Tensor(NamedTuple):
    """One tensor: `shape` as stored; `dynamic` where the model leaves a dimension open (stored as 1)."""

    name: str
    shape: tuple[int, ...]
    dynamic: bool
    dtype: str
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    quantized_dimension: int
    buffer_bytes: int  # 0: not a constant
    buffer: int
    is_variable: bool


class Options:
    """The builtin_options table of one operator, by slot number; an absent field has its default."""

    def __init__(self, reader: Reader | None = None, table: int = 0) -> None:
        self._reader, self._table = reader, table

    def int8(self, slot: int, default: int = 0) -> int:
        """A byte: enumerations such as Padding and ActivationFunctionType."""
        return self._get(slot, "b", default)

    def int32(self, slot: int, default: int = 0) -> int:
        """An int, such as stride_w."""
        return self._get(slot, "i", default)

    def bool(self, slot: int, default: bool = False) -> bool:
        """A bool, such as keep_dims."""
        return self._get(slot, "?", default)

    def _get(self, slot: int, code: str, default: Number) -> Number:
        return default if self._reader is None else self._reader.scalar(self._table, slot, code, default)


class Operator(NamedTuple):
    """One operator. `name` is the builtin's, such as "CONV_2D", or a custom one's code; -1 is an input left out."""

    name: str
    custom: bool
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Options


class Subgraph(NamedTuple):
    """Tensors, and operators in the order they run; inputs and outputs are tensor indices."""

    name: str
    tensors: tuple[Tensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: tuple[Operator, ...]


class Signature(NamedTuple):
    """Names of a subgraph's inputs and outputs, each with its tensor index."""

    subgraph: int
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]


class Model(NamedTuple):
    """A whole file; `buffers` are views of the parsed bytes, empty where a tensor is no constant."""

    subgraphs: tuple[Subgraph, ...]
    signatures: Mapping[str, Signature]
    buffers: tuple[memoryview, ...]

    def constant(self, tensor: Tensor) -> NDArray[np.generic] | None:
        """The values of a constant tensor in its shape, or None where it is none or has no NumPy dtype."""
        if not tensor.buffer_bytes or tensor.dtype not in np.sctypeDict:
            return None
        values = self.buffers[tensor.buffer]
        dtype = np.dtype(tensor.dtype).newbyteorder("<")
        count = int(np.prod(tensor.shape, dtype=object))
        if len(values) != count * dtype.itemsize:
            raise ModelFileError(f"tensor {tensor.name!r} has {len(values)} bytes for {count} values of {dtype}")
        return np.frombuffer(values, dtype).reshape(tensor.shape)


def parse(data: bytes) -> Model:
    """Read a TFLite flatbuffer; what follows it in `data`, such as an appended zip, is ignored.

    Raises ModelFileError, saying what is wrong, for anything that is not a whole and consistent model.
    """
    reader = Reader(data)
    if data[4:8] != IDENTIFIER:
        raise ModelFileError("not a TFLite model (a .tflite flatbuffer has TFL3 in bytes 4 to 8)")
    root = reader.table(reader.number(0, "I"))
    version = reader.scalar(root, 0, "I", 0)
    if version != SCHEMA_VERSION:
        raise ModelFileError(f"TFLite schema version {version}, expected {SCHEMA_VERSION}")
    buffers = tuple(_buffer(reader, table) for table in reader.tables(root, 4))
    codes = [_code(reader, table) for table in reader.tables(root, 1)]
    subgraphs = tuple(_subgraph(reader, table, codes, buffers) for table in reader.tables(root, 2))
    signatures: dict[str, Signature] = {}
    for table in reader.tables(root, 7):
        key, index = reader.string(table, 2), reader.scalar(table, 4, "I", 0)
        if key in signatures or index >= len(subgraphs):
            raise ModelFileError(f"signature {key!r}: twice, or of subgraph {index} of {len(subgraphs)}")
        names = [_names(reader, table, slot, len(subgraphs[index].tensors)) for slot in (0, 1)]
        signatures[key] = Signature(index, *names)
    return Model(subgraphs, signatures, buffers)


def _buffer(reader: Reader, table: int) -> memoryview:
    offset, size = reader.scalar(table, 1, "Q", 0), reader.scalar(table, 2, "Q", 0)
    if offset > 1 or size > 1:  # outside the flatbuffer, as in models over 2 GB; 0 and 1 are placeholders
        reader.check(offset, size, "a buffer after the flatbuffer")
        return reader.view[offset : offset + size]
    start, count = reader.vector(table, 0, 1)
    return reader.view[start : start + count]


def _code(reader: Reader, table: int) -> tuple[str, bool, int]:
    # Up to code 126 only the deprecated int8 field was written; since then both are, and the larger one counts.
    code = max(reader.scalar(table, 0, "b", 0), reader.scalar(table, 3, "i", 0))
    if code < 0:
        raise ModelFileError(f"builtin operator {code} does not exist")
    name = OPERATORS[code] if code < len(OPERATORS) else f"BUILTIN_{code}"
    custom = code == CUSTOM
    return reader.string(table, 1) if custom else name, custom, reader.scalar(table, 2, "i", 1)


def _subgraph(
    reader: Reader, table: int, codes: list[tuple[str, bool, int]], buffers: tuple[memoryview, ...]
) -> Subgraph:
    tensors = tuple(_tensor(reader, entry, buffers) for entry in reader.tables(table, 0))
    operators = []
    for entry in reader.tables(table, 3):
        index = reader.scalar(entry, 0, "I", 0)
        if index >= len(codes):
            raise ModelFileError(f"operator code {index} of {len(codes)}")
        options = reader.offset(entry, 4)
        operators.append(
            Operator(
                *codes[index],
                reader.indices(entry, 1, len(tensors), lowest=-1),
                reader.indices(entry, 2, len(tensors)),
                Options(reader, reader.table(options)) if options else Options(),
            )
        )
    inputs, outputs = (reader.indices(table, slot, len(tensors)) for slot in (1, 2))
    return Subgraph(reader.string(table, 4), tensors, inputs, outputs, tuple(operators))


def _tensor(reader: Reader, table: int, buffers: tuple[memoryview, ...]) -> Tensor:
    name = reader.string(table, 3)
    code, buffer = reader.scalar(table, 1, "b", 0), reader.scalar(table, 2, "I", 0)
    if not 0 <= code < len(DTYPES):
        raise ModelFileError(f"tensor {name!r} has type {code}, unknown here")
    if buffer >= len(buffers) or reader.scalar(table, 10, "I", 0):
        raise ModelFileError(f"tensor {name!r} has its data in buffer {buffer} of {len(buffers)}, or in another file")
    shape = reader.numbers(table, 0, "i")
    if min(shape, default=0) < 0:
        raise ModelFileError(f"tensor {name!r} has shape {shape}")
    quantisation = reader.offset(table, 4)
    scales, zero_points, dimension = (), (), 0
    if quantisation:
        quantisation = reader.table(quantisation)
        scales = reader.numbers(quantisation, 2, "f")
        zero_points = reader.numbers(quantisation, 3, "q")
        dimension = reader.scalar(quantisation, 6, "i", 0)
    return Tensor(
        name=name,
        shape=shape,
        dynamic=min(reader.numbers(table, 7, "i"), default=0) < 0,
        dtype=DTYPES[code],
        scales=scales,
        zero_points=zero_points,
        quantized_dimension=dimension,
        buffer_bytes=len(buffers[buffer]),
        buffer=buffer,
        is_variable=reader.scalar(table, 5, "?", False),
    )


def _names(reader: Reader, table: int, slot: int, tensors: int) -> dict[str, int]:
    named: dict[str, int] = {}
    for entry in reader.tables(table, slot):
        name, index = reader.string(entry, 0), reader.scalar(entry, 1, "I", 0)
        if name in named or index >= tensors:
            raise ModelFileError(f"signature name {name!r}: twice, or of tensor {index} of {tensors}")
        named[name] = index
    return named
