"""OpenL3's classifier of embeddings as a network that can leave the training environment: dense layers, no more.

    h = relu(embedding @ kernel + bias), twice (512 and 128 values); scores = softmax(h @ kernel + bias)

It is fitted as the protocol `mlp` of `training.classifiers` does, with the standardisation of the embeddings inside the
first layer, and two deviations besides that protocol's own: a fifth of the recordings of each label stop the training,
in place of a whole fold; and a tenth of the mean variance is added to that of each value, so that one which hardly ever
changes, and which int8 moves by a step, does not decide.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from l3edge.heads import softmax
from l3edge.learning import FLOOR

from .classifiers import MLP_HIDDEN, MLP_RATES, Rows, mlp_fit
from .cli import TrainingError
from .datasets import Clip, digest, labels_of

Layers = Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]]  # kernel [in, out] and bias [out] of each
HELD_OUT = 5  # a part in so many of each label's recordings


def scores(layers: Layers, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
    """Embeddings [k, d] -> [k, m], 0 to 1, adding up to 1; in float64."""
    x = np.asarray(embeddings, np.float64)
    for number, (kernel, bias) in enumerate(layers):
        x = (np.maximum(x, 0) if number else x) @ kernel.astype(np.float64) + bias
    return softmax(x)


def held_out(clips: Sequence[Clip]) -> set[str]:
    """The groups that stop the training: a fifth of each label's, one at least where it has two.

    They go by the hash of their names. A group of several labels is on one side alone.
    """
    side: dict[str, bool] = {}
    for label in labels_of(clips):
        own = {clip.group for clip in clips if clip.label == label}
        count = max(1, len(own) // HELD_OUT) if len(own) > 1 else 0
        count -= sum(side.get(group, False) for group in own)
        for number, group in enumerate(sorted(own - set(side), key=digest)):
            side[group] = number < count
    return {group for group, out in side.items() if out}


def fit(
    rows: Rows,
    stopping: NDArray[np.bool_],
    classes: int,
    hidden: Sequence[int] = MLP_HIDDEN,
    seed: int = 0,
    each_epoch: Callable[[], object] = lambda: None,
) -> tuple[Layers, dict[str, float]]:
    """The network of windows, and what was chosen.

    stopping: [n], windows that are not fitted: the epoch with the lowest loss on them is kept, and the learning rate
    with the best accuracy.
    Raises TrainingError where either side has no window.
    """
    fitted, judged = rows.where(~stopping), rows.where(stopping)
    if not len(fitted.values) or not len(judged.values):
        raise TrainingError("a head needs clips to fit, and others to know when to stop: two of a label at least")
    mean = fitted.values.mean(axis=0, dtype=np.float64)
    variance = fitted.values.var(axis=0, dtype=np.float64)
    scale = np.sqrt(variance + FLOOR * variance.mean() + np.finfo(np.float32).eps)
    fitted, judged = (
        part._replace(values=((part.values - mean) / scale).astype(np.float32)) for part in (fitted, judged)
    )
    kept = [(*mlp_fit(fitted, judged, classes, rate, seed, hidden, each_epoch), rate) for rate in MLP_RATES]
    accuracy, network, rate = max(kept, key=lambda each: each[0])
    kernels, biases = list(network.coefs_), list(network.intercepts_)
    kernels[0] = kernels[0] / scale[:, None]
    biases[0] = biases[0] - mean @ kernels[0]
    if classes == 2:  # scikit-learn has one output then, and its sigmoid is a softmax beside a zero
        kernels[-1], biases[-1] = (
            np.stack([np.zeros_like(x[..., 0]), x[..., 0]], -1) for x in (kernels[-1], biases[-1])
        )
    layers = [
        (kernel.astype(np.float32), bias.astype(np.float32)) for kernel, bias in zip(kernels, biases, strict=True)
    ]
    return layers, {"learning_rate": rate, "window_accuracy": accuracy}


def written(layers: Layers) -> bytes:
    """A npz of the layers: fc1/kernel, fc1/bias, fc2/kernel, ..."""
    content = io.BytesIO()
    named = {
        f"fc{number}/{name}": values
        for number, layer in enumerate(layers, 1)
        for name, values in zip(("kernel", "bias"), layer, strict=True)
    }
    np.savez(content, **named)
    return content.getvalue()


def read(path: Path) -> Layers:
    """The layers in such a file; TrainingError where it is another, or they do not fit each other."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            count = len(file.files) // 2
            layers = [tuple(file[f"fc{i}/{name}"] for name in ("kernel", "bias")) for i in range(1, count + 1)]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise TrainingError(f"{path} cannot be read as the layers of a head: {error}") from error
    size = layers[0][0].shape[:1] if layers else ()
    for kernel, bias in layers:
        if not all(values.dtype == np.float32 and np.isfinite(values).all() for values in (kernel, bias)):
            raise TrainingError(f"{path}: the layers of a head must be float32, and finite")
        if kernel.ndim != 2 or kernel.shape[:1] != size or bias.shape != kernel.shape[1:]:
            raise TrainingError(f"{path}: kernel {kernel.shape} and bias {bias.shape} do not fit the layer before")
        size = bias.shape
    if not layers:
        raise TrainingError(f"{path} has no layers")
    return layers
