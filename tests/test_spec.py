"""The numbers of each preset, stated here once more and exactly."""

from __future__ import annotations

import dataclasses
import json

import pytest

from l3edge import ModelFileError, OptionError
from l3edge.spec import PRESETS, Conv, LogMel, Pool, Spec

# parameters, multiply-accumulates a hop, a window
STATED = {
    "edge-s": (293_232, 6_561_792, 41_674_752),
    "edge-m": (1_171_680, 26_099_712, 165_335_040),
    "edge-l": (2_635_344, 58_613_760, 370_980_864),
}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_as_stated(name: str) -> None:
    spec = PRESETS[name]
    assert (spec.parameters, spec.macs_per_hop, spec.macs_per_window) == STATED[name]
    assert (spec.sample_rate, spec.window, spec.hop, spec.log_mel.bands) == (16_000, 16_000, 1_600, 64)
    assert (spec.frames, spec.frames_used, spec.columns) == (79, 76, 2)
    assert (spec.receptive_field, spec.stride) == (68, 8)
    assert spec.samples_seen == 15_400
    assert spec.embedding_size == spec.filters[-1]


def test_cost_limits_of_the_presets() -> None:
    assert PRESETS["edge-s"].macs_per_hop <= 10e6
    assert PRESETS["edge-m"].macs_per_hop <= 36e6


def test_the_table_is_the_published_stack() -> None:
    layers = PRESETS["edge-m"].layers
    assert layers == (
        Conv(32), Conv(32), Pool(), Conv(64), Conv(64), Pool(), Conv(128), Conv(128), Pool(), Conv(256), Conv(256),
    )  # fmt: skip


@pytest.mark.parametrize("name", PRESETS)
def test_json_keeps_everything(name: str) -> None:
    spec = PRESETS[name]
    assert Spec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_finer_frames_align_too() -> None:
    spec = Spec("fine", (4, 4, 4, 4), LogMel(frame_step=100))
    assert (spec.columns, spec.columns_per_hop, spec.samples_seen) == (12, 2, 15_900)


def test_misaligned_frames_are_refused_with_the_nearest_hop() -> None:
    with pytest.raises(OptionError, match=r"hop 1600 is not a whole number .* nearest hop that can is 1280"):
        Spec("misaligned", (4, 4, 4, 4), LogMel(frame_length=320, frame_step=160))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"filters": ()}, "filters"),
        ({"window": 16_001}, "multiple of hop"),
        ({"window": 8_000}, "receptive field"),
    ],
)
def test_impossible_specs(changes: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        dataclasses.replace(PRESETS["edge-s"], **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"filters": "many"}, "filters must be"),
        ({"hop": 1600.5}, "hop must be int"),
        ({"hop": 1}, "contradicts itself"),
        ({"name": 7}, "name must be str"),
        ({"log_mel": []}, "log_mel must be"),
        ({"surprise": 1}, r"unknown \['surprise'\]"),
    ],
)
def test_untrusted_json(changes: dict[str, object], message: str) -> None:
    document = {**PRESETS["edge-s"].to_json(), **changes}
    with pytest.raises(ModelFileError, match=message):
        Spec.from_json(document)


@pytest.mark.parametrize("key", ["fft_length", "frame_step", "low", "offset"])
def test_untrusted_log_mel(key: str) -> None:
    document = PRESETS["edge-s"].to_json()
    document["log_mel"][key] = -1
    with pytest.raises(ModelFileError):
        Spec.from_json(document)
