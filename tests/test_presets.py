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
from training import network, prepare, pretrain, synthesize
from training.small import small


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


# Parameters of the deployed tower: 3x3 kernels of 1-8-8-16-16-32-32-64-64 and 240 biases, 73,224 + 240. Of all that is
# trained: both towers' kernels (the picture has three channels), four numbers a filter for batch normalisation (but for
# OpenL3's last convolution, which has a bias instead, and whose embedding is normalised before the fusion: 64 + 256),
# and the fusion, 128 x 128 + 128 + 128 x 2 + 2.
@pytest.mark.parametrize(
    ("name", "deployed", "trained"),
    [
        ("edge-s", 73_464, 165_282),
        ("edge-m", 73_464, 165_282),
        ("edge-l", 73_464, 165_282),
        ("l3-net", 73_464, 165_282),
        ("openl3-linear", 73_464, 165_346),
        ("openl3-mel128", 73_464, 165_346),
        ("openl3-mel256", 73_464, 165_346),
    ],
)
def test_small_presets(name: str, deployed: int, trained: int) -> None:
    """Narrow towers and a small picture; all that an experiment compares is the preset's."""
    spec, full, filters = small(PRESETS[name]), PRESETS[name], (8, 16, 32, 64)
    assert spec.name == f"{name}-small"
    assert [layer.filters for layer in spec.convolutions] == [count for count in filters for _ in range(2)]
    assert spec.image == ImageTower(48, filters)
    assert spec.parameters == deployed
    assert network.avc_model(spec).count_params() == trained
    assert spec.embedding_size == filters[-1]
    for field in ("front_end", "window", "hop", "streaming", "embedding", "frames_used", "receptive_field"):
        assert getattr(spec, field) == getattr(full, field)
    assert [shape[:2] for shape in spec.shapes(spec.frames_used)] == [s[:2] for s in full.shapes(full.frames_used)]
    assert l3edge.Spec.from_json(spec.to_json()) == spec


def test_there_is_a_small_version_of_every_preset() -> None:
    assert {small(spec).name for spec in PRESETS.values()} == {f"{name}-small" for name in PRESETS}


def test_a_small_edge_run_is_exported(tmp_path: Path) -> None:
    """It streams, as its preset does."""
    folder = tmp_path / "v"
    synthesize.main(["--out", str(folder), "--count", "8", "--seed", "3", "--seconds", "2", "--kinds", "bell,dog"])
    prepare.main([str(folder), "--out", str(tmp_path / "s")])
    run, output = tmp_path / "run", tmp_path / "m.tflite"
    arguments = ["--preset", "edge-m", "--small", "--data", str(tmp_path / "s"), "--run", str(run)]
    assert pretrain.main([*arguments, "--steps", "2", "--batch", "4"]) == 0
    command.export(command.parser().parse_args([str(run), "--output", str(output), "--recipe", "float32"]))
    model = l3edge.load(output)
    assert model.spec == small(PRESETS["edge-m"])
    audio = np.random.default_rng(0).uniform(-0.5, 0.5, 24_000).astype(np.float32)
    values, _ = model.embed(audio, 16_000)
    pushed, _ = model.stream(16_000).push(audio)
    assert values[: len(pushed)].tobytes() == pushed.tobytes()
