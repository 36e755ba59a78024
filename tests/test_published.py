"""Published weights: what is recognised, what is refused, and that an imported model gives the published embeddings.

The reference is a second reading of the same file that shares nothing with `export`: the stored kapre kernels as the
convolutions they are, layers in the published orientation (frequency, time), batch normalisation not folded.

The one real file is EdgeL3's SEA-64 (MIT), at L3EDGE_DATA. OpenL3's are made here, with the published layer names and
shapes (`openl3/models.py` 0.2 to 0.4 of marl/openl3) and seeded weights.
"""

from __future__ import annotations

import dataclasses
import functools
import gzip
import hashlib
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="TensorFlow is not in the device environment")
pytest.importorskip("soxr", reason="soxr is not installed")

import h5py
import soundfile

import l3edge
from export import build, convert, graph, import_weights, published, quantise, representative, verify
from export.contract import sounds
from l3edge import audio, cli, frontend, model_file, openl3
from l3edge.frontend import Decibel
from l3edge.layers import Conv, Pool, l3_stack
from l3edge.spec import openl3_spec
from training.backend import tf

from .test_microphone import check_streamed_is_embedded_is_the_clip, sound_server

DATA = Path(os.environ.get("L3EDGE_DATA", Path(__file__).parents[2] / "shared" / "data"))
SEA64 = DATA / "edgel3" / "edgel3_sea_ust_audio_emb_64.h5.gz"
CLIPS = sorted((DATA / "esc10").glob("*/*.ogg"))
CALIBRATE = [path for path in CLIPS if path.name[0] in "12"]  # ESC-10's folds
CHECK = [path for path in CLIPS if path.name[0] == "3"]

needs_sea = pytest.mark.skipif(
    not SEA64.is_file(), reason=f"no {SEA64}: set L3EDGE_DATA to a folder that holds edgel3/{SEA64.name}"
)
needs_clips = pytest.mark.skipif(
    not (CALIBRATE and CHECK),
    reason=f"no recordings at {DATA}: set L3EDGE_DATA to a folder that holds esc10/<class>/*.ogg, folds 1 to 3",
)

Array = np.ndarray[Any, Any]
Layers = dict[str, dict[str, Array]]

FILTERS = {512: (64, 128, 256, 512), 256: (32, 64, 128, 256), 128: (32, 64, 128, 128), 64: (32, 64, 128, 64)}
# n_dft, n_hop, mel bands, sample rate, padding
KAPRE = {
    "linear": (512, 242, 0, 48_000, "VALID"),
    "mel128": (2048, 242, 128, 48_000, "SAME"),
    "mel256": (2048, 242, 256, 48_000, "SAME"),
    "sea": (1024, 160, 64, 8_000, "SAME"),
}


def kapre_kernels(front: str) -> dict[str, Array]:
    """`get_stft_kernels` and `mel` (librosa's, htk, norm 1) of kapre 0.1.4, from their formulae."""
    n, _, bands, rate, _ = KAPRE[front]
    bins = n // 2 + 1
    angle = 2 * np.pi * np.outer(np.arange(n), np.arange(bins)) / n
    hann = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)).astype(np.float32)[:, None]
    kernels = {
        "real_kernels:0": (np.cos(angle) * hann)[:, None, None],
        "imag_kernels:0": (-np.sin(angle) * hann)[:, None, None],
    }
    if bands:
        mels = np.linspace(0, 2595 * np.log10(1 + rate / 2 / 700), bands + 2)
        hertz = 700 * (10 ** (mels / 2595) - 1)
        fft = np.linspace(0, rate / 2, bins)
        mel = np.zeros((bins, bands))
        for band in range(bands):
            low, centre, high = hertz[band : band + 3]
            mel[:, band] = np.interp(fft, [low, centre, high], [0, 1, 0], 0, 0) * 2 / (high - low)
        kernels["Variable:0"] = mel
    return {name: value.astype(np.float32) for name, value in kernels.items()}


