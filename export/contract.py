"""The contract (C1, C2, C3, C7) as assertions over a model and a signal: the tests run them, and `export.verify`.

C1  `embed` equals all `push` results plus `flush`, values and times, whatever the chunks and the rate.
C2  at the model's rate an embedding depends on the samples of its window alone.
C3  the step graph equals the independent window graph: the same bits in int8, to 1e-5 of the largest in float32.
C7  the same bits on every run, thread count and number of streams.

And of a model with tags or a head: scores from 0 to 1 that depend on the embedding, the same bits on every thread
count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

import l3edge

Load = Callable[[int], l3edge.Model]  # threads -> the model
Audio = NDArray[np.float32]
Result = tuple[Audio, NDArray[np.float64]]
FLOAT_STEP = 1e-5  # of the largest value: how far a float32 step may be from its window graph
THREADS = (2, 3, 4)


class ContractError(AssertionError):
    """A clause of the contract that does not hold."""


def _hold(holds: bool, clause: str) -> None:
    if not holds:
        raise ContractError(clause)


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


def streamed(stream: l3edge.Stream, audio: Audio, chunks: Iterable[int]) -> Result:
    """Push in pieces of the given sizes (the last one over and over), flush, and put the results together."""
    results, begin, size = [], 0, 1
    sizes = iter(chunks)
    while begin < len(audio):
        size = next(sizes, max(size, 1))
        results.append(stream.push(audio[begin : begin + size]))
        begin += size
    results.append(stream.flush())
    return np.concatenate([e for e, _ in results]), np.concatenate([t for _, t in results])


def equal(a: Result, b: Result, clause: str = "the same values and times, bit for bit") -> None:
    """Values and times, bit for bit."""
    _hold(a[0].shape == b[0].shape, f"{clause}: {len(a[0])} and {len(b[0])} embeddings")
    _hold(a[0].tobytes() == b[0].tobytes(), f"{clause}: {int((a[0] != b[0]).sum())} of {a[0].size} values differ")
    _hold(a[1].tobytes() == b[1].tobytes(), f"{clause}: times")


def check(
    load: Load,
    audio: Audio,
    rate: int,
    chunks: Sequence[int],
    hop: float = 0.1,
    center: bool = False,
) -> None:
    """Assert the whole contract for one model and one signal of shape [n]."""
    model = load(1)
    streamed_equals_embedded(model, audio, rate, chunks, hop, center)
    same_bits(load, audio, rate, hop)
    if rate == model.spec.sample_rate and not center:
        windows_are_their_own(model, audio, hop)
        if "window" in model.metadata["signatures"]:  # the Edge TPU's files have none
            step_equals_window(model, audio, hop)


def streamed_equals_embedded(
    model: l3edge.Model, audio: Audio, rate: int, chunks: Sequence[int], hop: float = 0.1, center: bool = False
) -> None:
    """C1: shapes and times as stated; chunks, reset, and two streams that take turns."""
    spec = model.spec
    whole = model.embed(audio, rate, hop=hop, center=center)
    embeddings, times = whole
    _hold(embeddings.dtype == np.float32 and times.dtype == np.float64, "C1: float32 values, float64 times")
    _hold(bool(np.isfinite(embeddings).all()), "C1: finite values")
    first = 0.0 if center else spec.window / 2 / spec.sample_rate
    _hold(bool(np.abs(times - first - hop * np.arange(len(times))).max(initial=0.0) <= 1e-9), "C1: times of centres")
    padding = spec.window // 2 if center else 0
    exact = len(audio) * spec.sample_rate / rate  # a resampler may round either way
    possible = {rows(padding + max(1, n), model, hop) for n in (math.floor(exact), math.ceil(exact))}
    _hold(len(times) in (possible if len(audio) else {0}), f"C1: {len(times)} embeddings, expected {possible}")

    stream = model.stream(rate, hop=hop, center=center)
    equal(streamed(stream, audio, chunks), whole, f"C1: pushed in pieces of {list(chunks)[:8]}")
    stream.reset()
    equal(streamed(stream, audio, [4096]), whole, "C1: after reset, in pieces of 4096")

    signals = (audio, np.ascontiguousarray(audio[::-1]))
    streams = [model.stream(rate, hop=hop, center=center) for _ in signals]
    results: list[list[Result]] = [[], []]
    turn = max(1000, len(audio) // 30)
    for begin in range(0, len(audio), turn):
        for i, signal in enumerate(signals):
            results[i].append(streams[i].push(signal[begin : begin + turn]))
    for i, signal in enumerate(signals):
        results[i].append(streams[i].flush())
        together = (np.concatenate([e for e, _ in results[i]]), np.concatenate([t for _, t in results[i]]))
        equal(together, model.embed(signal, rate, hop=hop, center=center), "C1: two streams that take turns")


def same_bits(load: Load, audio: Audio, rate: int, hop: float = 0.1) -> None:
    """C7: again, and with other thread counts."""
    model = load(1)
    # Threads that outnumber the cores spin, and all of a long signal would take long.
    beginning = audio[: int(1.1 * rate * model.spec.window / model.spec.sample_rate)]
    once = model.embed(beginning, rate, hop)
    equal(model.embed(beginning, rate, hop), once, "C7: again")
    for threads in THREADS:
        equal(load(threads).embed(beginning, rate, hop), once, f"C7: {threads} threads")


def tags_are_scores(load: Load, embeddings: Audio) -> Audio:
    """Of a model with tags, for embeddings float32 [k, d]: finite, from 0 to 1, whatever the threads; the scores."""
    return _are_scores(
        "tags", lambda threads: load(threads).tag_scores(embeddings), (len(embeddings), len(load(1).tag_names))
    )


def labels_are_scores(load: Load, embeddings: Audio) -> Audio:
    """Of a model with a head: as `tags_are_scores`, and those of an embedding add up to 1."""
    head = load(1).head
    if head is None:
        raise ContractError("head: there is none")
    scores = _are_scores(
        "head", lambda threads: load(threads).label_scores(embeddings), (len(embeddings), len(head.labels))
    )
    _hold(bool(np.abs(scores.sum(axis=1, dtype=np.float64) - 1).max() <= 1e-5), "head: scores that add up to 1")
    return scores


def _are_scores(what: str, score: Callable[[int], Audio], shape: tuple[int, int]) -> Audio:
    """score: by number of threads, scores [k, n] of this shape."""
    scores = score(1)
    _hold(scores.shape == shape, f"{what}: scores of shape {scores.shape}")
    _hold(bool(np.isfinite(scores).all()), f"{what}: finite scores")
    _hold(bool((scores >= 0).all() and (scores <= 1).all()), f"{what}: scores from 0 to 1")
    _hold(bool((scores != scores[0]).any()), f"{what}: other sounds, other scores")
    for threads in (1, *THREADS):
        _hold(score(threads).tobytes() == scores.tobytes(), f"{what}: {threads} threads")
    return scores


def _places(model: l3edge.Model, audio: Audio, hop: float) -> list[tuple[int, slice]]:
    """The first, the last and a middle whole window."""
    step = round(hop * model.spec.sample_rate)
    count = (len(audio) - model.spec.window) // step + 1
    chosen = sorted({0, count // 2, count - 1}) if count > 0 else []
    return [(k, slice(k * step, k * step + model.spec.window)) for k in chosen]


def windows_are_their_own(model: l3edge.Model, audio: Audio, hop: float = 0.1) -> int:
    """C2, at the model's rate, for the first, the last and a middle whole window; how many those were."""
    rate = model.spec.sample_rate
    embeddings, _ = model.embed(audio, rate, hop=hop)
    rng = np.random.default_rng(len(audio))
    for k, inside in _places(model, audio, hop):
        alone, _ = model.embed(audio[inside], rate, hop)
        _hold(alone.tobytes() == embeddings[k : k + 1].tobytes(), "C2: the window alone")
        for other in (rng.uniform(-1, 1, len(audio)), np.zeros(len(audio)), np.ones(len(audio))):
            changed = other.astype(np.float32)
            changed[inside] = audio[inside]
            again, _ = model.embed(changed, rate, hop=hop)
            _hold(again[k].tobytes() == embeddings[k].tobytes(), "C2: other sound outside the window")
    return len(_places(model, audio, hop))


