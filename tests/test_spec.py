"""The numbers of each preset, stated here once more and exactly."""

from __future__ import annotations

import dataclasses
import json

import pytest

from l3edge import ModelFileError, OptionError
from l3edge.layers import Conv, Pool, l3_stack, mobilenet_stack, mobilenet_window, separable_stack
from l3edge.spec import PRESETS, Decibel, LogMel, Spec, openl3_spec

# parameters, multiply-accumulates a hop, a window
STATED = {
    "edge-s": (293_232, 6_561_792, 41_674_752),
    "edge-m": (1_171_680, 26_099_712, 165_335_040),
    "edge-l": (2_635_344, 58_613_760, 370_980_864),
}

# frames, bins, output of the last layer (time, frequency, channels), samples seen, multiply-accumulates a window
PUBLISHED = {
    "l3-net": (199, 257, (24, 32, 512), 48_000, 10_210_078_656),
    "openl3-linear": (197, 257, (1, 1, 512), 47_944, 10_162_522_944),
    "openl3-mel128": (199, 128, (1, 1, 512), 48_000, 5_101_314_048),
    "openl3-mel256": (199, 256, (1, 1, 512), 48_000, 10_202_628_096),
}


def test_every_preset_is_stated() -> None:
    assert set(PRESETS) == set(STATED) | set(PUBLISHED)


@pytest.mark.parametrize("name", STATED)
def test_streaming_presets_are_as_stated(name: str) -> None:
    spec = PRESETS[name]
    assert (spec.parameters, spec.macs_per_hop, spec.macs_per_window) == STATED[name]
    assert (spec.sample_rate, spec.window, spec.hop, spec.front_end.bins) == (16_000, 16_000, 1_600, 64)
    assert (spec.frames, spec.frames_used, spec.columns) == (79, 76, 2)
    assert (spec.receptive_field, spec.stride) == (68, 8)
    assert (spec.samples_seen, spec.step_start, spec.step_samples, spec.samples_of(10)) == (15_400, -800, 1_800, 16_200)
    assert spec.embedding_size == spec.convolutions[-1].filters
    assert spec.grid == spec.hop
    assert spec.nearest_streaming() == spec


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_presets_are_as_stated(name: str) -> None:
    """Frames and sizes of the papers; the papers' 4,684,224 weights of the convolutions, biases included."""
    spec = PRESETS[name]
    assert (spec.sample_rate, spec.window, spec.embedding_size, spec.parameters) == (48_000, 48_000, 512, 4_684_224)
    frames, bins, output, seen, macs = PUBLISHED[name]
    assert (spec.frames_used, spec.front_end.bins, spec.shapes(frames)[-1]) == (frames, bins, output)
    assert (spec.samples_seen, spec.macs_per_window, spec.macs_per_hop) == (seen, macs, macs)
    assert (spec.streaming, spec.grid) == (False, 1)
    assert spec.nearest_streaming().streaming


def test_the_larger_openl3_embedding() -> None:
    for kind in ("linear", "mel128", "mel256"):
        assert openl3_spec(kind, 6144).embedding_size == 6144


def test_cost_limits_of_the_presets() -> None:
    assert PRESETS["edge-s"].macs_per_hop <= 10e6
    assert PRESETS["edge-m"].macs_per_hop <= 36e6


def test_the_table_is_the_published_stack() -> None:
    layers = PRESETS["edge-m"].layers
    assert layers == (
        Conv(32), Conv(32), Pool(), Conv(64), Conv(64), Pool(), Conv(128), Conv(128), Pool(), Conv(256), Conv(256),
    )  # fmt: skip


SEPARABLE = Spec("separable", (*separable_stack((8, 16, 32, 48, 64)), Pool((1, 2), (1, 2), "mean")))


@pytest.mark.parametrize("spec", [*PRESETS.values(), SEPARABLE], ids=lambda spec: spec.name)
def test_json_keeps_everything(spec: Spec) -> None:
    assert Spec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_rows_are_written_as_they_always_were() -> None:
    """Files of before there were depthwise rows and mean pools are read as they are, and these two as they were."""
    conv, _, pool, *_ = PRESETS["edge-s"].to_json()["layers"]
    assert conv == {
        "kind": "conv",
        "filters": 16,
        "kernel": [3, 3],
        "stride": [1, 1],
        "dilation": [1, 1],
        "padding": "valid",
        "relu": True,
    }
    assert pool == {"kind": "pool", "size": [2, 2], "stride": [2, 2]}
    rows = SEPARABLE.to_json()["layers"]
    assert rows[3] == {**conv, "kind": "depthwise_conv", "filters": 8}
    assert rows[-1] == {"kind": "mean_pool", "size": [1, 2], "stride": [1, 2]}


