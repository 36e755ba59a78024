"""Teach a run labels: python -m training.head RUN DATASET

On the embeddings of a finished run of pretrain or distill, in float32, OpenL3's classifier is fitted (`training.dense`)
to a dataset as `training.datasets` has them. Each fold is judged by a network that has heard none of its clips; then
one is fitted on all of them, less those that say when to stop. It is left in the run, and export takes it along:

    head.npz    the layers, see `training.dense`
    head.json   labels, in the order of the scores; source; figures (label -> what was measured of it on the folds) and
                overall; arguments, chosen (learning rates), versions; sha256 of head.npz, and of the run's weights.npz

figures: clips, windows; clips_right and windows_right, shares of the label's own; clip_precision, of those taken for
it. overall: the same of all; windows_unknown, the share without a score of 0.5, and known_right, of the others.

Nothing is written before all is done: Ctrl-C leaves the run as it was.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l3edge.heads import LEAST_SURE
from l3edge.tags import LONGEST_NAME, MOST_TAGS, are_names

from . import artifacts, classifiers, datasets, dense, embeddings
from .classifiers import MLP_EPOCHS, MLP_HIDDEN, MLP_RATES, PROTOCOLS, Rows
from .cli import HelpFormatter, TrainingError, positive_int, run
from .datasets import Clip
from .locks import locked

WEIGHTS, DESCRIPTION = "head.npz", "head.json"
_EPOCHS = len(MLP_RATES) * MLP_EPOCHS  # of a network, at most

Fit = Callable[[Rows, Sequence[Clip]], tuple[dense.Layers, dict[str, float]]]  # of windows of some of the clips


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = argparse.ArgumentParser(
        prog="python -m training.head",
        description="Teach a finished run labels: a network of OpenL3's form on its embeddings, left in the run as "
        "head.npz and head.json. python -m export takes it along, into the model file.",
        formatter_class=HelpFormatter,
    )
    made.add_argument("run", metavar="RUN", help="a finished run of training.pretrain or training.distill")
    made.add_argument(
        "dataset",
        type=Path,
        metavar="DATASET",
        help="a folder with a sub-folder of sounds for each label, <label>/<fold>-*.wav where they have folds; ESC-50 "
        "or UrbanSound8K as published; or a CSV file with the columns path and label, and maybe fold and group",
    )
    made.add_argument("--hidden", type=positive_int, nargs="+", default=list(MLP_HIDDEN), metavar="N", help="layers")
    made.add_argument(
        "--folds",
        type=int,
        nargs="+",
        metavar="N",
        help="use these folds only; of ESC-50 and ESC-10 4 and 5 must be named",
    )
    made.add_argument(
        "--exclude",
        nargs="+",
        default=[],
        metavar="LABEL",
        help="leave out clips with one of these labels, or of fold-N",
    )
    made.add_argument("--seed", type=int, default=0, help="of the weights and the order")
    made.add_argument("--cache", type=Path, default=embeddings.DEFAULT, metavar="DIR", help="keep embeddings here")
    made.add_argument("--no-cache", action="store_true", help="neither keep embeddings nor use kept ones")
    return made


def allowed(clips: Sequence[Clip], excluded: Sequence[str], unheard: Sequence[str]) -> list[Clip]:
    """The clips without those of a label, or of a fold-N, that is excluded.

    unheard: labels that the run was made without; a warning names those that its head will hear.
    """
    known = {label for clip in clips for label in (clip.label, f"fold-{clip.fold}")}
    if unknown := sorted(set(excluded) - known):
        raise TrainingError(
            f"no clip has the label {', '.join(unknown)} of --exclude; there are {', '.join(sorted(known))}"
        )
    if also := " ".join(sorted(set(unheard) & known - set(excluded))):
        print(f"warning: the run was made without {also}; --exclude {also} keeps it from its head too", file=sys.stderr)
    return [clip for clip in clips if not set(excluded) & {clip.label, f"fold-{clip.fold}"}]


def judged(rows: Rows, clips: Sequence[Clip], classes: int, fit: Fit) -> tuple[NDArray[Any], list[float]]:
    """Scores [n, classes] of all windows, each by a network that has not heard its fold; the learning rates chosen."""
    scores, rates = np.zeros((len(rows.values), classes)), []
    for fold in sorted({clip.fold for clip in clips}):
        tested = rows.fold == fold
        layers, chosen = fit(rows.where(~tested), [clip for clip in clips if clip.fold != fold])
        scores[tested] = dense.scores(layers, rows.values[tested])
        rates.append(chosen["learning_rate"])
    return scores, rates


def figures_of(rows: Rows, scores: NDArray[Any], labels: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """figures and overall, as in head.json, of the scores of windows [n, classes]."""
    index, decided = classifiers.decide(rows.clip, scores)
    truth = np.array([rows.label[rows.clip == clip][0] for clip in index])
    right, clips_right, sure = scores.argmax(1) == rows.label, decided == truth, scores.max(1) >= LEAST_SURE
    figures = {}
    for number, label in enumerate(labels):
        own, windows, taken = truth == number, rows.label == number, decided == number
        figures[label] = {
            "clips": int(own.sum()),
            "windows": int(windows.sum()),
            "clips_right": _share(clips_right[own]),
            "windows_right": _share(right[windows]),
            "clip_precision": _share(clips_right[taken]),
        }
    return figures, {
        "folds": len(np.unique(rows.fold)),
        "clips": len(index),
        "windows": len(right),
        "clips_right": _share(clips_right),
        "windows_right": _share(right),
        "windows_unknown": _share(~sure),
        "known_right": _share(right[sure]),
    }


def _share(true: NDArray[np.bool_]) -> float:
    """Of none it is 0."""
    return round(float(true.mean()), 4) if len(true) else 0.0


def windows_of(student: artifacts.Run, clips: Sequence[Clip], cache: embeddings.Cache) -> Rows:
    """Every window of the clips, as the protocol `mlp` has them, by the run's network in float32."""
    from .embedders import Tower

    tower = Tower(student.directory.resolve().name, student.spec, student.audio_tower)
    found = embeddings.embed(tower, clips, PROTOCOLS["mlp"].plan, cache=cache)
    labels = datasets.labels_of(clips)
    label, fold = (np.array(column) for column in zip(*((labels.index(c.label), c.fold) for c in clips), strict=True))
    return Rows(found.values, label[found.clip], fold[found.clip], found.clip)


