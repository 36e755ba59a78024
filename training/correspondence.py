"""Audio-visual correspondence as a training objective: pairs from clips, their loss, one step, an evaluation.

The towers are nearly all of the work and need each clip once, so a batch of n clips gives n positive pairs and, by
rolling the sounds against the pictures, many negatives at the price of the small fusion network. Positives and
negatives weigh half each, as in the balanced batches of Arandjelovic & Zisserman 2017, section 2.
"""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple

import numpy as np

from l3edge import frontend
from l3edge.spec import Spec

from . import network, pairs
from .backend import tf, tf_keras
from .cli import TrainingError
from .devices import Devices, find
from .tf_ops import TF_OPS

# What an evaluation says.
MEASURES = ("pairs", "loss", "accuracy", "positives", "negatives", "other_labels", "ceiling")


def features(audio: Any, spec: Spec) -> Any:
    """float32 [n, window] -> the audio tower's input, float32 [n, frames_used, bins, 1]."""
    return frontend.features(audio, spec.front_end, TF_OPS)[:, : spec.frames_used, :, None]


def learning_rate(step: int, steps: int, peak: float, warmup: int) -> float:
    """Linear warm-up, then half a cosine down to zero."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def correspondence(logits: Any, labels: Any, weights: Any) -> tuple[Any, Any]:
    """(cross entropy, accuracy), scalars, of weighted pairs; weights sum to one."""
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    right = tf.cast(tf.equal(tf.argmax(logits, -1, tf.int32), labels), tf.float32)
    return tf.reduce_sum(losses * weights), tf.reduce_sum(right * weights)


class Paired(NamedTuple):
    """Who is paired with whom: rows of a batch's pictures, columns of its sounds rolled against them."""

    partner: Any  # int32 [n, rolls]: whose sound; of column 0 the picture's own
    own: Any  # bool [n, rolls]: whether the pair is positive
    weights: Any  # float32 [n, rolls]: positives and negatives half each; 0: two clips of one video


def paired(group: Any, negatives: int) -> Paired:
    """The pairs of n clips, of the source videos `group` (int64 [n]): n positives and so many negatives of each."""
    n = group.shape[0]
    rolls = min(negatives, n - 1) + 1
    partner = (tf.range(n)[:, None] + tf.range(rolls)[None, :]) % n
    own = tf.tile(tf.range(rolls)[None, :] == 0, [n, 1])
    different = tf.gather(group, partner) != group[:, None]
    negative = tf.cast(different, tf.float32)
    weights = 0.5 * tf.where(own, 1.0 / n, tf.math.divide_no_nan(negative, tf.reduce_sum(negative)))
    return Paired(partner, own, weights)


def pairs_loss(fusion: Any, image: Any, sound: Any, made: Paired) -> tuple[Any, Any]:
    """(cross entropy, accuracy) of the pairs of pictures [rows, d] and the sounds of the whole batch [n, e]."""
    logits = fusion(
        [tf.repeat(image, made.partner.shape[1], 0), tf.gather(sound, tf.reshape(made.partner, [-1]))]
    )  # [rows * rolls, 2]
    labels = tf.cast(tf.reshape(made.own, [-1]), tf.int32)
    return correspondence(logits, labels, tf.reshape(made.weights, [-1]))


def judged(fusion: Any, image: Any, sound: Any, clips: pairs.Clips) -> dict[str, float | int | None]:
    """MEASURES of what the towers made of evaluation clips; half the pairs positive, half negative."""
    n = len(clips.other)
    weights = tf.fill([n], 1.0 / n)
    positive, hits = correspondence(fusion([image, sound]), tf.ones(n, tf.int32), weights)
    logits = fusion([image, tf.gather(sound, clips.other)])
    negative, rejections = correspondence(logits, tf.zeros(n, tf.int32), weights)
    other = tf.cast(~clips.same_label, tf.float32)
    other = tf.math.divide_no_nan(other, tf.reduce_sum(other))
    other_labels = correspondence(logits, tf.zeros(n, tf.int32), other)[1]
    return {
        "pairs": 2 * n,
        "loss": float(positive + negative) / 2,
        "accuracy": float(hits + rejections) / 2,
        "positives": float(hits),
        "negatives": float(rejections),
        # Accuracy without negatives that share a label; None where all do.
        "other_labels": None if clips.same_label.all() else float(hits + other_labels) / 2,
        # What labels alone can reach: a judge who knows them takes each negative that shares one for a positive.
        "ceiling": 1 - float(np.mean(clips.same_label)) / 2,
    }


