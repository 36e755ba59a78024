"""python -m training.probe MODEL... [DATASET]: how well classes of sound are told apart by a model's embeddings.

What a MODEL may be says `training.embedders`, what a DATASET `training.datasets`, what is fitted on which windows
`training.classifiers`, how it is judged `training.rotation`. The last name is the DATASET if it is a CSV file, or a
folder that is no run; without one it is ESC-10, in the folder of L3EDGE_DATA.

Of several models the first is compared with each other, clip by clip: both heard the same windows.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from l3edge.model_file import replacing

from . import confusion, datasets, embedders, embeddings, rotation
from .classifiers import PROTOCOLS
from .cli import HelpFormatter, TrainingError, run

_EPILOG = """\
protocols (training/classifiers.py has each in full, with its source):
  linear  logistic regression, windows every 0.5 s from a random beginning, quiet ones left out: quick
  svm     L3-Net, SoundNet: z-score, one-vs-all linear SVM, two windows a second
  mlp     OpenL3: 512-128-N, windows every 0.1 s, learning rate chosen on a validation fold

examples:
  python -m training.probe edge-m
  python -m training.probe runs/a random:runs/a ~/data/ESC-50-master --folds 1 2 3 --protocol svm --plot confusion.png
  python -m training.probe runs/a@64000 runs/a my-sounds.csv --protocol mlp --json figures.json

time on one core, for edge-m (256 values) on 240 clips of 5 s: 5 s for the windows of one seed (linear) or every 0.1 s
(svm, mlp); to fit, 2 s a seed (linear), 5 s (svm) or a minute a seed (mlp). Embeddings are kept: the next probe of the
same sound by the same model begins with fitting. mlp grows with windows x folds x rates: UrbanSound8K takes hours.
"""


class _Help(HelpFormatter):
    """Keeps the lines of the epilog."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith("protocols") else super()._fill_text(text, width, indent)


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to {2**32 - 1}, got {text!r}")
    return int(text)


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = argparse.ArgumentParser(
        prog="python -m training.probe",
        usage="%(prog)s MODEL... [DATASET] [--protocol linear|svm|mlp] [options]",
        formatter_class=_Help,
        description="How well classes of sound are told apart by a model's embeddings: a classifier is fitted on all "
        "folds of a dataset but one and judged on that one, for each fold in turn. Prints accuracies of windows and "
        "of clips with 95 % intervals, bootstrapped over recordings.",
        epilog=_EPILOG,
    )
    made.add_argument(
        "names",
        nargs="+",
        metavar="MODEL... [DATASET]",
        help="models: a built-in name, a .tflite, a run directory, RUN@CLIPS (its snapshot after so many training "
        "clips), or random:PRESET[:SEED] or random:RUN[:SEED] (untrained weights); then the dataset: a folder "
        "<class>/<fold>-*.wav, ESC-50 or UrbanSound8K as published, or a CSV file with the columns path and label, "
        "and optionally fold and group (default: esc10 in the folder that L3EDGE_DATA names)",
    )
    made.add_argument("--protocol", choices=list(PROTOCOLS), default="linear", help="what is fitted on which windows")
    made.add_argument("--data", type=Path, metavar="DATASET", help="the dataset, if it is not the last name")
    made.add_argument(
        "--folds",
        type=int,
        nargs="+",
        metavar="N",
        help="use these folds only; 4 and 5 of ESC-50 and "
        "ESC-10 are held out from this project's development, and used only if named here",
    )
    made.add_argument(
        "--seeds",
        type=_seed,
        nargs="+",
        metavar="S",
        help="of where windows begin (linear; default 0 1 2) or of the weights (mlp; default 0)",
    )
    made.add_argument("--engine", default="auto", help="litert or tflite_runtime, for model files")
    made.add_argument("--classes", action="store_true", help="print a table of the classes for each model")
    made.add_argument("--json", type=Path, metavar="F", help="write all figures here")
    made.add_argument("--plot", type=Path, metavar="F.png", help="draw the confusion matrices here")
    made.add_argument("--cache", type=Path, default=embeddings.DEFAULT, metavar="DIR", help="keep embeddings here")
    made.add_argument("--no-cache", action="store_true", help="neither keep embeddings nor use kept ones")
    return made