def made(front: str, size: int = 512, seed: int = 0, zeros: float = 0.0) -> Layers:
    """Layers as Keras stores them, published names and shapes, seeded weights; `zeros` of them zero."""
    rng = np.random.default_rng(seed)
    layers: Layers = {"input_1": {}}
    spectrogram = "spectrogram_1" if front == "linear" else "melspectrogram_1"
    layers[spectrogram] = {f"{spectrogram}/{name}": value for name, value in kapre_kernels(front).items()}

    def normalise(number: int, channels: int, mean: float = 0.0, deviation: float = 1.0) -> None:
        name = f"batch_normalization_{number}"
        layers[name] = {
            f"{name}/gamma:0": rng.uniform(0.8, 1.2, channels).astype(np.float32),
            f"{name}/beta:0": rng.normal(0, 0.1, channels).astype(np.float32),
            f"{name}/moving_mean:0": (mean + rng.normal(0, 0.1, channels)).astype(np.float32),
            f"{name}/moving_variance:0": (deviation**2 * rng.uniform(0.8, 1.2, channels)).astype(np.float32),
        }

    normalise(1, 1, -45.0, 18.0)
    inputs, number = 1, 0
    for block, filters in enumerate(FILTERS[size], 1):
        for _ in range(2):
            number += 1
            name = f"conv2d_{number}" if number < 8 else "audio_embedding_layer"
            kernel = rng.normal(0, (2 / (9 * inputs)) ** 0.5, (3, 3, inputs, filters))
            kernel[rng.random(kernel.shape) < zeros] = 0
            layers[name] = {
                f"{name}/kernel:0": kernel.astype(np.float32),
                f"{name}/bias:0": rng.normal(0, 0.1, filters).astype(np.float32),
            }
            inputs = filters
            if number < 8 or front == "sea":
                normalise(number + 1, filters)
                layers[f"activation_{number}"] = {}
        layers[f"max_pooling2d_{block}"] = {}
    return layers


def write(path: Path, layers: Layers, config: dict[str, Any] | None = None) -> Path:
    """A Keras file: weights alone under the root, or with a configuration a whole model; gzipped if so named."""
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        root = file if config is None else file.create_group("model_weights")
        if config is not None:
            file.attrs["model_config"] = json.dumps(config).encode()
        root.attrs["layer_names"] = np.array([name.encode() for name in layers])
        for name, weights in layers.items():
            group = root.create_group(name)
            group.attrs["weight_names"] = np.array([weight.encode() for weight in weights])
            for weight, value in weights.items():
                group[weight] = value
    data = memory.getvalue()
    path.write_bytes(gzip.compress(data, 1) if path.suffix == ".gz" else data)
    return path


def opened(path: Path) -> Layers:
    """What a file holds, in the order of its layers."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    with h5py.File(io.BytesIO(data)) as file:
        root = file.get("model_weights", file)
        return {
            name.decode(): {w.decode(): root[name][w][()] for w in root[name].attrs["weight_names"]}
            for name in root.attrs["layer_names"]
        }


def decibels(windows: Array, kernels: dict[str, Array], hop: int, padding: str) -> Any:
    """kapre 0.1.4's `Melspectrogram` (or `Spectrogram`), by convolution as there: [n, frequency, time, 1]."""
    x = tf.constant(windows, tf.float32)[:, :, None, None]
    parts = (tf.nn.conv2d(x, kernels[f"{end}_kernels:0"], [hop, 1], padding) for end in ("real", "imag"))
    x = tf.add_n([tf.square(part) for part in parts])[:, :, 0]  # [n, time, frequency]
    if "Variable:0" in kernels:
        x = x @ kernels["Variable:0"]
    x = 10 * tf.math.log(tf.maximum(tf.sqrt(x), 1e-10)) / np.log(10).astype(np.float32)
    x = tf.maximum(x - tf.reduce_max(x, axis=[1, 2], keepdims=True), -80.0)
    return tf.transpose(x, [0, 2, 1])[..., None]


