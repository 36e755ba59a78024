"""All that the report shows of a run, computed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from .. import network, shards
from ..artifacts import Run
from ..backend import tf_keras
from ..cli import TrainingError
from . import held_out, inside
from .clusters import Clusters, cluster

SIDES = ("audio", "image")
SEED = 0  # of the random weights


@dataclass(frozen=True)
class Side:
    """One tower, trained and with random weights."""

    tower: inside.Tower
    trained: Clusters
    random: Clusters
    units: list[inside.Unit]
    areas: tuple[float, float]  # median over all units of the area for their best label: trained, random; nan: none


@dataclass(frozen=True)
class Findings:
    """What the sections are made of."""

    run: Run
    name: str  # of the run, as it was asked for
    data: shards.Data
    clips: held_out.HeldOut
    labels: list[str]  # the most frequent first
    members: NDArray[np.bool_]  # [clips, labels]
    pairs: inside.Correspondence | None  # None where all clips are of one video, or the run trained no fusion
    sides: dict[str, Side]

    @property
    def supervised(self) -> bool:
        """Whether the towers were trained on labels, by training.supervised: then no fusion was trained."""
        return self.run.metrics.get("task") == "labels"

    @property
    def same_data(self) -> bool:
        """Whether the data are the very ones that the run was trained on."""
        return bool(self.run.arguments["data"]["sha256"] == self.data.digest)

    @property
    def folder(self) -> Path:
        """Where the weights and the metrics are: the run's directory, or a snapshot's in it."""
        snapshot = f"snapshots/{self.run.clips:09d}" if self.run.clips is not None else ""
        return self.run.directory / snapshot

    @property
    def kinds(self) -> list[int | None]:
        """Of each clip the index of the one label that stands for it: its first."""
        return [self.labels.index(labels[0]) if labels else None for labels in self.clips.labels]


def _median_area(peaks: inside.Floats, members: NDArray[np.bool_]) -> float:
    """Over the units that are ever excited, of the label that each tells best from the rest."""
    areas = inside.selectivity(peaks, members)[np.ptp(peaks, 0) > 0]
    areas = areas[:, ~np.isnan(areas).all(0)] if len(areas) else areas
    return float(np.median(np.nanmax(areas, 1))) if areas.size else float("nan")


def _chosen(numbers: dict[str, tuple[int, ...] | None], side: str, units: int) -> tuple[int, ...] | None:
    wrong = [number for number in numbers[side] or () if not 0 <= number < units]
    if wrong:
        raise TrainingError(f"--{side}-units {wrong[0]}: the {side} tower has units 0 to {units - 1}")
    return numbers[side]


def gather(
    run: Run,
    name: str,
    data: shards.Data,
    *,
    at_least: int,
    units: int,
    numbers: dict[str, tuple[int, ...] | None],
    examples: int,
) -> Findings:
    """Everything, of at least so many held-out clips of each split: `units` a tower, or those of `numbers` by side, and
    so many clips for each. Raises TrainingError where the data do not fit the run.
    """
    spec = run.spec
    if data.statistics["sample_rate"] != spec.sample_rate:
        raise TrainingError(
            f"{data.directory} is at {data.statistics['sample_rate']} Hz, {spec.name} hears {spec.sample_rate} Hz: "
            "give the data that the run was trained on with --data"
        )
    if run.metrics.get("task") == "distillation":
        raise TrainingError(
            f"the run in {run.directory} learned from a teacher, by ear: it has no image tower, and the report is on "
            "both; `python -m training.probe` says what its embedding is worth"
        )
    towers = {side: inside.Tower(run.model, side, spec) for side in SIDES}
    numbers = {side: _chosen(numbers, side, towers[side].units) for side in SIDES}
    tf_keras.utils.set_random_seed(SEED)
    untrained = network.avc_model(spec)
    clips = held_out.read(data, spec, at_least)
    labels, members = clips.membership()
    first = [own[0] if own else None for own in clips.labels]
    trained = {side: towers[side].activity(clips, "trained") for side in SIDES}
    random = {side: inside.Tower(untrained, side, spec).activity(clips, "random") for side in SIDES}
    pairs = None
    if len(np.unique(clips.groups)) > 1 and run.metrics.get("task") != "labels":
        probability = inside.probabilities(run.model, trained["image"].joined, trained["audio"].joined)
        pairs = inside.by_label(probability, clips.groups, members)
    with tqdm(total=4, desc="maps", disable=None, leave=False) as bar:

        def lie(activity: inside.Activity) -> Clusters:
            result = cluster(activity.embeddings, first)
            bar.update()
            return result

        sides = {
            side: Side(
                towers[side],
                lie(trained[side]),
                lie(random[side]),
                inside.choose(trained[side], clips, units, examples, numbers[side]),
                (_median_area(trained[side].peaks, members), _median_area(random[side].peaks, members)),
            )
            for side in SIDES
        }
    return Findings(run, os.fspath(name), data, clips, labels, members, pairs, sides)
