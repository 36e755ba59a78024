"""The contract through the public interface: stubs and built-in models, every engine that is installed."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import l3edge
from export import contract

from .conftest import ENGINES, STUBS

RATES = [8_000, 16_000, 22_050, 44_100, 48_000]
MODELS = [*map(str, STUBS), *l3edge.models()]
CASES = [pytest.param(m, e, id=f"{Path(m).stem}-{e}") for m in MODELS for e in ENGINES]


@functools.lru_cache
def load(model: str, engine: str, threads: int) -> l3edge.Model:
    return l3edge.load(model, engine=engine, threads=threads)


@pytest.mark.parametrize(("model", "engine"), CASES)
@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rate=st.sampled_from(RATES),
    seconds=st.floats(0.0, 3.0, allow_subnormal=False),
    chunks=st.lists(st.sampled_from([1, 17, 160, 509, 1600, 16_000]) | st.integers(1, 20_000), min_size=1, max_size=50),
    hop=st.sampled_from([0.1, 0.2, 0.5, 1.0, 1.7]),
    center=st.booleans(),
)
def test_contract(
    model: str, engine: str, seed: int, rate: int, seconds: float, chunks: list[int], hop: float, center: bool
) -> None:
    audio = contract.sounds(seed, int(seconds * rate), rate)
    # The last size serves for the rest of the signal; sample by sample through all of it would test nothing more.
    contract.check(functools.partial(load, model, engine), audio, rate, [*chunks, 509], hop, center)


@pytest.mark.parametrize(("model", "engine"), CASES)
@pytest.mark.parametrize("length", [0, 1, 15_999, 16_000, 16_001, 17_600, 17_601])
@pytest.mark.parametrize("chunk", [1, 17, 160, 509, 16_000])
def test_lengths(model: str, engine: str, length: int, chunk: int) -> None:
    loaded = load(model, engine, 1)
    audio = contract.sounds(length, length)
    whole = loaded.embed(audio, 16_000)
    assert len(whole[0]) == {0: 0, 1: 1, 15_999: 1, 16_000: 1, 16_001: 2, 17_600: 2, 17_601: 3}[length]
    contract.equal(contract.streamed(loaded.stream(16_000), audio, [chunk]), whole)


@pytest.mark.parametrize(("model", "engine"), CASES)
def test_different_sounds_differ(model: str, engine: str) -> None:
    contract.tells_apart(load(model, engine, 1))


@pytest.mark.parametrize(("model", "engine"), CASES)
def test_a_window_comes_with_its_last_sample(model: str, engine: str) -> None:
    x = contract.sounds(5, 17_600)
    stream = load(model, engine, 1).stream(16_000)
    assert len(stream.push(x[:15_999])[0]) == 0
    assert len(stream.push(x[15_999:16_000])[0]) == 1
    assert len(stream.push(x[16_000:17_599])[0]) == 0
    assert len(stream.push(x[17_599:])[0]) == 1
    assert len(load(model, engine, 1).stream(16_000).push(x[:16_000])[0]) == 1


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 32_000, 44_100, 48_000, 96_000])
def test_resampled_windows_come_within_the_stated_delay(rate: int) -> None:
    stream = load(str(STUBS[0]), ENGINES[0], 1).stream(rate)
    assert 0 < stream.delay < 0.2
    x = contract.sounds(3, 3 * rate, rate)
    chunk = rate // 1000
    for begin in range(0, len(x) - chunk, chunk):
        _, times = stream.push(x[begin : begin + chunk])
        for time in times:
            assert time + 0.5 <= (begin + chunk) / rate <= time + 0.5 + stream.delay + 0.0011


# Seconds beyond a window that the resampler reaches, each side, at most: what README states, rounded up from
# `python -m benchmarks.reach`.
REACH = {8_000: 0.13, 11_025: 0.09, 22_050: 0.045, 32_000: 0.065, 44_100: 0.045, 48_000: 0.04, 96_000: 0.09}


@pytest.mark.parametrize("rate", REACH)
def test_reach_of_the_resampler(rate: int) -> None:
    model = load(str(STUBS[0]), ENGINES[0], 1)
    x = contract.sounds(7, 4 * rate, rate)
    begin, end = rate, 2 * rate  # the window at 1.0 s, k = 10
    reach = int(REACH[rate] * rate)
    changed = np.random.default_rng(0).uniform(-1, 1, len(x)).astype(np.float32)
    changed[begin - reach : end + reach] = x[begin - reach : end + reach]
    want, _ = model.embed(x, rate)
    got, _ = model.embed(changed, rate)
    assert got[10].tobytes() == want[10].tobytes()
    assert got[5].tobytes() != want[5].tobytes()


@pytest.mark.parametrize("engine", ENGINES)
def test_samples_beyond_those_stated_are_not_seen(engine: str) -> None:
    model = load(str(STUBS[0]), engine, 1)
    seen = model.spec.samples_seen
    quiet = np.zeros(model.spec.window, np.float32)
    want, _ = model.embed(quiet, 16_000)
    unseen = quiet.copy()
    unseen[seen:] = contract.sounds(11, len(quiet) - seen)
    assert model.embed(unseen, 16_000)[0].tobytes() == want.tobytes()
    last = quiet.copy()
    last[seen - 200 : seen] = contract.sounds(11, 200)
    assert model.embed(last, 16_000)[0].tobytes() != want.tobytes()
