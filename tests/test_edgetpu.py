"""The Edge TPU checker's verdicts on models made for it, with their reasons, and what `attach` accepts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="TensorFlow is not in the device environment")

import flatbuffers
from tensorflow.lite.python import schema_py_generated as schema

import l3edge
from export import convert as export_convert
from export import edgetpu, edgetpu_report, edgetpu_rules, graph
from export.edgetpu_report import CPU, EDGE_TPU, Report
from export.edgetpu_rules import MAPPED, MAY_NOT_MAP, NOT_MAPPED, REFUSED
from l3edge import flatbuffer, model_file
from l3edge.spec import PRESETS, Spec
from training.backend import tf

from . import make_stub
from .conftest import DATA

# The converter's advice for the older road of quantisation, which nothing here takes.
pytestmark = pytest.mark.filterwarnings("ignore:Statistics for quantized inputs")
ROOT = Path(__file__).parent.parent
RNG = np.random.default_rng(3)


def weights(*shape: int) -> Any:
    return tf.constant(RNG.normal(0, 0.3, shape).astype(np.float32))


def convert(function: Callable[..., Any], *shapes: tuple[int | None, ...], kind: str = "int8") -> bytes:
    """A function as a flatbuffer.

    kind: "int8"; "mixed", int8 inside with float32 inputs and outputs; "float32"; "padding", the same with an int32
    second input; "plain int8", not quantised but of int8 numbers.
    """
    dtypes = {"padding": [tf.float32, tf.int32], "plain int8": [tf.int8]}.get(kind, [tf.float32] * len(shapes))
    specs = [tf.TensorSpec(*pair, name=f"input{i}") for i, pair in enumerate(zip(shapes, dtypes, strict=True))]
    made = tf.function(function, input_signature=specs).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([made], tf.Module())
    if kind in ("int8", "mixed"):
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        sizes = {spec.name: [n or 16 for n in spec.shape] for spec in specs}
        converter.representative_dataset = lambda: (
            {name: RNG.uniform(0.1, 1, size).astype(np.float32) for name, size in sizes.items()} for _ in range(4)
        )
    if kind == "int8":
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    return bytes(converter.convert())


def convert_variable() -> bytes:
    """A sum that stays in the graph."""

    class Sum(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.total = tf.Variable(tf.zeros([1, 4]))

        @tf.function(input_signature=[tf.TensorSpec([1, 4], tf.float32)])
        def __call__(self, x: Any) -> Any:
            return self.total.assign_add(x)

    module = Sum()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.__call__.get_concrete_function()], module)
    return bytes(converter.convert())


def edited(data: bytes, edit: Callable[[Any], None]) -> bytes:
    """A flatbuffer with its object form changed: what no converter makes."""
    model = schema.ModelT.InitFromPackedBuf(data)
    edit(model)
    builder = flatbuffers.Builder(len(data))
    builder.Finish(model.Pack(builder), flatbuffer.IDENTIFIER)
    return bytes(builder.Output())


def shuffle(model: Any) -> None:
    for operator in model.subgraphs[0].operators:
        if operator.builtinOptionsType == schema.BuiltinOptions.FullyConnectedOptions:
            operator.builtinOptions.weightsFormat = 1


def squeeze(model: Any) -> None:
    """SQUEEZE for RESHAPE, as older converters wrote it."""
    model.operatorCodes[0].builtinCode = model.operatorCodes[0].deprecatedBuiltinCode = schema.BuiltinOperator.SQUEEZE
    operator = model.subgraphs[0].operators[0]
    operator.inputs, operator.builtinOptions, operator.builtinOptionsType = operator.inputs[:1], None, 0


def make_variable(model: Any) -> None:
    model.subgraphs[0].tensors[model.subgraphs[0].inputs[1]].isVariable = True


def prelu(x: Any, alpha: Any) -> Any:
    """As tf.keras.layers.PReLU writes it, which the converter makes one operator."""
    return tf.nn.relu(x) + -alpha * tf.nn.relu(-x)


def conv(x: Any, filters: int, kernel: int = 3, **options: Any) -> Any:
    options = {"strides": 1, "padding": "VALID", **options}
    return tf.nn.relu(tf.nn.conv2d(x, weights(kernel, kernel, x.shape[-1], filters), **options) + weights(filters))


def step(log_mel: Any, *states: Any) -> list[Any]:
    """What `--target edgetpu` exports, with fewer layers: states in front, rows kept as the next states."""
    x, kept = log_mel, []
    for number, state in enumerate(states):
        x = tf.concat([state, x], 1)
        kept.append(x[:, -2:])
        x = conv(tf.pad(x, [[0, 0], [0, 0], [1, 1], [0, 0]]), 8)
        if number % 2:
            x = tf.nn.max_pool2d(x, 2, 2, "VALID")
    return [tf.reshape(tf.nn.max_pool2d(x, (1, 16), (1, 16), "VALID"), [1, 2, 8]), *kept]


STATES = [(1, 2, 64, 1), (1, 2, 64, 8), (1, 2, 32, 8), (1, 2, 32, 8)]

# name: (made, verdict, operator at which the graph is cut or None, findings as operator, rule, part of the reason)
Expected = tuple[Callable[[], bytes], str, str | None, list[tuple[str, str, str]]]
MODELS: dict[str, Expected] = {
    "streaming step": (lambda: convert(step, (1, 8, 64, 1), *STATES), MAPPED, None, []),
    "classifier": (
        lambda: convert(lambda x: tf.nn.softmax(tf.reshape(conv(x, 4), [1, 576]) @ weights(576, 10)), (1, 14, 14, 1)),
        MAPPED,
        None,
        [],
    ),
    "depthwise and mean": (
        lambda: convert(
            lambda x: tf.reduce_mean(tf.nn.depthwise_conv2d(x, weights(3, 3, 8, 1), [1, 1, 1, 1], "SAME"), [1, 2]),
            (1, 16, 16, 8),
        ),
        MAPPED,
        None,
        [],
    ),
    "FFT in the graph": (
        lambda: convert(lambda x: tf.abs(tf.signal.rfft(x)), (1, 64), kind="float32"),
        NOT_MAPPED,
        "RESHAPE",
        [
            ("RFFT2D", "operator", "RFFT2D is not among the operators of the Edge TPU"),
            ("COMPLEX_ABS", "operator", "COMPLEX_ABS is not among"),
            ("RESHAPE", "data type", "float32 [1, 64] is not int8 or uint8"),
        ],
    ),
    "dynamic shape": (
        lambda: convert(lambda x: conv(x, 4), (1, None, 16, 2)),
        REFUSED,
        None,
        [("CONV_2D", "dynamic shape", "has a size open until it runs")],
    ),
    "float operators": (
        lambda: convert(lambda x: conv(x, 4), (1, 16, 16, 2), kind="float32"),
        NOT_MAPPED,
        "CONV_2D",
        [("CONV_2D", "data type", "float32 [1, 16, 16, 2] is not int8 or uint8")],
    ),
    "float inputs": (
        lambda: convert(lambda x: conv(x, 4), (1, 16, 16, 2), kind="mixed"),
        NOT_MAPPED,
        "DEQUANTIZE",
        [("QUANTIZE", "data type", "float32"), ("DEQUANTIZE", "operator", "DEQUANTIZE is not among")],
    ),
    "a float operator inside": (
        lambda: convert(lambda x: conv(tf.sin(conv(x, 4)), 4), (1, 16, 16, 2), kind="mixed"),
        NOT_MAPPED,
        "DEQUANTIZE",
        [("SIN", "operator", "SIN is not among")],
    ),
    "pool of (32, 24)": (
        lambda: convert(lambda x: tf.nn.max_pool2d(conv(x, 4), (32, 24), (32, 24), "VALID"), (1, 34, 26, 1)),
        NOT_MAPPED,
        "MAX_POOL_2D",
        [("MAX_POOL_2D", "pool size", "a pool of (32, 24)")],
    ),
    "pool of (12, 12)": (
        lambda: convert(lambda x: tf.nn.avg_pool2d(x, 12, 12, "VALID"), (1, 24, 24, 4)),
        MAY_NOT_MAP,
        None,
        [("AVERAGE_POOL_2D", "large pool", "a pool of (12, 12)")],
    ),
    "batch of 4": (
        lambda: convert(lambda x: conv(x, 4), (4, 16, 16, 2)),
        NOT_MAPPED,
        "CONV_2D",
        [("CONV_2D", "dimensions", "a batch of 4")],
    ),
    "dense layer on two rows": (
        lambda: convert(lambda x: x @ weights(16, 8) + weights(8), (2, 16)),
        NOT_MAPPED,
        "FULLY_CONNECTED",
        [("FULLY_CONNECTED", "one vector", "is more than one vector (a batch)")],
    ),
    "activation fused into a pool": (
        lambda: convert(lambda x: tf.nn.relu6(tf.nn.max_pool2d(x, 2, 2, "VALID")), (1, 16, 16, 4)),
        NOT_MAPPED,
        "MAX_POOL_2D",
        [("MAX_POOL_2D", "fused activation", "RELU6 fused into MAX_POOL_2D")],
    ),
    "constant concatenated": (
        lambda: convert(lambda x: tf.concat([conv(x, 4), tf.ones([1, 14, 14, 4])], 3), (1, 16, 16, 2)),
        NOT_MAPPED,
        "CONCATENATION",
        [("CONCATENATION", "constant part", "not all zeros")],
    ),
    "zeros concatenated": (
        lambda: convert(lambda x: tf.concat([conv(x, 4), tf.zeros([1, 14, 14, 4])], 3), (1, 16, 16, 2)),
        MAPPED,
        None,
        [],
    ),
    "every second row": (
        lambda: convert(lambda x: conv(x, 4)[:, ::2], (1, 16, 16, 2)),
        NOT_MAPPED,
        "STRIDED_SLICE",
        [("STRIDED_SLICE", "strides", "strides [1, 2, 1, 1]")],
    ),
    "uneven dilation": (
        lambda: convert(
            lambda x: tf.nn.depthwise_conv2d(x, weights(3, 3, 4, 1), [1, 1, 1, 1], "VALID", dilations=[1, 2]),
            (1, 16, 16, 4),
        ),
        NOT_MAPPED,
        "DEPTHWISE_CONV_2D",
        [("DEPTHWISE_CONV_2D", "dilation", "dilation 1 in y and 2 in x")],
    ),
    "leaky ReLU": (
        lambda: convert(lambda x: tf.nn.leaky_relu(conv(x, 4) - 0.5), (1, 16, 16, 2)),
        NOT_MAPPED,
        "LEAKY_RELU",
        [("LEAKY_RELU", "operator", "LEAKY_RELU is not among")],
    ),
    "grouped convolution": (
        lambda: convert(lambda x: tf.nn.conv2d(x, weights(3, 3, 2, 8), 1, "VALID"), (1, 16, 16, 4)),
        REFUSED,
        None,
        [("CONV_2D", "version", "CONV_2D version 6; compiler 16.0 knows it up to 5")],
    ),
    "computed weights": (
        lambda: convert(lambda x, w: tf.nn.conv2d(x, w, 1, "VALID"), (1, 16, 16, 2), (3, 3, 2, 4)),
        NOT_MAPPED,
        "TRANSPOSE",
        [("CONV_2D", "parameters", "is computed, not constant")],
    ),
    "mean over 6 channels": (
        lambda: convert(lambda x: tf.reduce_mean(conv(x, 6), 3), (1, 16, 16, 2)),
        NOT_MAPPED,
        "MEAN",
        [("MEAN", "mean over channels", "mean over 6 channels")],
    ),
    "mean over a large map": (
        lambda: convert(lambda x: tf.reduce_mean(x, [1, 2]), (1, 256, 128, 3)),
        MAY_NOT_MAP,
        None,
        [("MEAN", "large mean", "mean over 32768 values")],
    ),
    "transpose": (
        lambda: convert(lambda x: tf.transpose(conv(x, 4), [0, 2, 1, 3]), (1, 16, 12, 2)),
        MAY_NOT_MAP,
        None,
        [("TRANSPOSE", "transpose", "maps none")],
    ),
    "large reshape": (
        lambda: convert(lambda x: tf.reshape(conv(x, 16), [1, 126 * 254, 16]), (1, 128, 256, 1)),
        MAY_NOT_MAP,
        None,
        [("RESHAPE", "large reshape", "is 500 KiB")],
    ),
    "padding before an addition": (
        lambda: convert(lambda x: tf.pad(conv(x, 2), [[0, 0], [1, 1], [1, 1], [0, 0]]) + x, (1, 16, 16, 2)),
        MAY_NOT_MAP,
        None,
        [("PAD", "pad before add", "goes into an ADD")],
    ),
    "padded batch": (
        lambda: convert(lambda x: tf.pad(x, [[0, 1], [0, 0], [0, 0], [0, 0]]), (1, 16, 16, 2)),
        NOT_MAPPED,
        "PAD",
        [("PAD", "padded batch", "pads the batch by [0, 1]"), ("PAD", "dimensions", "a batch of 2")],
    ),
    "mean of a batch": (
        lambda: convert(lambda x: tf.reduce_mean(x, 0), (4, 16, 16, 4)),
        NOT_MAPPED,
        "MEAN",
        [("MEAN", "reduced batch", "reduces axis 0 of [4, 16, 16, 4]"), ("MEAN", "dimensions", "a batch of 4")],
    ),
    "packed batch": (
        lambda: convert(lambda x, y: tf.stack([x, y]), (8, 4), (8, 4)),
        NOT_MAPPED,
        "PACK",
        [("PACK", "packed batch", "packs along axis 0")],
    ),
    "split batch": (
        lambda: convert(lambda x: tf.split(x, 2, 0), (2, 16, 16, 4)),
        NOT_MAPPED,
        "SPLIT",
        [("SPLIT", "split batch", "splits axis 0"), ("SPLIT", "dimensions", "a batch of 2")],
    ),
    "PReLU for each position": (
        lambda: convert(lambda x: prelu(x, weights(16, 16, 4)), (1, 16, 16, 4)),
        NOT_MAPPED,
        "PRELU",
        [("PRELU", "alpha", "alpha [16, 16, 4] differs between positions")],
    ),
    "PReLU for each channel": (
        lambda: convert(lambda x: prelu(x, weights(1, 1, 4)), (1, 16, 16, 4)),
        MAPPED,
        None,
        [],
    ),
    "an inner one squeezed": (
        lambda: edited(convert(lambda x: tf.reshape(x, [1, 16, 4]), (1, 16, 1, 4)), squeeze),
        NOT_MAPPED,
        "SQUEEZE",
        [("SQUEEZE", "squeeze", "[1, 16, 1, 4] to [1, 16, 4] drops more than leading ones")],
    ),
    "leading ones squeezed": (
        lambda: edited(convert(lambda x: tf.reshape(x, [16, 4]), (1, 1, 16, 4)), squeeze),
        MAPPED,
        None,
        [],
    ),
    "resize": (
        lambda: convert(lambda x: tf.image.resize(x, (32, 32)), (1, 16, 16, 4)),
        MAY_NOT_MAP,
        None,
        [("RESIZE_BILINEAR", "resize", "depends on its sizes")],
    ),
    "transposed convolution": (
        lambda: convert(lambda x: tf.nn.conv2d_transpose(x, weights(2, 2, 4, 4), (1, 32, 32, 4), 2), (1, 16, 16, 4)),
        MAY_NOT_MAP,
        None,
        [("TRANSPOSE_CONV", "transposed convolution", "strides over 1")],
    ),
    "large concatenation": (
        lambda: convert(lambda x, y: tf.concat([x, y], 3), (1, 60, 152, 45), (1, 60, 152, 45)),
        MAY_NOT_MAP,
        None,
        [("CONCATENATION", "large tensor", "is 802 KiB")],
    ),
    "computed padding": (
        lambda: convert(tf.pad, (1, 16, 16, 2), (4, 2), kind="padding"),
        REFUSED,
        None,
        [("PAD", "arguments", "int32 [4, 2] is computed"), ("PAD", "dynamic shape", "has a size open")],
    ),
    "int8 without a scale": (
        lambda: convert(lambda x: tf.concat([x, x], 1), (1, 16, 2), kind="plain int8"),
        NOT_MAPPED,
        "CONCATENATION",
        [("CONCATENATION", "quantisation", "has no scale")],
    ),
    "state in a variable": (
        convert_variable,
        REFUSED,
        None,
        [("READ_VARIABLE", "operator", "is not among"), ("ASSIGN_VARIABLE", "operator", "is not among")],
    ),
    "shuffled dense weights": (
        lambda: edited(MODELS["classifier"][0](), shuffle),
        NOT_MAPPED,
        "FULLY_CONNECTED",
        [("FULLY_CONNECTED", "weights format", "shuffled")],
    ),
    "variable tensor": (
        lambda: edited(MODELS["streaming step"][0](), make_variable),
        NOT_MAPPED,
        "CONCATENATION",
        [("CONCATENATION", "variable", "is a variable")],
    ),
    "softmax of two rows": (
        lambda: convert(tf.nn.softmax, (2, 10)),
        NOT_MAPPED,
        "SOFTMAX",
        [("SOFTMAX", "softmax", "is not one vector")],
    ),
}


@pytest.fixture(scope="module")
def made() -> dict[str, bytes]:
    return {}


def report_on(made: dict[str, bytes], name: str) -> Report:
    if name not in made:
        made[name] = MODELS[name][0]()
    return edgetpu_report.check(flatbuffer.parse(made[name]), name)


@pytest.mark.parametrize("name", MODELS)
def test_verdicts(made: dict[str, bytes], name: str) -> None:
    _, verdict, cut, findings = MODELS[name]
    report = report_on(made, name)
    text = edgetpu_report.describe(report)
    assert report.verdict == verdict, text
    assert (report.operators[report.cut].operator if report.cut is not None else None) == cut, text
    reasons = [(op.operator, f.rule, f.reason) for op in report.operators for f in op.findings]
    for wanted in findings:
        assert any(wanted[:2] == row[:2] and wanted[2] in row[2] for row in reasons), text
    if verdict in (MAPPED, MAY_NOT_MAP):
        assert {row[:2] for row in reasons} == {row[:2] for row in findings}, text
        assert {op.runs_on for op in report.operators} == {EDGE_TPU}
    elif verdict == REFUSED:
        assert {op.runs_on for op in report.operators} == {CPU}
    elif report.cut is not None:
        before = [op for op in report.operators[: report.cut] if op.verdict in (MAPPED, MAY_NOT_MAP)]
        assert {op.runs_on for op in before} <= {EDGE_TPU}
        assert {op.runs_on for op in report.operators[report.cut :]} == {CPU}


def test_every_rule_is_broken_by_a_model() -> None:
    broken = {rule for _, _, _, findings in MODELS.values() for _, rule, _ in findings}
    assert broken == {rule.name for rule in edgetpu_rules.RULES}


def test_memory_is_what_the_graph_holds(made: dict[str, bytes]) -> None:
    """Counted by hand: a 3x3 convolution of 2 channels to 4 on [1, 16, 16, 2], its bias int32."""
    memory = report_on(made, "batch of 4").memory
    assert memory.parameters == 3 * 3 * 2 * 4 + 4 * 4
    assert memory.activations == 4 * (16 * 16 * 2 + 14 * 14 * 4)
    # [1, 16, 16, 1] + [1, 14, 14, 4], then [1, 14, 14, 4] alone: states are alive from the first operator to the last.
    memory = report_on(made, "streaming step").memory
    assert memory.parameters == 9 * 8 + 3 * 9 * 8 * 8 + 4 * 8 * 4
    states = sum(int(np.prod(shape)) for shape in STATES)
    assert memory.activations > states


def test_memory_beyond_the_chip_is_streamed() -> None:
    mebi = 1 << 20
    assert edgetpu_report.Memory(6 * mebi, 2 * mebi, 0).streamed == 0
    assert edgetpu_report.Memory(6 * mebi, 3 * mebi, 0).streamed == mebi
    assert edgetpu_report.Memory(6 * mebi, 30 * mebi, 0).streamed == 6 * mebi


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest model for the Edge TPU: that of the stubs."""
    return export(make_stub.SPECS["int8"], tmp_path_factory.mktemp("edgetpu") / "m.tflite")


