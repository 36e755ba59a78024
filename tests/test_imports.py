"""Imports point one way, and the SDK stays small: walked in the source, and counted in a fresh process."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import l3edge

ROOT = Path(__file__).parent.parent
FORBIDDEN = {
    "l3edge": {
        "training",
        "export",
        "benchmarks",
        "tests",
        "tensorflow",
        "tf_keras",
        "scipy",
        "librosa",
        "numba",
        "av",
    },
    "training": {"export", "benchmarks", "tests"},
    "export": {"benchmarks", "tests"},
}


def imported(path: Path) -> set[str]:
    """Top-level names of all absolute imports in a file, those inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", FORBIDDEN)
def test_arrows_point_one_way(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        assert not imported(path) & FORBIDDEN[package], path


def test_importing_the_sdk_imports_little() -> None:
    code = "import sys, l3edge; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    heavy = {"tensorflow", "scipy", "librosa", "numba", "soxr", "soundfile", "sounddevice", "matplotlib", "av"}
    assert "l3edge" in out.stdout.split()
    heavy |= {"subprocess", "tempfile", "email", "socket", "sqlite3", "http", "ssl", "paho"}  # for some commands alone
    assert not heavy & set(out.stdout.split())


def test_annotations_can_be_asked_for() -> None:
    """As tools that make forms and pages from signatures do; and `numpy.typing` is not imported for it."""
    code = (
        "import sys, typing, l3edge\n"
        "for part in (l3edge.load, l3edge.Model.embed, l3edge.Stream.push, l3edge.audio.read):\n"
        "    print(typing.get_type_hints(part)['return'])\n"
        "print('numpy.typing' in sys.modules)\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    floats, doubles = (f"numpy.ndarray[typing.Any, numpy.dtype[numpy.float{bits}]]" for bits in (32, 64))
    results = f"tuple[{floats}, {doubles}]"
    model = "<class 'l3edge.model.Model'>"
    assert out.stdout.splitlines() == [model, results, results, f"tuple[{floats}, int]", "False"]


def test_loading_and_embedding_needs_no_resampler_at_the_models_rate() -> None:
    code = (
        "import sys\n"
        "for name in ('soxr', 'soundfile', 'sounddevice'): sys.modules[name] = None\n"
        "import numpy, l3edge\n"
        f"model = l3edge.load({str(ROOT / 'tests/data/stub-int8.tflite')!r})\n"
        "print(model.embed(numpy.zeros(16000, numpy.float32), 16000)[0].shape)\n"
        "try: model.embed(numpy.zeros(16000, numpy.float32), 48000)\n"
        "except l3edge.Error as error: print(error)\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert "(1, 8)" in out.stdout
    assert "needs the package soxr" in out.stdout


def test_all_is_sorted_and_complete() -> None:
    assert l3edge.__all__ == sorted(l3edge.__all__)
    modules = {path.stem for path in (ROOT / "l3edge").glob("*.py")} | {"TYPE_CHECKING", "Any"}
    public = {name for name in vars(l3edge) if not name.startswith("_")} - modules
    leaked = {name for name in public - set(l3edge.__all__) if not hasattr(vars(l3edge)[name], "__path__")}
    assert not leaked
