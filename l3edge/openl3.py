"""OpenL3's calls on l3edge's models, for people who come from there: same arguments, time stamps and .npz keys.

    from l3edge import openl3
    embedding, timestamps = openl3.get_audio_embedding(audio, sr, model="openl3-mel256-music.tflite")

The signatures are those of OpenL3 0.4.2 (`openl3/core.py`). Two things differ, and docs/openl3.md says more:

- The model is a file: the built-in default, or what `python -m export.import_weights` made of OpenL3's weights. What
  chose among OpenL3's downloads (`input_repr`, `content_type`, `embedding_size`, `frontend`) may be given, and is
  refused where it contradicts the model.
- Results carry time stamps k * hop_size whether or not the windows are centred, as OpenL3's do; `Model.embed` gives the
  centres of the windows.
"""

from __future__ import annotations

import math
import os
import sys
import warnings
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import audio as audio_input
from .errors import AudioError, AudioTypeError, AudioWarning, Error, OptionError
from .frontend import Decibel
from .model import Model, load
from .results import written
from .stream import Result

__all__ = ["get_audio_embedding", "get_output_path", "process_audio_file"]

ModelLike = Model | str | os.PathLike[str] | None
Paths = str | os.PathLike[str] | list[str] | list[os.PathLike[str]]

INPUT_REPRS = ("linear", "mel128", "mel256")
CONTENT_TYPES = ("music", "env")
FRONTENDS = ("kapre", "librosa")


def get_audio_embedding(
    audio: NDArray[Any] | list[NDArray[Any]],
    sr: float | list[float],
    model: ModelLike = None,
    input_repr: str | None = None,
    content_type: str | None = None,
    embedding_size: int | None = None,
    center: bool = True,
    hop_size: float = 0.1,
    batch_size: int | None = None,
    frontend: str | None = None,
    verbose: bool = True,
) -> tuple[Any, Any]:
    """Embeddings of the windows of a signal, or of each of a list of signals.

    audio: float32, float64 (full scale 1.0) or int16, [n] or [n, channels], or a list of such arrays.
    sr: Hz, or a list of as many rates.
    model: what `l3edge.load` takes, or what it returned; None is the built-in default.
    input_repr, content_type, embedding_size, frontend: if given, what the model must be; OptionError if it is not.
    center: put half a window of zeros in front, so that time stamps are the centres of the windows.
    hop_size: seconds; a streaming model takes multiples of its step (0.1 s), the others any hop.
    batch_size: refused, as windows are computed one after the other.
    verbose: accepted; there is nothing to say.

    Returns (embedding float32 [t, d], timestamps float64 [t] in seconds), k * hop_size whatever `center` is; for a list
    of signals a list of each. At the model's rate t = 1 + ceil(max(0, n - window) / hop), n with the zeros in front.
    Warns with AudioWarning of silence and of signals shorter than a window. Raises AudioError for an empty signal.
    """
    _check_calls(center, hop_size, batch_size, verbose)
    loaded = _model(model, input_repr, content_type, embedding_size, frontend)
    if not isinstance(audio, (np.ndarray, list)):
        raise AudioTypeError(f"audio must be a NumPy array or a list of them, got {type(audio).__name__}")
    signals = audio if isinstance(audio, list) else [audio]
    if not isinstance(sr, (Real, list)):
        raise OptionError(f"sr must be a number of Hz or a list of them, got {type(sr).__name__}")
    rates = sr if isinstance(sr, list) else [sr] * len(signals)
    if len(signals) != len(rates):
        raise OptionError(
            f"{len(signals)} signals and {len(rates)} sample rates: give one rate, or one for each signal"
        )
    results = [_embed(loaded, x, rate, hop_size, center) for x, rate in zip(signals, rates, strict=True)]
    if not isinstance(audio, list):
        return results[0]
    return [embedding for embedding, _ in results], [times for _, times in results]


def process_audio_file(
    filepath: Paths,
    output_dir: str | os.PathLike[str] | None = None,
    suffix: str | None = None,
    model: ModelLike = None,
    input_repr: str | None = None,
    content_type: str | None = None,
    embedding_size: int | None = None,
    center: bool = True,
    hop_size: float = 0.1,
    batch_size: int | None = None,
    overwrite: bool = False,
    frontend: str | None = None,
    verbose: bool = True,
) -> None:
    """Embeddings of an audio file, or of each of a list, as .npz files with the keys `embedding` and `timestamps`.

    filepath: anything libsndfile reads, or a list of such files.
    output_dir: an existing folder for the results; None puts each beside its input.
    suffix: results are called <name>_<suffix>.npz, or without it <name>.npz.
    overwrite: replace results that exist; otherwise such a file is skipped, and stderr told so.
    verbose: say on stderr what is done.
    The other arguments are those of `get_audio_embedding`.
    """
    _check_calls(center, hop_size, batch_size, verbose)
    if not isinstance(filepath, (str, os.PathLike, list)):
        raise OptionError(f"filepath must be a path or a list of paths, got {type(filepath).__name__}")
    paths = [Path(path) for path in (filepath if isinstance(filepath, list) else [filepath])]
    if output_dir and not Path(output_dir).is_dir():
        raise Error(f"{output_dir}: no such folder for the results; make it first")
    loaded = _model(model, input_repr, content_type, embedding_size, frontend)
    for number, path in enumerate(paths, 1):
        output = Path(get_output_path(path, f"{suffix or ''}.npz", output_dir))
        if verbose:
            print(f"openl3: processing {path} ({number}/{len(paths)})", file=sys.stderr)
        if output.exists() and not overwrite:
            print(f"openl3: {output} exists and overwriting is not enabled, skipping {path}", file=sys.stderr)
            continue
        samples, rate = audio_input.read(path)
        try:
            embedding, timestamps = _embed(loaded, samples, rate, hop_size, center)
        except AudioError as error:
            raise AudioError(f"{path}: {error}") from error
        with written(output) as file:
            np.savez(file, embedding=embedding, timestamps=timestamps)
        if verbose:
            print(f"openl3: saved {output}", file=sys.stderr)


