"""The streaming transform on random stacks, converted and run: a step's columns are the window graph's.

Each example draws a stack, weights that keep every filter alive on a random log-mel, and a hop; converts the step (mel
in, one to three hops a call) and the window graph; and compares every column of the signal, and the embeddings. What
lies before the signal, frames and states alike, is noise: no column of the signal may see it.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("tensorflow", reason="TensorFlow is not in the device environment")

import l3edge
from export import contract, convert, graph, streaming
from l3edge import OptionError, engine, frontend, layers, model_file
from l3edge.layers import Conv, Layer, Pool, mobilenet_window, separable_stack
from l3edge.spec import Decibel, LogMel, Spec
from training.backend import tf

EXAMPLES = 160  # for each of int8 and float32
INTERPRETER = engine.find().interpreter.Interpreter
MOST_STRIDE, MOST_FIELD = 24, 120  # frames: what keeps an example small

pytestmark = pytest.mark.filterwarnings("ignore:Statistics for quantized inputs were expected")


# ---------------------------------------------------------------------------------------------------------- strategies


@st.composite
def stacks(draw: st.DrawFn) -> tuple[int, tuple[Layer, ...]]:
    """(bins, rows): any mixture of convolutions and pools that leaves a bin over and stays within the limits above."""
    first = bins = draw(st.integers(1, 12), label="bins")
    channels = 1
    rows: list[Layer] = []
    for number in range(draw(st.integers(1, 6), label="depth")):
        stride = layers.stride(rows)
        longest = 1 + (MOST_FIELD - layers.receptive_field(rows)) // stride  # extent that is left
        strides = st.tuples(st.integers(1, min(3, MOST_STRIDE // stride)), st.integers(1, 3))
        if number and draw(st.booleans(), label="pool"):
            size = draw(st.tuples(st.integers(1, min(3, longest)), st.integers(1, min(3, bins))))
            row: Layer = Pool(size, draw(strides), draw(st.sampled_from(["maximum", "mean"])))
            bins = (bins - row.size[1]) // row.stride[1] + 1
        else:
            kernel = draw(st.tuples(st.integers(1, min(4, longest)), st.integers(1, 4)))
            row = Conv(draw(st.integers(1, 8)), kernel, relu=draw(st.booleans()))
            if draw(st.booleans(), label="depthwise"):
                both = draw(st.integers(1, min(3, MOST_STRIDE // stride)))
                row = row._replace(filters=channels, depthwise=True, stride=(both, both))
            elif draw(st.booleans(), label="dilated"):
                most = max(1, (longest - 1) // max(1, kernel[0] - 1))
                wide = 3 if bins > 1 else 1  # at one bin, a dilated kernel of even width reads nothing but padding
                row = row._replace(dilation=draw(st.tuples(st.integers(1, min(3, most)), st.integers(1, wide))))
            else:
                row = row._replace(stride=draw(strides))
            bins, channels = -(-bins // row.stride[1]), row.filters
        rows.append(row)
    return first, tuple(rows)


@st.composite
def specs(draw: st.DrawFn) -> Spec:
    """A spec that streams: a hop of one to three columns, a window that holds the receptive field."""
    bins, rows = draw(stacks())
    front = LogMel(bands=bins, frame_step=draw(st.sampled_from([80, 100, 200, 400])))
    hop = draw(st.integers(1, 3), label="columns a hop") * layers.stride(rows) * front.frame_step
    least = -(-front.samples(layers.receptive_field(rows)) // hop)
    return Spec("drawn", rows, front, window=(least + draw(st.integers(0, 2))) * hop, hop=hop)


# ------------------------------------------------------------------------------------------------- from spec to graphs


def network_of(spec: Spec, seed: int, inputs: np.ndarray, *, int8: bool) -> graph.Network:
    """Random weights, each filter centred and scaled on the inputs so that none is dead; ranges that just hold them."""
    weights, ranges, x = [], [], inputs
    kernels = iter(graph.random_weights(spec.rows, seed))
    for number, layer in enumerate(spec.rows):
        if number == len(spec.layers):
            x = x[:, : spec.columns]
        if isinstance(layer, Pool):
            pool = tf.nn.max_pool2d if layer.kind == "maximum" else tf.nn.avg_pool2d
            x = pool(x, layer.size, layer.stride, "VALID").numpy()
            continue
        kernel, _ = next(kernels)
        same = layer.padding == "same"
        along = layers.same_padding(x.shape[1], layer, 0) if same else (0, 0)
        x = np.pad(x, ((0, 0), along, layers.same_padding(x.shape[2], layer, 1), (0, 0)))
        if layer.depthwise:
            x = tf.nn.depthwise_conv2d(x, kernel, (1, *layer.stride, 1), "VALID").numpy()
        else:
            x = tf.nn.conv2d(x, kernel, layer.stride, "VALID", dilations=layer.dilation).numpy()
        mean, deviation = x.mean((0, 1, 2)), x.std((0, 1, 2))
        deviation[deviation < 1e-3] = 1
        scale = deviation[:, np.newaxis] if layer.depthwise else deviation
        weights.append((kernel / scale, -mean / deviation))
        x = (x - mean) / deviation
        x = np.maximum(x, 0) if layer.relu else x
        largest = float(np.abs(x).max()) or 1.0
        ranges.append((0.0 if layer.relu else -largest, largest))
    return graph.Network(spec, weights, ranges if int8 else None)


class Runner:
    """A concrete function, converted: arrays in and out in the order of its arguments and of its results' names."""

    def __init__(self, function: Any, *, int8: bool) -> None:
        converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()])
        self.interpreter = INTERPRETER(model_content=convert.run(converter, int8=int8), num_threads=1)
        self.interpreter.allocate_tensors()
        self.inputs, self.outputs = self.interpreter.get_input_details(), self.interpreter.get_output_details()

    def __call__(self, *arrays: np.ndarray) -> list[np.ndarray]:
        for detail, array in zip(self.inputs, arrays, strict=True):
            self.interpreter.set_tensor(detail["index"], array)
        self.interpreter.invoke()
        return [self.interpreter.get_tensor(detail["index"]) for detail in self.outputs]


