"""`l3edge.openl3` against what OpenL3 documents: signatures, time stamps, .npz keys, output paths, what it refuses.

The record is of OpenL3 0.4.2: the signatures from `openl3/core.py`, the rest from `docs/tutorial.rst` ("Using the
Library") and `tests/test_core.py` of https://github.com/marl/openl3.
"""

from __future__ import annotations

import inspect
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import l3edge
from export.contract import sounds
from l3edge import openl3

from .conftest import DATA

RATE = 16_000

# Names in order, with OpenL3's defaults; "required" where there is none.
SIGNATURES: dict[str, dict[str, Any]] = {
    "get_audio_embedding": {
        "audio": "required",
        "sr": "required",
        "model": None,
        "input_repr": None,
        "content_type": "music",
        "embedding_size": 6144,
        "center": True,
        "hop_size": 0.1,
        "batch_size": 32,
        "frontend": "kapre",
        "verbose": True,
    },
    "process_audio_file": {
        "filepath": "required",
        "output_dir": None,
        "suffix": None,
        "model": None,
        "input_repr": None,
        "content_type": "music",
        "embedding_size": 6144,
        "center": True,
        "hop_size": 0.1,
        "batch_size": 32,
        "overwrite": False,
        "frontend": "kapre",
        "verbose": True,
    },
    "get_output_path": {"filepath": "required", "suffix": "required", "output_dir": None},
}
# What chooses among OpenL3's models: here None, which is whatever the model is.
CHOICES = {"content_type", "embedding_size", "batch_size", "frontend"}


def rows(n: int, rate: int, hop_size: float, center: bool) -> int:
    """`_preprocess_audio_batch` of `openl3/core.py`, at a rate: how many windows of a second a signal gives."""
    frame, hop = rate, int(hop_size * rate)
    padded = n + int(frame / 2.0) if center else n
    padded += frame - padded if padded < frame else int(np.ceil((padded - frame) / float(hop))) * hop - (padded - frame)
    return 1 + int((padded - frame) / float(hop))


@pytest.fixture(scope="module", params=["stub-int8.tflite", "stub-float32.tflite"])
def model(request: pytest.FixtureRequest) -> l3edge.Model:
    return l3edge.load(DATA / request.param)


