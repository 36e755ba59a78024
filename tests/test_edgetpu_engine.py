"""Files for the Edge TPU on the engines that are here: the front end in NumPy, the network as on the CPU."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

import l3edge
from export import contract, verify
from l3edge import audio

from .conftest import DATA, ENGINES

ROOT = Path(__file__).parent.parent
SPLIT, WHOLE = DATA / "stub-edgetpu.tflite", DATA / "stub-int8.tflite"  # the same weights and ranges


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    samples, rate = audio.read(ROOT / "examples" / "scene.flac")
    assert rate == 16_000
    return audio.to_mono(samples).samples


def test_the_same_bits_as_on_the_cpu_for_the_same_mel(engine_name: str, scene: np.ndarray) -> None:
    split, whole = (l3edge.load(path, engine=engine_name) for path in (SPLIT, WHOLE))
    compared = verify.same_mel(split, whole, [scene, contract.sounds(1, 40_000)])
    assert compared["same_mel_values"] > 30_000
    assert compared["same_mel_values_differing"] == 0


def test_two_front_ends_hardly_differ(engine_name: str, scene: np.ndarray) -> None:
    """NumPy's and the graph's log-mel differ by 5e-7, and some value is rounded to the next int8 level."""
    split, whole = (l3edge.load(path, engine=engine_name) for path in (SPLIT, WHOLE))
    a, b = (model.embed(scene, 16_000)[0] for model in (split, whole))
    assert (a != b).any(axis=1).mean() < 0.05
    assert np.abs(a - b).max() < verify.TWO_FRONT_ENDS * np.abs(b).max()


def test_numpy_1_and_2_hear_the_same(scene: np.ndarray) -> None:
    """The digest is asserted in both environments of CI, whose NumPy differs in FFT, logarithm and matrix product."""
    network = l3edge.load(SPLIT).network
    heard = [network.hear(scene[begin : begin + 1_800]) for begin in range(0, len(scene) - 1_800, 1_600)]
    assert {(x.dtype, x.shape) for x in heard} == {(np.dtype(np.int8), (1, 8, 8, 1))}
    digest = hashlib.sha256(np.concatenate(heard).tobytes()).hexdigest()
    assert digest == json.loads((DATA / "heard.json").read_text())["stub-edgetpu on scene.flac"]


def test_silence_and_full_scale_saturate_and_do_not_wrap(engine_name: str) -> None:
    network = l3edge.load(SPLIT, engine=engine_name).network
    quiet, loud = network.hear(np.zeros(1_800, np.float32)), network.hear(np.full(1_800, 1e6, np.float32))
    assert (quiet == -128).all()
    assert loud.max() == 127
    assert loud.min() > 0


def test_without_library_or_device_the_error_names_both() -> None:
    with pytest.raises(l3edge.EngineError, match=r"library libedgetpu\.so\.1 .* and an Edge TPU that is plugged in"):
        l3edge.load(SPLIT, engine="edgetpu")
    with pytest.raises(l3edge.EngineError, match=r"exported for the cpu, .* --target edgetpu"):
        l3edge.load(WHOLE, engine="edgetpu")


@pytest.mark.parametrize("name", ENGINES)
def test_options_without_a_delegate_are_a_mistake(name: str) -> None:
    with pytest.raises(l3edge.OptionError, match="give delegate as well"):
        l3edge.load(WHOLE, engine=name, delegate_options={"device": "usb"})
