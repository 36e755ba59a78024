"""A run directory: what a training command leaves behind, and how to load it.

spec.json           the model, `Spec.to_json`
arguments.json      the command's arguments, the data's digest, versions, git commit
weights.npz         float32 arrays "tower/layer/weight", e.g. "audio/conv1/kernel"; no pickle
metrics.json        accuracy on held-out videos; it is written last, so a run that has it is finished. Of a student:
                    task "distillation", teacher, steps, clips, train (the history's last row), validation and test
                    (by loss, unweighted: embedding, 1 = what the mean would give; scores, nats; relational; avc and
                    avc_accuracy; vision, nats), tags (how many of tags.json are selected)
tags.json           of a student that learned scores: source (the teacher), names (all, in the order of the scores),
                    agreement (name -> figures on held-out clips: training.agreement.Agreement) and selected (the
                    names that can be trusted, best first)
head.npz, head.json of a run that was taught labels: training.head
history.csv         one row an evaluation
learning-curve.png  the same, drawn
checkpoints/        weights, optimizer, step and history: what resuming needs
snapshots/          000064000/ has the weights.npz and the metrics.json of the model after 64000 training clips
tensorboard/        the same, for TensorBoard
lock                held by the process that trains
"""

from __future__ import annotations

import csv
import io
import json
import os
import platform
import subprocess
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from l3edge.model_file import replacing
from l3edge.spec import Spec

from . import network
from .backend import tf, tf_keras
from .cli import TrainingError

# Of network.avc_model (few have a head), and of network.student_model (of which some have tags).
PARTS = ("audio", "image", "fusion", "head", "tags")


@dataclass
class Run:
    """A finished run, or a snapshot on its way."""

    directory: Path
    spec: Spec
    model: tf_keras.Model  # network.avc_model with the trained weights, or of a student network.student_model
    arguments: dict[str, Any]
    metrics: dict[str, Any]
    clips: int | None = None  # of a snapshot: the training clips behind it

    @property
    def audio_tower(self) -> tf_keras.Model:
        """What is exported."""
        return network.embedding_tower(self.model)

    @property
    def image_tower(self) -> tf_keras.Model:
        """What sees; TrainingError where the run has only heard."""
        if self.model.name != "avc":
            raise TrainingError(f"the run in {self.directory} has no image tower: it learned from a teacher, by ear")
        return self.model.get_layer("image")

    @property
    def excluded(self) -> list[str]:
        """Labels of the clips that it was not to hear."""
        excluded: list[str] = self.arguments["arguments"].get("exclude", [])
        return excluded

    @property
    def data(self) -> Path:
        """The shards it was trained on."""
        return Path(self.arguments["data"]["path"])


def write(path: Path, content: bytes | str) -> None:
    """Write a file as a whole or not at all."""
    with replacing(path) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


def write_json(path: Path, document: object) -> None:
    write(path, json.dumps(document, indent=1) + "\n")


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path} cannot be read: {error}") from error


def environment() -> dict[str, Any]:
    """Versions and commit behind a run."""
    here = Path(__file__).parent

    def git(*command: str) -> str | None:
        try:
            return subprocess.run(
                ["git", *command], cwd=here, capture_output=True, text=True, check=True
            ).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return None

    versions = {"python": platform.python_version(), "numpy": np.__version__, "tensorflow": tf.__version__}
    return {
        "commit": git("rev-parse", "HEAD"),
        "modified": bool(git("status", "--porcelain", "--untracked-files=no")),
        "versions": {**versions, "tf_keras": tf_keras.__version__},
        "machine": platform.machine(),
    }


def _named_weights(model: tf_keras.Model) -> dict[str, Any]:
    """ "tower/layer/weight" -> variable."""
    return {
        f"{part.name}/{layer.name}/{variable.name.split('/')[-1].split(':')[0]}": variable
        for part in model.layers
        if part.name in PARTS
        for layer in part.layers
        for variable in layer.weights
    }


def save_weights(path: Path, model: tf_keras.Model) -> None:
    """Save an AVC model's weights as npz."""
    content = io.BytesIO()
    np.savez(content, **{name: variable.numpy() for name, variable in _named_weights(model).items()})
    write(path, content.getvalue())


def arrays_of(path: Path) -> dict[str, Any]:
    """The arrays of an .npz file; TrainingError where it is none."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        why = error.strerror if isinstance(error, OSError) else "it is damaged, or not an .npz of plain arrays"
        raise TrainingError(f"{path} cannot be read: {why}") from error


def weight_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of what `save_weights` saved."""
    return {name: array.shape for name, array in arrays_of(path).items()}


