"""The contract on real recordings (ESC-10), with the embedded default; where the recordings are: L3EDGE_DATA."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import l3edge
from export import contract
from l3edge import audio

DATA = Path(os.environ.get("L3EDGE_DATA", Path(__file__).parents[2] / "shared" / "data")) / "esc10"
CLIPS = sorted(DATA.glob("*/1-*.ogg"))[::16]

pytestmark = pytest.mark.skipif(
    not CLIPS, reason=f"no recordings at {DATA}: set L3EDGE_DATA to a folder that holds esc10/<class>/*.ogg"
)


@pytest.mark.parametrize("clip", CLIPS, ids=[clip.stem for clip in CLIPS])
def test_contract_on_a_recording(clip: Path, engine_name: str) -> None:
    samples, rate = audio.read(clip)
    mono = audio.to_mono(samples).samples[: 2 * rate]
    at_model_rate = audio.resample(mono, rate, 16_000)

    def load(threads: int) -> l3edge.Model:
        return l3edge.load(engine=engine_name, threads=threads)

    contract.check(load, at_model_rate, 16_000, [509])
    contract.check(load, mono, rate, [1, 17, 4410])


def test_recordings_of_different_things_differ() -> None:
    model = l3edge.load()
    means = np.stack([model.embed(*audio.read(clip))[0].mean(axis=0) for clip in CLIPS])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    cosine = means @ means.T
    assert cosine[~np.eye(len(CLIPS), dtype=bool)].min() < 0.9
