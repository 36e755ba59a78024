"""Networks that tell labels: a preset's towers, each with a head of two fully connected layers.

What they are for: `training.supervised`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from l3edge.spec import Spec

from . import network, shards
from .backend import tf, tf_keras
from .cli import TrainingError
from .correspondence import features
from .input import read, training_clips

TOWERS = ("audio", "image")
_CHECKED = 400  # clips, at least, that class accuracy is counted on


class Labels:
    """What the videos of a data set are said to show."""

    def __init__(self, data: shards.Data) -> None:
        """Reads all records once. Raises TrainingError where the training split has fewer than two labels."""
        found: dict[str, dict[bytes, set[str]]] = {split: {} for split in ("train", "validation", "test")}
        for split, groups in found.items():
            files = data.split(split)
            count = sum(file.records for file in files)
            records = tqdm(read(files, range(count)), f"labels of {split}", count, disable=None, leave=False)
            for record in records:
                fields = shards.fields(record)
                labels = {label.decode(errors="replace") for label in fields["labels"].numpy()}
                groups.setdefault(fields["group"].numpy(), set()).update(labels)
        self.names = sorted({label for labels in found["train"].values() for label in labels})
        if len(self.names) < 2:
            raise TrainingError(
                f"the training videos in {data.directory} have {len(self.names)} labels, classes need two at least: "
                "prepare them from a manifest with labels"
            )
        self._of = {group: labels for groups in found.values() for group, labels in groups.items()}

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
        self.history = tf.Variable("[]", dtype=tf.string)
        self.checkpoint = tf.train.Checkpoint(
            model=self.model, heads=self.heads, optimizer=self.optimizer, step=self.step, history=self.history
        )

    def _logits(self, images: Any, audio: Any, training: bool) -> dict[str, Any]:
        inputs = {"audio": features(audio, self.spec), "image": images}
        return {name: self.heads[name](self.model.get_layer(name)(inputs[name], training=training)) for name in TOWERS}

    @tf.function
    def train(self, images: Any, audio: Any, targets: Any, rate: Any) -> Any:
        """One step; targets [n, classes]. Returns the sum of both networks' mean cross entropies, nats."""
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
        return loss

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