@pytest.mark.parametrize("function", SIGNATURES)
def test_signatures_are_openl3s(function: str) -> None:
    made = inspect.signature(getattr(openl3, function)).parameters
    assert list(made) == list(SIGNATURES[function])
    for name, default in SIGNATURES[function].items():
        want = inspect.Parameter.empty if default == "required" else None if name in CHOICES else default
        assert made[name].default is want or made[name].default == want, name
        assert made[name].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("hop_size", [0.1, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("n", [1, 7_999, 8_000, 15_999, 16_000, 16_001, 17_600, 24_000, 40_123])
def test_rows_and_time_stamps(model: l3edge.Model, n: int, hop_size: float, center: bool) -> None:
    x = sounds(n, n) if n > 1 else np.ones(1, np.float32)
    if n < RATE:
        with pytest.warns(l3edge.AudioWarning, match="shorter than a window"):
            embedding, timestamps = openl3.get_audio_embedding(x, RATE, model, center=center, hop_size=hop_size)
    else:
        embedding, timestamps = openl3.get_audio_embedding(x, RATE, model, center=center, hop_size=hop_size)
    count = rows(n, RATE, hop_size, center)
    assert embedding.shape == (count, model.spec.embedding_size)
    assert embedding.dtype == np.float32
    assert timestamps.tolist() == (np.arange(count) * hop_size).tolist()  # not centred: still from zero on
    want, times = model.embed(x, RATE, hop_size, center)
    assert embedding.tobytes() == want.tobytes()
    assert np.allclose(timestamps, times - (0.0 if center else 0.5), atol=1e-9)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_rows_after_resampling_are_those_of_a_length_cut_to_whole_samples(model: l3edge.Model, rate: int) -> None:
    """resampy, which OpenL3 resamples with, gives int(n * new / old) samples; one more could be a window more."""
    pytest.importorskip("soxr", reason="soxr is not installed")
    for n in range(2 * rate, 2 * rate + 6):
        count = rows(int(n * (RATE / rate)), RATE, 0.1, False)
        embedding, _ = openl3.get_audio_embedding(sounds(1, n), rate, model, center=False)
        assert len(embedding) == count, n


def test_lists_in_lists_out(model: l3edge.Model) -> None:
    signals = [sounds(1, 20_000), np.stack([sounds(2, 33_000)] * 2, axis=1)]
    for sr in (RATE, [RATE, RATE], [float(RATE), RATE]):
        embeddings, timestamps = openl3.get_audio_embedding(signals, sr, model)
        assert type(embeddings) is type(timestamps) is list
        for x, embedding, times in zip(signals, embeddings, timestamps, strict=True):
            want, want_times = openl3.get_audio_embedding(x, RATE, model)
            assert embedding.tobytes() == want.tobytes()
            assert times.tobytes() == want_times.tobytes()
    assert openl3.get_audio_embedding([], RATE, model) == ([], [])


def test_the_default_model_is_the_embedded_one() -> None:
    embedding, timestamps = openl3.get_audio_embedding(sounds(3, 32_000), RATE)
    want, times = l3edge.load().embed(sounds(3, 32_000), RATE, center=True)
    assert embedding.tobytes() == want.tobytes()
    assert np.allclose(timestamps, times)
    assert timestamps[0] == 0.0


def test_a_model_may_be_a_path_too(model: l3edge.Model) -> None:
    x = sounds(4, 20_000)
    want, _ = openl3.get_audio_embedding(x, RATE, model)
    for given in (model.path, str(model.path)):
        assert openl3.get_audio_embedding(x, RATE, given)[0].tobytes() == want.tobytes()


def test_silence_is_embedded_with_a_warning(model: l3edge.Model) -> None:
    with pytest.warns(l3edge.AudioWarning, match="all zeros"):
        embedding, _ = openl3.get_audio_embedding(np.zeros(RATE, np.float32), RATE, model)
    assert np.isfinite(embedding).all()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"audio": "rain.wav"}, "NumPy array or a list"),
        ({"audio": np.ones((10, 10, 10), np.float32)}, "shape"),
        ({"audio": np.zeros(0, np.float32)}, "empty"),
        ({"audio": np.ones(RATE, np.uint8)}, "int16"),
        ({"sr": "invalid"}, "sr must be"),
        ({"sr": -1}, "sample_rate"),
        ({"sr": [RATE, RATE]}, "1 signals and 2 sample rates"),
        ({"model": 5}, "export.import_weights"),
        ({"model": "invalid"}, "built-in"),
        ({"input_repr": "invalid"}, "linear, mel128, mel256"),
        ({"input_repr": "mel256"}, "log-mel of its own"),
        ({"content_type": "invalid"}, "music, env"),
        ({"content_type": "env"}, "unstated content"),
        ({"embedding_size": 6144}, "contradicts the model"),
        ({"embedding_size": "invalid"}, "contradicts the model"),
        ({"frontend": "invalid"}, "kapre, librosa"),
        ({"frontend": "kapre"}, "part of the model file"),
        ({"frontend": "librosa"}, "part of the model file"),
        ({"batch_size": 32}, "no meaning here"),
        ({"hop_size": 0}, "above 0"),
        ({"hop_size": -1}, "above 0"),
        ({"hop_size": float("nan")}, "above 0"),
        ({"hop_size": "0.1"}, "above 0"),
        ({"hop_size": 0.25}, "multiple of the model's step"),
        ({"center": "invalid"}, "center must be"),
        ({"verbose": -1}, "verbose must be"),
    ],
    ids=lambda value: f"{next(iter(value))}" if isinstance(value, dict) else "",
)
def test_what_has_no_meaning_is_refused_with_the_reason(
    model: l3edge.Model, arguments: dict[str, Any], reason: str
) -> None:
    call = {"audio": sounds(5, 20_000), "sr": RATE, "model": model, **arguments}
    with pytest.raises(l3edge.Error, match=reason):
        openl3.get_audio_embedding(**call)


