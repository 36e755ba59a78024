"""Fitting a head to a few clips, in NumPy, in seconds.

Two kinds are tried. "nearest-mean": the label whose mean is nearest. "logistic": multinomial logistic regression with
an L2 penalty, of several strengths. Cross-validation by clip chooses: no windows of one clip are ever on both sides.
The same held-out windows calibrate the scores, by one temperature (Guo et al. 2017), towards targets that are no surer
than so many clips allow (Platt 1999); and they set the distance beyond which a sound is "unknown".

Why that distance, and not a low score: a softmax is as sure of what it never heard. `python -m benchmarks.unknown`
measures both.

Labels count the same, whatever their number of clips; so do the clips of a label, whatever their length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .errors import AudioError, OptionError
from .heads import BACKGROUND, KINDS, Candidate, Floats, Head, Validation, nearest, softmax, unit
from .model import Model

STRENGTHS = (0.3, 0.03)  # of the penalty, that are tried; the strongest first
MOST_FOLDS = 5
WITHIN = 0.9  # share of held-out windows that the threshold lets be known
SLACK = 1.7  # times farther, where no clip could be held out to measure that on; `benchmarks.unknown` has it
FLOOR = 0.1  # of the mean variance, added to each: values that hardly ever change must not decide
MOST_STEPS = 500
TOLERANCE = 1e-3  # of a weight, relative to the largest one
LEAST_THRESHOLD = 1e-2  # below which not even a second recording of the same sound would be known
NULL = 1e-3  # of the largest variance: directions of less are noise, and slow

Single = NDArray[np.float32]
Linear = tuple[Floats, Floats]  # weights [m, d], bias [m]


class Windows(NamedTuple):
    """What is learned from."""

    values: Single  # [n, d], embeddings
    label: NDArray[np.int64]  # [n], index of the label
    clip: NDArray[np.int64]  # [n], index of the clip; clips of one recording have neighbouring indices

    def where(self, mask: NDArray[np.bool_]) -> Windows:
        """Those of a mask."""
        return Windows(self.values[mask], self.label[mask], self.clip[mask])


class Fit(NamedTuple):
    """What every kind of head is made from."""

    z: Single  # [n, d], standardised
    mean: Floats  # [d]
    scale: Floats  # [d]
    means: Floats  # [m, d], of each label's z
    weights: Floats  # [n], of the windows; they add up to 1

    def standardised(self, values: Single) -> Single:
        """Other embeddings [k, d] as these were."""
        return ((unit(values) - self.mean) / self.scale).astype(np.float32)


class Judged(NamedTuple):
    """What cross-validation settles."""

    validation: Validation
    temperature: float
    threshold: float | None  # None where no clip was judged that is no background


def learn(windows: Windows, labels: Sequence[str], model: Model, hop: float) -> Head:
    """The head of labelled windows; OptionError unless they have two labels, one of which is no background, AudioError
    where all that is known of them is one sound each."""
    clips = clips_of(windows, len(labels))
    if len(labels) < 2 or not all(clips) or set(labels) <= set(BACKGROUND):
        raise OptionError(
            f"a head tells labels apart: it needs two at least, each with sound, and one that is not among "
            f"{', '.join(BACKGROUND)}; got {', '.join(labels) or 'none'}"
        )
    fit = fitted(windows, len(labels))
    judged = cross_validated(windows, labels) if max(clips) > 1 else None
    chosen = judged.validation.candidates[judged.validation.chosen] if judged else None
    linear: Linear | None = None
    if chosen and chosen.kind == "logistic":
        (linear,) = logistic(fit, windows.label, [chosen.strength])
    threshold = judged.threshold if judged else None
    if threshold is None:
        threshold = SLACK * quantile(distances(fit.z, fit.means), fit.weights * _known(windows, labels))
    if threshold < LEAST_THRESHOLD:
        raise AudioError(
            "there is nothing to set the unknown threshold by, as what was heard of a label does not differ: give each "
            "two clips at least, or longer ones than a window, of sound and no digital silence"
        )
    temperature = judged.temperature if judged else calibrated(_logits(fit.z, nearest(fit.means)), windows, fit.weights)
    return Head(
        model=model.name,
        model_sha256=model.identity,
        hop=hop,
        kind=KINDS[linear is not None],
        labels=tuple(labels),
        clips=tuple(clips),
        mean=fit.mean,
        scale=fit.scale,
        means=fit.means,
        weights=linear[0] if linear else None,
        bias=linear[1] if linear else None,
        temperature=temperature,
        threshold=threshold,
        validation=judged.validation if judged else None,
    )


def clips_of(windows: Windows, m: int) -> list[int]:
    """Number of clips of each label."""
    return [len(np.unique(windows.clip[windows.label == label])) for label in range(m)]


def balanced(windows: Windows) -> Floats:
    """Weights [n] that add up to 1, the same for each label, and within it for each clip."""
    _, label = np.unique(windows.label, return_inverse=True)
    clips, first, own = np.unique(windows.clip, return_index=True, return_inverse=True)
    of_label = np.bincount(label[first])
    weights: Floats = 1 / (len(of_label) * of_label[label] * np.bincount(own, minlength=len(clips))[own])
    return weights


def fitted(windows: Windows, m: int) -> Fit:
    """Standardise embeddings of unit length, and take each label's mean."""
    weights = balanced(windows)
    values = unit(windows.values)
    mean = weights @ values
    variance = weights @ np.square(values - mean)
    scale = np.sqrt(variance + FLOOR * np.mean(variance) + np.finfo(np.float32).eps)
    z = ((values - mean) / scale).astype(np.float32)
    members = (windows.label == np.arange(m)[:, None]) * weights  # [m, n]
    return Fit(z, mean, scale, members @ z / members.sum(axis=1, keepdims=True), weights)