def window_runner(network: graph.Network, frames: int) -> Runner:
    """(a signal of so many frames, a window) -> all columns of the signal, and the embedding of the window."""
    spec = network.spec

    def whole(signal: Any, window: Any) -> dict[str, Any]:
        embedding = graph.embedding_of(graph.columns_of(network, window), spec)
        return {"columns": graph.columns_of(network, signal), "embedding": embedding}

    shapes = {"signal": frames, "window": spec.frames_used}
    signature = [tf.TensorSpec([1, n, spec.front_end.bins, 1], tf.float32, name) for name, n in shapes.items()]
    return Runner(tf.function(whole, input_signature=signature), int8=network.ranges is not None)


class Outcome(NamedTuple):
    """What both graphs made of one signal: [n, embedding_size] each."""

    columns: np.ndarray
    wanted_columns: np.ndarray
    embeddings: np.ndarray
    wanted_embeddings: np.ndarray


def compute(spec: Spec, seed: int, hops: int, *, int8: bool) -> Outcome:
    """Columns and embeddings of a random log-mel, by steps of so many hops and by the window graph."""
    rng = np.random.default_rng(seed)
    steps = max(3, -(-(spec.steps_per_window + 3) // hops))
    offset, column = layers.alignment(spec.layers, spec.step_start // spec.front_end.frame_step)
    assert offset * spec.front_end.frame_step == spec.step_start <= 0
    assert column + spec.steps_per_window * spec.columns_per_hop == spec.columns, "a window is ready when it has ended"
    frames = steps * hops * spec.frames_per_hop  # the first -offset of them come before the signal
    low, high = graph.input_range(graph.Network(spec, graph.random_weights(spec.layers, 0)))
    mel = rng.normal(0, 0.25, (1, frames, spec.front_end.bins, 1)).cumsum(1)  # changes from frame to frame, and drifts
    mel = np.clip((low + high) / 2 + mel, low, high).astype(np.float32)
    network = network_of(spec, seed, mel, int8=int8)
    step = Runner(graph.step_function(network, hops, waveform=False), int8=int8)
    whole = window_runner(network, frames + offset)

    states = step.inputs[1:]
    same = [[(d["dtype"], *d["quantization"], *d["shape"]) for d in side] for side in (states, step.outputs[1:])]
    assert same[0] == same[1], "a state goes out in the format in which it comes in"
    given = [rng.normal(0, 5, detail["shape"]).astype(np.float32) for detail in states]
    if int8:
        assert {d["quantization"] for d in (step.inputs[0], *whole.inputs)} == {step.inputs[0]["quantization"]}
        assert {d["quantization"] for d in (step.outputs[0], *whole.outputs)} == {step.outputs[0]["quantization"]}
        scale, zero = step.inputs[0]["quantization"]
        mel = np.clip(np.rint(mel / scale) + zero, -128, 127).astype(np.int8)
        given = [rng.integers(-128, 128, detail["shape"], np.int8) for detail in states]

    made = []
    for new in np.split(mel, steps, 1):
        columns, *given = step(new, *given)
        made.append(columns[0])
    signal = mel[:, -offset:]
    begins = range(0, signal.shape[1] - spec.frames_used + 1, spec.frames_per_hop)
    results = [whole(signal, signal[:, begin : begin + spec.frames_used]) for begin in begins]
    stepped = np.concatenate(made)[-column:]
    rings = [stepped[k * spec.columns_per_hop :][: spec.columns] for k in range(len(begins))]
    return Outcome(
        stepped,
        results[0][0][0].max(1),
        np.stack([ring.max(0) for ring in rings]),
        np.stack([embedding[0] for _, embedding in results]),
    )


def hold(outcome: Outcome) -> None:
    """The same bits in int8; in float32 to 1e-5 of the largest value."""
    for made, wanted in (outcome[:2], outcome[2:]):
        assert made.dtype == wanted.dtype
        assert made.shape == wanted.shape
        assert len(made)
        if made.dtype == np.int8:
            np.testing.assert_array_equal(made, wanted)
        else:
            np.testing.assert_allclose(made, wanted, rtol=0, atol=contract.FLOAT_STEP * np.abs(wanted).max())


def differs(columns: np.ndarray) -> bool:
    """Whether there is something to compare: columns that are not all alike."""
    return bool((columns != columns[0]).any())


# ---------------------------------------------------------------------------------------------------------- properties


@pytest.mark.parametrize("int8", [True, False], ids=["int8", "float32"])
def test_steps_equal_the_window(int8: bool) -> None:
    seen: list[Outcome] = []

    @settings(max_examples=EXAMPLES, deadline=None, database=None)
    @given(specs(), st.integers(0, 2**32 - 1), st.integers(1, 3))
    def check(spec: Spec, seed: int, hops: int) -> None:
        outcome = compute(spec, seed, hops, int8=int8)
        hold(outcome)
        seen.append(outcome)

    check()
    assert len(seen) >= EXAMPLES
    # A pool or a kernel may reach over all of a short signal; most stacks tell its columns apart.
    assert sum(differs(outcome.columns) for outcome in seen) > 0.9 * len(seen)


GAPS = Spec(
    "gaps",
    (Conv(6, (3, 3), dilation=(2, 1)), Pool((1, 2), (3, 2)), Conv(5, (2, 2), (1, 2)), Pool((3, 2), (2, 1)), Conv(7)),
    LogMel(bands=12, frame_step=100),
    window=9600,
    hop=1200,
)


@pytest.mark.parametrize("int8", [True, False], ids=["int8", "float32"])
@pytest.mark.parametrize("harm", ["states are forgotten", "gaps are not skipped"])
def test_the_comparison_sees(harm: str, int8: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    hold(compute(GAPS, 1, 2, int8=int8))
    if harm == "states are forgotten":
        run = Runner.__call__

        def forgetful(self: Runner, *arrays: np.ndarray) -> list[np.ndarray]:
            is_step = len(self.outputs) == len(self.inputs) > 2
            return run(self, arrays[0], *(np.zeros_like(array) if is_step else array for array in arrays[1:]))

        monkeypatch.setattr(Runner, "__call__", forgetful)
    else:
        monkeypatch.setattr(streaming, "skipped", lambda layer: 0)
    with pytest.raises(AssertionError, match="Mismatched elements"):
        hold(compute(GAPS, 1, 2, int8=int8))


PARTS = Spec(
    "parts",
    (
        *separable_stack((6, 8), halvings=1),
        Pool((3, 2), (2, 2), "mean"),
        Conv(8, (4, 3), stride=(2, 2), depthwise=True, relu=False),
        Pool((1, 2), (1, 2), "mean"),
        Conv(5, (1, 1)),
    ),
    LogMel(bands=24, frame_step=100),
    window=9600,
    hop=1600,
)


# Two columns a hop, of which the layers of a window see seven, padded.
WHOLE = Spec(
    "whole",
    (Conv(6, stride=(2, 2)), Conv(6, depthwise=True), Conv(8, (1, 1)), Pool()),
    LogMel(bands=24, frame_step=200),
    window=9600,
    hop=1600,
    window_layers=(*mobilenet_window((10, 10), 8), Conv(12, (3, 2), padding="same"), Pool((1, 3), (1, 3), "mean")),
)


@pytest.mark.parametrize("int8", [True, False], ids=["int8", "float32"])
@pytest.mark.parametrize("spec", [GAPS, PARTS, WHOLE], ids=lambda spec: spec.name)
def test_such_a_stack_in_a_model_file(spec: Spec, int8: bool, tmp_path: Path) -> None:
    """The whole contract, sound in, through the SDK: gaps, overlaps, strides and dilation in one stack; depthwise rows
    and mean pools in the other.
    """
    mel = frontend.features(contract.sounds(2, 40_000), spec.front_end)[None, :, :, None]
    network = network_of(spec, 3, mel, int8=int8)
    metadata = {"name": spec.name, "spec": spec.to_json(), "recipe": "random", "parity": {}, "provenance": {}}
    model_file.write(tmp_path / "m.tflite", convert.convert(network, hops=[3]), metadata)
    load = functools.cache(lambda threads: l3edge.load(tmp_path / "m.tflite", threads=threads))
    contract.check(load, contract.sounds(4, 24_000), 16_000, [17, 1601], hop=spec.hop / 16_000)
    contract.tells_apart(load(1))


# ------------------------------------------------------------------------------------------------ what cannot stream

REASONS = {  # in the order in which they are looked for
    "decibel": "decibels relative to the window's maximum depend on the whole window; the nearest front end",
    "padding": r'"same" padding in time \(layers \[\d+\]\) .*; the nearest stack that can has padding="valid" there',
    "flatten": 'flattening keeps every column apart; the nearest embedding that can is the "maximum"',
    "hop": r"hop \d+ is not a whole number of output columns .*; the nearest hop that can is (\d+)$",
    "window": r"window \d+ must be a multiple of hop \d+, in samples; the nearest is (\d+)$",
}


@st.composite
def refused(draw: st.DrawFn) -> tuple[Spec, set[str]]:
    """A spec with one or more reasons why it cannot stream, and those; it computes windows one by one."""
    spec = draw(specs())
    wrong = draw(st.sets(st.sampled_from(sorted(REASONS)), min_size=1))
    changes: dict[str, Any] = {"streaming": False}
    if "decibel" in wrong:
        changes["front_end"] = Decibel(16_000, 512, spec.front_end.frame_step, spec.front_end.bins)
    if "padding" in wrong:
        rows = list(spec.layers)
        number = draw(st.sampled_from([i for i, row in enumerate(rows) if isinstance(row, Conv)]))
        changes["layers"] = (*rows[:number], rows[number]._replace(padding="same"), *rows[number + 1 :])
    if "flatten" in wrong:
        changes["embedding"] = "flatten"
    if "hop" in wrong:
        changes["hop"] = spec.hop + draw(st.integers(1, spec.front_end.frame_step * spec.stride - 1))
        changes["window"] = changes["hop"] * (spec.steps_per_window + 1)
    if "window" in wrong:
        hop = changes.get("hop", spec.hop)
        changes["window"] = changes.get("window", spec.window) + draw(st.integers(1, hop - 1))
    return dataclasses.replace(spec, **changes), wrong


def check_nearest(spec: Spec, wrong: set[str]) -> Spec:
    """The nearest spec that streams: what was right is as it was, what was wrong is near."""
    with pytest.raises(OptionError, match="drawn cannot stream exactly: ") as caught:
        dataclasses.replace(spec, streaming=True)
    first = next(name for name in REASONS if name in wrong)
    reason = re.search(REASONS[first], str(caught.value))
    assert reason, f"{first}: {caught.value}"
    nearest = spec.nearest_streaming()
    assert nearest.streaming
    assert nearest.nearest_streaming() == nearest

    rows = tuple(row._replace(padding="valid") if isinstance(row, Conv) else row for row in spec.layers)
    kept = len(nearest.layers)
    assert nearest.layers == rows[:kept]
    if "flatten" in wrong:  # the columns themselves, before a last pool makes fewer
        assert all(isinstance(row, Pool) for row in rows[kept:])
    else:
        assert kept == len(rows)
    assert nearest.embedding == "maximum"
    assert nearest.front_end.bins == spec.front_end.bins
    assert nearest.front_end.frame_step == spec.front_end.frame_step
    if "decibel" not in wrong:
        assert nearest.front_end == spec.front_end
    column = nearest.front_end.frame_step * nearest.stride
    assert nearest.hop % column == 0
    assert abs(nearest.hop - spec.hop) <= max(column / 2, column - spec.hop)
    if "hop" not in wrong:
        assert nearest.hop == spec.hop
        if not wrong & {"decibel", "window"}:
            assert nearest.window == spec.window
    if first in ("hop", "window"):  # the number in the reason
        assert int(reason[1]) == getattr(nearest, first)
    assert (nearest.name, nearest.image, nearest.fusion) == (spec.name, spec.image, spec.fusion)
    return nearest


@settings(max_examples=300, deadline=None, database=None)
@given(refused())
def test_what_cannot_stream_is_refused_with_the_reason_and_the_nearest(case: tuple[Spec, set[str]]) -> None:
    check_nearest(*case)


@settings(max_examples=10, deadline=None, database=None)
@given(refused(), st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_the_nearest_streams(case: tuple[Spec, set[str]], seed: int, hops: int) -> None:
    hold(compute(check_nearest(*case), seed, hops, int8=True))


@settings(deadline=None, database=None)
@given(specs())
def test_the_nearest_of_what_streams_is_itself(spec: Spec) -> None:
    assert spec.nearest_streaming() == spec
    assert dataclasses.replace(spec, streaming=False).nearest_streaming() == spec