def _gathered(part: Any, n: int) -> Any:
    """Each replica's part [n / replicas, ...] -> those of all, in order [n, ...]; in a replica's step."""
    context = tf.distribute.get_replica_context()
    whole = context.all_gather(tf.identity(part), axis=0)  # identity: what a step is given is on no device yet
    return tf.ensure_shape(_with_dense_gradient(whole), [n, *part.shape[1:]])


@tf.custom_gradient
def _with_dense_gradient(x: Any) -> Any:
    """x; all_gather's own gradient takes no tf.IndexedSlices, of which tf.gather makes its."""
    return tf.identity(x), tf.convert_to_tensor


class Trainer:
    """Model, optimizer and the numbers so far: everything that a checkpoint holds.

    The replicas share a batch. Each computes the towers of its own clips, gathers the sounds of all, and computes the
    fusion of its own pictures with their partners from the whole batch. What it calls its loss is its pairs' share of
    the batch's, so that the sum of the replicas' gradients is the gradient of the batch.

    sync_batch_norm: normalise by the whole batch's statistics, not by those of a replica's part of it.
    freeze_towers: train what joins the towers, and nothing else.
    xla: compile the towers.
    """

    def __init__(
        self,
        spec: Spec,
        negatives: int,
        weight_decay: float,
        devices: Devices | None = None,
        *,
        sync_batch_norm: bool = False,
        freeze_towers: bool = False,
        xla: bool = False,
    ) -> None:
        self.spec, self.negatives, self.weight_decay = spec, negatives, weight_decay
        self.devices = devices or find("one")
        self.sync_batch_norm, self.freeze_towers = sync_batch_norm, freeze_towers
        self.towers = tf.function(self._towers, jit_compile=True) if xla else self._towers
        with self.devices.strategy.scope():
            self.trained = network.avc_model(spec, sync_batch_norm=sync_batch_norm)
            joints = [part for part in self.trained.layers if part.name not in network.TOWERS]
            parts = joints if freeze_towers else [self.trained]
            self.variables = [variable for part in parts for variable in part.trainable_variables]
            self.optimizer = tf_keras.optimizers.Adam(0.0, jit_compile=False)
            self.optimizer.build(self.variables)
        # Evaluated and saved: a copy of this process alone, for which no other worker is needed.
        self.model = self.trained if self.devices.replicas == 1 else network.avc_model(spec)
        self.step = 0
        self.history: list[dict[str, float | None]] = []
        self.sums = [0.0, 0.0]  # of loss and accuracy over the steps since the last row of the history
        self._numbers = tf.Variable("", dtype=tf.string)
        variables = [self.devices.local(v)[0] for v in (*self.trained.weights, *self.optimizer.variables)]
        self.checkpoint = tf.train.Checkpoint(variables=variables, numbers=self._numbers)

    def save(self, manager: Any) -> None:
        self._numbers.assign(json.dumps({"step": self.step, "history": self.history, "sums": self.sums}))
        manager.save(checkpoint_number=self.step)

    def restore(self, path: str) -> None:
        self.checkpoint.restore(path).assert_consumed()
        numbers = json.loads(self._numbers.numpy())
        self.step, self.history, self.sums = numbers["step"], numbers["history"], numbers["sums"]
        for variable in (*self.trained.weights, *self.optimizer.variables):
            first, *others = self.devices.local(variable)
            for other in others:
                other.assign(first)

    def push(self) -> None:
        """Train on from the weights of `model`."""
        if self.model is not self.trained:
            for own, variable in zip(self.model.weights, self.trained.weights, strict=True):
                for copy in self.devices.local(variable):
                    copy.assign(own)

    def pull(self) -> None:
        """Give `model` the weights as they are now."""
        if self.model is not self.trained:
            for own, variable in zip(self.model.weights, self.trained.weights, strict=True):
                own.assign(self.devices.local(variable)[0])

    def _towers(self, images: Any, sound: Any) -> tuple[Any, Any]:
        """(images, features) of a replica's part of a batch -> what the fusion joins, in training."""
        return network.joined(self.trained, images, sound, training=True, frozen=self.freeze_towers)

    def train(self, clip: dict[str, Any], rate: float, stop: tuple[bool, bool] = (False, False)) -> list[bool]:
        """One step on n clips: n positives, and n times `negatives` of different source videos.

        clip: `image`, `audio` and `group` (int64, a number for each source video) of this worker's part of the batch,
        for each of its replicas. stop: whether this worker was told to stop, in two ways; returns whether any was.
        """
        result = self._step(clip, tf.constant(rate, tf.float32), tf.constant(stop, tf.float32))
        loss, accuracy, *stops = (float(value) for value in result)
        self.step += 1
        self.sums = [self.sums[0] + loss, self.sums[1] + accuracy]
        return [count > 0 for count in stops]

    @tf.function
    def _step(self, clip: Any, rate: Any, stop: Any) -> Any:
        """Loss and accuracy of the step's pairs, and how many replicas are told to stop: float32 [4]."""
        self.optimizer.learning_rate.assign(rate)
        results = self.devices.strategy.run(self._replica_step, (clip["image"], clip["audio"], clip["group"], stop))
        return self.devices.local(results)[0]

    def _replica_step(self, images: Any, audio: Any, group: Any, stop: Any) -> Any:
        context, replicas = tf.distribute.get_replica_context(), self.devices.replicas
        size = images.shape[0]
        if replicas > 1:
            group = _gathered(group, size * replicas)
        made = paired(group, self.negatives)
        if replicas > 1:  # the rows of this replica's pictures
            begin = context.replica_id_in_sync_group * size
            made = Paired(*(rows[begin : begin + size] for rows in made))
        with tf.GradientTape() as tape:
            image, sound = self.towers(images, features(audio, self.spec))
            if replicas > 1:
                sound = _gathered(sound, size * replicas)
            loss, accuracy = pairs_loss(self.trained.get_layer("fusion"), image, sound, made)
            kernels = [variable for variable in self.variables if "kernel" in variable.name]
            decay = self.weight_decay * tf.add_n([tf.nn.l2_loss(kernel) for kernel in kernels])
            total = loss + decay / replicas
        gradients = tape.gradient(total, self.variables)
        self.optimizer.apply_gradients(zip(gradients, self.variables, strict=True))
        result = tf.concat([[loss, accuracy], stop], 0)
        if replicas == 1:
            return result
        if not self.sync_batch_norm:  # each has moved its statistics by its own part: go on from their mean
            moving = self.trained.non_trainable_variables
            means = context.all_reduce("MEAN", [tf.identity(variable) for variable in moving])
            for variable, mean in zip(moving, means, strict=True):
                variable.assign(mean)
        return context.all_reduce("SUM", result)

    @tf.function(reduce_retracing=True)
    def _embed_for_evaluation(self, images: Any, audio: Any) -> tuple[Any, Any]:
        return network.joined(self.model, images, features(audio, self.spec), training=False)

    def evaluate(self, clips: pairs.Clips, batch: int = 64) -> dict[str, float | int | None]:
        """Half the pairs positive, half negative; all None where one video makes negatives impossible."""
        n = len(clips.other)
        if not n:
            return dict.fromkeys(MEASURES)
        self.pull()
        parts = [
            self._embed_for_evaluation(clips.images[i : i + batch], clips.audio[i : i + batch])
            for i in range(0, n, batch)
        ]
        image, sound = (tf.concat(part, 0) for part in zip(*parts, strict=True))
        return judged(self.model.get_layer("fusion"), image, sound, clips)

    def record(self, rate: float, validation: pairs.Clips | None) -> dict[str, float | None]:
        """Close a row of the history: the training pairs since the last one and, of the chief, an evaluation."""
        steps = self.step - (int(self.history[-1]["step"] or 0) if self.history else 0)
        row: dict[str, float | None] = {
            "step": self.step,
            "learning_rate": rate,
            "train_loss": self.sums[0] / steps,
            "train_accuracy": self.sums[1] / steps,
        }
        if not math.isfinite(self.sums[0]):
            raise TrainingError(f"the loss is {row['train_loss']} at step {row['step']}; lower --learning-rate")
        if validation is not None:
            result = self.evaluate(validation)
            row |= {"validation_loss": result["loss"], "validation_accuracy": result["accuracy"]}
        self.sums = [0.0, 0.0]
        self.history.append(row)
        return row