def distances(z: Single, means: Floats) -> Floats:
    """Of each row [n, d] from the nearest of the means, root mean square over d: as `Head.novelty`."""
    made: Floats = np.sqrt(np.min([np.mean(np.square(z - mean), axis=1) for mean in means], axis=0))
    return made


def logistic(fit: Fit, label: NDArray[np.int64], strengths: Sequence[float]) -> list[Linear]:
    """Minimise sum(weights * cross-entropy) + strength / 2 * |W|² for each strength.

    In the basis of principal components, where the curvature is at most half of each component's variance plus the
    strength (Böhning 1992): each has its own step then, and Nesterov's momentum (1983), begun anew where it leads
    uphill, does the rest.
    """
    m = len(fit.means)
    variance, basis = np.linalg.eigh((fit.z * fit.weights[:, None].astype(np.float32)).T @ fit.z)
    kept = variance > NULL * variance[-1]
    variance, basis = np.append(variance[kept], 1.0), basis[:, kept]
    x = np.concatenate([fit.z @ basis, np.ones((len(fit.z), 1), np.float32)], axis=1)  # [n, r + 1]: and the bias
    target, weights = np.eye(m, dtype=np.float32)[label], fit.weights[:, None].astype(np.float32)
    now = np.zeros((x.shape[1], m), np.float32)
    made = []
    for strength in strengths:
        penalty = np.append(np.full(len(variance) - 1, strength), 0.0)[:, None].astype(np.float32)
        step = (1 / (variance[:, None] / 2 + penalty)).astype(np.float32)
        ahead, momentum = now, 1.0
        for _ in range(MOST_STEPS):
            slope = x.T @ ((softmax(x @ ahead) - target) * weights) + penalty * ahead
            after = ahead - step * slope
            if np.abs(after - now).max() <= TOLERANCE * np.abs(after).max():
                break
            momentum = 1.0 if np.sum(slope * (after - now)) > 0 else momentum
            following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
            ahead = after + np.float32((momentum - 1) / following) * (after - now)
            now, momentum = after, following
        made.append(((basis @ now[:-1]).T.astype(np.float64), now[-1].astype(np.float64)))
    return made


def calibrated(logits: Floats, windows: Windows, weights: Floats) -> float:
    """The temperature at which the scores of windows are as right as they are sure.

    The cross-entropy is convex in its inverse, whose slope is brought to zero by bisection.
    """
    clips, m = len(np.unique(windows.clip)), logits.shape[1]
    target = np.full(logits.shape, 1 / (clips + 2) / (m - 1))
    target[np.arange(len(logits)), windows.label] = (clips + 1) / (clips + 2)
    low, high = 1e-4, 1e4
    for _ in range(50):
        middle = np.sqrt(low * high)
        slope = weights @ np.sum((softmax(middle * logits) - target) * logits, axis=1)
        low, high = (middle, high) if slope < 0 else (low, middle)
    return float(1 / high)


