"""Published weights, OpenL3 and EdgeL3: what an .h5 file of theirs holds, as a spec and folded weights.

What is recognised, with the repositories that publish it (layers: `openl3/models.py`, `edgel3/models.py`):

    kind            input        filters of the blocks   embedding                      published by
    openl3-linear   48 kHz, 257  64 128 256 512          8th convolution as it is       marl/openl3 0.2 to 0.4
    openl3-mel128   48 kHz, 128  64 128 256 512          the same                       marl/openl3 0.2 to 0.4
    openl3-mel256   48 kHz, 256  64 128 256 512          the same                       marl/openl3 0.2 to 0.4
    edgel3-sparse   48 kHz, 256  64 128 256 512          the same, weights mostly zero  ksangeeta2429/edgel3
    sea-512         8 kHz, 64    64 128 256 512          after its norm and ReLU        ksangeeta2429/edgel3
    sea-256         8 kHz, 64    32 64 128 256           after its norm and ReLU        ksangeeta2429/edgel3
    sea-128         8 kHz, 64    32 64 128 128           after its norm and ReLU        ksangeeta2429/edgel3
    sea-64          8 kHz, 64    32 64 128 64            after its norm and ReLU        ksangeeta2429/edgel3

Each is a Keras file: the layers under the root (weights alone) or under `model_weights` (a whole model, whose
configuration is then checked too), named in order by the attribute `layer_names`. All begin with a batch
normalisation of the decibels, one channel. In front of it stand kapre 0.1.4's kernels (window and Fourier transform,
mel matrix), except in OpenL3 0.4, which took them out: such a file does not say which of the three OpenL3 kinds it
is, because their convolutions have the same shapes, and its name or the user has to.

Published kernels are [frequency, time, inputs, filters]; ours are [time, frequency, inputs, filters].
"""

from __future__ import annotations

import dataclasses
import gzip
import io
import json
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from l3edge import frontend
from l3edge.frontend import Decibel
from l3edge.layers import Pool, l3_stack
from l3edge.spec import Spec, openl3_spec

from . import ExportError

Array = NDArray[Any]

HDF5 = b"\x89HDF\r\n\x1a\n"
GZIP = b"\x1f\x8b"
MOST_BYTES = 256 << 20  # the largest published file is 36 MB
MOST_LAYERS = 200
EPSILON = 1e-3  # of Keras' batch normalisation, which every published network left as it is
SPARSE = 0.25  # share of zero weights: trained weights have none, the least pruned EdgeL3 has 0.535
WIDTHS = {512: (64, 128, 256, 512), 256: (32, 64, 128, 256), 128: (32, 64, 128, 128), 64: (32, 64, 128, 64)}
SEA = Decibel(8_000, 1024, 160, 64)
OPENL3 = ("linear", "mel128", "mel256")
SIZES = (512, 6144)
# The stored kernels are float32 roundings of what the front end computes from formulae; values reach 1.
KERNEL_TOLERANCE = 1e-6

NAMES = {
    r"openl3_audio_(?P<representation>linear|mel128|mel256)_(?P<content>env|music)": "openl3-{representation}",
    r"edgel3_sea_ust_audio_emb_(?P<size>\d+)": "sea-{size}",
    r"edgel3_(?:ft|kd)_audio_sparsity_[\d.]*\d": "edgel3-sparse",
}

# What `weight_names` of each kind of layer end in.
ROLES = {
    "convolution": {"kernel", "bias"},
    "normalisation": {"gamma", "beta", "moving_mean", "moving_variance"},
    "spectrogram": {"real_kernels", "imag_kernels"},
    "mel spectrogram": {"real_kernels", "imag_kernels", "Variable"},
}


class PublishedError(ExportError):
    """A file that is not one of the published weight files, or contradicts itself or its name."""


@dataclass(frozen=True)
class Kernels:
    """kapre's kernels as stored, for frames of `fft_length` samples."""

    real: Array  # float32 [fft_length, bins], the window multiplied in
    imaginary: Array  # float32 [fft_length, bins]
    mel: Array | None  # float32 [bins, bands], applied to power; None: linear


