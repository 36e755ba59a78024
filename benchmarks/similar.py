"""What "sounds most like" should mean to `l3edge search`: ways to compare a clip with the moments of others.

    python -m benchmarks.similar [--data DATASET]

Each clip of ESC-10 is the query, the other clips of its fold the archive, the model one that never heard that fold.
The figure: how many of the five clips whose best moments are most alike are of the query's class. The query is the mean
of its windows, or each of its windows (its best match counts); embeddings are taken as they are, less the archive's
mean ("centred"), or standardised by the archive. Windows every 0.5 s or 0.1 s, silent ones left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import l3edge
from l3edge.clips import SILENCE, embedded
from l3edge.heads import unit
from training import datasets
from training.cli import run

from .unknown import MODEL, ROTATIONS

BEST = 5
HOPS = (0.5, 0.1)
WAYS = ("plain", "centred", "standardised")
QUERIES = ("mean", "each")


def prepared(rows: NDArray[np.float64], way: str) -> NDArray[np.float64]:
    """Rows [n, d] of unit length, made comparable."""
    centred = rows - rows.mean(axis=0)
    return unit({"plain": rows, "centred": centred, "standardised": centred / (rows.std(axis=0) + 1e-3)}[way])


def precision(heard: Sequence[NDArray[np.float32]], labels: Sequence[str], way: str, query: str) -> list[float]:
    """Of each clip as the query."""
    owner = np.repeat(np.arange(len(heard)), [len(rows) for rows in heard])
    rows = prepared(unit(np.concatenate(heard)), way)
    made = []
    for number, label in enumerate(labels):
        own = rows[owner == number]
        asked = own if query == "each" else unit(own.mean(axis=0, keepdims=True))
        scores = (rows @ asked.T).max(axis=1)
        best = np.array([scores[owner == other].max() if other != number else -2 for other in range(len(heard))])
        made.append(float(np.mean([labels[i] == label for i in np.argsort(-best)[:BEST]])))
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.similar", description=str(__doc__).split("\n")[0])
    parser.add_argument("--data", type=Path, default=datasets.ESC10, metavar="DATASET", help="as for training.probe")
    clips = datasets.read(parser.parse_args(argv).data)
    made: dict[tuple[float, str, str], list[float]] = {}
    for fold in sorted({clip.fold for clip in clips}):
        model = l3edge.load(ROTATIONS / f"{MODEL}-without-{fold}.tflite")
        judged = [clip for clip in clips if clip.fold == fold]
        for hop in HOPS:
            pairs = [embedded(model, clip.path, hop) for clip in judged]
            heard = [embeddings[levels > SILENCE] for embeddings, levels in pairs]
            for way in WAYS:
                for query in QUERIES:
                    found = precision(heard, [clip.label for clip in judged], way, query)
                    made.setdefault((hop, way, query), []).extend(found)
    print(f"| hop | query | {' | '.join(WAYS)} |\n|---:|---|{'---:|' * len(WAYS)}")
    for hop in HOPS:
        for query in QUERIES:
            cells = [f"{100 * np.mean(made[hop, way, query]):.1f} %" for way in WAYS]
            print(f"| {hop:g} s | {query} | {' | '.join(cells)} |")
    return 0


if __name__ == "__main__":
    run(main)