def labels_of(spec: Spec) -> list[str]:
    return [f"value {i}" for i in range(spec.embedding_size)]


def export(spec: Spec, path: Path) -> Path:
    ranges = [(0.0 if layer.relu else -6.0, 6.0) for layer in spec.convolutions]
    network = graph.Network(spec, graph.random_weights(spec.layers, 0), ranges)
    metadata = {"name": "m", "spec": spec.to_json(), "recipe": "int8_ptq", "target": "edgetpu", "parity": {}}
    provenance = {"weights": "random"}
    data = export_convert.convert(network, target="edgetpu")
    model_file.write(path, data, {**metadata, "provenance": provenance, "labels": labels_of(spec)})
    return path


@pytest.mark.parametrize("name", [name for name, spec in PRESETS.items() if spec.streaming])
def test_yes_to_our_own(name: str, tmp_path: Path) -> None:
    report = edgetpu_report.check_file(export(PRESETS[name], tmp_path / "m.tflite"))
    assert report.verdict == MAPPED, edgetpu_report.describe(report)
    assert not report.findings
    weights_and_biases = sum(
        kernel.size + 4 * bias.size for kernel, bias in graph.random_weights(PRESETS[name].layers, 0)
    )
    assert report.memory.parameters == weights_and_biases
    assert report.memory.streamed == 0


