"""What a process keeps in memory that runs one model and nothing else, on the bare engine or by the SDK."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from l3edge.engine import ENGINES, Engine

from . import fresh

PROCESSES = 3  # of which the median counts
ENGINE = """
import importlib, numpy
interpreter = importlib.import_module(sys.argv[2])
"""
MODEL = """
from benchmarks.bare import embedder
embed, samples = embedder(interpreter, sys.argv[3], sys.argv[6]), int(sys.argv[5])
"""
SDK = """
import numpy, l3edge
model = l3edge.load(sys.argv[3], engine=sys.argv[2])
embed, samples = model.stream(model.spec.sample_rate).push, model.spec.hop
"""
RUN = """
for _ in range(int(sys.argv[4])):
    embed(numpy.zeros(samples, numpy.float32))
"""


def of_engine(engine: Engine, compiled: str) -> dict[str, float]:
    """Of NumPy and the engine alone: resident MB at the end and at the peak. compiled: as in `fresh.run`."""
    return _median(ENGINE, [_module(engine)], compiled)


def of_file(engine: Engine, path: Path, signature: str, samples: int, calls: int, compiled: str) -> dict[str, float]:
    """And of so many calls of a file, as `bare.embedder` makes them."""
    words = [_module(engine), str(path), str(calls), str(samples), signature]
    return _median(ENGINE + MODEL + RUN, words, compiled)


def of_sdk(engine: Engine, path: Path, calls: int, compiled: str) -> dict[str, float]:
    """Of so many hops of a model file through l3edge."""
    return _median(SDK + RUN, [engine.name, str(path), str(calls)], compiled)


def _module(engine: Engine) -> str:
    return f"{ENGINES[engine.name][0]}.interpreter"


def _median(code: str, words: Sequence[str], compiled: str) -> dict[str, float]:
    found = [fresh.run(fresh.BEGIN + code + fresh.END, words, compiled) for _ in range(PROCESSES)]
    return {
        f"{name}_mb": round(statistics.median(one[f"{name} MB"] for one in found), 1) for name in ("resident", "peak")
    }