def get_output_path(
    filepath: str | os.PathLike[str], suffix: str, output_dir: str | os.PathLike[str] | None = None
) -> str:
    """Where the result of a file goes: its name with `suffix` (extension included), joined by "_" unless it begins
    with a dot.

    >>> get_output_path("a/rain.wav", "music.npz")
    'a/rain_music.npz'
    >>> get_output_path("a/rain.wav", ".npz", "b")
    'b/rain.npz'
    """
    path = Path(filepath)
    name = f"{path.stem}{'' if suffix.startswith('.') else '_'}{suffix}"
    return str((Path(output_dir) if output_dir else path.parent) / name)


def _check_calls(center: object, hop_size: object, batch_size: object, verbose: object) -> None:
    if center not in (True, False):
        raise OptionError(f"center must be True or False, got {center!r}")
    if verbose not in (True, False):
        raise OptionError(f"verbose must be True or False, got {verbose!r}")
    if isinstance(hop_size, bool) or not isinstance(hop_size, Real) or not 0 < float(hop_size) < math.inf:
        raise OptionError(f"hop_size must be a number of seconds above 0, got {hop_size!r}")
    if batch_size is not None:
        raise OptionError(
            "batch_size has no meaning here: windows are computed one after the other, as a device does, and no result "
            "depends on it; leave it out"
        )


def _model(
    model: ModelLike, input_repr: object, content_type: object, embedding_size: object, frontend: object
) -> Model:
    """The model, if it is what the arguments say that it is."""
    if model is not None and not isinstance(model, (Model, str, os.PathLike)):
        raise OptionError(
            f"model must be what l3edge.load returns, a name or a path, got {type(model).__name__}; a Keras model "
            "cannot be used, its weight file can be converted: python -m export.import_weights"
        )
    loaded = model if isinstance(model, Model) else load(model)
    front_end = loaded.spec.front_end
    published = isinstance(front_end, Decibel)
    if frontend is not None:
        _known("frontend", frontend, FRONTENDS)
        if frontend == "librosa" or not published:
            have = "kapre 0.1.4's" if published else "a log-mel of its own"
            raise OptionError(
                f"frontend {frontend!r} cannot be chosen: the front end is part of the model file, and {loaded.name} "
                f"has {have}; leave it out"
            )
    if input_repr is not None:
        _known("input_repr", input_repr, INPUT_REPRS)
        have = (f"mel{front_end.bands}" if front_end.bands else "linear") if published else "a log-mel of its own"
        if have != input_repr:
            raise _other("input_repr", input_repr, loaded, have)
    if content_type is not None:
        _known("content_type", content_type, CONTENT_TYPES)
        have = loaded.metadata["provenance"].get("content_type")
        if have != content_type:
            raise _other("content_type", content_type, loaded, repr(have) if have else "of unstated content")
    if embedding_size not in (None, loaded.spec.embedding_size):
        raise _other("embedding_size", embedding_size, loaded, str(loaded.spec.embedding_size))
    return loaded


def _known(argument: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise OptionError(f"{argument} must be one of {', '.join(known)}, got {value!r}")


def _other(argument: str, value: object, model: Model, have: str) -> OptionError:
    return OptionError(
        f"{argument} {value!r} contradicts the model {model.name}, which is {have}: it is a property of the model "
        "file; leave it out, or pass model=, a file that python -m export.import_weights made from the OpenL3 weights "
        "that have it"
    )


def _embed(model: Model, signal: Any, sr: Any, hop_size: float, center: bool) -> Result:
    spec = model.spec
    rate = audio_input.check_rate(sr)
    mono = audio_input.to_mono(signal)
    if not len(mono.samples):
        raise AudioError("empty audio has no embedding")
    if not mono.samples.any():
        why = f": {mono.non_finite} values were not finite, and taken as zero" if mono.non_finite else ""
        warnings.warn(f"the audio is all zeros{why}", AudioWarning, stacklevel=3)
    # OpenL3's resampler cuts to whole samples, soxr rounds: a sample more could make a window more.
    length = max(1, int(len(mono.samples) * (spec.sample_rate / rate)))
    x = audio_input.resample(mono.samples, rate, spec.sample_rate)[:length]
    x = np.concatenate([x, np.zeros(length - len(x), np.float32)])
    if length < spec.window:
        warnings.warn(
            f"the audio is shorter than a window of {spec.window / spec.sample_rate:g} s, zeros follow it",
            AudioWarning,
            stacklevel=3,
        )
    hop = hop_size
    if not spec.streaming:  # such a model takes any number of samples; OpenL3 cuts to whole ones
        hop = int(hop_size * spec.sample_rate) / spec.sample_rate
        if not hop:
            raise OptionError(f"hop_size {hop_size!r} is less than a sample at {spec.sample_rate} Hz")
    embeddings, _ = model.embed(x, spec.sample_rate, hop, bool(center))
    return embeddings, np.arange(len(embeddings), dtype=np.float64) * float(hop_size)