def compiled(source: Path, path: Path, edit: Callable[[Any], None] = lambda model: None) -> Path:
    """A stand-in for what edgetpu_compiler writes, as documents show it: one custom operator from inputs to outputs.

    The compiler itself was not at hand; whether it keeps the signatures is not known, so here they are gone.
    """

    def compile_(model: Any) -> None:
        subgraph = model.subgraphs[0]
        code = schema.OperatorCodeT(customCode="edgetpu-custom-op", version=1)
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
        operator = schema.OperatorT(opcodeIndex=0, inputs=subgraph.inputs, outputs=subgraph.outputs)
        operator.customOptions = np.frombuffer(b"the program", np.uint8)
        model.operatorCodes, subgraph.operators, model.signatureDefs = [code], [operator], None
        model.metadata = model.metadataBuffer = None
        edit(model)

    path.write_bytes(edited(model_file.read(source).flatbuffer, compile_))
    return path


def test_attach(exported: Path, tmp_path: Path) -> None:
    made, output = compiled(exported, tmp_path / "m_edgetpu.tflite"), tmp_path / "out.tflite"
    assert edgetpu.attach(made, exported, output) == []
    before, after = model_file.read(exported), model_file.read(output)
    assert after.flatbuffer == made.read_bytes()
    assert after.signatures == before.signatures
    assert (after.spec, after.name, after.target, after.labels) == (before.spec, "m", "edgetpu", labels_of(before.spec))
    assert after.metadata["provenance"] == {
        "weights": "random",
        "compiled": {"from_sha256": before.sha256, "edgetpu_operators": 1, "cpu_operators": 0},
    }
    assert edgetpu_report.check_file(output).verdict == MAPPED


