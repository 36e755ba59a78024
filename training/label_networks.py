"""Networks that tell labels: a preset's towers, each with a head of two fully connected layers.

What they are for: `training.supervised`.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l3edge.spec import Spec

from . import network, shards
from .backend import tf, tf_keras
from .cli import TrainingError
from .correspondence import features
from .input import training_clips
from .manifest import Item
from .plan import ITEMS, parse_items
from .verdicts import VIDEOS

TOWERS = ("audio", "image")
_CHECKED = 400  # clips, at least, that class accuracy is counted on


def _kept(data: shards.Data) -> Iterator[Item]:
    """The videos that have records. Of items.jsonl and videos.csv, which list all in one order, the first has labels
    and groups as they are, the second the verdicts; the records themselves are terabytes.
    """
    try:
        with (
            (data.directory / ITEMS).open("rb") as lines,
            (data.directory / VIDEOS).open(encoding="utf-8", newline="") as table,
        ):
            for line, row in zip(lines, csv.DictReader(table), strict=True):
                if row["verdict"] == "kept":
                    yield from parse_items(line)
    except (ValueError, KeyError, TypeError, IndexError, csv.Error) as error:
        raise TrainingError(
            f"{data.directory}: its {ITEMS} and {VIDEOS} do not tell the videos' labels ({error}): prepare the videos "
            "anew"
        ) from error
    except OSError as error:
        raise TrainingError(
            f"{error.filename} cannot be read ({error.strerror}), which tells the videos' labels: copy a data set with "
            "all its files, or prepare the videos anew"
        ) from error


class Labels:
    """What the videos of a data set are said to show."""

    def __init__(self, data: shards.Data) -> None:
        """Raises TrainingError where they cannot be read, or the training split has fewer than two labels."""
        self._of: dict[bytes, set[str]] = {}  # by group
        trained: set[str] = set()
        for item in _kept(data):
            self._of.setdefault(item.group.encode("utf-8", "surrogateescape"), set()).update(item.labels)
            if item.split == "train":
                trained.update(item.labels)
        self.names = sorted(trained)
        if len(self.names) < 2:
            raise TrainingError(
                f"the training videos in {data.directory} have {len(self.names)} labels, classes need two at least: "
                "prepare them from a manifest with labels"
            )

    def targets(self, groups: NDArray[Any]) -> NDArray[np.float32]:
        """Groups [n], bytes -> shares of the classes, [n, classes]; zeros where no class is known."""
        rows = np.array([[name in self._of[group] for name in self.names] for group in groups], np.float32)
        return rows / np.maximum(rows.sum(1, keepdims=True), 1)


def _head(spec: Spec, classes: int, name: str) -> tf_keras.Model:
    inputs = tf_keras.Input((spec.embedding_size if name == "audio" else spec.image.filters[-1],))
    x = tf_keras.layers.Dense(spec.fusion, activation="relu", kernel_initializer="he_normal", name="fc1")(inputs)
    return tf_keras.Model(inputs, tf_keras.layers.Dense(classes, name="fc2")(x), name=f"{name}_head")


class Classifiers:
    """The two networks, their optimizer, and the step they are at: what a checkpoint holds."""

    def __init__(self, spec: Spec, classes: int, weight_decay: float) -> None:
        self.spec, self.weight_decay = spec, weight_decay
        self.model = network.avc_model(spec)  # its fusion stays as it was initialised
        self.heads = {name: _head(spec, classes, name) for name in TOWERS}
        parts = [*(self.model.get_layer(name) for name in TOWERS), *self.heads.values()]
        self.variables = [variable for part in parts for variable in part.trainable_variables]
        self.kernels = [variable for variable in self.variables if "kernel" in variable.name]
        self.optimizer = tf_keras.optimizers.Adam(0.0, jit_compile=False)
        self.optimizer.build(self.variables)
        self.step = tf.Variable(0, dtype=tf.int64)
        self.losses = tf.Variable(0.0, dtype=tf.float64)  # their sum over the steps since the last row of the history
        self._history = tf.Variable("[]", dtype=tf.string)
        self.checkpoint = tf.train.Checkpoint(
            model=self.model,
            heads=self.heads,
            optimizer=self.optimizer,
            step=self.step,
            losses=self.losses,
            history=self._history,
        )

    @property
    def history(self) -> list[dict[str, Any]]:
        return list(json.loads(self._history.numpy()))

    def record(self, rate: float) -> None:
        """Close a row of the history: the training loss since the last one. Raises TrainingError where it is none."""
        history, step = self.history, int(self.step)
        loss = float(self.losses) / (step - (history[-1]["step"] if history else 0))
        if not math.isfinite(loss):
            raise TrainingError(f"the loss is {loss} at step {step}; lower --learning-rate")
        row = {"step": step, "learning_rate": rate, "train_loss": loss}
        self._history.assign(json.dumps([*history, row]))
        self.losses.assign(0.0)

    def _logits(self, images: Any, audio: Any, training: bool) -> dict[str, Any]:
        inputs = {"audio": features(audio, self.spec), "image": images}
        return {name: self.heads[name](self.model.get_layer(name)(inputs[name], training=training)) for name in TOWERS}

    @tf.function
    def train(self, images: Any, audio: Any, targets: Any, rate: Any) -> None:
        """One step; targets [n, classes]. The loss is the sum of both networks' mean cross entropies, nats."""
        known = tf.reduce_sum(targets, 1)
        with tf.GradientTape() as tape:
            logits = self._logits(images, audio, training=True)
            loss = tf.add_n(
                [
                    tf.math.divide_no_nan(
                        tf.reduce_sum(tf.nn.softmax_cross_entropy_with_logits(targets, own)), tf.reduce_sum(known)
                    )
                    for own in logits.values()
                ]
            )
            total = loss + self.weight_decay * tf.add_n([tf.nn.l2_loss(kernel) for kernel in self.kernels])
        self.optimizer.learning_rate.assign(rate)
        self.optimizer.apply_gradients(zip(tape.gradient(total, self.variables), self.variables, strict=True))
        self.step.assign_add(1)
        self.losses.assign_add(tf.cast(loss, tf.float64))

    @tf.function(reduce_retracing=True)
    def _posteriors(self, images: Any, audio: Any) -> dict[str, Any]:
        return {name: tf.nn.softmax(own) for name, own in self._logits(images, audio, training=False).items()}

    def posteriors(self, images: Any, audio: Any, batch: int = 64) -> dict[str, NDArray[np.float32]]:
        """Class probabilities by sound and by picture, each [n, classes]."""
        parts = [
            self._posteriors(images[i : i + batch], audio[i : i + batch]) for i in range(0, images.shape[0], batch)
        ]
        return {name: np.concatenate([part[name].numpy() for part in parts]) for name in TOWERS}


def class_accuracy(
    classifiers: Classifiers, data: shards.Data, split: str, labels: Labels, batch: int
) -> dict[str, float] | None:
    """Share of a split's clips, drawn and augmented as in training, whose most probable class is a label of theirs."""
    if not sum(shard.records for shard in data.split(split)):
        return None
    hits, count = dict.fromkeys(TOWERS, 0.0), 0.0
    for clip in training_clips(data.split(split), classifiers.spec, 0, batch).take(-(-_CHECKED // batch)):
        targets = labels.targets(clip["group"].numpy())
        for name, own in classifiers.posteriors(clip["image"], clip["audio"]).items():
            hits[name] += float((targets[np.arange(len(own)), own.argmax(1)] > 0).sum())
        count += float((targets.sum(1) > 0).sum())
    return {name: hit / count for name, hit in hits.items()} if count else None