def test_a_separable_stack() -> None:
    """The fields of the L3 stack, whatever the number of blocks; weights and multiply-accumulates by hand."""
    spec = SEPARABLE
    part, whole = separable_stack((8, 16)), separable_stack((8, 16), dense=2)
    assert whole == l3_stack((8, 16))
    assert part == (
        Conv(8), Conv(8), Pool(),
        Conv(8, depthwise=True), Conv(16, (1, 1)), Conv(16, depthwise=True), Conv(16, (1, 1)),
    )  # fmt: skip
    assert (spec.receptive_field, spec.stride) == (68, 8)
    assert (spec.frames_used, spec.columns, spec.samples_seen, spec.step_start) == (76, 2, 15_400, -800)
    assert spec.shapes(8, step=True)[-1] == (1, 2, 64)
    assert spec.state_shapes == [
        (1, 2, 64, 1), (1, 2, 64, 8), (1, 2, 32, 8), (1, 2, 32, 16), (1, 2, 16, 16), (1, 2, 16, 32),
        (1, 2, 8, 32), (1, 2, 8, 48),
    ]  # fmt: skip
    one, two = Spec("", part[:5]), Spec("", part[:4])
    assert one.parameters - two.parameters == 8 * 16 + 16
    assert two.parameters == (9 + 1) * 8 + (9 * 8 + 1) * 8 + (9 + 1) * 8
    # a hop is 8 frames of 64 bins
    assert two.macs_per_hop == 8 * 64 * 8 * 9 + 8 * 64 * 8 * 8 * 9 + 4 * 32 * 8 * 9
    assert one.macs_per_hop - two.macs_per_hop == 4 * 32 * 8 * 16


def test_a_mobilenet_stack() -> None:
    """YAMNet's rows, halved where they grow wider, and no more of them in time than a window holds."""
    rows = mobilenet_stack((4, 8, 16, 16, 32, 32, 64, 64, 64, 128))
    assert rows[:5] == (
        Conv(4, stride=(2, 2)), Conv(4, depthwise=True), Conv(8, (1, 1)),
        Conv(8, stride=(2, 2), depthwise=True), Conv(16, (1, 1)),
    )  # fmt: skip
    assert rows[11:15] == (Conv(32, depthwise=True), Pool((1, 2), (1, 2)), Conv(64, (1, 1)), Conv(64, depthwise=True))
    assert rows[16] == Conv(64, (1, 3), depthwise=True)
    deep = Spec("", rows)
    assert (deep.receptive_field, deep.stride, deep.columns, deep.columns_per_hop) == (75, 8, 1, 1)
    assert deep.shapes(8, step=True)[-1] == (1, 2, 128)
    fine = Spec("", mobilenet_stack((4, 8, 16, 16, 32, 32, 64, 64, 64), 8, halvings=4), LogMel(frame_step=100))
    assert (fine.receptive_field, fine.stride, fine.columns, fine.columns_per_hop) == (123, 16, 3, 1)
    assert not any(isinstance(row, Pool) for row in fine.layers)
    less = Spec("", mobilenet_stack((4, 8, 16, 16, 32, 32, 64, 64, 64, 128), time=6))
    assert (less.receptive_field, less.columns, less.samples_seen) == (59, 3, deep.samples_seen)
    # a hop is 8 frames of 64 bins: 4 x 32 positions of the first two rows
    assert Spec("", rows[:3]).macs_per_hop == 4 * 32 * 4 * (9 + 9 + 8)


def test_layers_of_a_window() -> None:
    """They see the columns of a window, all of them and nothing else; the columns alone are streamed."""
    body, window = mobilenet_stack((4, 8, 16, 16, 32, 32)), mobilenet_window((64, 64), 32)
    spec = Spec("", body, window_layers=(*window, Pool((3, 4), (3, 4), "mean")))
    plain = Spec("", body)
    assert window[0] == Conv(32, (3, 3), (2, 2), padding="same", depthwise=True)
    assert (spec.columns, spec.columns_kept, spec.results, spec.results_per_hop) == (5, 4, 1, 1)
    assert (plain.columns_kept, plain.results, plain.results_per_hop) == (0, 5, 1)
    assert (spec.receptive_field, spec.frames_used, spec.step_start) == (43, 75, plain.step_start)
    assert spec.state_shapes == [*plain.state_shapes, (1, 4, 8, 32)]
    assert spec.shapes(75)[-3:] == [(3, 4, 64), (3, 4, 64), (1, 1, 64)]
    assert spec.shapes(8, step=True)[-4:] == spec.shapes(75)[-4:]
    assert spec.embedding_size == 64
    of_window = 3 * 4 * (9 * 32 + 32 * 64 + 9 * 64 + 64 * 64)
    assert spec.macs_per_hop - plain.macs_per_hop == of_window
    assert spec.macs_per_window - plain.macs_per_window == of_window
    assert Spec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    assert "window_layers" not in plain.to_json()
    assert spec.with_rows(spec.rows) == spec
    with pytest.raises(OptionError, match="window_layers are of models that stream"):
        Spec("", body, window_layers=window, streaming=False)
    with pytest.raises(OptionError, match="window_layers leave nothing"):
        Spec("", body, window_layers=(*window, Pool((4, 4), (4, 4))))


