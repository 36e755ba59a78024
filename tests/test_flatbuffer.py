"""The flatbuffer reader against the interpreter, the installed schema, and bytes nobody should trust."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import l3edge
from l3edge import bounded, flatbuffer

from .conftest import DATA, ENGINES

BUILT_IN = Path(l3edge.__file__).parent / "models" / "edge-m-1.tflite"
FILES = [*sorted(DATA.glob("stub-*.tflite")), BUILT_IN]
STUB = (DATA / "stub-int8.tflite").read_bytes()
SCHEMAS = ("tensorflow.lite.python.schema_py_generated", "ai_edge_litert.schema_py_generated")


def interpreter(name: str, path: Path) -> Any:
    """A bare interpreter: what it says of the tensors is the truth here. XNNPACK would add its own."""
    module = importlib.import_module(
        {"litert": "ai_edge_litert", "tflite_runtime": "tflite_runtime"}[name] + ".interpreter"
    )
    resolver = module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return module.Interpreter(model_path=str(path), experimental_op_resolver_type=resolver)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_agrees_with_the_interpreter(path: Path, engine_name: str) -> None:
    model = flatbuffer.parse(path.read_bytes())
    runs = interpreter(engine_name, path)
    assert {key: (list(s.inputs), list(s.outputs)) for key, s in model.signatures.items()} == {
        key: (lists["inputs"], lists["outputs"]) for key, lists in runs.get_signature_list().items()
    }
    for key, signature in model.signatures.items():
        runner = runs.get_signature_runner(key)
        tensors = model.subgraphs[signature.subgraph].tensors
        for ours, theirs in (
            (signature.inputs, runner.get_input_details()),
            (signature.outputs, runner.get_output_details()),
        ):
            assert ours == {name: detail["index"] for name, detail in theirs.items()}
            for name, detail in theirs.items():
                agree(tensors[ours[name]], detail)
    # get_tensor_details lists the first subgraph, and may leave tensors out.
    details = {detail["index"]: detail for detail in runs.get_tensor_details()}
    first = model.subgraphs[0]
    assert [detail["index"] for detail in runs.get_input_details()] == list(first.inputs)
    assert [detail["index"] for detail in runs.get_output_details()] == list(first.outputs)
    known = [index for index in range(len(first.tensors)) if index in details]
    assert len(known) > len(first.tensors) // 2
    for index in known:
        agree(first.tensors[index], details[index])


def agree(tensor: flatbuffer.Tensor, detail: dict[str, Any]) -> None:
    assert tensor.name == detail["name"]
    assert tensor.shape == tuple(detail["shape"])
    assert tensor.dynamic == bool((detail["shape_signature"] < 0).any())
    assert tensor.dtype == np.dtype(detail["dtype"]).name
    quantisation = detail["quantization_parameters"]
    assert tensor.scales == tuple(quantisation["scales"].tolist())
    assert tensor.zero_points == tuple(quantisation["zero_points"].tolist())
    assert tensor.quantized_dimension == quantisation["quantized_dimension"]


@pytest.mark.skipif(not ENGINES, reason="no engine installed")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_constants_are_those_of_the_interpreter(path: Path) -> None:
    model = flatbuffer.parse(path.read_bytes())
    runs = interpreter(ENGINES[0], path)
    runs.allocate_tensors()
    constants = [(i, t) for i, t in enumerate(model.subgraphs[0].tensors) if t.buffer_bytes]
    assert constants
    for index, tensor in constants:
        np.testing.assert_array_equal(model.constant(tensor), runs.get_tensor(index))


def test_operators_and_their_options() -> None:
    """What the stub's graph is known to hold: 3x3 convolutions with stride 1, 2x2 pools, ReLU fused into most."""
    model = flatbuffer.parse(STUB)
    for subgraph in model.subgraphs:
        convolutions = [op for op in subgraph.operators if op.name == "CONV_2D"]
        assert len(convolutions) == 8
        for op in convolutions:
            kernel = subgraph.tensors[op.inputs[1]]
            assert kernel.shape[1:3] == (3, 3)
            assert kernel.buffer_bytes == np.prod(kernel.shape)
            assert len(kernel.scales) == kernel.shape[kernel.quantized_dimension]
            assert op.version >= 1
            assert not op.custom
            assert [op.options.int32(slot) for slot in (1, 2)] == [1, 1]  # Conv2DOptions: stride_w, stride_h
            assert [op.options.int32(slot, 1) for slot in (4, 5)] == [1, 1]  # dilation: absent, 1 by default
            assert op.options.int8(3) in (0, 1)  # fused_activation_function: NONE, RELU
            assert op.options.bool(60, True) is True  # far beyond what the table has
        pools = [op for op in subgraph.operators if op.name == "MAX_POOL_2D"]
        assert {tuple(op.options.int32(slot) for slot in (1, 2, 3, 4)) for op in pools} >= {(2, 2, 2, 2)}


@pytest.mark.parametrize("module", SCHEMAS)
def test_names_are_those_of_the_schema(module: str) -> None:
    schema = pytest.importorskip(module, reason=f"{module} is not in this environment")
    assert numbers(schema.BuiltinOperator) == dict(enumerate(flatbuffer.OPERATORS))
    types = numbers(schema.TensorType)
    assert len(types) >= 21  # LiteRT has more than TensorFlow 2.21
    assert types == {n: flatbuffer.DTYPES[n].upper() for n in range(len(types))}


def numbers(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in inspect.getmembers(enumeration) if type(value) is int}