@dataclass(frozen=True)
class Published:
    """A published network, ready for export.

    weights: (kernel float32 [time, frequency, inputs, filters], bias float32 [filters]) of each convolution, batch
        normalisation folded in.
    affine: (scale, shift), the batch normalisation of the input: what the network reads is scale * decibels + shift.
    sparsity: the share of zeros in each convolution's kernel.
    kernels: kapre's, where the file has them.
    content_type: "env" or "music" as the file's name has it, else None; nothing in the file says so.
    """

    kind: str
    spec: Spec
    weights: tuple[tuple[Array, Array], ...]
    affine: tuple[float, float]
    sparsity: tuple[float, ...]
    kernels: Kernels | None
    content_type: str | None

    @property
    def licence(self) -> str:
        """Under which the weights are published."""
        return "CC BY 4.0" if self.kind.startswith("openl3") else "MIT"

    @property
    def citation(self) -> str:
        """What their authors ask to cite."""
        if self.kind.startswith("openl3"):
            return (
                "Cramer, Wu, Salamon, Bello: Look, Listen and Learn More: Design Choices for Deep Audio Embeddings. "
                "ICASSP 2019"
            )
        if self.kind.startswith("sea"):
            return (
                "Srivastava, Roy, Cartwright, Bello, Arora: Specialized Embedding Approximation for Edge Intelligence: "
                "A Case Study in Urban Sound Classification. ICASSP 2021"
            )
        return (
            "Kumari, Roy, Cartwright, Bello, Arora: EdgeL3: Compressing L3-Net for Mote-Scale Urban Noise Monitoring. "
            "PAISE 2019"
        )


@dataclass(frozen=True)
class _Layer:
    name: str
    role: str  # a key of ROLES
    values: dict[str, Array]  # by what the names end in


def read(path: str | os.PathLike[str], embedding_size: int | None = None, input_repr: str | None = None) -> Published:
    """Read and check a published weight file, .h5 or .h5.gz.

    embedding_size: 512 or 6144, what the last pool of OpenL3 and of sparse EdgeL3 leaves (default 512); a SEA network
        has its own.
    input_repr: "linear", "mel128" or "mel256", for OpenL3 files that neither say so by their layers nor their name.
    PublishedError says what is wrong with the file, or with what it was taken for.
    """
    path = Path(path)
    hint = _hint(path.name)
    with _open(path) as file:
        try:
            layers = list(_layers(file, path))
            config = _config(file, path)
        except (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError, IndexError) as error:
            raise PublishedError(f"{path}: damaged, or not written by Keras ({error})") from error
    spectrogram, normalisations, convolutions = _arranged(layers, path)
    kind = _kind(spectrogram, normalisations, convolutions, hint[0], input_repr, path)
    spec = _spec(kind, embedding_size, path)
    _check_config(config, spec, path)
    kernels = None if spectrogram is None else _kernels(spectrogram, spec, path)
    scale, shift = _affine(normalisations[0], path)
    weights, sparsity = [], []
    for convolution, normalisation in zip(convolutions, [*normalisations[1:], None], strict=False):
        kernel, bias = (convolution.values[end].astype(np.float64) for end in ("kernel", "bias"))
        sparsity.append(float(np.mean(kernel == 0)))
        if normalisation is not None:
            factor, offset = _affine(normalisation, path)
            kernel, bias = kernel * factor, bias * factor + offset
        weights.append((kernel.transpose(1, 0, 2, 3).astype(np.float32), bias.astype(np.float32)))
    return Published(kind, spec, tuple(weights), (float(scale[0]), float(shift[0])), tuple(sparsity), kernels, hint[1])


def _hint(name: str) -> tuple[str | None, str | None]:
    """(kind, content type) that a file name suggests."""
    for pattern, kind in NAMES.items():
        found = re.search(pattern, name)
        if found:
            values = found.groupdict()
            return kind.format(**values), values.get("content")
    return None, None