def reconstruction(layers: Layers, front: str, pool: tuple[int, int]) -> Callable[[Array], Array]:
    """The published network, windows [n, samples] -> [n, d]; pool: the last one, (frequency, time)."""
    n_dft, hop, _, _, padding = KAPRE[front]
    stored = next((w for name, w in layers.items() if "spectrogram" in name), None)
    kernels = {name.rpartition("/")[2]: v for name, v in stored.items()} if stored else kapre_kernels(front)
    assert len(kernels["real_kernels:0"]) == n_dft

    def network(windows: Array) -> Any:
        x = decibels(windows, kernels, hop, padding)
        convolutions = 0
        for name, weights in layers.items():
            values = {weight.rpartition("/")[2].split(":")[0]: value for weight, value in weights.items()}
            if "gamma" in values:
                x = (x - values["moving_mean"]) / np.sqrt(values["moving_variance"] + np.float32(1e-3))
                x = x * values["gamma"] + values["beta"]
                x = tf.nn.relu(x) if convolutions else x
            elif "kernel" in values:
                convolutions += 1
                if convolutions in (3, 5, 7):
                    x = tf.nn.max_pool2d(x, 2, 2, "VALID")
                x = tf.nn.conv2d(x, values["kernel"], 1, "SAME") + values["bias"]
            else:
                assert not weights or "spectrogram" in name
        x = tf.nn.max_pool2d(x, pool, pool, "SAME")
        return tf.reshape(x, [len(windows), -1])

    def run(windows: Array) -> Array:
        return np.concatenate([network(windows[i : i + 64]).numpy() for i in range(0, len(windows), 64)])

    return run