def test_attach_warns_of_what_stays_on_the_cpu(exported: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain.tflite"
    plain.write_bytes(model_file.read(exported).flatbuffer)
    assert "not compiled, or nothing was mapped" in edgetpu.attach(plain, exported, tmp_path / "a.tflite")[0]

    def leave_one(model: Any) -> None:
        code = schema.OperatorCodeT(version=1)
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.RESHAPE
        model.operatorCodes.append(code)
        outputs = model.subgraphs[0].outputs
        model.subgraphs[0].operators.append(schema.OperatorT(opcodeIndex=1, inputs=outputs[:1], outputs=outputs[:1]))

    made = compiled(exported, tmp_path / "m_edgetpu.tflite", leave_one)
    assert "leaves 1 operators on the CPU" in edgetpu.attach(made, exported, tmp_path / "b.tflite")[0]


def rescale(model: Any) -> None:
    tensor = model.subgraphs[0].tensors[model.subgraphs[0].outputs[0]]
    tensor.quantization.scale = tensor.quantization.scale * np.float32(1.01)


def rename(model: Any) -> None:
    model.subgraphs[0].tensors[model.subgraphs[0].inputs[1]].name = "other"


def reshape(model: Any) -> None:
    tensor = model.subgraphs[0].tensors[model.subgraphs[0].inputs[0]]
    tensor.shape = tensor.shape + 1


def reorder(model: Any) -> None:
    model.subgraphs[0].outputs = model.subgraphs[0].outputs[::-1]


def drop(model: Any) -> None:
    model.subgraphs[0].outputs = model.subgraphs[0].outputs[:-1]


def double(model: Any) -> None:
    model.subgraphs.append(model.subgraphs[0])


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (rescale, "output 0 is .* scale .*: another model"),
        (rename, "input 1 is `other` int8 .*: another model"),
        (reshape, "input 0 is .*: another model"),
        (reorder, "output 0 is .*: another model"),
        (drop, "outputs, .* has .*: another model"),
        (double, "2 subgraphs, expected the one of"),
    ],
)
def test_attach_refuses_another_model(
    edit: Callable[[Any], None], message: str, exported: Path, tmp_path: Path
) -> None:
    made, output = compiled(exported, tmp_path / "m_edgetpu.tflite", edit), tmp_path / "out.tflite"
    with pytest.raises(edgetpu.AttachError, match=message):
        edgetpu.attach(made, exported, output)
    assert not output.exists()


