"""The numbers of an experiment's runs: what training measured, and what the probe says downstream.

The runs of an experiment are WORK/runs/CONDITION-SEED, as the scripts in training/runs leave them. What the probe finds
is kept in WORK/probes, with what it was asked; it is asked again only where that has changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from . import artifacts, datasets, plan, probe
from .cli import TrainingError
from .datasets import Clip

Value = dict[str, Any]  # mean and sd over seeds, low and high, seeds: {seed: value}; plain JSON
Runs = dict[str, dict[int, Path]]  # condition -> seed -> run directory


class Dataset(NamedTuple):
    """A labelled set for the probe, and what it is called."""

    name: str
    path: Path

    @classmethod
    def parse(cls, text: str) -> Dataset:
        """[NAME=]PATH."""
        name, equals, path = text.partition("=")
        where = Path(path if equals else text)
        own = where.parent.name if where.name == "index.csv" else where.stem
        return cls(name if equals else own, where)


class Prober(NamedTuple):
    """How models are probed: everything but model and dataset."""

    work: Path
    protocol: str
    folds: Sequence[int] = ()
    seeds: Sequence[int] = ()  # of the protocol; none: its own

    def __call__(self, model: str, weights: Path, dataset: Dataset) -> dict[str, Any]:
        """The result of a model, as `training.probe --json` has it. `weights`: the file that says which model it is."""
        options = ["--protocol", self.protocol]
        options += ["--folds", *map(str, self.folds)] if self.folds else []
        options += ["--seeds", *map(str, self.seeds)] if self.seeds else []
        asked = {
            "model": model,
            "weights": hashlib.sha256(weights.read_bytes()).hexdigest(),
            "dataset": str(dataset.path.resolve()),
            "listing": self._listing(dataset),
            "options": options,
        }
        folder = self.work / "probes" / f"{dataset.name}-{self.protocol}"
        path = folder / f"{model.replace(str(self.work / 'runs') + '/', '').replace(':', '-').replace('/', '_')}.json"
        if path.is_file():
            kept = artifacts.read_json(path)
            if kept.get("asked") == asked:
                return dict(kept["result"])
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        command = [model, "--data", str(dataset.path), *options, "--json", str(part)]
        with contextlib.redirect_stdout(sys.stderr):  # its table is not this command's result
            probe.main([*command, "--cache", str(self.work / "embeddings")])
        document = artifacts.read_json(part)
        part.unlink()
        result = {**document["results"][0], "data": document["data"], "labels": document["labels"]}
        artifacts.write_json(path, {"asked": asked, "result": result})
        return result

    def clips(self, dataset: Dataset) -> list[Clip]:
        """What is probed of a set."""
        return datasets.read(dataset.path, self.folds or None)

    def _listing(self, dataset: Dataset) -> str:
        """SHA-256 of what a set holds, its files by name and size."""
        rows = [
            [clip.name, clip.label, clip.fold, clip.group, clip.path.stat().st_size] for clip in self.clips(dataset)
        ]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def default_datasets(work: Path) -> list[Dataset]:
    """ESC-10 if it is there, else the videos that a small run synthesised to be probed on."""
    if datasets.ESC10.is_dir():
        return [Dataset("ESC-10", datasets.ESC10)]
    index = work / "downstream" / "index.csv"
    if not index.is_file():
        raise TrainingError(
            f"there is neither {datasets.ESC10} nor {index} to probe on: name a labelled set with --dataset, or the "
            "folder that holds esc10 in L3EDGE_DATA"
        )
    return [Dataset("downstream", index)]


def find(work: Path, conditions: Sequence[str]) -> Runs:
    """The finished runs of each condition. Raises TrainingError where a condition has none."""
    runs: Runs = {condition: {} for condition in conditions}
    for path in sorted((work / "runs").glob("*/metrics.json")):
        match = re.fullmatch(r"(.+)-(\d+)", path.parent.name)
        if match and match[1] in runs:
            runs[match[1]][int(match[2])] = path.parent
    missing = [condition for condition, found in runs.items() if not found]
    if missing:
        raise TrainingError(
            f"{work / 'runs'} has no finished run called {' or '.join(f'{name}-SEED' for name in missing)}: the script "
            "in training/runs makes them, and goes on where it was interrupted"
        )
    return runs


def over_seeds(values: Mapping[int, float], low: float | None = None, high: float | None = None) -> Value:
    """Mean and sample standard deviation; low and high are the interval of a single one, if it has any."""
    numbers = list(values.values())
    several = len(numbers) > 1
    return {
        "mean": float(np.mean(numbers)),
        "sd": float(np.std(numbers, ddof=1)) if several else None,
        "low": None if several else low,
        "high": None if several else high,
        "seeds": {str(seed): value for seed, value in sorted(values.items())},
    }


def avc(runs: Mapping[int, Path], split: str = "test") -> Value | None:
    """Accuracy of audio-visual correspondence on held-out videos; None where there are too few videos for any."""
    values = {seed: artifacts.read_json(run / "metrics.json")[split]["accuracy"] for seed, run in runs.items()}
    return None if None in values.values() else over_seeds(values)


def downstream(results: Mapping[int, Mapping[str, Any]]) -> Value:
    """Clip accuracy from the probe's results by seed, each over all folds."""
    shares = {seed: result["clip_accuracy"] for seed, result in results.items()}
    first = next(iter(shares.values()))
    value = over_seeds({seed: share["value"] for seed, share in shares.items()}, first["low"], first["high"])
    value["folds"] = {str(seed): result["clips_by_fold"] for seed, result in results.items()}
    return value


def probed(prober: Prober, runs: Mapping[int, Path], dataset: Dataset) -> Value:
    """Downstream accuracy of runs."""
    return downstream({seed: prober(str(run), run / "weights.npz", dataset) for seed, run in runs.items()})


def untrained(prober: Prober, runs: Mapping[int, Path], dataset: Dataset) -> Value:
    """Downstream accuracy of the weights that the runs began with: the same network, having learned nothing."""
    return downstream({seed: prober(f"random:{run}:{seed}", run / "spec.json", dataset) for seed, run in runs.items()})


def heard(runs: Runs, clips: Sequence[Clip]) -> int:
    """How many of the clips any of the runs was trained on, as far as their data sets are still there to say."""
    paths = {os.path.realpath(clip.path) for clip in clips}
    names = {Path(path).name for path in paths}
    found: set[str] = set()
    data = {
        artifacts.read_json(path / "arguments.json")["data"]["path"] for own in runs.values() for path in own.values()
    }
    for items in (Path(folder) / plan.ITEMS for folder in data):
        if items.is_file():
            trained = (item.path for item in plan.parse_items(items.read_bytes()) if item.split == "train")
            found |= paths & {os.path.realpath(path) for path in trained if Path(path).name in names}
    return len(found)


def described(run: Path) -> dict[str, Any]:
    """How a run came about, and what training measured."""
    document = artifacts.read_json(run / "arguments.json")
    return {"run": run.name, **document, "metrics": artifacts.read_json(run / "metrics.json")}