def published_windows(signal: Array, rate: int, hop: int, center: bool) -> Array:
    """OpenL3's and EdgeL3's windows of a signal at their rate: `_center_audio`, `_pad_audio` and the split after."""
    x = np.concatenate([np.zeros(rate // 2 if center else 0, np.float32), signal])
    missing = rate - len(x) if len(x) < rate else int(np.ceil((len(x) - rate) / hop)) * hop - (len(x) - rate)
    return np.lib.stride_tricks.sliding_window_view(np.concatenate([x, np.zeros(missing, np.float32)]), rate)[::hop]


def cosines(a: Array, b: Array) -> Array:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return np.asarray((a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)))


@functools.cache
def recording(path: Path, rate: int) -> Array:
    samples, source = audio.read(path)
    return audio.resample(audio.to_mono(samples).samples, source, rate)


def imported(source: Path, output: Path, *options: str) -> l3edge.Model:
    import_weights.main([str(source), "--output", str(output), *options])
    return l3edge.load(output)


def openl3_file(folder: Path, front: str, *, kernels: bool = True, zeros: float = 0.0, name: str = "") -> Path:
    layers = made(front, zeros=zeros)
    if not kernels:  # as tests/migration/remove_layers.py of OpenL3 left them in version 0.4
        layers = {name: weights for name, weights in layers.items() if "spectrogram" not in name}
    return write(folder / (name or f"openl3_audio_{front}_music.h5"), layers)


# What is recognised


@pytest.mark.parametrize("kernels", [True, False], ids=["0.2-0.3", "0.4"])
@pytest.mark.parametrize("front", ["linear", "mel128", "mel256"])
def test_openl3_is_recognised(tmp_path: Path, front: str, kernels: bool) -> None:
    file = openl3_file(tmp_path, front, kernels=kernels)
    for size in (None, 512, 6144):
        read = published.read(file, size)
        assert (read.kind, read.spec.embedding_size) == (f"openl3-{front}", size or 512)
        assert read.content_type == "music"
        assert (read.kernels is not None) == kernels
        assert not read.spec.streaming
        assert read.spec.sample_rate == read.spec.window == 48_000
        assert [layer.relu for layer in read.spec.convolutions] == [True] * 7 + [False]
        assert read.spec.frames == (197 if front == "linear" else 199)


@pytest.mark.parametrize(("pack", "whole"), [("", False), (".gz", False), (".gz", True)])
@pytest.mark.parametrize("size", FILTERS)
def test_sea_is_recognised_by_its_layers_under_any_name(tmp_path: Path, size: int, pack: str, whole: bool) -> None:
    file = write(tmp_path / f"w.h5{pack}", made("sea", size), {"config": {"layers": []}} if whole else None)
    read = published.read(file)
    assert (read.kind, read.spec.embedding_size, read.spec.sample_rate) == (f"sea-{size}", size, 8_000)
    assert all(layer.relu for layer in read.spec.convolutions)
    assert [layer.filters for layer in read.spec.layers if isinstance(layer, Conv)][::2] == list(FILTERS[size])
    assert read.spec.layers[-1] == Pool((6, 8), (6, 8))
    with pytest.raises(published.PublishedError, match=f"gives {size} values, not 6144"):
        published.read(file, 6144)


def test_sparse_edgel3_is_recognised_and_its_zeros_counted(tmp_path: Path) -> None:
    read = published.read(openl3_file(tmp_path, "mel256", zeros=0.9545, name="edgel3_kd_audio_sparsity_95.45.h5"))
    assert read.kind == read.spec.name == "edgel3-sparse"
    assert read.sparsity == pytest.approx([0.9545] * 8, abs=0.03)
    assert all(np.mean(kernel == 0) == share for (kernel, _), share in zip(read.weights, read.sparsity, strict=True))


@needs_sea
def test_the_real_sea_64() -> None:
    read = published.read(SEA64)
    assert (read.kind, read.licence, read.spec.embedding_size) == ("sea-64", "MIT", 64)
    assert read.sparsity == (0.0,) * 8
    assert read.spec.parameters == 397_152


# What is refused


def test_an_openl3_file_that_does_not_say_which_needs_a_word(tmp_path: Path) -> None:
    file = openl3_file(tmp_path, "mel128", kernels=False, name="weights.h5")
    with pytest.raises(published.PublishedError, match="say it with --input-repr"):
        published.read(file)
    assert published.read(file, input_repr="mel128").kind == "openl3-mel128"


@pytest.mark.parametrize(
    ("front", "name", "says", "zeros"),
    [
        ("mel256", "openl3_audio_mel128_env-v0_2_0.h5.gz", "openl3-mel128", 0.0),
        ("linear", "openl3_audio_mel256_music.h5", "openl3-mel256", 0.0),
        ("mel256", "edgel3_sea_ust_audio_emb_512.h5", "sea-512", 0.0),
        ("mel256", "edgel3_ft_audio_sparsity_53.5.h5", "edgel3-sparse", 0.0),
        ("mel256", "openl3_audio_mel256_env.h5", "openl3-mel256", 0.6),
        ("sea", "edgel3_sea_ust_audio_emb_64.h5.gz", "sea-64", 0.0),
    ],
)
def test_a_name_that_contradicts_the_layers_is_an_error(
    tmp_path: Path, front: str, name: str, says: str, zeros: float
) -> None:
    file = write(tmp_path / name, made(front, zeros=zeros))
    is_really = "sea-512" if front == "sea" else "edgel3-sparse" if zeros else f"openl3-{front}"
    with pytest.raises(published.PublishedError, match=f"name says {says}, its layers say {is_really}"):
        published.read(file)


def test_an_option_that_contradicts_the_layers_is_an_error(tmp_path: Path) -> None:
    file = openl3_file(tmp_path, "mel256")
    with pytest.raises(published.PublishedError, match="--input-repr says openl3-linear"):
        published.read(file, input_repr="linear")
    with pytest.raises(published.PublishedError, match="512 or 6144 values, not 64"):
        published.read(file, 64)


def _image(layers: Layers) -> None:
    layers["conv2d_1"]["conv2d_1/kernel:0"] = np.zeros((3, 3, 3, 32), np.float32)


def _other_width(layers: Layers) -> None:
    layers["conv2d_7"]["conv2d_7/kernel:0"] = np.zeros((3, 3, 128, 65), np.float32)
    layers["conv2d_7"]["conv2d_7/bias:0"] = np.zeros(65, np.float32)


def _set(layer: str, weight: str, value: float) -> Callable[[Layers], None]:
    def change(layers: Layers) -> None:
        layers[layer][f"{layer}/{weight}:0"].flat[0] = value

    return change


def _fortran_order(layers: Layers) -> None:
    layers["conv2d_3"]["conv2d_3/kernel:0"] = layers["conv2d_3"]["conv2d_3/kernel:0"].T.copy()


def _integers(layers: Layers) -> None:
    layers["conv2d_3"]["conv2d_3/bias:0"] = np.zeros(64, np.int32)


def _dense(layers: Layers) -> None:
    layers["dense_1"] = {"dense_1/kernel:0": np.zeros((64, 2), np.float32), "dense_1/bias:0": np.zeros(2, np.float32)}


def _recurrent(layers: Layers) -> None:
    layers["gru_1"] = {"gru_1/recurrent_kernel:0": np.zeros((4, 4), np.float32)}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda layers: layers.pop("conv2d_4"), "its layers with weights are"),
        (lambda layers: layers.pop("batch_normalization_1"), "its layers with weights are"),
        (lambda layers: layers["conv2d_2"].popitem(), "as no published network has"),
        (lambda layers: layers.clear(), "its layers with weights are: none"),
        (_dense, "its layers with weights are"),
        (_recurrent, "gru_1"),
        (_image, "an image network"),
        (_other_width, "conv2d_7|audio_embedding_layer"),
        (_fortran_order, "conv2d_3"),
        (_integers, "not an array of floats"),
        (_set("conv2d_3", "kernel", np.nan), "not finite"),
        (_set("batch_normalization_4", "moving_variance", -1.0), "negative variance"),
        (_set("melspectrogram_1", "real_kernels", 0.5), "real_kernels that differ by 0.5"),
        (_set("melspectrogram_1", "Variable", 0.5), "Variable that differ by 0.5"),
    ],
)
def test_other_layers_are_refused(tmp_path: Path, change: Callable[[Layers], Any], reason: str) -> None:
    layers = made("sea", 64)
    change(layers)
    file = write(tmp_path / "w.h5", layers)
    with pytest.raises(published.PublishedError, match=reason) as caught:
        published.read(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("class_name", "setting", "value"),
    [
        ("Melspectrogram", "n_hop", 161),
        ("Melspectrogram", "htk", False),
        ("Melspectrogram", "power_melgram", 2.0),
        ("Melspectrogram", "padding", "valid"),
        ("BatchNormalization", "epsilon", 1e-5),
        ("Conv2D", "padding", "valid"),
        ("Conv2D", "strides", [2, 2]),
        ("Activation", "activation", "elu"),
        ("MaxPooling2D", "pool_size", [3, 3]),
    ],
)
def test_a_whole_models_settings_must_be_the_published_ones(
    tmp_path: Path, class_name: str, setting: str, value: Any
) -> None:
    layer = {"class_name": class_name, "config": {"name": "it", setting: value}}
    file = write(tmp_path / "w.h5", made("sea", 64), {"config": {"layers": [layer]}})
    with pytest.raises(published.PublishedError, match=f"layer it has .*{setting}"):
        published.read(file)


