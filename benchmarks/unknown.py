"""How well a head tells sounds that it knows from those that it does not, by clips per label.

    python -m benchmarks.unknown [--data DATASET]

For each fold of ESC-10, and each choice in `LEFT_OUT`: a head learns the other seven classes from clips of the other
folds, with a model that never heard the judged fold; then it hears all windows of that fold, three classes of which
are unknown to it. Figures are means over folds and choices, of windows that are not silent.

right       windows of known classes whose highest score is their class's
sure        mean of that highest score: calibrated where it equals "right"
refused     windows of known classes called "unknown"
let by      windows of unknown classes not called so
distance    area under the ROC curve, known against unknown, of the distance from the nearest mean
score       the same, of the highest score
farther     95 % of held-out windows are nearer than so many times what 95 % of the windows learned from are
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import l3edge
from l3edge import learning
from l3edge.clips import Clip, embedded, gathered
from l3edge.heads import UNKNOWN
from training import datasets
from training.cli import run

ROTATIONS = Path(__file__).parent / "rotations"
MODEL = "edge-m-3"
LEFT_OUT = ((0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 5, 9))  # indices of classes; of ten, each at least once
CLIPS = (1, 2, 4, 8, 16)
HOP = 0.1
FIGURES = ("right", "sure", "refused", "let by", "distance", "score", "farther")


def area(known: NDArray[np.float64], unknown: NDArray[np.float64]) -> float:
    """Under the ROC curve: the chance that a known window's figure is larger than an unknown one's."""
    ranks = np.argsort(np.argsort(np.concatenate([known, unknown])))[: len(known)]
    return float((ranks.sum() - len(known) * (len(known) - 1) / 2) / len(known) / len(unknown))


def figures(model: l3edge.Model, learned: Sequence[Clip], judged: Sequence[Clip], labels: Sequence[str]) -> list[float]:
    """Of one head, in the order of FIGURES."""
    windows = gathered(learned, labels)
    head = learning.learn(windows, labels, model, HOP)
    heard = gathered(judged, [*labels, *{clip.label for clip in judged} - set(labels)])
    known = heard.label < len(labels)
    scores, decided = head.judge(heard.values)
    decided = np.array(decided)
    apart, top = np.array([head.novelty(values) for values in heard.values]), scores.max(axis=1)
    own = np.array([head.novelty(values) for values in windows.values])
    return [
        float(np.mean(scores.argmax(axis=1)[known] == heard.label[known])),
        float(np.mean(top[known])),
        float(np.mean(decided[known] == UNKNOWN)),
        float(np.mean(decided[~known] != UNKNOWN)),
        area(-apart[known], -apart[~known]),
        area(top[known], top[~known]),
        float(np.quantile(apart[known], learning.WITHIN) / np.quantile(own, learning.WITHIN)),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.unknown", description=str(__doc__).split("\n")[0])
    parser.add_argument("--data", type=Path, default=datasets.ESC10, metavar="DATASET", help="as for training.probe")
    clips = datasets.read(parser.parse_args(argv).data)
    classes, folds = datasets.labels_of(clips), sorted({clip.fold for clip in clips})
    made: dict[int, list[list[float]]] = {count: [] for count in CLIPS}
    for fold in folds:
        model = l3edge.load(ROTATIONS / f"{MODEL}-without-{fold}.tflite")
        heard = [Clip(clip.label, clip.path, *embedded(model, clip.path, HOP)) for clip in clips]
        judged = [each for each, clip in zip(heard, clips, strict=True) if clip.fold == fold]
        for left_out in LEFT_OUT:
            labels = [label for i, label in enumerate(classes) if i not in left_out]
            for count, rows in made.items():
                learned = []
                for label in labels:
                    own = [h for h, c in zip(heard, clips, strict=True) if c.label == label and c.fold != fold]
                    learned += [own[i] for i in np.linspace(0, len(own) - 1, min(count, len(own))).astype(int)]
                rows.append(figures(model, learned, judged, labels))
    print(f"{MODEL} without the judged fold; {len(folds)} folds, {len(LEFT_OUT)} choices of unknown classes\n")
    print(f"| clips a label | {' | '.join(FIGURES)} |\n|---:|{'---:|' * len(FIGURES)}")
    for count, rows in made.items():
        shares = [f"{100 * share:.1f} %" for share in np.mean(rows, axis=0)[:4]]
        print(f"| {count} | {' | '.join([*shares, *(f'{each:.3f}' for each in np.mean(rows, axis=0)[4:])])} |")
    return 0


if __name__ == "__main__":
    run(main)