def load_weights(path: Path, model: tf_keras.Model, parts: Sequence[str] | None = None) -> None:
    """Load what `save_weights` saved, or some parts of it; names and shapes must be the model's."""
    found = arrays_of(path).items()
    arrays = {name: array for name, array in found if parts is None or name.split("/")[0] in parts}
    named = _named_weights(model).items()
    variables = {name: value for name, value in named if parts is None or name.split("/")[0] in parts}
    for name in sorted(set(variables) | set(arrays)):
        have = arrays[name].shape if name in arrays else None
        want = tuple(variables[name].shape) if name in variables else None
        if have != want:
            raise TrainingError(f"{path}: {name} has shape {have}, the spec says {want}")
    for name, variable in variables.items():
        variable.assign(arrays[name])


def snapshots(directory: Path) -> dict[int, Path]:
    """The snapshots of a run: training clips -> directory, in order."""
    found = (path.parent for path in directory.glob("snapshots/*/metrics.json"))
    return dict(sorted((int(path.name), path) for path in found if path.name.isdecimal()))


def save_snapshot(directory: Path, clips: int, model: tf_keras.Model, metrics: dict[str, Any]) -> None:
    """Keep the model as it is after so many training clips; metrics.json, written last, says that it is whole."""
    folder = directory / "snapshots" / f"{clips:09d}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").unlink(missing_ok=True)  # of before a checkpoint was returned to
    save_weights(folder / "weights.npz", model)
    write_json(folder / "metrics.json", metrics)


def locate(run: str | os.PathLike[str]) -> tuple[Path, Path, int | None]:
    """ "RUN" or "RUN@CLIPS" -> its directory, the one of its weights, and CLIPS or None.

    Raises TrainingError where there is no such run, it is not finished, or has no such snapshot.
    """
    name, at, clips = os.fspath(run).rpartition("@")
    if not at or not clips.isdecimal() or Path(run).exists():
        directory = Path(run)
        if not (directory / "metrics.json").is_file():
            started = (directory / "arguments.json").is_file()
            raise TrainingError(
                f"the run in {directory} is not finished: the command that started it continues it{_listed(directory)}"
                if started
                else f"{directory} is not a run directory: it has no arguments.json"
            )
        return directory, directory, None
    directory = Path(name)
    if not (directory / "arguments.json").is_file():
        raise TrainingError(f"{directory} is not a run directory: it has no arguments.json")
    there = snapshots(directory)
    if int(clips) not in there:
        listed = _listed(directory) or "; it has none: train with --snapshot-every"
        raise TrainingError(f"the run in {directory} has no snapshot after {clips} clips{listed}")
    return directory, there[int(clips)], int(clips)


def _listed(directory: Path) -> str:
    names = ", ".join(f"{directory}@{clips}" for clips in snapshots(directory))
    return f"; its snapshots are {names}" if names else ""


def load_run(run: str | os.PathLike[str]) -> Run:
    """The finished run in a directory, or "RUN@64000": its model after 64000 training clips, also before it ends."""
    directory, weights, clips = locate(run)
    spec = Spec.from_json(read_json(directory / "spec.json"))
    shapes = weight_shapes(weights / "weights.npz")
    if any(name.startswith("image/") for name in shapes):
        model = network.avc_model(spec)
    else:
        model = network.student_model(spec, shapes.get("tags/dense/bias", (0,))[0])
    load_weights(weights / "weights.npz", model)
    return Run(
        directory, spec, model, read_json(directory / "arguments.json"), read_json(weights / "metrics.json"), clips
    )


# A quantity of the history, what its axis says, and what chance, or no student at all, would give.
Curve = tuple[str, str, float | None]
AVC_CURVES: tuple[Curve, ...] = (("loss", "cross entropy, nats", float(np.log(2))), ("accuracy", "AVC accuracy", 0.5))


def write_history(
    directory: Path, title: str, history: list[dict[str, float | None]], curves: Sequence[Curve] = AVC_CURVES
) -> None:
    """history.csv and learning-curve.png."""
    table = io.StringIO()
    rows = csv.DictWriter(table, list(history[0]), lineterminator="\n")
    rows.writeheader()
    rows.writerows(history)
    write(directory / "history.csv", table.getvalue())

    steps = [row["step"] for row in history]
    figure = Figure(figsize=(4.5 * len(curves), 3.6), layout="constrained")
    for axes, (quantity, label, chance) in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves, strict=True):
        for split in ("train", "validation"):
            values = [row.get(f"{split}_{quantity}") for row in history]
            axes.plot(steps, [np.nan if value is None else value for value in values], label=split)
        if chance is not None:
            axes.axhline(chance, color="grey", linestyle="--", linewidth=1, label=f"chance ({chance:.3g})")
        axes.set(xlabel="step", ylabel=label)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(title)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    write(directory / "learning-curve.png", picture.getvalue())