@pytest.mark.parametrize("config", [5, {}, {"config": 5}, {"config": {"layers": [5]}}])
def test_a_damaged_configuration_is_an_error(tmp_path: Path, config: Any) -> None:
    with pytest.raises(published.PublishedError, match="damaged, or not written by Keras"):
        published.read(write(tmp_path / "w.h5", made("sea", 64), config))


def test_what_is_no_weight_file_is_refused(tmp_path: Path) -> None:
    good = write(tmp_path / "w.h5", made("sea", 64)).read_bytes()
    packed = gzip.compress(good, 1)
    other = io.BytesIO()
    with h5py.File(other, "w") as file:
        file["numbers"] = np.arange(5)
    cases: list[tuple[bytes, str]] = [
        (b"", "not an HDF5 file"),
        (b"PK\x03\x04" + bytes(100), "not an HDF5 file"),
        (packed[: len(packed) // 2], "truncated or damaged gzip"),
        (packed[:1000] + bytes(1000) + packed[2000:], "gzip|HDF5|damaged|finite|differ"),
        (good[: len(good) // 2], "truncated or damaged HDF5"),
        (good[:100], "truncated or damaged HDF5"),
        (other.getvalue(), "not a Keras weight file"),
    ]
    for data, reason in cases:
        file = tmp_path / "bad.h5"
        file.write_bytes(data)
        with pytest.raises(published.PublishedError, match=reason):
            published.read(file)
    with pytest.raises(published.PublishedError, match="cannot be read"):
        published.read(tmp_path)
    with pytest.raises(published.PublishedError, match="cannot be read"):
        published.read(tmp_path / "none.h5")


def test_a_gzip_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "MOST_BYTES", 1 << 20)
    bomb = tmp_path / "bomb.h5.gz"
    bomb.write_bytes(gzip.compress(bytes(1 << 22)))
    with pytest.raises(published.PublishedError, match="far larger"):
        published.read(bomb)


def test_links_to_other_files_are_not_followed(tmp_path: Path) -> None:
    secret = write(tmp_path / "other.h5", made("sea", 64))
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        file.attrs["layer_names"] = [b"input_1"]
        file["input_1"] = h5py.ExternalLink(str(secret), "/input_1")
    linked = tmp_path / "w.h5"
    linked.write_bytes(memory.getvalue())
    with pytest.raises(published.PublishedError, match="damaged, or not written by Keras"):
        published.read(linked)


def test_damaged_bytes_give_an_error_or_the_weights(tmp_path: Path) -> None:
    """Seeded mutations where a file has its structure; a crash would end the test run."""
    layers = {name: weights for name, weights in made("sea", 64).items() if "spectrogram" not in name}
    data = bytearray(write(tmp_path / "w.h5", layers).read_bytes())
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        damaged = bytearray(data)
        for place in rng.integers(0, 20_000, 4):
            damaged[place] = rng.integers(256)
        file = tmp_path / "d.h5"
        file.write_bytes(damaged)
        try:
            assert published.read(file).kind == "sea-64"
        except published.PublishedError:
            refused += 1
    assert refused > 50


# The front end


@needs_sea
@needs_clips
def test_decibels_against_the_stored_kernels_on_recordings() -> None:
    """The front end's real transform against kapre's matrices as the real file stores them, both in float64.

    What remains is the rounding of the stored kernels to float32: 80 dB below the window's maximum of a magnitude is
    1e-8 of it, and a kernel's rounding 6e-8. Over all recordings the largest difference is 0.086 dB, in `quiet`.
    """
    quiet = [path for path in CLIPS if path.name == "2-82538-A.ogg"]
    read = published.read(SEA64)
    assert read.kernels is not None
    assert isinstance(read.spec.front_end, Decibel)
    stored = (read.kernels.real, read.kernels.imaginary, read.kernels.mel)
    real, imaginary, mel = (np.asarray(kernel, np.float64) for kernel in stored)
    worst = 0.0
    for path in [*CLIPS[::8], *quiet]:
        for window in published_windows(recording(path, 8_000), 8_000, 8_000, False):
            padded = np.pad(window.astype(np.float64), 432)
            frames = np.lib.stride_tricks.sliding_window_view(padded, 1024)[::160]
            want = 10 * np.log10(np.maximum(np.sqrt(((frames @ real) ** 2 + (frames @ imaginary) ** 2) @ mel), 1e-10))
            want = np.maximum(want - want.max(), -80)
            worst = max(worst, float(np.abs(frontend.features(window, read.spec.front_end) - want).max()))
    print(f"largest difference: {worst:.4f} dB")
    assert worst < 0.1


@pytest.mark.parametrize("front", KAPRE)
def test_decibels_against_kapres_convolutions(front: str) -> None:
    n_dft, hop, bands, rate, padding = KAPRE[front]
    spec = Decibel(rate, n_dft, hop, bands, padding=padding.lower())
    x = np.stack([sounds(seed, rate) for seed in range(2)] + [np.zeros(rate, np.float32)])
    want = decibels(x, kapre_kernels(front), hop, padding).numpy()[..., 0].transpose(0, 2, 1)
    got = frontend.features(x, spec)
    assert got.shape == want.shape
    assert np.abs(got - want).max() < 0.05
    assert (got[2] == 0).all()  # silence is its own maximum
    assert (got[:2].max(axis=(1, 2)) == 0).all()
    assert np.abs(frontend.features(x[0], spec) - got[0]).max() == 0


# Imported models


@pytest.fixture(scope="module")
def sea64(tmp_path_factory: pytest.TempPathFactory) -> dict[str, l3edge.Model]:
    folder = tmp_path_factory.mktemp("sea")
    clips = [str(path) for path in CALIBRATE[::2]]
    return {
        "float32": imported(SEA64, folder / "float.tflite"),
        "int8_ptq": imported(SEA64, folder / "int8.tflite", "--recipe", "int8_ptq", "--audio", *clips),
    }


@functools.cache
def sea64_reference() -> list[tuple[Path, Array]]:
    """What the published network gives for each recording of the check, a window every 0.5 s."""
    network = reconstruction(opened(SEA64), "sea", (8, 6))
    return [(path, network(published_windows(recording(path, 8_000), 8_000, 4_000, True))) for path in CHECK]


@needs_sea
@needs_clips
@pytest.mark.parametrize(("recipe", "mean", "minimum"), [("float32", 0.99999, 0.99999), ("int8_ptq", 0.995, 0.96)])
def test_sea_64_gives_the_published_embeddings(
    sea64: dict[str, l3edge.Model], recipe: str, mean: float, minimum: float
) -> None:
    model, values = sea64[recipe], []
    for path, want in sea64_reference():
        embeddings, times = model.embed(recording(path, 8_000), 8_000, hop=0.5, center=True)
        assert embeddings.shape == want.shape
        assert np.allclose(times, np.arange(len(times)) * 0.5)
        values.append(cosines(embeddings, want))
    cosine = np.concatenate(values)
    print(f"{recipe}: {len(cosine)} windows, cosine mean {cosine.mean():.6f}, minimum {cosine.min():.6f}")
    assert cosine.mean() >= mean
    assert cosine.min() >= minimum


@needs_sea
@needs_clips
@pytest.mark.parametrize("recipe", ["float32", "int8_ptq"])
def test_the_stored_parity_is_reproduced(sea64: dict[str, l3edge.Model], recipe: str) -> None:
    """`export.verify --against FILE.h5.gz`, with the recordings that the import was given."""
    audio = CALIBRATE[::2] if recipe == "int8_ptq" else []
    checks = {check.name: check for check in verify.verify(sea64[recipe].path, SEA64, audio=audio)}
    assert not [check for check in checks.values() if check.passed is False]
    assert checks["parity"].passed is checks["stored"].passed is True


@needs_sea
@pytest.mark.parametrize("recipe", ["float32", "int8_ptq"])
def test_sea_64_from_a_microphone(sea64: dict[str, l3edge.Model], recipe: str, tmp_path: Path) -> None:
    with sound_server(tmp_path, 48_000, 1) as pulse:
        cosines = check_streamed_is_embedded_is_the_clip(pulse, 48_000, 1, tmp_path, sea64[recipe].path)
    # Its decibels reach 80 below the window's maximum, where a sound server's rounding is heard: some differ more.
    assert cosines.mean() >= 0.99


@needs_sea
@needs_clips
def test_an_imported_file_says_where_it_comes_from(sea64: dict[str, l3edge.Model]) -> None:
    for recipe, model in sea64.items():
        provenance = model.metadata["provenance"]
        assert provenance["source"] == SEA64.name
        assert provenance["sha256"] == hashlib.sha256(SEA64.read_bytes()).hexdigest()
        assert provenance["licence"] == "MIT"
        assert provenance["kind"] == model.spec.name == "sea-64"
        assert "Specialized Embedding Approximation" in provenance["citation"]
        assert model.metadata["recipe"] == recipe
        assert str(SEA64.parent) not in json.dumps(model.metadata)


@needs_sea
@needs_clips
def test_sea_64_streams_and_embeds_alike(sea64: dict[str, l3edge.Model]) -> None:
    x = recording(CHECK[0], 8_000)
    for model in sea64.values():
        want, times = model.embed(x, 8_000, hop=0.1, center=True)
        stream = model.stream(8_000, hop=0.1, center=True)
        parts = [stream.push(x[i : i + 509]) for i in range(0, len(x), 509)] + [stream.flush()]
        assert np.concatenate([e for e, _ in parts]).tobytes() == want.tobytes()
        assert np.concatenate([t for _, t in parts]).tobytes() == times.tobytes()


@needs_sea
@needs_clips
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("hop_size", [0.1, 0.25, 0.7, 0.123])
def test_openl3s_calls_on_an_imported_model(sea64: dict[str, l3edge.Model], hop_size: float, center: bool) -> None:
    model = sea64["float32"]
    signal = recording(CHECK[1], 8_000)[:23_456]
    embedding, timestamps = openl3.get_audio_embedding(signal, 8_000, model, center=center, hop_size=hop_size)
    cut = published_windows(signal, 8_000, int(hop_size * 8_000), center)
    want = reconstruction(opened(SEA64), "sea", (8, 6))(cut)
    assert embedding.shape == want.shape
    assert timestamps.tolist() == (np.arange(len(want)) * hop_size).tolist()
    assert cosines(embedding, want).min() >= 0.99999


@pytest.mark.parametrize(
    ("front", "size", "pool", "kernels"),
    [
        ("linear", 512, (32, 24), True),
        ("mel128", 6144, (4, 8), True),
        ("mel256", 512, (32, 24), False),
        ("mel256", 6144, (8, 8), True),
    ],
)
def test_openl3_gives_the_published_embeddings(
    tmp_path: Path, front: str, size: int, pool: tuple[int, int], kernels: bool
) -> None:
    """`POOLINGS` of openl3/models.py, and Keras' order of flattening: frequency, time, channel."""
    file = openl3_file(tmp_path, front, kernels=kernels)
    spoken = write_sounds(tmp_path)
    model = imported(file, tmp_path / "m.tflite", "--embedding-size", str(size), "--audio", str(spoken))
    signal = sounds(9, 48_000)
    embedding, timestamps = openl3.get_audio_embedding(
        signal, 48_000, model, input_repr=front, content_type="music", embedding_size=size, hop_size=0.5
    )
    want = reconstruction(opened(file), front, pool)(published_windows(signal, 48_000, 24_000, True))
    assert embedding.shape == want.shape == (2, size)
    assert timestamps.tolist() == [0.0, 0.5]
    assert cosines(embedding, want).min() >= 0.99999
    assert np.abs(embedding - want).max() <= 1e-3 * np.abs(want).max()
    assert model.metadata["provenance"]["licence"] == "CC BY 4.0"
    for argument, value in (("input_repr", "mel128" if front != "mel128" else "linear"), ("content_type", "env")):
        with pytest.raises(l3edge.OptionError, match="contradicts the model"):
            openl3.get_audio_embedding(signal, 48_000, model, **{argument: value})


def write_sounds(folder: Path) -> Path:
    path = folder / "sounds.wav"
    soundfile.write(path, sounds(8, 60_000), 48_000, subtype="FLOAT")
    return path


# The command


@pytest.mark.parametrize("recipe", ["int8_ptq", "int8_qat"])
def test_int8_needs_audio(tmp_path: Path, recipe: str) -> None:
    file = write(tmp_path / "w.h5", made("sea", 64))
    with pytest.raises(l3edge.Error, match="--audio"):
        import_weights.main([str(file), "--output", str(tmp_path / "m.tflite"), "--recipe", recipe])
    assert not (tmp_path / "m.tflite").exists()


def test_int8_of_a_network_that_ends_without_relu(tmp_path: Path) -> None:
    """OpenL3's last layers, narrow: values of both signs through calibration, correction, conversion and the SDK."""
    published_spec = openl3_spec("mel128", 6144)
    *tower, last, pool = *l3_stack((8, 8, 8, 16), "same"), published_spec.layers[-1]
    spec = dataclasses.replace(published_spec, layers=(*tower, last._replace(relu=False), pool))
    network = graph.Network(spec, graph.random_weights(spec.layers, 0), affine=(0.05, 2.2))
    windows = np.stack([sounds(seed, spec.window, 48_000) for seed in range(48)])
    inputs = representative.features(spec, windows, network.affine)
    want = build.float_embeddings(network)(windows)
    assert want.min() < -0.1 * want.max() < 0
    calibrated = quantise.calibrate(network, inputs[:32])
    assert calibrated.ranges is not None
    assert [low for low, _ in calibrated.ranges[:-1]] == [0.0] * 7
    assert calibrated.ranges[-1][0] < 0
    corrected = quantise.correct_biases(calibrated, inputs[:32])

    def error(candidate: graph.Network) -> float:
        made = graph.embedding_of(graph.columns_of(candidate, inputs[32:]), spec).numpy()
        return float(np.square(made - want[32:]).mean() / np.square(want[32:]).mean())

    assert error(corrected) < 0.8 * error(calibrated)
    output = tmp_path / "m.tflite"
    metadata = {"name": "narrow", "spec": spec.to_json(), "recipe": "int8_ptq", "parity": {}, "provenance": {}}
    model_file.write(output, convert.convert(corrected), metadata)
    model = l3edge.load(output)
    got = np.concatenate([model.embed(window, 48_000)[0] for window in windows[32:]])
    assert cosines(got, want[32:]).min() > 0.99


@needs_sea
def test_an_imported_model_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = imported(SEA64, tmp_path / "sea64.tflite")
    recorded = tmp_path / "sounds.wav"
    soundfile.write(recorded, sounds(3, 20_000), 8_000, subtype="FLOAT")
    want, times = model.embed(sounds(3, 20_000), 8_000, hop=0.5, center=True)
    options = ["--model", str(model.path), "--hop", "0.5", "--center"]
    assert cli.main(["embed", str(recorded), "--output", str(tmp_path), *options]) == 0
    with np.load(tmp_path / "sounds.npz") as data:
        assert data["embeddings"].tobytes() == want.tobytes()
        assert data["times"].tobytes() == times.tobytes()
    capsys.readouterr()
    assert cli.main(["stream", "--input", str(recorded), "--format", "jsonl", *options]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["time"] for line in lines] == times.tolist()
    assert np.array([line["embedding"] for line in lines], np.float32).tobytes() == want.tobytes()