def test_attach_refuses_what_was_not_compiled_from_it(exported: Path, tmp_path: Path) -> None:
    made, output = compiled(exported, tmp_path / "m_edgetpu.tflite"), tmp_path / "out.tflite"
    with pytest.raises(edgetpu.AttachError, match="made for target 'cpu'; export it with `--target edgetpu`"):
        edgetpu.attach(made, DATA / "stub-int8.tflite", output)
    with pytest.raises(edgetpu.AttachError, match="has an archive attached already"):
        edgetpu.attach(exported, exported, output)
    with pytest.raises(l3edge.ModelFileError, match="not a TFLite model"):
        edgetpu.attach(Path(__file__), exported, output)


def test_commands(exported: Path, tmp_path: Path) -> None:
    """As a user types them: yes, status 0; attach; then the same question about what was attached."""
    made, output = compiled(exported, tmp_path / "m_edgetpu.tflite"), tmp_path / "out.tflite"
    ran = run("check", exported, "--json", tmp_path / "report.json")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.endswith("Fully mapped: yes.\n")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report == json.loads(json.dumps(edgetpu_report.check_file(exported).to_json()))
    assert report["fully_mapped"] is True
    ran = run("attach", made, "--spec-from", exported, "--output", output)
    assert ran.returncode == 0, ran.stderr
    assert run("check", output).returncode == 0
    ran = run("attach", made, "--spec-from", DATA / "stub-int8.tflite", "--output", output)
    assert (ran.returncode, ran.stderr[:7]) == (1, "error: ")


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "export.edgetpu", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
