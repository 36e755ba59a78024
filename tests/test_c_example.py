"""The C example, compiled and run against a TFLite C library, says what the SDK says; docs/model-format.md is complete.

The library is the one that the wheel of `pymicro-wakeword` brings (TFLite 2.17): neither LiteRT's nor tflite-runtime's
wheel exports the TFLite C API. It is another build than the SDK's engines, so two things are asserted: bit for bit what
the same library makes of each window alone, and at most one int8 step from what the SDK makes (contract C7).
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import l3edge
from l3edge import model_file
from l3edge.spec import PRESETS, Spec

from . import golden
from .conftest import DATA, STUBS

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "examples" / "c" / "stream.c"
NUMBERS = ROOT / "examples" / "c" / "numbers.py"
HEADERS = Path(__file__).parent / "headers"
BUILT_IN = [l3edge.load(name).path for name in l3edge.models()]
Rows = tuple[NDArray[np.float32], NDArray[np.float64]]


def c_library() -> Path:
    package = importlib.util.find_spec("pymicro_wakeword")
    if package is None or package.origin is None:
        pytest.skip("no TFLite C library: pip install pymicro-wakeword")
    return Path(package.origin).parent / "lib" / "libtensorflowlite_c.so"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler, library = shutil.which("cc"), c_library()
    if compiler is None:
        pytest.skip("no C compiler: apt-get install gcc libc6-dev")
    made = tmp_path_factory.mktemp("c") / "stream"
    strict = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    link = [str(library), f"-Wl,-rpath,{library.parent}"]
    subprocess.run([compiler, *strict, "-I", str(HEADERS), str(SOURCE), "-o", str(made), *link], check=True)
    return made


@pytest.fixture(scope="module")
def scene() -> NDArray[np.float32]:
    soundfile = pytest.importorskip("soundfile")
    samples, rate = soundfile.read(ROOT / "examples" / "scene.flac", dtype="float32")
    assert rate == 16_000
    made: NDArray[np.float32] = samples
    return made


def numbers(path: Path) -> subprocess.CompletedProcess[str]:
    """What examples/c/numbers.py says of a model file."""
    return subprocess.run([sys.executable, "-I", str(NUMBERS), str(path)], capture_output=True, text=True, timeout=60)


def run(program: Path, model: l3edge.Model, samples: NDArray[Any]) -> Rows:
    """What the program prints: values [rows, size], times [rows]."""
    code = {"float32": "f32", "int16": "s16"}[samples.dtype.name]
    command = [str(program), str(model.path), code, *numbers(model.path).stdout.split()]
    output = subprocess.run(command, input=samples.tobytes(), stdout=subprocess.PIPE, check=True, timeout=120).stdout
    rows = np.array([line.split() for line in output.decode().splitlines()], np.float64)
    rows = rows.reshape(-1, 1 + model.spec.embedding_size)
    return rows[:, 1:].astype(np.float32), rows[:, 0]


def windows_alone(model: l3edge.Model, samples: NDArray[np.float32], rows: int) -> NDArray[np.float32]:
    """Each window by itself through the file's signature `window`, in the same C library: [rows, size]."""
    library, pointer = ctypes.CDLL(str(c_library())), ctypes.c_void_p
    returns_pointer = [
        "TfLiteModelCreateFromFile",
        "TfLiteInterpreterCreate",
        "TfLiteInterpreterGetSignatureRunner",
        "TfLiteSignatureRunnerGetInputTensor",
        "TfLiteSignatureRunnerGetOutputTensor",
    ]
    for name in returns_pointer:
        getattr(library, name).restype = pointer
    file = pointer(library.TfLiteModelCreateFromFile(str(model.path).encode()))
    interpreter = pointer(library.TfLiteInterpreterCreate(file, None))
    runner = pointer(library.TfLiteInterpreterGetSignatureRunner(interpreter, b"window"))
    assert library.TfLiteSignatureRunnerAllocateTensors(runner) == 0
    into = pointer(library.TfLiteSignatureRunnerGetInputTensor(runner, b"samples"))
    out_of = pointer(library.TfLiteSignatureRunnerGetOutputTensor(runner, b"embedding"))
    spec = model.spec
    embeddings = np.zeros((rows, spec.embedding_size), model.network.dtype)
    for row in range(rows):
        window = np.zeros(spec.window, np.float32)
        sound = samples[row * spec.hop : row * spec.hop + spec.window]
        window[: len(sound)] = sound
        assert (
            library.TfLiteTensorCopyFromBuffer(into, pointer(window.ctypes.data), ctypes.c_size_t(window.nbytes)) == 0
        )
        assert library.TfLiteSignatureRunnerInvoke(runner) == 0
        to, size = pointer(embeddings[row].ctypes.data), ctypes.c_size_t(embeddings[row].nbytes)
        assert library.TfLiteTensorCopyToBuffer(out_of, to, size) == 0
    library.TfLiteSignatureRunnerDelete(runner)
    library.TfLiteInterpreterDelete(interpreter)
    library.TfLiteModelDelete(file)
    return model.network.dequantize(embeddings)