def quantile(values: Floats, weights: Floats) -> float:
    """The value that a share `WITHIN` of the weight does not exceed."""
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order[np.searchsorted(total, WITHIN * total[-1])]])


def cross_validated(windows: Windows, labels: Sequence[str]) -> Judged:
    """Judge each kind on clips that it did not learn from."""
    m, fold = len(labels), _folds(windows, len(labels))
    logits = np.zeros((1 + len(STRENGTHS), len(fold), m))
    apart = np.zeros(len(fold))
    for k in range(fold.max() + 1):
        out = fold == k
        learned = windows.where(~out)
        fit = fitted(learned, m)
        z = fit.standardised(windows.values[out])
        for i, linear in enumerate([nearest(fit.means), *logistic(fit, learned.label, STRENGTHS)]):
            logits[i, out] = _logits(z, linear)
        # A mean of few clips is itself off: by 1/n of a clip's variance, so that fewer would set the threshold too far.
        fewer, have = np.array(clips_of(learned, m)), np.array(clips_of(windows, m))
        nearer = np.sqrt((1 + 1 / have) / (1 + 1 / fewer))
        apart[out] = distances(z, fit.means) * nearer[windows.label[out]]
    held = fold >= 0
    own, apart, weights = windows.where(held), apart[held], balanced(windows.where(held))
    candidates, confusions, temperatures = [], [], []
    for i, made in enumerate(logits[:, held]):
        temperatures.append(calibrated(made, own, weights))
        scores = softmax(made / temperatures[-1])
        confusions.append(_confusion(scores, own, m))
        right = np.trace(confusions[-1]) / np.sum(confusions[-1])
        windows_right = float(weights @ (scores.argmax(axis=1) == own.label))
        loss = float(-weights @ np.log(scores[np.arange(len(scores)), own.label] + np.finfo(np.float64).tiny))
        kind, strength = (KINDS[1], STRENGTHS[i - 1]) if i else (KINDS[0], 0.0)
        candidates.append(Candidate(kind, strength, float(right), windows_right, loss))
    chosen = max(range(len(candidates)), key=lambda i: (candidates[i].clips_right, candidates[i].windows_right, -i))
    known = weights * _known(own, labels)
    threshold = quantile(apart, known) if known.any() else None
    validation = Validation(
        folds=int(fold.max()) + 1,
        clips=int(np.sum(confusions[chosen])),
        within=WITHIN,
        candidates=tuple(candidates),
        chosen=chosen,
        confusion=tuple(tuple(row) for row in confusions[chosen].tolist()),
    )
    return Judged(validation, temperatures[chosen], threshold)


def _folds(windows: Windows, m: int) -> NDArray[np.int64]:
    """The fold in which each window is held out [n]; -1 of a label's only clip, which is always learned from.

    Neighbouring clips go together: they are often cut from one recording, and would tell on each other.
    """
    folds = min(MOST_FOLDS, max(clips_of(windows, m)))
    fold = np.full(len(windows.clip), -1)
    for label in range(m):
        clips = np.unique(windows.clip[windows.label == label])
        for i, clip in enumerate(clips if len(clips) > 1 else ()):
            fold[windows.clip == clip] = (i * folds // len(clips) + label) % folds
    return fold


def _logits(z: Single, linear: Linear) -> Floats:
    return np.asarray(z @ linear[0].T + linear[1], np.float64)


def _known(windows: Windows, labels: Sequence[str]) -> NDArray[np.bool_]:
    """Which windows [n] are of no background."""
    return np.array([label not in BACKGROUND for label in labels])[windows.label]


def _confusion(scores: Floats, windows: Windows, m: int) -> NDArray[np.int64]:
    """Clips of a label (row), decided as (column) by the mean of their windows' scores."""
    clips, first, own = np.unique(windows.clip, return_index=True, return_inverse=True)
    total = np.array([np.bincount(own, weights=column, minlength=len(clips)) for column in scores.T])
    made = np.zeros((m, m), np.int64)
    np.add.at(made, (windows.label[first], total.argmax(axis=0)), 1)
    return made
