"""Tables and figures of the published experiments, from their run directories.

    python -m training.experiments representations WORK        after bash training/runs/representations.sh WORK ...

Each script in training/runs trains an experiment's models and ends with this command. It probes them downstream where
that has not been done, prints a table, and writes OUT/NAME.md, NAME.png, and NAME.json with every number and how it
came about. Experiments: Arandjelovic & Zisserman 2017 (L3-Net) and Cramer et al. 2019 (OpenL3).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from . import artifacts, experiment_rows, experiment_runs, experiment_tables
from .cli import HelpFormatter, run
from .content import CONTENTS
from .experiment_runs import Dataset, Prober, Runs

_L3 = "Arandjelovic & Zisserman 2017"


class Experiment(NamedTuple):
    """What an experiment compares, and how that is told."""

    title: str
    text: str
    rows_are: str
    labels: dict[str, str]  # condition -> what its row is called
    rows: Callable[[Runs, Prober, Sequence[Dataset]], list[dict[str, Any]]]
    published: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    baseline: bool = True  # whether rows have a value for random weights as well


_CONTROLS = {
    "direct": "supervised direct combination",
    "pretrained": "supervised pretraining",
    "avc": "correspondence alone (L3-Net)",
}


def _kinetics(row: str, value: float) -> dict[str, Any]:
    text = f"{_CONTROLS[row]}: AVC {value:.0%} on Kinetics-Sounds"
    return {"text": text, "row": row, "column": "avc", "value": value, "source": _L3}


EXPERIMENTS = {
    "l3-net": Experiment(
        "L3-Net on a linear log-spectrogram of 257 x 199",
        "Audio-visual correspondence on held-out videos, and sounds classified by the audio embedding.",
        "network",
        {"l3-net": "L3-Net"},
        experiment_rows.conditions,
        (
            {
                "text": "AVC 78 % on Flickr-SoundNet, 74 % on Kinetics-Sounds",
                "row": "l3-net",
                "column": "avc",
                "value": 0.78,
                "source": _L3,
            },
            {"text": "ESC-50 79.3 % (random weights 62.5 %), DCASE 93 % (random weights 85 %)", "source": _L3},
        ),
    ),
    "representations": Experiment(
        "Input representations",
        "The same videos, steps and seeds for each; the front end alone differs, and with it the network's input.",
        "representation",
        {"openl3-linear": "linear", "openl3-mel128": "mel, 128 bands", "openl3-mel256": "mel, 256 bands"},
        experiment_rows.conditions,
        (
            {
                "text": "mel better than linear; 256 bands better than 128, significantly so on scenes",
                "source": "Cramer et al. 2019; its figures are box plots without numbers",
            },
        ),
    ),
    "content": Experiment(
        "Content of the training videos",
        "As many music videos as environmental ones as of both mixed; downstream on each content. Bold: matched.",
        "trained on",
        {content: content for content in CONTENTS},
        experiment_rows.conditions,
        ({"text": "matching the content did not help", "source": "Cramer et al. 2019"},),
        ("Correspondence is judged on held-out videos of a row's own content: its column compares tasks, not towers.",),
    ),
    "amount": Experiment(
        "Amount of training",
        "One run a seed, probed on its way; 0 clips are its random weights. Correspondence: on validation videos.",
        "training clips",
        {"amount": "amount"},
        experiment_rows.amount,
        ({"text": "more training helps, with little gain beyond 40 million pairs", "source": "Cramer et al. 2019"},),
        (
            "The learning rate falls over the run, so an earlier model had the higher one: a shorter run of as many "
            "clips may do better.",
        ),
        baseline=False,
    ),
    "controls": Experiment(
        "Controls of L3-Net",
        "Direct combination: two classifiers trained on labels, correspondence by the scalar product of their "
        "posteriors above a threshold that was chosen on validation videos. Pretraining: their towers, joined by a "
        "fusion that was trained on correspondence.",
        "network",
        _CONTROLS,
        experiment_rows.controls,
        (
            *(_kinetics(*row) for row in (("direct", 0.65), ("pretrained", 0.74), ("avc", 0.74))),
            {"text": "ESC-50: random weights 62.5 %, L3-Net 79.3 %", "source": _L3},
        ),
        ("With frozen towers, pretraining has the audio tower of direct combination, hence its downstream accuracy.",),
        baseline=False,
    ),
}


def result(name: str, work: Path, prober: Prober, datasets: Sequence[Dataset]) -> dict[str, Any]:
    """The whole experiment as plain JSON values."""
    experiment = EXPERIMENTS[name]
    runs = experiment_runs.find(work, list(experiment.labels))
    rows = experiment.rows(runs, prober, datasets)
    classes = {dataset.name: _classes(prober, dataset) for dataset in datasets}
    split = "validation" if name == "amount" else "test"
    columns: list[dict[str, Any]] = [{"key": "avc", "title": f"AVC accuracy, {split} videos", "chance": 0.5}]
    for dataset in datasets:
        title = f"accuracy on {dataset.name}, clips, {prober.protocol}"
        columns.append({"key": experiment_rows.key(dataset), "title": title, "chance": 1 / classes[dataset.name]})
        if experiment.baseline:
            columns[-1]["baseline"] = f"random {dataset.name}"
            columns.append({"key": f"random {dataset.name}", "title": "random weights"})
    seeds = sorted({seed for found in runs.values() for seed in found})
    several = len(seeds) > 1
    bars = (
        f"± is the standard deviation over seeds {', '.join(map(str, seeds))}"
        if several
        else f"one seed, {seeds[0]}; the interval is 95 % over the recordings of the set downstream"
    )
    described = [experiment_runs.described(path) for found in runs.values() for path in found.values()]
    notes = []
    for dataset in datasets:
        clips = prober.clips(dataset)
        if known := experiment_runs.heard(runs, clips):
            notes.append(
                f"The towers were trained on {known} of the {len(clips)} clips of {dataset.name}: that column says "
                "nothing of sounds that are new to them."
            )
    kinds = sorted(
        {document["arguments"]["preset"] + " --small" * document["arguments"]["small"] for document in described}
    )
    return {
        "experiment": name,
        "title": experiment.title + (" (small)" if any(d["arguments"]["small"] for d in described) else ""),
        "text": experiment.text,
        "rows_are": experiment.rows_are,
        "columns": columns,
        "rows": [{"label": experiment.labels.get(row["name"], row["name"]), **row} for row in rows],
        "notes": [
            f"{bars[0].upper()}{bars[1:]}. Chance: AVC 50 %; "
            + ", ".join(f"{data} {1 / count:.1%}" for data, count in classes.items()),
            f"Models: {', '.join(kinds)}; {', '.join(sorted({_training(document) for document in described}))}.",
            *experiment.notes,
            *notes,
        ],
        "bars": bars,
        "published": list(experiment.published),
        "command": ["python", "-m", "training.experiments", *sys.argv[1:]],
        "made": artifacts.environment(),
        "runs": described,
    }


def _classes(prober: Prober, dataset: Dataset) -> int:
    """Classes of a set, from any result of the probe."""
    path = next((prober.work / "probes" / f"{dataset.name}-{prober.protocol}").glob("*.json"))
    return len(artifacts.read_json(path)["result"]["labels"])


def _training(document: dict[str, Any]) -> str:
    arguments = document["arguments"]
    videos = document["data"]["videos"]
    return f"{arguments['steps']} steps of {arguments['batch']} clips from {videos} videos"


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = argparse.ArgumentParser(
        prog="python -m training.experiments",
        description="Probe an experiment's runs where that has not been done, and draw its table and figure.",
        formatter_class=HelpFormatter,
    )
    made.add_argument("name", choices=list(EXPERIMENTS), metavar="NAME", help=", ".join(EXPERIMENTS))
    made.add_argument("work", type=Path, metavar="WORK", help="folder of the experiment's script in training/runs")
    made.add_argument(
        "--dataset",
        action="append",
        type=Dataset.parse,
        metavar="[NAME=]PATH",
        help="a labelled set, as for training.probe; several times for several (default: ESC-10 if it is there, else "
        "those that --small synthesised for it). Sets called as a row of `content` are its matched ones",
    )
    made.add_argument("--protocol", choices=["linear", "svm", "mlp"], default="linear", help="of training.probe")
    made.add_argument("--folds", type=int, nargs="+", default=[], metavar="N", help="--folds of training.probe")
    made.add_argument("--probe-seeds", type=int, nargs="+", default=[], metavar="S", help="--seeds of training.probe")
    made.add_argument("--out", type=Path, metavar="DIR", help="folder for table, figure and JSON (default: WORK)")
    return made


def main(arguments: list[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    prober = Prober(args.work, args.protocol, args.folds, args.probe_seeds)
    datasets = args.dataset or experiment_runs.default_datasets(args.work)
    document = result(args.name, args.work, prober, datasets)
    out = args.out or args.work
    out.mkdir(parents=True, exist_ok=True)
    table = experiment_tables.markdown(document)
    experiment_tables.draw(document, out / f"{args.name}.png")
    artifacts.write(out / f"{args.name}.md", table)
    artifacts.write_json(out / f"{args.name}.json", document)
    print(table, end="")
    return 0


if __name__ == "__main__":
    run(main)
