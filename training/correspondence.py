"""Audio-visual correspondence as a training objective: pairs from clips, their loss, one step, an evaluation.

The towers are nearly all of the work and need each clip once, so a batch of n clips gives n positive pairs and, by
rolling the sounds against the pictures, many negatives at the price of the small fusion network. Positives and
negatives weigh half each, as in the balanced batches of Arandjelovic & Zisserman 2017, section 2.
"""

from __future__ import annotations

import json
import math
from typing import Any

from l3edge import frontend
from l3edge.spec import Spec

from . import network, pairs
from .backend import tf, tf_keras
from .cli import TrainingError
from .tf_ops import TF_OPS


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


class Trainer:
    """Model, optimizer and the numbers so far: everything that a checkpoint holds."""

    def __init__(self, spec: Spec, negatives: int, weight_decay: float) -> None:
        self.spec, self.negatives, self.weight_decay = spec, negatives, weight_decay
        self.model = network.avc_model(spec)
        self.optimizer = tf_keras.optimizers.Adam(0.0, jit_compile=False)
        self.optimizer.build(self.model.trainable_variables)
        self.kernels = [v for v in self.model.trainable_variables if "kernel" in v.name]
        self.step = tf.Variable(0, dtype=tf.int64)
        self.history = tf.Variable("[]", dtype=tf.string)
        self.loss, self.accuracy = tf_keras.metrics.Mean(), tf_keras.metrics.Mean()
        self.checkpoint = tf.train.Checkpoint(
            model=self.model,
            optimizer=self.optimizer,
            step=self.step,
            history=self.history,
            loss=self.loss,
            accuracy=self.accuracy,
        )

    def embed(self, images: Any, audio: Any, training: bool) -> tuple[Any, Any]:
        image = self.model.get_layer("image")(images, training=training)
        return image, self.model.get_layer("audio")(features(audio, self.spec), training=training)

    @tf.function
    def train(self, images: Any, audio: Any, group: Any, rate: Any) -> None:
        """One step on n clips: n positives, and n times `negatives` of different source videos."""
        n = images.shape[0]
        rolls = min(self.negatives, n - 1) + 1
        partner = (tf.range(n)[:, None] + tf.range(rolls)[None, :]) % n  # [n, rolls]; column 0 is the clip itself
        own = tf.tile(tf.range(rolls)[None, :] == 0, [n, 1])  # [n, rolls]
        different = tf.gather(group, partner) != group[:, None]
        negative = tf.cast(different, tf.float32)
        weights = 0.5 * tf.where(own, 1.0 / n, tf.math.divide_no_nan(negative, tf.reduce_sum(negative)))
        with tf.GradientTape() as tape:
            image, sound = self.embed(images, audio, training=True)
            logits = self.model.get_layer("fusion")(
                [tf.repeat(image, rolls, 0), tf.gather(sound, tf.reshape(partner, [-1]))]
            )  # [n * rolls, 2]
            labels = tf.cast(tf.reshape(own, [-1]), tf.int32)
            loss, accuracy = correspondence(logits, labels, tf.reshape(weights, [-1]))
            decay = self.weight_decay * tf.add_n([tf.nn.l2_loss(kernel) for kernel in self.kernels])
            total = loss + decay
        gradients = tape.gradient(total, self.model.trainable_variables)
        self.optimizer.learning_rate.assign(rate)
        self.optimizer.apply_gradients(zip(gradients, self.model.trainable_variables, strict=True))
        self.loss.update_state(loss)
        self.accuracy.update_state(accuracy)
        self.step.assign_add(1)

    @tf.function(reduce_retracing=True)
    def _embed_for_evaluation(self, images: Any, audio: Any) -> tuple[Any, Any]:
        return self.embed(images, audio, training=False)

    def evaluate(self, clips: pairs.Clips, batch: int = 64) -> dict[str, float | int | None]:
        """Half the pairs positive, half negative; all None where one video makes negatives impossible."""
        n = len(clips.other)
        if not n:
            return dict.fromkeys(("pairs", "loss", "accuracy", "positives", "negatives", "other_labels"))
        parts = [
            self._embed_for_evaluation(clips.images[i : i + batch], clips.audio[i : i + batch])
            for i in range(0, n, batch)
        ]
        image, sound = (tf.concat(part, 0) for part in zip(*parts, strict=True))
        fusion = self.model.get_layer("fusion")
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
            "other_labels": float(hits + other_labels) / 2,  # accuracy without negatives that share a label
        }

    def record(self, validation: pairs.Clips, rate: float) -> dict[str, float | None]:
        """Close a row of the history: the training pairs since the last one, and an evaluation."""
        result = self.evaluate(validation)
        row: dict[str, float | None] = {
            "step": int(self.step),
            "learning_rate": rate,
            "train_loss": float(self.loss.result()),
            "train_accuracy": float(self.accuracy.result()),
            "validation_loss": result["loss"],
            "validation_accuracy": result["accuracy"],
        }
        if not math.isfinite(row["train_loss"]):
            raise TrainingError(f"the loss is {row['train_loss']} at step {row['step']}; lower --learning-rate")
        self.loss.reset_state()
        self.accuracy.reset_state()
        self.history.assign(json.dumps([*json.loads(self.history.numpy()), row]))
        return row