def read(data: bytes) -> None:
    """Parse, and read every option and constant too: a Model or ModelFileError, nothing else."""
    with contextlib.suppress(l3edge.ModelFileError):
        model = flatbuffer.parse(data)
        for subgraph in model.subgraphs:
            for op in subgraph.operators:
                for slot in range(8):
                    op.options.int8(slot), op.options.int32(slot), op.options.bool(slot)
            for tensor in subgraph.tensors:
                model.constant(tensor)


@settings(deadline=None)
@given(st.integers(0, len(STUB)))
@example(0)
@example(8)
def test_truncation(length: int) -> None:
    read(STUB[:length])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(STUB) - 1), st.integers(0, 255)), min_size=1, max_size=20))
def test_changed_bytes(changes: list[tuple[int, int]]) -> None:
    data = bytearray(STUB)
    for place, value in changes:
        data[place] = value
    read(bytes(data))


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(STUB) // 4 - 1), st.sampled_from([0, 1, -1, 1 << 16, (1 << 31) - 1, -(1 << 31)]))
def test_changed_offsets_and_counts(word: int, value: int) -> None:
    data = bytearray(STUB)
    struct.pack_into("<i", data, 4 * word, value)
    read(bytes(data))


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_noise(data: bytes) -> None:
    read(data[:4] + flatbuffer.IDENTIFIER + data[4:])


def bomb(tensors: int, name: int) -> bytes:
    """A small file of `tensors` subgraphs, all one table, of `tensors` tensors, all one table, with one long name."""
    words: list[int] = [0, int.from_bytes(flatbuffer.IDENTIFIER, "little")]

    def table(fields: int) -> int:
        """A vtable of `fields` four-byte fields and, after it, the table; its first field is at the next word."""
        entries = [4 + 4 * n for n in range(fields)]
        vtable = struct.pack(f"<{2 + fields}H", 4 + 2 * fields, 4 + 4 * fields, *entries).ljust(
            -(-(fields + 2) // 2) * 4
        )
        words.extend(struct.unpack(f"<{len(vtable) // 4}I", vtable))
        words.extend([len(vtable), *[0] * fields])
        return len(words) - fields - 1

    def point(at: int) -> None:
        words[at] = 4 * (len(words) - at)

    root = table(5)
    words[0], words[root + 1] = 4 * root, flatbuffer.SCHEMA_VERSION
    point(root + 5)
    words.extend([1, 0])
    at = len(words) - 1
    words[at] = 4 * (table(1) - at)
    point(root + 3)
    words.extend([tensors, *[0] * tensors])
    entries = range(len(words) - tensors, len(words))
    subgraph = table(1)
    for at in entries:
        words[at] = 4 * (subgraph - at)
    point(subgraph + 1)
    words.extend([tensors, *[0] * tensors])
    entries = range(len(words) - tensors, len(words))
    tensor = table(4)
    for at in entries:
        words[at] = 4 * (tensor - at)
    point(tensor + 4)
    words.extend([4 * name, *[0x61616161] * name])
    # The root table's second field, and the tensor's first three, are unused offsets: absent, by their vtable entries.
    data = bytearray(struct.pack(f"<{len(words)}I", *words))
    for at, slots in ((root, (1, 3)), (tensor, (0, 1, 2))):
        vtable = 4 * at - words[at]
        for slot in slots:
            struct.pack_into("<H", data, vtable + 4 + 2 * slot, 0)
    return bytes(data)


def test_shared_parts_are_no_bomb() -> None:
    """A flatbuffer may point at one part from many places; what is read stays in proportion to the file."""
    model = flatbuffer.parse(bomb(tensors=2, name=1))
    assert [[tensor.name for tensor in subgraph.tensors] for subgraph in model.subgraphs] == [["aaaa"] * 2] * 2
    with pytest.raises(l3edge.ModelFileError, match="add up to more than the data"):
        flatbuffer.parse(bomb(tensors=100, name=20_000))  # 800 MB of names in 81 kB
    with pytest.raises(l3edge.ModelFileError, match=f"more than {bounded.MOST_TABLES} tables"):
        flatbuffer.parse(bomb(tensors=2000, name=0))  # 4 million tensors in 16 kB


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a TFLite model"),
        (b"RIFF....WAVEfmt ", "not a TFLite model"),
        (STUB[: len(STUB) // 2], "truncated or damaged"),
        (b"\xff\xff\xff\x7f" + STUB[4:], "truncated or damaged"),
    ],
)
def test_errors_say_what_is_wrong(data: bytes, message: str) -> None:
    with pytest.raises(l3edge.ModelFileError, match=message):
        flatbuffer.parse(data)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 1 << 63), st.integers(0, 1 << 63))
def test_buffers_after_the_flatbuffer(offset: int, size: int) -> None:
    """Buffer.offset and size, as in files over 2 GB: followed inside the data, refused outside."""
    data = bytearray(bomb(tensors=1, name=1)).ljust(400, b"\7")
    at = buffer_table(data)
    vtable = len(data)
    data += struct.pack("<HHHHH", 10, 20, 0, 4, 12)
    struct.pack_into("<I", data, at, len(data) - at)
    data += struct.pack("<iQQ", len(data) - vtable, offset, size)
    if offset + size > len(data):
        with pytest.raises(l3edge.ModelFileError, match="truncated or damaged"):
            flatbuffer.parse(bytes(data))
    else:
        assert flatbuffer.parse(bytes(data)).buffers == (data[offset : offset + size],)


def buffer_table(data: bytearray) -> int:
    """Where bomb() has the offset of its only buffer: after the vector's count."""
    root = struct.unpack_from("<I", data)[0]
    field = root + 20
    return field + struct.unpack_from("<I", data, field)[0] + 4
