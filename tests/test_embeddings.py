"""Kept embeddings are those that would be made again, and both kinds of model embed the same windows."""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

for module in ("sklearn", "tqdm"):
    pytest.importorskip(module, reason=f"a probe needs {module}, which a device does not have")

import l3edge  # noqa: E402
from l3edge import frontend  # noqa: E402
from training import datasets, embedders, embeddings  # noqa: E402
from training.cli import TrainingError  # noqa: E402
from training.datasets import Clip  # noqa: E402
from training.embeddings import Cache, Plan  # noqa: E402

STUB = Path(__file__).parent / "data" / "stub-float32.tflite"
INT8 = Path(__file__).parent / "data" / "stub-int8.tflite"
EVERY_HOP = Plan(hop=0.1, seeded=False, quietest=None, pad=True)
SEEDED = Plan(hop=0.5, seeded=True, quietest=-70.0, pad=False)


@pytest.fixture
def clips(tmp_path: Path) -> list[Clip]:
    """2.25 s and 0.5 s of noise."""
    random = np.random.default_rng(0)
    made = []
    for name, n in (("a", 36_000), ("b", 8_000)):
        path = tmp_path / f"{name}.wav"
        soundfile.write(path, 0.1 * random.normal(size=n), 16_000)
        made.append(Clip(name, path, "noise", 1, name))
    return made


def never(clip: Clip, rate: int) -> np.ndarray:
    raise AssertionError("it was kept")


@pytest.mark.parametrize("plan", [EVERY_HOP, SEEDED])
def test_kept_embeddings_are_the_bits_of_fresh_ones(clips: list[Clip], tmp_path: Path, plan: Plan) -> None:
    model = embedders.load(str(INT8))
    fresh = embeddings.embed(model, clips, plan, seed=3)
    first = embeddings.embed(model, clips, plan, 3, Cache(tmp_path / "cache"))
    again = embeddings.embed(embedders.load(str(INT8)), clips, plan, 3, Cache(tmp_path / "cache"), load=never)
    for made in (first, again):
        assert made.values.tobytes() == fresh.values.tobytes()
        assert made.values.dtype == np.float32
        assert made.clip.tolist() == fresh.clip.tolist()


def test_windows_are_those_of_the_runtime(clips: list[Clip]) -> None:
    made = embeddings.embed(embedders.load(str(STUB)), clips, EVERY_HOP)
    model = l3edge.load(STUB)
    samples = datasets.load(clips[0], 16_000)
    for k, row in enumerate(made.values[made.clip == 0]):
        np.testing.assert_array_equal(row, model.embed(samples[1_600 * k : 1_600 * k + 16_000], 16_000)[0][0])
    assert np.bincount(made.clip).tolist() == [13, 1]  # whole windows; the short clip filled up to one
    padded = np.pad(datasets.load(clips[1], 16_000), (0, 8_000))
    np.testing.assert_array_equal(made.values[13], model.embed(padded, 16_000)[0][0])
    assert 1 not in embeddings.embed(embedders.load(str(STUB)), clips, SEEDED).clip


def test_a_damaged_file_is_made_again(clips: list[Clip], tmp_path: Path) -> None:
    model, folder = embedders.load(str(STUB)), tmp_path / "cache"
    want = embeddings.embed(model, clips, EVERY_HOP, cache=Cache(folder))
    files = sorted(folder.rglob("*.npz"))
    assert len(files) == 2
    whole = [path.read_bytes() for path in files]
    values = want.values[want.clip == 0].tobytes()
    target = next(i for i, content in enumerate(whole) if values in content)
    flipped = bytearray(whole[target])
    flipped[whole[target].index(values) + 5] ^= 1  # not in the archive's own fields, some of which nothing reads
    pickled = tmp_path / "pickled.npz"
    np.savez(pickled, embeddings=np.array([None]), levels=np.zeros(1))
    narrow = tmp_path / "narrow.npz"
    np.savez(narrow, embeddings=np.zeros((13, 7), np.float32), levels=np.zeros(13))
    damage = [b"", whole[target][:200], bytes(flipped), b"no archive", pickled.read_bytes(), narrow.read_bytes()]
    for content in damage:
        files[target].write_bytes(content)
        cache = Cache(folder)
        made = embeddings.embed(model, clips, EVERY_HOP, cache=cache)
        assert (cache.found, cache.made) == (1, 1)
        assert made.values.tobytes() == want.values.tobytes()
        assert [path.read_bytes() for path in sorted(folder.rglob("*"), key=str) if path.is_file()] == whole


def change_a_byte(clip: Clip) -> None:
    content = bytearray(clip.path.read_bytes())
    content[5_000] ^= 1
    clip.path.write_bytes(content)


