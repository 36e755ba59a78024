"""Is the file what it claims to be? Checks run on the written file, through the SDK, as a user would run it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import l3edge

Embed = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class Tolerance(NamedTuple):
    """What an export must keep, or it fails."""

    mean_cosine: float  # against the float32 tower, over all windows
    min_cosine: float  # over windows whose embedding is not near zero
    max_error: float  # largest error of a value, relative to the largest value of the float32 tower
    step: float  # largest difference of step and window graph, relative to the largest value; 0: the same bits


TOLERANCES = {
    "float32": Tolerance(0.999999, 0.9999, 1e-3, 1e-5),
    "int8_ptq": Tolerance(0.98, 0.90, 0.5, 0.0),
    "int8_qat": Tolerance(0.99, 0.95, 0.25, 0.0),
}

# The norm, relative to the clips' largest, below which a direction says nothing (digital silence).
NEAR_ZERO = 1e-3


class VerifyError(l3edge.Error):
    """A model that cannot be compared with its float32 tower."""


def windows(spec: l3edge.Spec, clip: NDArray[np.float32]) -> NDArray[np.float32]:
    """Every whole window of a clip at the model's rate, one a hop: float32 [n, window]."""
    return np.lib.stride_tricks.sliding_window_view(clip, spec.window)[:: spec.hop]


def measure(model: l3edge.Model, reference: Embed, clips: Sequence[NDArray[np.float32]]) -> dict[str, Any]:
    """Parity of a model file, as stored in its `l3edge.json`.

    reference: float32 [n, window] -> [n, embedding_size], the float32 tower that was trained.
    clips: float32 [n] at the model's rate, full scale 1.0, each at least one window long.
    """
    stepped, whole, wanted = [], [], []
    for clip in clips:
        cut = windows(model.spec, clip)
        stepped.append(model.embed(clip, model.spec.sample_rate)[0][: len(cut)])
        whole.append(model.network.dequantize(np.stack([model.network.window(x) for x in cut])))
        wanted.append(reference(cut))
    step, window, want = (np.concatenate(parts) for parts in (stepped, whole, wanted))
    norms = np.linalg.norm(want, axis=1)
    heard = norms > NEAR_ZERO * norms.max()
    if not heard.any():
        raise VerifyError("the float32 tower gives nothing but zeros on these clips: there is nothing to compare with")
    # A zero embedding where the tower hears something has no direction; its cosine counts as 0.
    product = np.maximum(norms * np.linalg.norm(step, axis=1), np.finfo(np.float32).tiny)
    cosine = ((want * step).sum(axis=1) / product)[heard]
    largest = float(np.abs(want).max())
    return {
        "clips": len(clips),
        "windows": len(step),
        "windows_near_zero": int((~heard).sum()),
        "cosine_mean": round(float(cosine.mean()), 6),
        "cosine_min": round(float(cosine.min()), 6),
        "max_error": float(np.abs(step - want).max()),
        "max_value": largest,
        "step_values": int(step.size),
        "step_values_differing": int((step != window).sum()),
        "step_max_error": float(np.abs(step - window).max()),
        "engine": f"{model.engine.name} {model.engine.version}",
    }


def failures(parity: dict[str, Any], tolerance: Tolerance) -> list[str]:
    """What in the figures of `measure` is outside the tolerance, in words."""
    checks = [
        ("mean cosine", parity["cosine_mean"], parity["cosine_mean"] >= tolerance.mean_cosine, tolerance.mean_cosine),
        ("minimum cosine", parity["cosine_min"], parity["cosine_min"] >= tolerance.min_cosine, tolerance.min_cosine),
        (
            "largest error, relative to the largest value",
            parity["max_error"] / parity["max_value"],
            parity["max_error"] <= tolerance.max_error * parity["max_value"],
            tolerance.max_error,
        ),
        (
            "difference of step and window, relative to the largest value",
            parity["step_max_error"] / parity["max_value"],
            parity["step_max_error"] <= tolerance.step * parity["max_value"],
            tolerance.step,
        ),
    ]
    return [f"{name} is {value:g}, the limit is {limit:g}" for name, value, good, limit in checks if not good]
