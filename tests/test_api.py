"""The Python interface: what goes in, what comes out, and what each mistake is told."""

from __future__ import annotations

import shutil
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile

import l3edge
from export.contract import sounds
from l3edge import engine

from .conftest import DATA, ENGINES

INT8 = DATA / "stub-int8.tflite"


@pytest.fixture(scope="module")
def model() -> l3edge.Model:
    return l3edge.load(INT8)


def test_int16_float64_and_stereo_are_the_same_signal(model: l3edge.Model) -> None:
    x = (sounds(1, 20_000) * 32767).astype(np.int16)
    want, _ = model.embed(x, 16_000)
    as_float = x.astype(np.float32) / 32768
    for same in (as_float, as_float.astype(np.float64), np.stack([as_float, as_float], axis=1), x[:, None]):
        assert model.embed(same, 16_000)[0].tobytes() == want.tobytes()
    left = np.stack([as_float, np.zeros_like(as_float)], axis=1)
    assert model.embed(left, 16_000)[0].tobytes() == model.embed(as_float / 2, 16_000)[0].tobytes()
    assert model.embed(np.asfortranarray(left), 16_000)[0].tobytes() == model.embed(left, 16_000)[0].tobytes()


def test_input_is_left_as_it_was(model: l3edge.Model) -> None:
    x = sounds(2, 20_000)
    x[5] = np.nan
    before = x.copy()
    with pytest.warns(l3edge.AudioWarning):
        model.embed(x, 16_000)
    assert x.tobytes() == before.tobytes()


def test_non_finite_samples_become_zero_and_are_counted(model: l3edge.Model) -> None:
    x = sounds(3, 20_000)
    zeroed = x.copy()
    x[[100, 9_000]] = np.nan, -np.inf
    zeroed[[100, 9_000]] = 0
    with pytest.warns(l3edge.AudioWarning, match="2 non-finite"):
        got, _ = model.embed(x, 16_000)
    assert got.tobytes() == model.embed(zeroed, 16_000)[0].tobytes()
    stream = model.stream(16_000)
    with pytest.warns(l3edge.AudioWarning):
        stream.push(x)
    with warnings.catch_warnings():  # once is enough; the count goes on
        warnings.simplefilter("error")
        stream.push(x)
    assert stream.counts.non_finite == 4
    assert stream.counts.samples == 40_000


def test_a_float64_beyond_float32_is_not_finite(model: l3edge.Model) -> None:
    with pytest.warns(l3edge.AudioWarning, match="1 non-finite"):
        model.embed(np.array([1e300, 0.0]), 16_000)


def test_clipping_is_counted_and_not_done(model: l3edge.Model) -> None:
    x = 0.9 * sounds(4, 16_000)
    stream = model.stream(16_000)
    stream.push(x)
    assert stream.counts.clipped == 0
    stream.reset()
    loud = x.copy()
    loud[:1000] = 3.0
    got, _ = stream.push(loud)
    assert stream.counts.clipped == 1000
    assert got.tobytes() != model.embed(np.clip(loud, -1, 1), 16_000)[0].tobytes()


def test_a_saturated_converter_is_counted(model: l3edge.Model) -> None:
    square = np.where(np.arange(1_000) % 2, 32_767, -32_768).astype(np.int16)
    for saturated in (square, (square / 32_768).astype(np.float32), square / 32_768):
        stream = model.stream(16_000)
        stream.push(saturated)
        assert stream.counts.clipped == 1_000


def test_integers_in_floats_are_told(model: l3edge.Model) -> None:
    x = (sounds(4, 16_000) * 32_767).astype(np.float32)
    with pytest.warns(l3edge.AudioWarning, match=r"reaches 32\d+, and full scale is 1.0.*32768 for int16"):
        model.embed(x, 16_000)


def test_raw_files_are_told_to_be_piped(tmp_path: Path) -> None:
    (tmp_path / "s.raw").write_bytes(bytes(100))
    with pytest.raises(l3edge.AudioError, match="raw PCM does not say its sample rate"):
        l3edge.audio.read(tmp_path / "s.raw")


