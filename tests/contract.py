"""The contract (C1, C2, C3, C7) as one assertion over a model and a signal.

C1  `embed` equals all `push` results plus `flush`, values and times, whatever the chunks and the rate.
C2  at the model's rate an embedding depends on the samples of its window alone.
C3  the step graph equals the independent window graph: the same bits in int8, to 1e-5 of the largest in float32.
C7  the same bits on every run, thread count and number of streams.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

import l3edge

Load = Callable[[int], l3edge.Model]  # threads -> the model
Audio = NDArray[np.float32]


def sounds(seed: int, n: int, rate: int = 16_000) -> Audio:
    """A signal in which no second is like another: tones, clicks and noise at levels from -60 to 0 dB."""
    rng = np.random.default_rng(seed)
    t = np.arange(n) / rate
    x = np.zeros(n)
    for _ in range(6):
        low, high = np.sort(rng.uniform(100, rate * 0.45, 2))
        x += np.sin(2 * np.pi * (low * t + (high - low) * t**2 / (2 * max(t[-1:].sum(), 1e-3)))) * rng.uniform(0, 0.2)
    pieces = -(-n // (rate // 8)) + 1
    x += np.repeat(10 ** rng.uniform(-3, 0, pieces), rate // 8)[:n] * rng.uniform(-1, 1, n)
    x[rng.integers(0, max(n, 1), n // 4000)] += 1 if n else 0
    return np.clip(x, -1, 1).astype(np.float32)


def rows(n: int, model: l3edge.Model, hop: float) -> int:
    """How many embeddings n samples at the model's rate have (DESIGN: every sample lies in some window)."""
    step = round(hop * model.spec.sample_rate)
    return 0 if n == 0 else 1 + math.ceil(max(0, n - model.spec.window) / step)


def streamed(stream: l3edge.Stream, audio: Audio, chunks: Iterable[int]) -> tuple[Audio, NDArray[np.float64]]:
    """Push in pieces of the given sizes (the last one over and over), flush, and put the results together."""
    results, begin, size = [], 0, 1
    sizes = iter(chunks)
    while begin < len(audio):
        size = next(sizes, max(size, 1))
        results.append(stream.push(audio[begin : begin + size]))
        begin += size
    results.append(stream.flush())
    return np.concatenate([e for e, _ in results]), np.concatenate([t for _, t in results])


def equal(a: tuple[Audio, NDArray[np.float64]], b: tuple[Audio, NDArray[np.float64]]) -> None:
    """Values and times, bit for bit."""
    assert a[0].shape == b[0].shape
    assert a[0].tobytes() == b[0].tobytes()
    assert a[1].tobytes() == b[1].tobytes()


def check(
    load: Load,
    audio: Audio,
    rate: int,
    chunks: list[int],
    hop: float = 0.1,
    center: bool = False,
) -> None:
    """Assert the contract for one model and one signal of shape [n]."""
    model = load(1)
    spec = model.spec
    whole = model.embed(audio, rate, hop=hop, center=center)
    embeddings, times = whole
    assert embeddings.dtype == np.float32
    assert times.dtype == np.float64
    assert np.isfinite(embeddings).all()
    first = 0.0 if center else spec.window / 2 / spec.sample_rate
    np.testing.assert_allclose(times, first + hop * np.arange(len(times)), rtol=0, atol=1e-9)
    padding = spec.window // 2 if center else 0
    exact = len(audio) * spec.sample_rate / rate  # a resampler may round either way
    possible = {rows(padding + max(1, n), model, hop) for n in (math.floor(exact), math.ceil(exact))}
    assert len(times) in (possible if len(audio) else {0})

    # C1: chunks, reset, and two streams that take turns.
    stream = model.stream(rate, hop=hop, center=center)
    equal(streamed(stream, audio, chunks), whole)
    stream.reset()
    equal(streamed(stream, audio, [4096]), whole)
    _check_interleaved(model, audio, rate, hop, center)

    # C7: again, and with other thread counts.
    equal(model.embed(audio, rate, hop=hop, center=center), whole)
    beginning = audio[: int(1.1 * rate)]  # threads that outnumber the cores spin, and all of it would take long
    once = model.embed(beginning, rate)
    for threads in (2, 4):
        equal(load(threads).embed(beginning, rate), once)

    if rate == spec.sample_rate and not center:
        _check_windows(model, audio, whole[0], hop)


def _check_interleaved(model: l3edge.Model, audio: Audio, rate: int, hop: float, center: bool) -> None:
    reverse = np.ascontiguousarray(audio[::-1])
    streams = [model.stream(rate, hop=hop, center=center) for _ in range(2)]
    results: list[list[tuple[Audio, NDArray[np.float64]]]] = [[], []]
    for begin in range(0, len(audio), 1000):
        for i, signal in enumerate((audio, reverse)):
            results[i].append(streams[i].push(signal[begin : begin + 1000]))
    for i, signal in enumerate((audio, reverse)):
        results[i].append(streams[i].flush())
        together = (np.concatenate([e for e, _ in results[i]]), np.concatenate([t for _, t in results[i]]))
        equal(together, model.embed(signal, rate, hop=hop, center=center))


def _check_windows(model: l3edge.Model, audio: Audio, embeddings: Audio, hop: float) -> None:
    """C2 and C3 for the first, the last and a middle whole window."""
    spec = model.spec
    step = round(hop * spec.sample_rate)
    count = (len(audio) - spec.window) // step + 1
    rng = np.random.default_rng(len(audio))
    for k in sorted({0, count // 2, count - 1} if count > 0 else set()):
        inside = slice(k * step, k * step + spec.window)
        window = audio[inside]
        alone, _ = model.embed(window, spec.sample_rate)
        assert alone.tobytes() == embeddings[k : k + 1].tobytes(), "C2: the window alone"
        for other in (rng.uniform(-1, 1, len(audio)), np.zeros(len(audio)), np.ones(len(audio))):
            changed = other.astype(np.float32)
            changed[inside] = window
            again, _ = model.embed(changed, spec.sample_rate, hop=hop)
            assert again[k].tobytes() == embeddings[k].tobytes(), "C2: other sound outside the window"
        graph = model.network.dequantize(model.network.window(window))
        if model.network.dtype == np.int8:
            assert graph.tobytes() == embeddings[k].tobytes(), "C3: step and window graph"
        else:
            assert np.abs(graph - embeddings[k]).max() <= 1e-5 * np.abs(graph).max(), "C3: step and window graph"


def check_tells_apart(model: l3edge.Model) -> None:
    """Different sounds have different embeddings, and the same sound the same: a constant cannot pass."""
    rate = model.spec.sample_rate
    t = np.arange(model.spec.window) / rate
    signals = {
        "silence": np.zeros(len(t)),
        "low tone": 0.3 * np.sin(2 * np.pi * 300 * t),
        "high tone": 0.3 * np.sin(2 * np.pi * 4000 * t),
        "noise": np.random.default_rng(0).normal(0, 0.1, len(t)),
    }
    made = {name: model.embed(x, rate)[0][0] for name, x in signals.items()}
    names = list(made)
    for i, a in enumerate(names):
        for b in names[:i]:
            assert np.abs(made[a] - made[b]).max() > 0.01 * max(np.abs(made[a]).max(), np.abs(made[b]).max()), (a, b)
