"""Classifiers judged by fold rotation, and how sure the result is.

Each fold in turn is the test set of a classifier that was fitted on the others, so each clip is judged once by a
classifier that never heard it. Window accuracy counts windows. Clip accuracy counts clips, each decided by the mean
over its windows. What is fitted, on which windows, is the protocol (`training.classifiers`).

Intervals are 95 %, from `RESAMPLES` bootstrap samples of the recordings: the clips that were cut from one recording
(`1-211527-A.ogg` and `-B`) go together, and so do all seeds' windows of a clip.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import classifiers, datasets, embeddings
from .classifiers import PROTOCOLS, Classify, Protocol, Rows
from .cli import TrainingError
from .datasets import Clip, labels_of
from .embedders import Embedder
from .embeddings import Cache, Load, Windows

RESAMPLES = 10_000
_DRAWN_AT_ONCE = 2**20  # numbers of a bootstrap that are in memory, 8 bytes each
_REMEMBERED = 256  # clips whose sound is not read again for the next seed
SHARES = ("window_accuracy", "clip_accuracy")


class Counts(NamedTuple):
    """What a classifier got right, for each clip; sums of several seeds are again counts."""

    windows: NDArray[np.float64]  # [clips], windows that were classified
    correct: NDArray[np.float64]  # [clips], of these correctly
    clips: NDArray[np.float64]  # [clips], 1 where the clip had a window
    clips_correct: NDArray[np.float64]  # [clips]


class Judged(NamedTuple):
    """The outcome of one rotation over the folds."""

    counts: Counts
    confusion: NDArray[np.int64]  # [classes, classes] clips: rows what they are, columns what they were taken for
    chosen: dict[str, dict[str, float]]  # by tested fold: what was chosen without it


class Estimate(NamedTuple):
    """A share, or a difference of two, with its 95 % interval."""

    value: float
    low: float
    high: float


def embed(
    embedder: Embedder,
    clips: Sequence[Clip],
    seed: int = 0,
    protocol: Protocol = PROTOCOLS["linear"],
    cache: Cache | None = None,
    load: Load = datasets.load,
) -> Windows:
    """Embeddings of the windows that a protocol classifies."""
    windows = embeddings.embed(embedder, clips, protocol.plan, seed, cache, load)
    if protocol.a_second is None:
        return windows
    spec = embedder.spec
    return classifiers.spread(windows, protocol.a_second, spec.window / spec.sample_rate, protocol.plan.hop)


def rotate(
    classify: Classify, windows: Windows, clips: Sequence[Clip], seed: int = 0, folds: Sequence[int] | None = None
) -> Judged:
    """Fit for each of the test folds (default: all there are) on the clips of the other folds, and count.

    Raises TrainingError where a fold has no window, or the folds beside it have windows of one class alone.
    """
    every = sorted({clip.fold for clip in clips}) if folds is None else folds
    same = dict.fromkeys(every, windows)
    return transfer(classify, same, [same], clips, seed)[0]


def transfer(
    classify: Classify,
    heard: Mapping[int, Windows],
    tests: Sequence[Mapping[int, Windows]],
    clips: Sequence[Clip],
    seed: int = 0,
) -> list[Judged]:
    """As `rotate`, where each fold may have embeddings of another model, and be judged on other sound.

    heard: by tested fold, windows of the clips; one is fitted on those of the other folds.
    tests: of each of several kinds of sound, by tested fold, windows of the clips; those of that fold are judged.
    """
    from threadpoolctl import threadpool_limits
    from tqdm import tqdm

    labels = labels_of(clips)
    truth = np.array([labels.index(clip.label) for clip in clips])
    fold = np.array([clip.fold for clip in clips])

    def known(windows: Windows) -> Rows:
        return Rows(windows.values, truth[windows.clip], fold[windows.clip], windows.clip)

    made = [Judged(_no_counts(len(clips)), np.zeros((len(labels), len(labels)), np.int64), {}) for _ in tests]
    for tested in heard:
        for test in tests:
            _check(known(heard[tested]), known(test[tested]), tested, labels)
    for tested in tqdm(heard, desc="fitting without each fold", unit=" folds", disable=None, leave=False):
        training = known(heard[tested])
        training = training.where(training.fold != tested)
        judged = [known(test[tested]) for test in tests]
        judged = [rows.where(rows.fold == tested) for rows in judged]
        values = np.concatenate([rows.values for rows in judged])
        with threadpool_limits(1):  # so small a problem gains nothing from threads, and loses much on a busy machine
            scores, chosen = classify(training, values, len(labels), tested, seed)
        ends = np.cumsum([len(rows.values) for rows in judged])[:-1]
        for rows, own, (counts, confusion, told) in zip(judged, np.split(scores, ends), made, strict=True):
            told[str(tested)] = chosen
            np.add.at(counts.windows, rows.clip, 1)
            np.add.at(counts.correct, rows.clip, own.argmax(axis=1) == rows.label)
            index, decided = classifiers.decide(rows.clip, own)
            counts.clips[index] = 1
            counts.clips_correct[index] = decided == truth[index]
            np.add.at(confusion, (truth[index], decided), 1)
    return made


def of_clips(judged: Judged, kept: NDArray[np.bool_]) -> Judged:
    """What was judged of some of the clips; those left out were judged by nothing."""
    return judged._replace(counts=Counts(*(column[kept] for column in judged.counts)))


def _no_counts(clips: int) -> Counts:
    return Counts(*(np.zeros(clips) for _ in Counts._fields))


def _check(heard: Rows, judged: Rows, tested: int, labels: Sequence[str]) -> None:
    why = (
        "all else is shorter than a window or too quiet; leave such folds out with --folds, or take --protocol svm, "
        "which fills short clips up and hears quiet ones"
    )
    if not np.any(judged.fold == tested):
        raise TrainingError(f"no clip of fold {tested} has a window to judge: {why}")
    others = np.unique(heard.label[heard.fold != tested])
    if len(others) < 2:
        known = f"but those of {labels[others[0]]} " if len(others) else ""
        raise TrainingError(f"without fold {tested} there are no windows {known}to be fitted on: {why}")


def probe(windows: Windows, clips: Sequence[Clip], folds: Sequence[int] | None = None) -> Counts:
    """What the linear protocol counts."""
    return rotate(classifiers.linear, windows, clips, folds=folds).counts


def total(counts: Sequence[Counts]) -> Counts:
    """The sum over seeds, clip by clip."""
    return Counts(*(np.sum(column, axis=0) for column in zip(*counts, strict=True)))


def estimate(
    clips: Sequence[Clip],
    correct: NDArray[np.float64],
    count: NDArray[np.float64],
    against: NDArray[np.float64] | None = None,
) -> Estimate:
    """The share sum(correct) / sum(count), with its interval over recordings.

    against: the `correct` of another model on the same windows; then it is the difference of the two shares.
    """
    if against is not None:
        correct = correct - against
    names, group = np.unique([clip.group for clip in clips], return_inverse=True)
    sums = np.stack([np.bincount(group, values, len(names)) for values in (correct, count)], axis=1)
    right, every = sums.sum(axis=0)
    random, equal = np.random.default_rng(0), np.full(len(names), 1 / len(names))
    rows = max(1, _DRAWN_AT_ONCE // len(names))
    drawn = np.concatenate(
        [
            random.multinomial(len(names), equal, min(rows, RESAMPLES - done)) @ sums
            for done in range(0, RESAMPLES, rows)
        ]
    )
    low, high = np.percentile(drawn[:, 0] / np.maximum(drawn[:, 1], 1), [2.5, 97.5])
    return Estimate(float(right / every), float(low), float(high))


def measure(
    embedder: Embedder,
    clips: Sequence[Clip],
    seeds: Sequence[int],
    protocol: Protocol = PROTOCOLS["linear"],
    cache: Cache | None = None,
) -> tuple[dict[str, Any], Counts]:
    """All figures of a model, pooled over rotations and seeds, as plain JSON values; and the counts behind them."""
    load = functools.lru_cache(_REMEMBERED)(datasets.load)
    each: list[Judged] = []
    windows = None
    for seed in seeds:
        if windows is None or protocol.plan.seeded:
            windows = embed(embedder, clips, seed, protocol, cache, load)
        each.append(rotate(protocol.classify, windows, clips, seed))
    document = {
        "model": embedder.name,
        "sha256": embedder.identity,
        "engine": embedder.engine,
        "clips": len(clips),
        **figures(clips, each, seeds),
    }
    return document, total([judged.counts for judged in each])


def figures(clips: Sequence[Clip], each: Sequence[Judged], seeds: Sequence[int] = (0,)) -> dict[str, Any]:
    """The figures of what was judged, once for each seed, as plain JSON values."""
    pooled = total([judged.counts for judged in each])
    confusion = np.sum([judged.confusion for judged in each], axis=0)
    labels = labels_of(clips)
    folds = sorted({clip.fold for clip in clips})
    of_fold = {fold: np.array([clip.fold == fold for clip in clips]) for fold in folds}
    by_clip = [float(pooled.clips_correct[own].sum() / pooled.clips[own].sum()) for own in of_fold.values()]
    return {
        "windows": int(pooled.windows.sum()),
        "seeds": list(seeds),
        "window_accuracy": estimate(clips, pooled.correct, pooled.windows)._asdict(),
        "clip_accuracy": estimate(clips, pooled.clips_correct, pooled.clips)._asdict(),
        "by_fold": {
            str(fold): float(pooled.correct[own].sum() / pooled.windows[own].sum()) for fold, own in of_fold.items()
        },
        "clips_by_fold": dict(zip(map(str, folds), by_clip, strict=True)),
        "fold_mean": float(np.mean(by_clip)),
        "fold_sd": float(np.std(by_clip, ddof=1)) if len(by_clip) > 1 else 0.0,
        "by_seed": {
            str(seed): float(judged.counts.correct.sum() / judged.counts.windows.sum())
            for seed, judged in zip(seeds, each, strict=True)
        },
        "chosen": {str(seed): judged.chosen for seed, judged in zip(seeds, each, strict=True)},
        "classes": {
            label: {
                "judged": int(confusion[i].sum()),
                "recall": float(confusion[i, i] / max(1, confusion[i].sum())),
                "precision": float(confusion[i, i] / max(1, confusion[:, i].sum())),
            }
            for i, label in enumerate(labels)
        },
        "confusion": confusion.tolist(),
    }


def difference(clips: Sequence[Clip], first: Counts, other: Counts) -> dict[str, dict[str, float]]:
    """First minus other, of those `SHARES` whose windows or clips are the same for both."""
    of_windows = (first.windows, other.windows, first.correct, other.correct)
    of_clips = (first.clips, other.clips, first.clips_correct, other.clips_correct)
    return {
        name: estimate(clips, mine, count, theirs)._asdict()
        for name, (count, same, mine, theirs) in zip(SHARES, (of_windows, of_clips), strict=True)
        if np.array_equal(count, same)
    }