@pytest.mark.parametrize(
    ("audio", "error", "message"),
    [
        ([0.0] * 100, TypeError, "NumPy array, got list"),
        (np.zeros(100, np.int32), TypeError, "got int32"),
        (np.zeros(100, complex), TypeError, "got complex128"),
        (np.zeros(100, bool), TypeError, "got bool"),
        (np.float32(0), l3edge.AudioTypeError, "got float32"),
        (np.zeros((2, 3, 4), np.float32), ValueError, r"got \[2, 3, 4\]"),
        (np.zeros((2, 16_000), np.float32), l3edge.AudioError, "transpose"),
        (np.zeros((100, 0), np.float32), l3edge.AudioError, "0 channels"),
    ],
)
def test_wrong_audio(model: l3edge.Model, audio: object, error: type[Exception], message: str) -> None:
    for call in (lambda: model.embed(audio, 16_000), lambda: model.stream(16_000).push(audio)):
        with pytest.raises(error, match=message) as caught:
            call()
        assert isinstance(caught.value, l3edge.Error)


@pytest.mark.parametrize(
    "rate", [0, -1, 999, 10**9, 10**400, 16_000.5, float("nan"), float("inf"), "16000", None, True]
)
def test_impossible_sample_rates(model: l3edge.Model, rate: object) -> None:
    with pytest.raises(l3edge.OptionError, match="sample_rate must be a whole number of Hz"):
        model.embed(np.zeros(100, np.float32), rate)  # type: ignore[arg-type]


def test_a_whole_float_rate_is_a_rate(model: l3edge.Model) -> None:
    x = sounds(5, 16_000)
    assert model.embed(x, 16_000.0)[0].tobytes() == model.embed(x, np.int64(16_000))[0].tobytes()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("hop", "nearest"),
    [
        (1e308, "86400"),
        (float("inf"), "0.1"),
        (0.05, "0.1"),
        (0.0, "0.1"),
        (-1, "0.1"),
        (0.25, "0.2"),
        (1.04, "1"),
        (float("nan"), "0.1"),
        ("0.1", "0.1"),
    ],
)
def test_impossible_hops_name_the_nearest(model: l3edge.Model, hop: float, nearest: str) -> None:
    with pytest.raises(ValueError, match=f"multiple of .*{nearest}"):
        model.stream(16_000, hop=hop)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
@pytest.mark.parametrize("length", [1, 2, 100])
def test_the_shortest_signals_have_one_window_at_any_rate(model: l3edge.Model, rate: int, length: int) -> None:
    embeddings, times = model.embed(np.ones(length, np.float32), rate)
    assert embeddings.shape == (1, 8)
    assert times.tolist() == [0.5]
    assert len(model.embed(np.ones(0, np.float32), rate)[0]) == 0


@pytest.mark.parametrize("size", [0, 0x7FFFF024, 0x80000024, 0xFFFFFFFF])
def test_a_wav_that_was_written_to_a_pipe(tmp_path: Path, size: int) -> None:
    path = tmp_path / "piped.wav"
    soundfile.write(path, sounds(1, 8_000), 16_000)
    content = bytearray(path.read_bytes())
    content[4:8] = size.to_bytes(4, "little")
    path.write_bytes(content)
    assert l3edge.audio.read(path)[0].shape == (8_000, 1)