def test_the_key_is_of_all_that_the_bits_depend_on(clips: list[Clip]) -> None:
    model, clip = embedders.load(str(STUB)), clips[0]
    key: Callable[..., str] = functools.partial(embeddings.key, model, clip)
    first = key(0.1, 0, True)
    assert key(0.1, 0, True) == first
    others = [key(0.2, 0, True), key(0.1, 1, True), key(0.1, 0, False)]
    others.append(embeddings.key(embedders.load(str(INT8)), clip, 0.1, 0, True))
    renamed = clip.path.rename(clip.path.with_name("other.wav"))
    moved = clip._replace(path=renamed, name="other", label="x", fold=9, group="y")
    assert embeddings.key(model, moved, 0.1, 0, True) == first
    change_a_byte(moved)
    others.append(embeddings.key(model, moved, 0.1, 0, True))
    assert len({first, *others}) == 6


def test_a_run_and_its_untrained_twin(run: Path, clips: list[Clip], tmp_path: Path) -> None:
    """Window k is samples [1600 k, 1600 k + 16000), through the front end's definition and the run's own tower."""
    pytest.importorskip("tensorflow", reason="TensorFlow is not in the device environment")
    from training.artifacts import load_run

    trained = embedders.load(str(run))
    made = embeddings.embed(trained, clips, EVERY_HOP)
    samples, spec = datasets.load(clips[0], 16_000), trained.spec
    cut = np.stack([samples[1_600 * k : 1_600 * k + 16_000] for k in range(13)])
    heard = frontend.features(cut, spec.front_end)[:, : spec.frames_used, :, None]
    want = load_run(run).audio_tower(heard, training=False).numpy()
    np.testing.assert_allclose(made.values[:13], want, atol=1e-4 * np.abs(want).max())
    assert trained.name == run.name

    named = [f"random:{run}", f"random:{run}:0", "random:edge-s:0", f"random:{run}:1"]
    models = [embedders.load(name) for name in named]
    assert [model.spec for model in models] == [spec] * 4
    assert models[0].identity == models[1].identity == models[2].identity
    assert len({models[0].identity, models[3].identity, trained.identity}) == 3
    rows = [embeddings.embed(model, clips[:1], EVERY_HOP).values for model in models]
    assert rows[0].tobytes() == rows[2].tobytes()
    assert not np.array_equal(rows[0], rows[3])
    cache = Cache(tmp_path / "cache")
    for _ in range(2):
        assert embeddings.embed(models[0], clips[:1], EVERY_HOP, cache=cache).values.tobytes() == rows[0].tobytes()
    assert (cache.found, cache.made) == (1, 1)


def test_what_is_no_model(run: Path, tmp_path: Path) -> None:
    for name, message in (
        (f"random:{tmp_path}", "is neither a preset .* nor a run directory"),
        (str(tmp_path), "is not a run directory"),
        (str(tmp_path / "no.tflite"), "no model and no dataset"),
    ):
        with pytest.raises(TrainingError, match=message):
            embedders.load(name)


_KEY = """
import importlib.metadata, pathlib, types
import l3edge.engine
from training import embeddings
from training.datasets import Clip
{patch}
spec = types.SimpleNamespace(sample_rate=16000, window=16000)
model = types.SimpleNamespace(spec=spec, identity="0" * 64, engine="litert 2")
print(embeddings.key(model, Clip("a", pathlib.Path({sound!r}), "noise", 1, "a"), 0.1, 0, True))
"""


def test_the_key_is_of_the_code_and_of_what_it_runs_on(clips: list[Clip], tmp_path: Path) -> None:
    """In processes of their own, from a copy of the source."""
    root = Path(__file__).parents[1]
    for package in ("l3edge", "training"):
        shutil.copytree(root / package, tmp_path / "copy" / package, ignore=shutil.ignore_patterns("__pycache__"))

    def key(patch: str = "") -> str:
        code = _KEY.format(patch=patch, sound=str(clips[0].path))
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path / "copy", capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    first = key()
    assert key() == first
    others = [key("l3edge.engine.cpu_kind = lambda: 'x86_64-avx9'")]
    for package in ("soxr", "soundfile", "av"):
        said = f"'9.9' if name == '{package}' else known(name)"
        others.append(key(f"known = importlib.metadata.version\nimportlib.metadata.version = lambda name: {said}"))
    for name in ("embeddings", "tracks", "network"):
        with (tmp_path / "copy/training" / f"{name}.py").open("a") as file:
            file.write("# changed\n")
        others.append(key())
    assert len({first, *others}) == 8
