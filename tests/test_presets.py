"""The presets that compute windows one by one, from videos to embeddings: prepare, pretrain, export, embed, stream."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="TensorFlow is not in the device environment")

import l3edge
from export import __main__ as command
from export import contract
from l3edge.layers import l3_stack
from l3edge.spec import PRESETS, ImageTower
from training import prepare, pretrain, synthesize


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sound at 48 kHz."""
    folder = tmp_path_factory.mktemp("videos")
    synthesize.main(
        ["--out", str(folder / "v"), "--count", "8", "--seed", "3", "--seconds", "3", "--kinds", "bell,dog"]
    )
    prepare.main([str(folder / "v"), "--out", str(folder / "s"), "--sample-rate", "48000"])
    return folder / "s"


@pytest.mark.parametrize("name", ["l3-net", "openl3-linear", "openl3-mel128"])
def test_from_videos_to_embeddings(shards: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the preset's front end, window and kind of stack, and an eighth of its width: the whole road in seconds."""
    spec = PRESETS[name]
    layers = tuple(row._replace(filters=row.filters // 8) if hasattr(row, "filters") else row for row in spec.layers)
    narrow = l3edge.Spec(
        **{
            **{
                field: getattr(spec, field)
                for field in ("name", "front_end", "window", "hop", "streaming", "embedding")
            },
            "layers": layers,
            "image": ImageTower(32, (4, 8)),
        }
    )
    monkeypatch.setitem(PRESETS, name, narrow)
    run, output = tmp_path / "run", tmp_path / "m.tflite"
    pretrain_arguments = ["--preset", name, "--data", str(shards), "--run", str(run), "--steps", "2", "--batch", "4"]
    assert pretrain.main(pretrain_arguments) == 0
    arguments = command.parser().parse_args([str(run), "--output", str(output), "--recipe", "int8_ptq"])
    command.export(arguments)
    model = l3edge.load(output)
    assert model.spec == narrow
    assert model.metadata["parity"]["cosine_mean"] > 0.99
    audio = contract.sounds(3, 60_000, 48_000)
    embeddings, times = model.embed(audio, 48_000)
    assert embeddings.shape == (4, 64)
    np.testing.assert_allclose(times, 0.5 + 0.1 * np.arange(4))
    contract.check(lambda threads: l3edge.load(output, threads=threads), audio, 48_000, [1000, 4800])
    odd, _ = model.embed(audio, 48_000, hop=0.123)  # any number of samples is a hop
    window = model.network.window(audio[round(0.123 * 48_000) :][:48_000])
    assert odd[1].tobytes() == model.network.dequantize(window).tobytes()


def test_shards_at_another_rate_are_refused_with_what_to_do(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(l3edge.Error, match="prepare the videos with --sample-rate 16000"):
        pretrain.main(["--preset", "edge-s", "--data", str(shards), "--run", str(tmp_path / "r"), "--steps", "2"])


def test_full_width_l3_net_is_a_network_of_the_paper() -> None:
    assert PRESETS["l3-net"].layers == l3_stack((64, 128, 256, 512), "same")