def step_equals_window(model: l3edge.Model, audio: Audio, hop: float = 0.1) -> int:
    """C3, at the model's rate, for the first, the last and a middle whole window; how many values were compared."""
    embeddings, _ = model.embed(audio, model.spec.sample_rate, hop=hop)
    compared = 0
    for k, inside in _places(model, audio, hop):
        graph = model.network.dequantize(model.network.window(audio[inside]))
        compared += graph.size
        if model.network.dtype == np.int8:
            _hold(graph.tobytes() == embeddings[k].tobytes(), "C3: step and window graph")
        else:
            error = float(np.abs(graph - embeddings[k]).max())
            _hold(error <= FLOAT_STEP * max(float(np.abs(graph).max()), 1e-9), f"C3: step and window graph: {error:g}")
    return compared


def tells_apart(model: l3edge.Model) -> None:
    """Different sounds have different embeddings, and the same sound the same: a constant cannot pass."""
    rate, hop = model.spec.sample_rate, model.spec.hop / model.spec.sample_rate
    t = np.arange(model.spec.window) / rate
    signals = {
        "silence": np.zeros(len(t)),
        "low tone": 0.3 * np.sin(2 * np.pi * 300 * t),
        "high tone": 0.3 * np.sin(2 * np.pi * 0.25 * rate * t),
        "noise": np.random.default_rng(0).normal(0, 0.1, len(t)),
    }
    made = {name: model.embed(x.astype(np.float32), rate, hop)[0][0] for name, x in signals.items()}
    names = list(made)
    for i, a in enumerate(names):
        for b in names[:i]:
            largest = max(float(np.abs(made[a]).max()), float(np.abs(made[b]).max()))
            _hold(float(np.abs(made[a] - made[b]).max()) > 0.01 * largest, f"{a} and {b} have the same embedding")