@pytest.mark.parametrize("ending", ["wav", "flac"])
def test_truncated_audio_files(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"cut.{ending}"
    soundfile.write(path, sounds(1, 48_000), 16_000)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(l3edge.AudioError, match=rf"cut\.{ending}: (truncated|unreadable after)"):
        l3edge.audio.read(path)


def test_a_flac_that_does_not_say_its_length(tmp_path: Path) -> None:
    path = tmp_path / "piped.flac"
    soundfile.write(path, sounds(1, 8_000), 16_000)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # STREAMINFO: 36 bits of total samples
    content[22:26] = bytes(4)
    path.write_bytes(content)
    with pytest.raises(l3edge.AudioError, match="does not say how long it is"):
        l3edge.audio.read(path)


def test_streams_end(model: l3edge.Model) -> None:
    stream = model.stream(16_000)
    stream.flush()
    for call in (stream.flush, lambda: stream.push(np.zeros(1, np.float32)), lambda: stream.skip(1)):
        with pytest.raises(l3edge.StreamError, match=r"reset\(\)"):
            call()
    stream.reset()
    assert len(stream.push(np.zeros(16_000, np.float32))[0]) == 1


@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_no_window_spans_a_gap_and_time_goes_on(model: l3edge.Model, rate: int) -> None:
    x = sounds(6, 5 * rate, rate)
    stream = model.stream(rate)
    parts = [stream.push(x[: 2 * rate]), stream.skip(rate // 2)]  # the resampler may still hold back the last window
    early = np.concatenate([e for e, _ in parts])
    np.testing.assert_allclose(np.concatenate([t for _, t in parts]), 0.5 + 0.1 * np.arange(11), atol=1e-9)
    assert early.tobytes() == model.embed(x[: 2 * rate], rate)[0].tobytes()
    rest = x[int(2.5 * rate) :]
    results = [stream.push(rest), stream.flush()]
    times = np.concatenate([t for _, t in results])
    embeddings = np.concatenate([e for e, _ in results])
    want, _ = model.embed(rest, rate)
    assert embeddings.tobytes() == want.tobytes()
    np.testing.assert_allclose(times, 2.5 + 0.5 + 0.1 * np.arange(len(want)), atol=1e-9)
    assert stream.counts.lost == rate // 2
    assert stream.counts.samples == 2 * rate + len(rest)


@pytest.mark.parametrize("lost", [-1, 0.5, "1", True])
def test_impossible_gaps(model: l3edge.Model, lost: object) -> None:
    with pytest.raises(l3edge.OptionError, match="lost must be"):
        model.stream(16_000).skip(lost)  # type: ignore[arg-type]


def test_a_model_is_shared_by_threads(model: l3edge.Model) -> None:
    signals = [sounds(seed, 32_000) for seed in range(4)]
    want = [model.embed(x, 16_000)[0].tobytes() for x in signals]
    got: dict[int, bytes] = {}

    def work(i: int) -> None:
        got[i] = model.embed(signals[i], 16_000)[0].tobytes()

    workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [got[i] for i in range(4)] == want


def test_names_of_models() -> None:
    assert l3edge.models()
    newest = l3edge.load()
    assert newest.name == "edge-m-3"
    assert l3edge.load("edge-m").identity == l3edge.load("edge-m-3").identity == newest.identity
    assert l3edge.load("edge-m-1").identity != newest.identity
    for name in ("edge-x", "edge-m-99", "no/such/file.tflite", ""):
        with pytest.raises(l3edge.UnknownModelError, match=r"built-in models are edge-m-1"):
            l3edge.load(name)


def test_engines_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(l3edge.OptionError, match="engine must be one of"):
        l3edge.load(INT8, engine="onnx")
    with pytest.raises(l3edge.EngineError, match="exported for the cpu"):
        l3edge.load(INT8, engine="edgetpu")
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: None)
    for name, package in (("litert", "ai-edge-litert"), ("tflite_runtime", "tflite-runtime")):
        with pytest.raises(l3edge.EngineError, match=f"pip install {package}"):
            l3edge.load(INT8, engine=name)
    with pytest.raises(l3edge.EngineError, match=r"pip install ai-edge-litert.*pip install tflite-runtime"):
        l3edge.load(INT8)


def test_tflite_runtime_is_not_imported_beside_numpy_2(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would take the process down; here only NumPy's version is pretended."""
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(engine.np, "__version__", "2.1.0")
    monkeypatch.setitem(sys.modules, "tflite_runtime", None)
    with pytest.raises(l3edge.EngineError, match=r"needs NumPy < 2, found 2\.1\.0"):
        engine.find("tflite_runtime")


@pytest.mark.parametrize("threads", [0, -1, 1.5, "2", True, 10_000])
def test_impossible_thread_counts(threads: object) -> None:
    with pytest.raises(l3edge.OptionError, match="threads must be"):
        l3edge.load(INT8, threads=threads)  # type: ignore[arg-type]


def test_a_delegate_that_is_not_there(engine_name: str) -> None:
    with pytest.raises(l3edge.EngineError, match=r"'libnowhere.so' does not load in"):
        l3edge.load(INT8, engine=engine_name, delegate="libnowhere.so")


def test_what_a_model_says_of_itself(model: l3edge.Model) -> None:
    assert model.spec.sample_rate == 16_000
    assert model.spec.embedding_size == 8
    assert model.name == "stub-int8"
    assert model.engine.name == ENGINES[0]
    assert len(model.identity) == 64
    assert "stub-int8" in repr(model)


def test_moving_a_file_changes_nothing(tmp_path: Path, model: l3edge.Model) -> None:
    shutil.copy(INT8, tmp_path / "called something else.bin")
    moved = l3edge.load(tmp_path / "called something else.bin")
    x = sounds(8, 20_000)
    assert moved.name == "stub-int8"
    assert moved.embed(x, 16_000)[0].tobytes() == model.embed(x, 16_000)[0].tobytes()