def test_what_agrees_with_the_model_may_be_said(model: l3edge.Model) -> None:
    x = sounds(6, 20_000)
    want, _ = openl3.get_audio_embedding(x, RATE, model)
    size = model.spec.embedding_size
    assert openl3.get_audio_embedding(x, RATE, model, embedding_size=size, verbose=0)[0].tobytes() == want.tobytes()


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    pytest.importorskip("soundfile", reason="soundfile is not installed")
    path = tmp_path / "in" / "rain.drops.wav"
    path.parent.mkdir()
    soundfile.write(path, sounds(7, 30_000), RATE, subtype="FLOAT")
    return path


def test_a_file_becomes_an_npz_with_openl3s_keys(model: l3edge.Model, recording: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    openl3.process_audio_file(str(recording), model=model)
    openl3.process_audio_file(recording, suffix="edge", model=model)
    openl3.process_audio_file([str(recording)], output_dir=str(folder), suffix="edge", model=model, hop_size=0.5)
    made = {path: np.load(path) for path in sorted(tmp_path.rglob("*.npz"))}
    beside = recording.parent
    assert list(made) == [beside / "rain.drops.npz", beside / "rain.drops_edge.npz", folder / "rain.drops_edge.npz"]
    for path, data in made.items():
        hop_size = 0.5 if path.parent == folder else 0.1
        embedding, timestamps = openl3.get_audio_embedding(sounds(7, 30_000), RATE, model, hop_size=hop_size)
        assert sorted(data.files) == ["embedding", "timestamps"]
        assert data["embedding"].tobytes() == embedding.tobytes()
        assert data["timestamps"].tobytes() == timestamps.tobytes()


def test_results_are_overwritten_only_when_asked(
    model: l3edge.Model, recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = recording.with_suffix(".npz")
    output.write_text("mine")
    openl3.process_audio_file(recording, model=model, verbose=False)
    assert output.read_text() == "mine"
    assert "skipping" in capsys.readouterr().err
    openl3.process_audio_file(recording, model=model, overwrite=True, verbose=False)
    assert sorted(np.load(output).files) == ["embedding", "timestamps"]
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")


def test_verbose_speaks_on_stderr(model: l3edge.Model, recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    openl3.process_audio_file(recording, model=model)
    said = capsys.readouterr()
    assert said.out == ""
    assert "(1/1)" in said.err
    assert "saved" in said.err


def test_bad_files_are_named(model: l3edge.Model, recording: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.wav"
    text.write_text("This is not an audio file.")
    empty = tmp_path / "empty.wav"
    soundfile.write(empty, np.zeros(0, np.float32), RATE)
    for path, reason in ((text, "text.wav"), (tmp_path / "none.wav", "none.wav"), (empty, "empty.wav")):
        with pytest.raises(l3edge.AudioError, match=reason):
            openl3.process_audio_file(str(path), model=model, verbose=False)
        assert not path.with_suffix(".npz").exists()
    with pytest.raises(l3edge.Error, match="no such folder"):
        openl3.process_audio_file(recording, output_dir=tmp_path / "missing", model=model)
    with pytest.raises(l3edge.OptionError, match="path or a list of paths"):
        openl3.process_audio_file(5, model=model)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "want"),
    [
        (("/path/to/file.wav", ".npz"), "/path/to/file.npz"),
        (("/path/to/file.wav", "suffix.npz"), "/path/to/file_suffix.npz"),
        (("/path/to/file.wav", "suffix.npz", "/different/dir"), "/different/dir/file_suffix.npz"),
        (("file.name.wav", ".npz"), "file.name.npz"),
        (("file", ".npz", ""), "file.npz"),
    ],
)
def test_output_paths_as_in_the_tutorial(arguments: tuple[str, ...], want: str) -> None:
    assert openl3.get_output_path(*arguments) == want


def test_row_formula_agrees_with_a_second_statement_of_it() -> None:
    """`rows` above follows OpenL3's code; its documentation says: as many as are needed to process all samples."""
    for n in (1, 16_000, 16_001, 40_123):
        for hop_size in (0.1, 0.25):
            assert rows(n, RATE, hop_size, False) == 1 + math.ceil(max(0, n - RATE) / int(hop_size * RATE))
