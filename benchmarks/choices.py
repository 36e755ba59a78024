"""The measurements behind the recipes' settings: how many windows to calibrate on, what to prune, how many clusters.

    python -m benchmarks.choices RUN calibration|sparsity|clusters [--data FOLDER] [--steps N]

Prepared on one fold of recordings (ESC-10's first), judged on all the others: cosine of the int8 network's embeddings
against the float32 network's, over one window a second. Both are computed as the fake-quantised graphs that are
converted. Sizes are of the converted file, the compressed one by gzip. Prints a Markdown table, row by row.
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export import convert, graph, quantise, recipes, representative
from l3edge.spec import Spec
from training import classifiers, datasets
from training.backend import tf, tf_keras
from training.cli import HelpFormatter, positive_int, run
from training.network import folded
from training.pretrain import load_run

HEARD_FOLD = 1
DRAWS = 5  # of the windows to calibrate on

# Share of zeros in each convolution of an L3 stack. The first row is EdgeL3's (Kumari et al. 2019, the network of
# 95.45 %), made for twice the width.
SPARSITY = (
    (0.0, 0.85, 0.85, 0.85, 0.75, 0.95, 0.98, 0.98),
    (0.0, 0.5, 0.6, 0.6, 0.6, 0.8, 0.9, 0.9),
    (0.0, 0.4, 0.5, 0.5, 0.5, 0.6, 0.7, 0.8),
)
CLUSTERS = (64, 32, 16, 8)


def embeddings(network: graph.Network, features: quantise.Features) -> NDArray[np.float32]:
    """[n, frames_used, bins, 1] -> [n, embedding_size]."""
    embed = tf.function(lambda x: graph.embedding_of(graph.columns_of(network, x), network.spec))
    return np.concatenate([embed(tf.constant(features[i : i + 64])).numpy() for i in range(0, len(features), 64)])


def cosines(want: NDArray[np.float32], made: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of each row; 0 where one of the two is zero."""
    norms = np.linalg.norm(want, axis=1) * np.linalg.norm(made, axis=1)
    return (want * made).sum(axis=1) / np.maximum(norms, np.finfo(np.float32).tiny)


def windows(spec: Spec, sounds: Sequence[NDArray[np.float32]]) -> quantise.Features:
    """The features of one window a second of each clip, the quietest left out."""
    cut = np.concatenate(
        [np.lib.stride_tricks.sliding_window_view(samples, spec.window)[:: spec.sample_rate] for samples in sounds]
    )
    loud = np.sqrt(np.mean(np.square(cut, dtype=np.float64), axis=1)) > 10 ** (classifiers.QUIETEST / 20)
    return representative.features(spec, cut[loud])


def row(network: graph.Network, judged: quantise.Features, want: NDArray[np.float32]) -> str:
    """Cosines and sizes of an int8 network, as cells."""
    cosine = cosines(want, embeddings(network, judged))
    file = convert.convert(network)
    return (
        f"{cosine.mean():.4f} | {cosine.min():.4f} | {len(file) / 1000:.0f} | {len(gzip.compress(file, 9)) / 1000:.0f}"
    )


def calibration(task: recipes.Task, judged: quantise.Features, want: NDArray[np.float32]) -> Iterator[str]:
    """int8_ptq by number of windows, several draws each."""
    yield "| windows | mean cosine | of the worst draw | minimum cosine | of the worst draw | last layer's range |"
    yield "|---:|---:|---:|---:|---:|---:|"
    for count in (1, 4, 16, 64, 256, 1024):
        means, lows, tops = [], [], []
        for seed in range(DRAWS):
            heard = next(representative.representative(task.network.spec, task.signals, count, seed))
            network = quantise.calibrate(task.network, heard)
            assert network.ranges is not None
            cosine = cosines(want, embeddings(network, judged))
            means, lows, tops = [*means, cosine.mean()], [*lows, cosine.min()], [*tops, network.ranges[-1][1]]
        yield (
            f"| {count} | {np.mean(means):.5f} | {min(means):.5f} | {np.mean(lows):.4f} | {min(lows):.4f} "
            f"| {min(tops):.2f} to {max(tops):.2f} |"
        )


def sparsity(task: recipes.Task, judged: quantise.Features, want: NDArray[np.float32]) -> Iterator[str]:
    """Pruning by rows of sparsity, quantised after training."""
    yield "| sparsity of each convolution, % | of all weights, % | cosine, mean | min | kB | gzip kB |"
    yield "|---|---:|---:|---:|---:|---:|"
    for shares in SPARSITY:
        pruned = recipes.pruned(task, shares)
        zeros = sum(int((kernel == 0).sum()) for kernel, _ in pruned.weights)
        share = zeros / sum(kernel.size for kernel, _ in pruned.weights)
        cells = row(recipes.calibrated(task, pruned), judged, want)
        yield f"| {' '.join(f'{100 * x:g}' for x in shares)} | {100 * share:.1f} | {cells} |"


def clusters(task: recipes.Task, judged: quantise.Features, want: NDArray[np.float32]) -> Iterator[str]:
    """Clustering by number of values, quantised after training."""
    yield "| values in each kernel | cosine, mean | min | kB | gzip kB |\n|---:|---:|---:|---:|---:|"
    for count in CLUSTERS:
        network = recipes.calibrated(task, recipes.clustered(task, count))
        yield f"| {count} | {row(network, judged, want)} |"


CHOICES = {"calibration": calibration, "sparsity": sparsity, "clusters": clusters}


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.choices",
        formatter_class=HelpFormatter,
        description="What the recipes' settings cost and bring, on recordings that the settings were not made on.",
    )
    made.add_argument("run", type=Path, metavar="RUN", help="directory written by python -m training.pretrain")
    made.add_argument("choice", choices=CHOICES, help="what to vary")
    made.add_argument(
        "--data", type=Path, default=datasets.ESC10, metavar="FOLDER", help="as for python -m training.probe"
    )
    made.add_argument("--steps", type=positive_int, default=recipes.Settings().steps, help="of pruning")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    arguments = parser().parse_args(argv)
    trained = load_run(arguments.run)
    rate = trained.spec.sample_rate
    sounds = [(clip.fold, datasets.load(clip, rate)) for clip in datasets.read(arguments.data)]
    heard = [samples for fold, samples in sounds if fold == HEARD_FOLD]
    judged = windows(trained.spec, [samples for fold, samples in sounds if fold != HEARD_FOLD])
    network = graph.Network(trained.spec, tuple(folded(trained.audio_tower)))
    task = recipes.Task(network, heard, dataclasses.replace(recipes.Settings(), steps=arguments.steps))
    tf_keras.utils.set_random_seed(0)
    for line in CHOICES[arguments.choice](task, judged, embeddings(network, judged)):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    run(main)
