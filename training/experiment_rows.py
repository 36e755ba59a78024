"""The rows of an experiment's table: a condition or an amount of training each, with the values of its columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import artifacts
from .experiment_runs import Dataset, Prober, Runs, avc, downstream, over_seeds, probed, untrained


def key(dataset: Dataset) -> str:
    """Of the column of a set's accuracy."""
    return f"downstream {dataset.name}"


def conditions(runs: Runs, prober: Prober, datasets: Sequence[Dataset]) -> list[dict[str, Any]]:
    """A row for each condition: correspondence, and each set downstream with its random weights."""
    rows = []
    for condition, found in runs.items():
        values: dict[str, Any] = {"avc": avc(found)}
        for dataset in datasets:
            values[key(dataset)] = probed(prober, found, dataset)
            values[f"random {dataset.name}"] = untrained(prober, found, dataset)
        matched = [key(dataset) for dataset in datasets if dataset.name == condition]
        rows.append({"name": condition, "values": values, "matched": matched})
    return rows


def controls(runs: Runs, prober: Prober, datasets: Sequence[Dataset]) -> list[dict[str, Any]]:
    """As `conditions`, with random weights as a row of its own."""
    values = {key(dataset): untrained(prober, runs["avc"], dataset) for dataset in datasets}
    rows: list[dict[str, Any]] = [{"name": "random", "label": "random weights", "values": values}]
    for condition, found in runs.items():
        values = {key(dataset): probed(prober, found, dataset) for dataset in datasets}
        rows.append({"name": condition, "values": {"avc": avc(found), **values}})
    return rows


def amount(runs: Runs, prober: Prober, datasets: Sequence[Dataset]) -> list[dict[str, Any]]:
    """A row for each amount of training that all runs have a snapshot of, from none."""
    (found,) = runs.values()
    snapshots = {seed: artifacts.snapshots(path) for seed, path in found.items()}
    amounts = sorted(set.intersection(*(set(own) for own in snapshots.values())))
    rows = [
        {"clips": 0, "values": {key(d): untrained(prober, found, d) for d in datasets}},
    ]
    for clips in amounts:
        measured = {
            seed: artifacts.read_json(own[clips] / "metrics.json")["validation"]["accuracy"]
            for seed, own in snapshots.items()
        }
        values: dict[str, Any] = {} if None in measured.values() else {"avc": over_seeds(measured)}
        for dataset in datasets:
            results = {
                seed: prober(f"{path}@{clips}", snapshots[seed][clips] / "weights.npz", dataset)
                for seed, path in found.items()
            }
            values[key(dataset)] = downstream(results)
        rows.append({"clips": clips, "values": values})
    return [{"name": str(row["clips"]), "label": f"{row['clips']:,}", **row} for row in rows]