def taught(student: artifacts.Run, clips: Sequence[Clip], arguments: argparse.Namespace) -> dict[str, Any]:
    """Fit, judge and write the head of a run; what head.json says."""
    from threadpoolctl import threadpool_limits
    from tqdm import tqdm

    labels, folds = datasets.labels_of(clips), sorted({clip.fold for clip in clips})
    rows = windows_of(student, clips, embeddings.Cache(None if arguments.no_cache else arguments.cache))
    with (
        tqdm(desc="fitting", total=(len(folds) + 1) * _EPOCHS, unit=" epochs", disable=None, leave=False) as bar,
        threadpool_limits(1),  # so small a problem gains nothing from threads
    ):

        def fit(own: Rows, heard: Sequence[Clip]) -> tuple[dense.Layers, dict[str, float]]:
            begun, stopping = bar.n, dense.held_out(heard)
            stops = np.array([clips[i].group in stopping for i in own.clip], bool)
            made = dense.fit(own, stops, len(labels), arguments.hidden, arguments.seed, bar.update)
            bar.update(begun + _EPOCHS - bar.n)  # most end sooner
            return made

        scores, rates = judged(rows, clips, len(labels), fit)
        layers, chosen = fit(rows, clips)
    figures, overall = figures_of(rows, scores, labels)
    content = dense.written(layers)
    weights = (student.directory / "weights.npz").read_bytes()
    document = {
        "labels": labels,
        "source": f"{arguments.dataset.resolve().name}, {len(clips)} clips, folds {' '.join(map(str, folds))}",
        "figures": figures,
        "overall": overall,
        # As JSON gives them back: paths as text.
        "arguments": json.loads(json.dumps(dict(sorted(vars(arguments).items())), default=str)),
        "chosen": {"learning_rate": chosen["learning_rate"], "of_folds": rates},
        "sha256": {WEIGHTS: hashlib.sha256(content).hexdigest(), "weights.npz": hashlib.sha256(weights).hexdigest()},
        **artifacts.environment(),
    }
    artifacts.write(student.directory / WEIGHTS, content)
    artifacts.write_json(student.directory / DESCRIPTION, document)  # last: without it there is no head
    return document


def main(argv: Sequence[str] | None = None) -> int:
    """Teach, write, print a table."""
    arguments = parser().parse_args(argv)
    student = artifacts.load_run(arguments.run)
    if student.clips is not None:
        raise TrainingError(f"{arguments.run} is a snapshot: a head is of the finished run, {student.directory}")
    clips = allowed(datasets.read(arguments.dataset, arguments.folds), arguments.exclude, student.excluded)
    if spent := datasets.held_out(clips):
        print(f"{len(spent)} clips are of folds held out from this project's development: 4 and 5", file=sys.stderr)
    datasets.check(clips)
    labels = datasets.labels_of(clips)
    if not are_names(labels):
        raise TrainingError(
            f"{arguments.dataset}: labels must be 1 to {MOST_TAGS} names of 1 to {LONGEST_NAME} printable characters"
        )
    with locked(student.directory):
        made = taught(student, clips, arguments)
    print("| label | clips | clips right | precision | windows right |\n|---|---:|---:|---:|---:|")
    for label, own in made["figures"].items():
        shares = " | ".join(f"{own[key]:.0%}" for key in ("clips_right", "clip_precision", "windows_right"))
        print(f"| {label} | {own['clips']} | {shares} |")
    overall = made["overall"]
    print(
        f"{overall['clips_right']:.1%} of {overall['clips']} clips right, {overall['windows_right']:.1%} of windows; "
        f"{overall['windows_unknown']:.1%} of windows unknown, of the others {overall['known_right']:.1%} right",
        file=sys.stderr,
    )
    return 0


if __name__ == "__main__":
    run(main)
