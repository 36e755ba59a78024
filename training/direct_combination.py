"""Correspondence from two classifiers: the scalar product of their class posteriors, and a threshold.

After the supervised direct combination of Arandjelovic & Zisserman 2017; `training.supervised` says how closely.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .pairs import Clips

Scores = NDArray[np.float64]


def scores(posteriors: Mapping[str, NDArray[np.float32]], clips: Clips) -> tuple[Scores, Scores]:
    """Of the positive and of the negative pair of each clip, [n] each, in [0, 1].

    posteriors: "image" and "audio", class probabilities [n, classes] of the clips.
    """
    image, audio = (posteriors[name].astype(np.float64) for name in ("image", "audio"))
    return (image * audio).sum(1), (image * audio[clips.other]).sum(1)


def best_threshold(positive: Scores, negative: Scores) -> float:
    """The threshold above which a pair is said to correspond that is right most often; of equals the middle one."""
    values = np.unique(np.concatenate([positive, negative]))
    candidates = np.concatenate([[values[0] / 2], (values[:-1] + values[1:]) / 2, [(values[-1] + 1) / 2]])
    right = np.array([(positive > t).sum() + (negative <= t).sum() for t in candidates])
    best = np.flatnonzero(right == right.max())
    return float(candidates[best[len(best) // 2]])


def judged(positive: Scores, negative: Scores, threshold: float, same_label: NDArray[np.bool_]) -> dict[str, Any]:
    """Accuracies at a threshold, under the names of `correspondence.Trainer.evaluate`."""
    hits, rejections = float((positive > threshold).mean()), negative <= threshold
    others = rejections[~same_label]
    return {
        "pairs": 2 * len(positive),
        "loss": None,
        "accuracy": (hits + float(rejections.mean())) / 2,
        "positives": hits,
        "negatives": float(rejections.mean()),
        "other_labels": (hits + float(others.mean())) / 2 if len(others) else None,
        "ceiling": 1 - float(np.mean(same_label)) / 2,
    }
