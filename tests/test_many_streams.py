"""Streams of one model share what is loaded: each more costs its state, and no bit of it depends on the others."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import l3edge
from tests.conftest import STUBS

ROOT = Path(__file__).parent.parent
STREAMS = 64
RATES = (16_000, 48_000)


def signal(number: int) -> tuple[np.ndarray, int]:
    """Some seconds of noise with a tone, of its own rate and length."""
    rate = RATES[number % 2]
    random = np.random.default_rng(number)
    t = np.arange(round((1.2 + 0.03 * number) * rate)) / rate
    return (0.1 * random.standard_normal(len(t)) + 0.2 * np.sin(2000 * (1 + number) * t)).astype(np.float32), rate


def assert_alone(model: l3edge.Model, number: int, parts: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """What a stream gave is what its signal gives in a model of its own."""
    embeddings, times = model.embed(*signal(number))
    np.testing.assert_array_equal(np.concatenate([e for e, _ in parts]), embeddings)
    np.testing.assert_array_equal(np.concatenate([t for _, t in parts]), times)


def pieces(number: int, count: int = 20) -> list[np.ndarray]:
    return np.array_split(signal(number)[0], count)


@pytest.mark.parametrize("path", [None, *STUBS], ids=lambda path: path.stem if path else "default")
def test_streams_that_take_turns(path: Path | None, engine_name: str) -> None:
    shared, alone = l3edge.load(path, engine_name), l3edge.load(path, engine_name)
    streams = [shared.stream(signal(number)[1]) for number in range(STREAMS)]
    parts: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in streams]
    for turn in zip(*map(pieces, range(STREAMS)), strict=True):
        for number, piece in enumerate(turn):
            parts[number].append(streams[number].push(piece))
    for number, stream in enumerate(streams):
        assert_alone(alone, number, [*parts[number], stream.flush()])


@pytest.mark.parametrize("path", [None, *STUBS], ids=lambda path: path.stem if path else "default")
def test_streams_in_threads(path: Path | None, engine_name: str) -> None:
    shared, alone = l3edge.load(path, engine_name), l3edge.load(path, engine_name)

    def streamed(number: int) -> list[tuple[np.ndarray, np.ndarray]]:
        stream = shared.stream(signal(number)[1])
        return [*(stream.push(piece) for piece in pieces(number)), stream.flush()]

    with ThreadPoolExecutor(8) as threads:
        for number, parts in enumerate(threads.map(streamed, range(STREAMS))):
            assert_alone(alone, number, parts)


def test_a_stream_costs_its_state(engine_name: str) -> None:
    """Resident memory of a fresh process: an interpreter for each would take a hundred megabytes and more."""
    code = f"""
import gc, os
import numpy as np
import l3edge

def resident():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

model = l3edge.load(engine={engine_name!r})
second = np.random.default_rng(0).standard_normal(24_000).astype(np.float32) / 10
streams = [model.stream(16_000)]
streams[0].push(second)
before = resident()
streams += [model.stream(16_000) for _ in range({STREAMS})]
for begin in range(0, len(second), 1600):
    for stream in streams:
        stream.push(second[begin : begin + 1600])
print(resident() - before, sum(state.nbytes for state in model.network.zero_states()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    grown, state = map(int, done.stdout.split())
    assert 0 < state < 100_000
    assert grown < STREAMS * 2 * state + 2_000_000, (grown, state)