def split(names: Sequence[str], data: Path | None = None) -> tuple[list[str], Path]:
    """The models and the dataset among the names; TrainingError where there is no model, or two datasets."""
    *others, last = names
    is_dataset = (Path(last).is_file() and last.lower().endswith(".csv")) or (
        Path(last).is_dir() and not embedders.is_run(last)
    )
    if last.lower().endswith(".csv") and not is_dataset:
        raise TrainingError(f"no such file: {last}")
    if is_dataset and data is not None:
        raise TrainingError(f"two datasets, {last} and {data}: name one")
    if is_dataset and not others:
        raise TrainingError(f"{last} is a dataset: name a model before it, for instance edge-m")
    if is_dataset:
        return others, Path(last)
    return list(names), data or datasets.ESC10


def _percent(share: dict[str, float], sign: str = "") -> str:
    return f"{share['value']:{sign}.1%} ({share['low']:{sign}.1%} to {share['high']:{sign}.1%})"


def main(argv: Sequence[str] | None = None) -> int:
    """Probe, print tables, write JSON and a picture if asked."""
    arguments = parser().parse_args(argv)
    protocol = PROTOCOLS[arguments.protocol]
    if arguments.seeds and not protocol.seeds:
        raise TrainingError(f"the {arguments.protocol} protocol draws nothing at random: leave out --seeds")
    seeds = arguments.seeds or protocol.seeds or (0,)
    names, dataset = split(arguments.names, arguments.data)
    clips = datasets.read(dataset, arguments.folds)
    if spent := datasets.held_out(clips):
        print(f"{len(spent)} clips are of folds held out from this project's development: 4 and 5", file=sys.stderr)
    folds = sorted({clip.fold for clip in clips})
    if len(folds) < protocol.folds:
        raise TrainingError(
            f"the {arguments.protocol} protocol needs {protocol.folds} folds, as it chooses among those it is fitted "
            f"on; found {folds}: use --protocol linear"
        )
    models = [embedders.load(name, arguments.engine) for name in names]
    cache = embeddings.Cache(None if arguments.no_cache else arguments.cache)

    results: list[dict[str, Any]] = []
    counts = []
    print(
        "| model | window accuracy | clip accuracy | clips, mean ± sd of folds | windows by fold |\n"
        "|---|---:|---:|---:|---|"
    )
    for model in models:
        result, counted = rotation.measure(model, clips, seeds, protocol, cache)
        results.append(result)
        counts.append(counted)
        by_fold = ", ".join(f"{fold}: {value:.1%}" for fold, value in result["by_fold"].items())
        print(
            f"| {model.name} | {_percent(result['window_accuracy'])} | {_percent(result['clip_accuracy'])} "
            f"| {result['fold_mean']:.1%} ± {result['fold_sd']:.1%} | {by_fold} |",
            flush=True,
        )
    differences = {}
    if len(models) > 1:
        print(f"\n| {models[0].name} minus | window accuracy | clip accuracy |\n|---|---:|---:|")
        for name, model, other in zip(names[1:], models[1:], counts[1:], strict=True):
            made = differences[name] = rotation.difference(clips, counts[0], other)
            cells = [_percent(made[key], "+") if key in made else "other windows" for key in rotation.SHARES]
            print(f"| {model.name} | {' | '.join(cells)} |")
    if arguments.classes:
        for result in results:
            print(f"\n{confusion.table(result)}")
    labels = datasets.labels_of(clips)
    print(
        f"\n{len(clips)} clips of {len(labels)} classes, folds {folds}, protocol {arguments.protocol}"
        + (f", seeds {list(seeds)}" if protocol.seeds else "")
        + ("" if arguments.no_cache else f"; {cache.found} clips' embeddings were kept, {cache.made} made"),
        file=sys.stderr,
    )
    if arguments.plot:
        confusion.draw(results, f"{dataset.name}, {arguments.protocol}: {protocol.text}", arguments.plot)
    if arguments.json:
        document = {"data": dataset.name, "protocol": arguments.protocol, "folds": folds, "labels": labels}
        document |= {"results": results, "first_minus": differences}
        with replacing(arguments.json) as part:
            part.write_text(json.dumps(document, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    run(main)
