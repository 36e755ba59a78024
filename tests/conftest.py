"""What several test files share: which engines are here, the models to test on, and a header that says so."""

from __future__ import annotations

import importlib.util
import platform
import signal
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings

import l3edge
from l3edge import engine

# To explain a failure hypothesis traces every line that runs, which with TensorFlow takes several times the test. Its
# deadline and its "too slow" judge the machine, which other work may slow down.
settings.register_profile(
    "untraced",
    phases=[phase for phase in Phase if phase is not Phase.explain],
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("untraced")

# A shell starts what it puts into the background with Ctrl-C ignored, and so would every process that a test starts and
# sends one to.
signal.signal(signal.SIGINT, signal.default_int_handler)

RESAMPLES = importlib.util.find_spec("soxr") is not None
DATA = Path(__file__).parent / "data"
STUBS = [DATA / f"stub-{kind}.tflite" for kind in ("int8", "float32", "edgetpu", "window")]
TAGGED = DATA / "stub-tags.tflite"
HEADED = DATA / "stub-head.tflite"


def _usable_engines() -> list[str]:
    usable = []
    for name in engine.installed():
        try:
            engine.find(name)
        except l3edge.EngineError:
            continue
        usable.append(name)
    return usable


ENGINES = _usable_engines()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    """Skip what resamples where no soxr is: 32-bit ARM has no wheel of it."""
    try:
        return (yield)
    except l3edge.Error as error:
        if RESAMPLES or "needs the package soxr" not in str(error):
            raise
        pytest.skip("soxr is not installed, and this test resamples")


def pytest_report_header() -> str:
    found = [engine.find(name) for name in ENGINES]
    return f"engines: {[f'{e.name} {e.version}' for e in found]}, numpy {np.__version__}, {platform.machine()}"


@pytest.fixture(params=ENGINES)
def engine_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training run of a few steps on a few synthesised videos: everything real, nothing learned."""
    pytest.importorskip("tensorflow", reason="TensorFlow is not in the device environment")
    from training import prepare, pretrain, synthesize

    folder = tmp_path_factory.mktemp("chain")
    videos, shards, directory = folder / "videos", folder / "shards", folder / "run"
    synthesize.main(
        ["--out", str(videos), "--count", "16", "--seed", "3", "--seconds", "3", "--kinds", "bell,dog,rain"]
    )
    prepare.main([str(videos), "--out", str(shards)])
    arguments = ["--preset", "edge-s", "--data", str(shards), "--run", str(directory), "--steps", "4", "--batch", "8"]
    assert pretrain.main(arguments) == 0
    return directory
