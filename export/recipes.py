"""Recipes: what becomes of a trained network's numbers. `RECIPES`, at the end, says what each name means.

Batch normalisation is folded into the convolutions before any of this. In every int8 recipe all of the network is
int8, its input, states and output too; only the front end computes in float32.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from l3edge.flatbuffer import CONVOLUTIONS, parse

from . import quantise
from .graph import Network
from .representative import Features, Signal, representative


@dataclass(frozen=True)
class Settings:
    """What the recipes can be told; the defaults were measured (training/LOG.md, `python -m benchmarks.choices`)."""

    calibration_windows: int = 256
    steps: int = 300  # of quantisation-aware training; of pruning as many
    batch: int = 32  # windows in a step
    learning_rate: float = 1e-4  # of quantisation-aware training, with cosine decay to zero
    seed: int = 0  # of the windows and levels that are drawn
    sparsity: Sequence[float] = (0.0, 0.4, 0.5, 0.5, 0.5, 0.6, 0.7, 0.8)  # of the convolutions of an L3 stack
    pruning_rate: float = 1e-3  # learning rate of pruning, with cosine decay to zero
    clusters: int = 16
    clustering_steps: int = 60
    clustering_rate: float = 1e-4  # learning rate of clustering, with cosine decay to zero


class Task(NamedTuple):
    """A float32 network, the audio that it is to be prepared on, and how."""

    network: Network
    signals: Sequence[Signal]
    settings: Settings

    def batches(self, windows: int, stage: int) -> Iterator[Features]:
        """Endless batches of so many windows; each stage of a recipe draws its own."""
        network, seed = self.network, 10 * self.settings.seed + stage
        return representative(network.spec, self.signals, windows, seed, network.affine)

    def sparsity(self) -> list[float]:
        """The settings' row, stretched to as many convolutions as there are."""
        row, count = self.settings.sparsity, len(self.network.weights)
        return np.interp(np.linspace(0, 1, count), np.linspace(0, 1, len(row)), row).tolist()


class Recipe(NamedTuple):
    """How a float32 network becomes what is converted."""

    text: str
    make: Callable[[Task], Network]
    listens: bool = True  # to representative audio
    float16: bool = False  # what the conversion has to do besides


@contextlib.contextmanager
def progress(what: str, steps: int) -> Iterator[quantise.Progress]:
    """A progress bar on a terminal, with the loss."""
    from tqdm import tqdm

    print(f"{what}, {steps} steps", file=sys.stderr)  # where no bar is drawn, so that the wait has a reason
    with tqdm(total=steps, desc=what, unit=" steps", disable=None) as bar:

        def report(step: int, loss: float) -> None:
            bar.update()
            bar.set_postfix(loss=f"{loss:.5f}", refresh=False)

        yield report


def calibrated(task: Task, network: Network) -> Network:
    """A float32 network, the task's or one made of it, with ranges."""
    settings = task.settings
    return quantise.calibrate(network, next(task.batches(settings.calibration_windows, 0)))


def _corrected(task: Task) -> Network:
    inputs = next(task.batches(task.settings.calibration_windows, 0))
    return quantise.correct_biases(quantise.calibrate(task.network, inputs), inputs)


def _trained(task: Task, network: Network, keep: str | None = None) -> Network:
    settings = task.settings
    batches = task.batches(settings.batch, 1)
    with progress("quantisation-aware training", settings.steps) as report:
        return quantise.fine_tune(
            calibrated(task, network),
            batches,
            settings.steps,
            settings.learning_rate,
            report,
            teacher=task.network,
            keep=keep,
        )


def pruned(task: Task, shares: Sequence[float]) -> Network:
    """The task's network with so many zeros in each kernel, in float32."""
    settings = task.settings
    batches = task.batches(settings.batch, 2)
    with progress("pruning", settings.steps) as report:
        return quantise.prune(task.network, shares, batches, settings.steps, settings.pruning_rate, report)


def clustered(task: Task, clusters: int) -> Network:
    """The task's network with so many values in each kernel but the first, in float32."""
    settings = task.settings
    batches = task.batches(settings.batch, 3)
    steps = settings.clustering_steps
    with progress("clustering", steps) as report:
        return quantise.cluster(task.network, clusters, batches, steps, settings.clustering_rate, report)


RECIPES = {
    "float32": Recipe(
        "weights and arithmetic in float32: the network as it was trained", lambda task: task.network, listens=False
    ),
    "float16": Recipe(
        "weights in float16, arithmetic in float32: half the file, no faster",
        lambda task: task.network,
        listens=False,
        float16=True,
    ),
    "int8_ptq": Recipe(
        "post-training quantisation: int8 weights, a scale for each filter; int8 activations, each layer's range the "
        "smallest and largest value that representative audio gives; biases that take back the mean error of rounding",
        _corrected,
    ),
    "int8_qat": Recipe(
        "ranges as in int8_ptq, then quantisation-aware training: in spite of rounding, the weights learn to give the "
        "float32 network's embeddings of representative audio; no label is needed",
        lambda task: _trained(task, task.network),
    ),
    "int8_qat_pruned": Recipe(
        "the smallest weights of each kernel become zero while the others learn to do without them, then int8_qat, "
        "which keeps the zeros; the file compresses to less and runs no faster, as kernels multiply by zeros too",
        lambda task: _trained(task, pruned(task, task.sparsity()), "zeros"),
    ),
    "int8_qat_clustered": Recipe(
        "the weights of each kernel are made to share a few values, which learn, then int8_qat, which keeps them "
        "shared; the file compresses to less and runs no faster",
        lambda task: _trained(task, clustered(task, task.settings.clusters), "clusters"),
    ),
}
DEFAULT = "int8_qat"


def kernels(flatbuffer: bytes) -> list[NDArray[np.generic]]:
    """The kernels of a file's convolutions as they are stored, in order: [filters, time, frequency, inputs], and
    depthwise ones [1, time, frequency, filters].
    """
    model = parse(flatbuffer)
    graph = model.subgraphs[0]
    makers = {output: operator for operator in graph.operators for output in operator.outputs}
    found = []
    for operator in graph.operators:
        if operator.name in CONVOLUTIONS:
            index = operator.inputs[1]
            if index in makers:  # float16, widened first
                index = makers[index].inputs[0]
            values = model.constant(graph.tensors[index])
            assert values is not None
            found.append(values)
    return found


def prepare(recipe: str, network: Network, signals: Sequence[Signal] = (), settings: Settings | None = None) -> Network:
    """What a float32 network becomes by a recipe; signals are the representative audio, which some do not need."""
    return RECIPES[recipe].make(Task(network, signals, settings or Settings()))