def test_finer_frames_align_too() -> None:
    spec = Spec("fine", l3_stack((4, 4, 4, 4)), LogMel(frame_step=100))
    assert (spec.columns, spec.columns_per_hop, spec.samples_seen) == (12, 2, 15_900)


REFUSALS = {
    "stride": ({"layers": l3_stack((4, 4, 4, 4)), "front_end": LogMel(frame_length=320, frame_step=160)},
               r"hop 1600 is not a whole number of output columns .* the nearest hop that can is 1280"),
    "window": ({"layers": l3_stack((4, 4, 4, 4)), "window": 16_001}, "multiple of hop 1600, .* nearest is 16000"),
    "padding": ({"layers": (Conv(4), Conv(4, padding="same"))}, r'"same" padding in time \(layers \[1\]\) .* nearest'),
    "flatten": ({"layers": (Conv(4),), "embedding": "flatten"}, "keeps every column apart; the nearest .*maximum"),
    "maximum of the window": ({"layers": (Conv(4),), "front_end": Decibel(16_000, 512, 200, 64)},
                              "depend on the whole window; the nearest front end"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_stream_is_refused_with_the_nearest_that_can(case: str) -> None:
    changes, message = REFUSALS[case]
    with pytest.raises(OptionError, match=rf"refused cannot stream exactly: .*{message}"):
        Spec("refused", **changes)
    nearest = Spec("refused", **changes, streaming=False).nearest_streaming()
    assert nearest.streaming
    assert nearest.window / nearest.sample_rate == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": ()}, "layers must be"),
        ({"layers": (Conv(4), Conv(5, depthwise=True))}, "layer 1: depthwise, so filters must be its 4 inputs, got 5"),
        ({"layers": (Conv(4, depthwise=True),)}, "filters must be its 1 inputs, got 4"),
        ({"layers": (Conv(4), Conv(4, stride=(1, 2), depthwise=True))}, "same stride in time and frequency"),
        ({"layers": (Conv(4), Conv(4, dilation=(1, 2), depthwise=True))}, "no dilation"),
        ({"layers": (Conv(4), Pool(kind="median"))}, 'must be "maximum" or "mean", got .median.'),
        ({"window": 16_001}, "multiple of hop"),
        ({"window": 8_000}, "receptive field"),
        ({"layers": (Conv(4096), Pool((1, 2), (1, 2))), "window": 1_600_000}, "more than 16777216"),
    ],
)
def test_impossible_specs(changes: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        dataclasses.replace(PRESETS["edge-s"], **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": "many"}, "layers must be"),
        ({"hop": 1600.5}, "hop must be int"),
        ({"hop": 1}, "contradicts itself"),
        ({"name": 7}, "name must be str"),
        ({"front_end": []}, "front_end must be"),
        ({"surprise": 1}, r"unknown \['surprise'\]"),
    ],
)
def test_untrusted_json(changes: dict[str, object], message: str) -> None:
    document = {**PRESETS["edge-s"].to_json(), **changes}
    with pytest.raises(ModelFileError, match=message):
        Spec.from_json(document)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "median_pool"}, r"layers\[2\].kind must be one of .*'mean_pool'"),
        ({"kind": "depthwise_conv"}, r"layers\[2\]: missing .*'filters'"),
        ({"depthwise": True}, r"layers\[2\]: missing \[\], unknown \['depthwise'\]"),
    ],
)
def test_untrusted_rows(changes: dict[str, object], message: str) -> None:
    document = PRESETS["edge-s"].to_json()
    document["layers"][2].update(changes)
    with pytest.raises(ModelFileError, match=message):
        Spec.from_json(document)


@pytest.mark.parametrize("key", ["fft_length", "frame_step", "low", "offset"])
def test_untrusted_log_mel(key: str) -> None:
    document = PRESETS["edge-s"].to_json()
    document["front_end"][key] = -1
    with pytest.raises(ModelFileError):
        Spec.from_json(document)


def test_specs_of_older_runs_are_upgraded() -> None:
    """As `spec.json` of a run directory was written before layers were a table of their own."""
    front = {key: value for key, value in PRESETS["edge-m"].to_json()["front_end"].items() if key != "kind"}
    older = {
        "name": "edge-m",
        "filters": [32, 64, 128, 256],
        "log_mel": front,
        "window": 16_000,
        "hop": 1_600,
        "image": {"size": 64, "filters": [16, 32, 64, 128]},
        "fusion": 128,
    }
    assert Spec.from_json(older) == PRESETS["edge-m"]
    for filters in ("many", [], [0], [4.5], None):
        with pytest.raises(ModelFileError):
            Spec.from_json({**older, "filters": filters})