@pytest.mark.parametrize("path", [*BUILT_IN, *STUBS[:2]], ids=lambda path: path.stem)
def test_program_says_what_each_window_alone_gives(path: Path, program: Path, scene: NDArray[np.float32]) -> None:
    model = l3edge.load(path)
    values, _ = run(program, model, scene)
    assert len(values) > 100
    assert len(np.unique(values, axis=0)) > 50
    alone = windows_alone(model, scene, len(values))
    if model.network.dtype == np.int8:
        np.testing.assert_array_equal(values, alone)
    else:
        assert np.abs(values - alone).max() <= 1e-5 * np.abs(alone).max()


# Not the int8 stub: its random weights carry one step of a first layer to several of the last.
@pytest.mark.parametrize("path", [*BUILT_IN, DATA / "stub-float32.tflite"], ids=lambda path: path.stem)
def test_program_says_what_the_sdk_says(
    path: Path, program: Path, scene: NDArray[np.float32], engine_name: str
) -> None:
    model = l3edge.load(path, engine=engine_name)
    for samples in (scene, np.round(scene * 32767).astype(np.int16)):
        values, times = run(program, model, samples)
        embeddings, centres = model.embed(samples, 16_000)
        np.testing.assert_array_equal(times, centres)
        difference = np.abs(values - embeddings).max()
        if model.network.dtype == np.int8:
            assert round(float(difference / model.network.scale), 3) <= golden.MOST_STEPS[path.stem]
        else:
            assert difference <= 1e-5 * np.abs(embeddings).max()


@pytest.mark.parametrize("length", [0, 1, 1599, 15_999, 16_000, 16_001, 17_600, 17_601])
def test_program_ends_as_the_sdk_does(length: int, program: Path, scene: NDArray[np.float32]) -> None:
    model = l3edge.load(DATA / "stub-float32.tflite")
    values, times = run(program, model, scene[:length])
    embeddings, centres = model.embed(scene[:length], 16_000)
    np.testing.assert_array_equal(times, centres)
    np.testing.assert_allclose(values, embeddings, rtol=0, atol=1e-5 * np.abs(embeddings).max(initial=0))


def test_program_takes_what_is_not_finite_as_the_sdk_does(program: Path, scene: NDArray[np.float32]) -> None:
    model = l3edge.load(DATA / "stub-float32.tflite")
    samples = scene[:20_000].copy()
    samples[[0, 700, 16_500]] = np.nan, np.inf, -np.inf
    values, _ = run(program, model, samples)
    with pytest.warns(l3edge.AudioWarning, match="non-finite"):
        embeddings, _ = model.embed(samples, 16_000)
    np.testing.assert_allclose(values, embeddings, rtol=0, atol=1e-5 * np.abs(embeddings).max())


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "usage"),
        (["absent.tflite", "s16", "16000", "16000", "1600", "-800", "2"], "the model file cannot be read"),
        ([str(DATA / "stub-edgetpu.tflite"), "s16", "16000", "16000", "1600", "-800", "2"], "lacks `samples`"),
        ([str(BUILT_IN[0]), "u8", "16000", "16000", "1600", "-800", "2"], "s16 or f32"),
        ([str(BUILT_IN[0]), "s16", "16000", "16000", "1600", "many", "2"], "START"),
        ([str(BUILT_IN[0]), "s16", "16000", "16000", "1500", "-800", "2"], "multiple of HOP"),
        ([str(BUILT_IN[0]), "s16", "16000", "16000", "1600", "0", "2"], "beyond its hop"),
    ],
)
def test_program_says_what_is_wrong(arguments: list[str], complaint: str, program: Path) -> None:
    result = subprocess.run([str(program), *arguments], input=b"", capture_output=True, timeout=60)
    assert result.returncode == 1
    assert result.stdout == b""
    assert complaint in result.stderr.decode()


@pytest.mark.parametrize("spec", PRESETS.values(), ids=lambda spec: spec.name)
def test_numbers_are_those_of_the_spec(spec: Spec, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("l3edge.json", json.dumps({"numbers": model_file.numbers(spec)}))
    result = numbers(path)
    if spec.streaming:
        expected = [spec.sample_rate, spec.window, spec.hop, spec.step_start, spec.columns]
        assert result.stdout.split() == list(map(str, expected)), result.stderr
    else:
        assert result.returncode == 1
        assert "does not stream" in result.stderr


def test_every_key_of_the_metadata_is_documented() -> None:
    page = (ROOT / "docs" / "model-format.md").read_text()
    metadata = l3edge.load(BUILT_IN[0]).metadata
    (stream, *_) = metadata["signatures"].values()
    keys = {
        *metadata,
        *metadata["numbers"],
        *metadata["flatbuffer"],
        *metadata["signatures"],
        *stream,
        *stream["inputs"][0],
    }
    keys |= {row["role"] for table in metadata["signatures"].values() for side in table.values() for row in side}
    for spec in PRESETS.values():
        document = spec.to_json()
        keys |= {*document, *document["front_end"], document["front_end"]["kind"], document["embedding"]}
        keys |= {key for row in document["layers"] for key in (*row, row["kind"])}
    assert len(keys) > 50
    assert not {key for key in keys if f"`{key}`" not in page}