def _open(path: Path) -> h5py.File:
    """The HDF5 file, unpacked in memory: nothing outside it can be reached through it."""
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == GZIP
            raw.seek(0)
            with gzip.open(raw) if packed else raw as stream:
                data = stream.read(MOST_BYTES + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise PublishedError(f"{path}: truncated or damaged gzip ({error}); fetch it again") from error
    except OSError as error:
        raise PublishedError(f"{path}: cannot be read ({error.strerror or error})") from error
    if len(data) > MOST_BYTES:
        raise PublishedError(f"{path}: more than {MOST_BYTES} bytes, far larger than any published weight file")
    if not data.startswith(HDF5):
        raise PublishedError(f"{path}: not an HDF5 file, gzipped or not; OpenL3 and EdgeL3 publish .h5 and .h5.gz")
    try:
        return h5py.File(io.BytesIO(data), "r")
    except (OSError, RuntimeError, ValueError) as error:
        raise PublishedError(f"{path}: truncated or damaged HDF5 ({error}); fetch it again") from error


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _own(group: h5py.Group, name: str) -> Any:
    """A member that lies in the file itself, whatever links it holds."""
    for part in name.split("/"):
        if not isinstance(group, h5py.Group) or not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise KeyError(f"no {name!r}")
        group = group[part]
    return group


def _layers(file: h5py.File, path: Path) -> Iterator[_Layer]:
    """The layers that have weights, in the order of the network."""
    root = _own(file, "model_weights") if "model_weights" in file else file
    if "layer_names" not in root.attrs:
        raise PublishedError(f"{path}: not a Keras weight file (no attribute 'layer_names')")
    names = np.atleast_1d(root.attrs["layer_names"])
    if len(names) > MOST_LAYERS:
        raise PublishedError(f"{path}: {len(names)} layers, the published networks have at most 40")
    for name in map(_text, names):
        group = _own(root, name)
        values: dict[str, Array] = {}
        for weight in map(_text, np.atleast_1d(group.attrs["weight_names"])):
            end = re.sub(r"(_\d+)?(:\d+)?$", "", weight.rpartition("/")[2])
            if end in values:
                raise PublishedError(f"{path}: layer {name!r} has {end!r} twice")
            values[end] = _array(_own(group, weight), f"{path}: {weight}")
        if not values:
            continue
        role = next((role for role, ends in ROLES.items() if ends == set(values)), None)
        if role is None:
            raise PublishedError(f"{path}: layer {name!r} has weights {sorted(values)}, as no published network has")
        yield _Layer(name, role, values)


def _array(dataset: Any, what: str) -> Array:
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind != "f":
        raise PublishedError(f"{what} is not an array of floats")
    if dataset.external or dataset.is_virtual:
        raise PublishedError(f"{what} lies in another file")
    if dataset.size * dataset.dtype.itemsize > MOST_BYTES:
        raise PublishedError(f"{what} has shape {list(dataset.shape)}, as no published network has")
    values = np.asarray(dataset[()], np.float32)
    if not np.isfinite(values).all():
        raise PublishedError(f"{what} has values that are not finite")
    return values


def _arranged(layers: Sequence[_Layer], path: Path) -> tuple[_Layer | None, list[_Layer], list[_Layer]]:
    """(spectrogram or None, normalisations, convolutions), if they follow each other as published."""
    rest = list(layers)
    spectrogram = rest.pop(0) if rest and rest[0].role in ("spectrogram", "mel spectrogram") else None
    roles = [layer.role for layer in rest]
    tower = ["normalisation", *["convolution", "normalisation"] * 7, "convolution"]
    if roles not in (tower, [*tower, "normalisation"]):
        found = ", ".join(f"{layer.name} ({layer.role})" for layer in layers) or "none"
        raise PublishedError(
            f"{path}: not one of the published audio networks, which have 8 convolutions with a normalisation in "
            f"front and after each, or all but the last; its layers with weights are: {found}"
        )
    normalisations, convolutions = rest[::2], rest[1::2]
    inputs = 1
    for layer in convolutions:
        kernel, bias = layer.values["kernel"], layer.values["bias"]
        if kernel.ndim != 4 or kernel.shape[:3] != (3, 3, inputs) or bias.shape != kernel.shape[3:]:
            image = " (three channels in: an image network?)" if kernel.ndim == 4 and kernel.shape[2] == 3 else ""
            raise PublishedError(
                f"{path}: {layer.name} has a kernel of {list(kernel.shape)} and a bias of {list(bias.shape)}, expected "
                f"[3, 3, {inputs}, n] and [n]{image}"
            )
        inputs = kernel.shape[3]
    channels = [1, *(layer.values["bias"].size for layer in convolutions)]
    for layer, count in zip(normalisations, channels, strict=False):
        wrong = {end: list(value.shape) for end, value in layer.values.items() if value.shape != (count,)}
        if wrong:
            raise PublishedError(f"{path}: {layer.name} has {wrong}, expected [{count}]")
    return spectrogram, normalisations, convolutions


def _kind(
    spectrogram: _Layer | None,
    normalisations: Sequence[_Layer],
    convolutions: Sequence[_Layer],
    hint: str | None,
    input_repr: str | None,
    path: Path,
) -> str:
    """What the layers and shapes say; PublishedError where the name or the user says otherwise."""
    filters = [layer.values["bias"].size for layer in convolutions]
    sizes = [size for size, widths in WIDTHS.items() if filters == [width for width in widths for _ in range(2)]]
    shape = None
    if spectrogram is not None:
        mel = spectrogram.values.get("Variable")
        shape = (len(spectrogram.values["real_kernels"]), 0 if mel is None else mel.shape[-1])
    tail = len(normalisations) == 9
    sparse = np.mean([np.mean(layer.values["kernel"] == 0) for layer in convolutions]) > SPARSE
    candidates = []
    if sizes and tail and shape in (None, (SEA.fft_length, SEA.bands)):
        candidates = [f"sea-{sizes[0]}"]
    elif sizes == [512] and not tail:
        for name in OPENL3:
            front_end = openl3_spec(name).front_end
            if shape in (None, (front_end.fft_length, front_end.bands)):
                candidates.append(f"openl3-{name}")
        if sparse:
            candidates = ["edgel3-sparse"] if "openl3-mel256" in candidates else []
    if not candidates:
        front = "no kernels" if shape is None else f"kernels of {shape[0]} samples and {shape[1] or 'no'} mel bands"
        raise PublishedError(
            f"{path}: not one of the published audio networks: {front}, filters {filters}, "
            f"{'a' if tail else 'no'} normalisation after the last, {'sparse' if sparse else 'dense'}"
        )
    for source, said in (("its name says", hint), ("--input-repr says", input_repr and f"openl3-{input_repr}")):
        if said is None:
            continue
        if said not in candidates:
            raise PublishedError(f"{path}: {source} {said}, its layers say {' or '.join(candidates)}")
        candidates = [said]
    if len(candidates) > 1:
        raise PublishedError(
            f"{path}: an OpenL3 network without kernels, as from version 0.4 on, does not say which of "
            f"{', '.join(OPENL3)} it is, and its name does not either; say it with --input-repr"
        )
    return candidates[0]


def _spec(kind: str, embedding_size: int | None, path: Path) -> Spec:
    if kind.startswith("sea"):
        size = int(kind.removeprefix("sea-"))
        if embedding_size not in (None, size):
            raise PublishedError(f"{path}: a {kind} network gives {size} values, not {embedding_size}")
        pool = (6, 8)  # all that is left of 50 frames and 64 bands
        layers = (*l3_stack(WIDTHS[size], "same"), Pool(pool, pool))
        return Spec(kind, layers, SEA, window=8_000, hop=800, streaming=False, embedding="flatten")
    if embedding_size not in (None, *SIZES):
        raise PublishedError(f"{path}: a {kind} network gives {SIZES[0]} or {SIZES[1]} values, not {embedding_size}")
    name = "mel256" if kind == "edgel3-sparse" else kind.removeprefix("openl3-")
    spec = openl3_spec(name, embedding_size or SIZES[0])
    return dataclasses.replace(spec, name=kind)


def _affine(layer: _Layer, path: Path) -> tuple[Array, Array]:
    """(scale, shift), float64 [channels], of a batch normalisation."""
    gamma, beta, mean, variance = (
        layer.values[end].astype(np.float64) for end in ("gamma", "beta", "moving_mean", "moving_variance")
    )
    if variance.min() < 0:
        raise PublishedError(f"{path}: {layer.name} has a negative variance")
    scale = gamma / np.sqrt(variance + EPSILON)
    return scale, beta - mean * scale


def _kernels(spectrogram: _Layer, spec: Spec, path: Path) -> Kernels:
    """The stored kernels, if they are what the front end computes: then the model hears what the network heard."""
    front_end = spec.front_end
    assert isinstance(front_end, Decibel)
    n, bins = front_end.fft_length, front_end.fft_length // 2 + 1
    angles = 2 * np.pi / n * (np.outer(np.arange(n), np.arange(bins)) % n)
    hann = frontend.window(front_end).astype(np.float64)[:, None]
    expected = {"real_kernels": np.cos(angles) * hann, "imag_kernels": -np.sin(angles) * hann}
    found = dict(spectrogram.values)
    for end in expected:
        if found[end].shape == (n, 1, 1, bins):
            found[end] = found[end][:, 0, 0]
    if front_end.bands:
        expected["Variable"] = frontend.mel_matrix(front_end)
    for end, want in expected.items():
        if found[end].shape != want.shape:
            raise PublishedError(f"{path}: {spectrogram.name} has {end} of {list(found[end].shape)}, not {want.shape}")
        error = float(np.abs(found[end] - want).max())
        if error > KERNEL_TOLERANCE:
            raise PublishedError(
                f"{path}: {spectrogram.name} has {end} that differ by {error:.2g} from the published front end's; "
                "trained or altered kernels are not supported"
            )
    return Kernels(found["real_kernels"], found["imag_kernels"], found.get("Variable"))


def _config(file: h5py.File, path: Path) -> list[tuple[str, dict[str, Any]]]:
    """(class, settings) of each layer, where the file holds a whole model and not weights alone."""
    if "model_config" not in file.attrs:
        return []
    try:
        document = json.loads(_text(file.attrs["model_config"]))
    except (ValueError, RecursionError) as error:
        raise PublishedError(f"{path}: its model_config is not JSON ({error})") from error
    return [(str(layer["class_name"]), dict(layer["config"])) for layer in document["config"]["layers"]]


def _check_config(config: Sequence[tuple[str, dict[str, Any]]], spec: Spec, path: Path) -> None:
    """A whole model's own settings must be the published ones: the weights alone would not show another stride."""
    front_end = spec.front_end
    assert isinstance(front_end, Decibel)
    transform = {"n_dft": front_end.fft_length, "n_hop": front_end.frame_step, "padding": front_end.padding}
    mel = {"sr": front_end.sample_rate, "n_mels": front_end.bands, "fmin": front_end.low, "fmax": front_end.high}
    expected: dict[str, dict[str, Any]] = {
        "Spectrogram": {**transform, "power_spectrogram": 1, "return_decibel_spectrogram": True},
        "Melspectrogram": {
            **{**transform, **mel, "htk": True, "norm": 1},
            **{"power_spectrogram": 2, "power_melgram": 1, "return_decibel_melgram": True},
        },
        "BatchNormalization": {"epsilon": EPSILON, "center": True, "scale": True},
        "Conv2D": {"strides": [1, 1], "dilation_rate": [1, 1], "padding": "same", "activation": "linear"},
        "Activation": {"activation": "relu"},
    }
    pools = [layer.size[::-1] for layer in spec.layers if isinstance(layer, Pool)]
    if not spec.name.startswith("sea"):
        pools.pop()  # the last is the user's choice
    for name, settings in config:
        want = expected.get(name, {})
        if name == "MaxPooling2D" and pools:
            size = list(pools.pop(0))
            want = {"pool_size": size, "strides": size}
        wrong = {key: settings[key] for key, value in want.items() if settings.get(key, value) != value}
        if wrong:
            right = {key: want[key] for key in wrong}
            raise PublishedError(f"{path}: its layer {settings.get('name')} has {wrong}, the published ones {right}")
