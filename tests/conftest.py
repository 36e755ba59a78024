"""What several test files share: which engines are here, the models to test on, and a header that says so."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import pytest

import l3edge
from l3edge import engine

DATA = Path(__file__).parent / "data"
STUBS = [DATA / f"stub-{kind}.tflite" for kind in ("int8", "float32", "edgetpu", "window")]


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


def pytest_report_header() -> str:
    found = [engine.find(name) for name in ENGINES]
    return f"engines: {[f'{e.name} {e.version}' for e in found]}, numpy {np.__version__}, {platform.machine()}"


@pytest.fixture(params=ENGINES)
def engine_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)
