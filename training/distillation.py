"""Distillation as a training objective: what a student is asked for, its losses, one step, an evaluation.

The student's tower is run on whole clips (`network.ClipTower`).

Losses, each with a weight (those on videos: `training.seeing`):
    embedding   mean squared error of a linear projection of the embedding, thrown away afterwards, against the
                teacher's embedding, standardised or whitened, so that 1 is what the mean would give ("hints": Romero
                et al. 2015)
    scores      Kullback-Leibler divergence of the student's scores (one linear layer and a logistic each: the tags)
                from the teacher's, summed over classes (Hinton et al. 2015, for independent classes)
    relational  squared difference between the student's and the teacher's matrices of cosines between the windows of a
                batch, one window a clip (Tung & Mori 2019; Park et al. 2019)
    keep        mean squared difference of the embedding, of sound made worse, from what the network that the student
                began with gives for the sound as the teacher hears it, each value over its deviation: what it could
                already do is not forgotten (Li & Hoiem 2016, "Learning without forgetting"), and is learned for worse
                and quieter sound
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l3edge import frontend
from l3edge.frontend import LogMel
from l3edge.spec import Spec

from . import degraded, network
from .backend import tf, tf_keras
from .cli import TrainingError
from .lessons import Lessons, gain
from .seeing import Seeing
from .targets import Target, deviations
from .tf_ops import TF_OPS

LOSSES = ("embedding", "scores", "relational", "keep")
_LEAST_SCORE = 1e-4  # scores are taken to be so far from 0 and 1
_DECAY = 0.03  # of what is fitted, relative to the embedding's mean variance
_BATCH = 16  # clips that are scored at a time
_SEEN = 100  # what tells the random numbers for videos' sound from those for clips


def check(spec: Spec, hop: int) -> None:
    """Raise TrainingError where a network is none for whole clips, or has no column every `hop` samples."""
    if not spec.streaming or spec.embedding != "maximum" or not isinstance(spec.front_end, LogMel):
        raise TrainingError(f"{spec.name} does not stream; only a network that does is taught on whole clips")
    column = spec.front_end.frame_step * spec.stride
    if not hop or hop % column:
        raise TrainingError(f"--teacher-hop must be a multiple of {column / spec.sample_rate:g} s for {spec.name}")


class Distiller:
    """A student in training.

    Attributes: model (network.student_model: what is kept), history, step, weights (of all losses).
    """

    def __init__(
        self,
        spec: Spec,
        lessons: Lessons,
        aims: Target | None,
        weights: dict[str, float],
        *,
        degrade: bool = True,
        weight_decay: float = 1e-5,
        seed: int = 0,
        seeing: Seeing | None = None,
    ) -> None:
        check(spec, lessons.hop)
        self.spec, self.degrade, self.seed, self.seeing = spec, degrade, seed, seeing
        self.weights = dict.fromkeys(LOSSES, 0.0) | weights | (seeing.weights if seeing else {})
        self.listens = any(self.weights[name] for name in LOSSES)
        self.hop, self.decay = lessons.hop, weight_decay
        classes = lessons.outputs["scores"].shape[-1] if weights["scores"] else 0
        self.model = network.student_model(spec, classes)
        self.tower = network.ClipTower(self.model.get_layer("audio"), spec)
        self.aims = aims
        parts = [self.model]
        if aims is not None:
            self.projection = tf_keras.layers.Dense(aims.matrix.shape[1])
            self.projection.build((None, spec.embedding_size))
            parts.append(self.projection)
        parts += seeing.parts if seeing else []
        self._first, kept = None, []
        if self.weights["keep"]:
            audio = network.student_model(spec).get_layer("audio")
            self._first = network.ClipTower(audio, spec)
            self._deviation = tf.Variable(tf.ones(spec.embedding_size))
            kept = [*audio.weights, self._deviation]
        self.variables = [variable for part in parts for variable in part.trainable_variables]
        self.optimizer = tf_keras.optimizers.Adam(0.0, jit_compile=False)
        self.optimizer.build(self.variables)
        self._bands = degraded.bands(spec.front_end)
        self.step = 0
        self.history: list[dict[str, float | None]] = []
        self.sums = dict.fromkeys(("loss", *LOSSES, *(seeing.weights if seeing else ())), 0.0)
        self._numbers = tf.Variable("", dtype=tf.string)
        kept += [variable for part in parts for variable in part.weights]
        self.checkpoint = tf.train.Checkpoint(variables=[*kept, *self.optimizer.variables], numbers=self._numbers)

    def save(self, manager: Any) -> None:
        self._numbers.assign(json.dumps({"step": self.step, "history": self.history, "sums": self.sums}))
        manager.save(checkpoint_number=self.step)

    def restore(self, path: str) -> None:
        self.checkpoint.restore(path).assert_consumed()
        numbers = json.loads(self._numbers.numpy())
        self.step, self.history, self.sums = numbers["step"], numbers["history"], numbers["sums"]

    def _log_mel(self, audio: Any) -> Any:
        """Float32 [b, n] -> [b, frames, 64]."""
        return frontend.features(audio, self.spec.front_end, TF_OPS)

    def _embed(self, log_mel: Any, windows: int, training: bool, seed: Any = None) -> Any:
        """[b, frames, 64] -> the embeddings of so many windows [b, windows, d]; with a seed, of degraded sound."""
        if seed is not None:
            log_mel = degraded.heard(log_mel, seed, self.spec.front_end, self._bands)
        return self.tower(log_mel[..., None], windows, self.hop, training=training)

    def _with_first(self, log_mel: Any, batch: dict[str, Any]) -> dict[str, Any]:
        """A batch, and what the network that the student began with gives for it, where that is to be kept."""
        if self._first is None:
            return batch
        leveled = degraded.louder(log_mel, batch["gain"], self.spec.front_end)
        return batch | {"first": self._first(leveled[..., None], batch["inside"].shape[1], self.hop, training=False)}

    def features(self, audio: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the tower hears of the first window of each clip [b, n]: float32 [b, frames, bins, 1]."""
        made: NDArray[np.float32] = self._log_mel(audio)[:, : self.spec.frames_used, :, None].numpy()
        return made

    def _losses(self, embeddings: Any, batch: dict[str, Any]) -> dict[str, Any]:
        """Each loss, unweighted, of embeddings [b, k, d]."""
        share = tf.cast(batch["inside"], tf.float32)
        share = share / tf.maximum(tf.reduce_sum(share), 1.0)
        found = {}
        if self.aims is not None and self.weights["embedding"]:
            aim = (tf.cast(batch["embedding"], tf.float32) - self.aims.mean) @ self.aims.matrix
            error = tf.reduce_mean(tf.square(self.projection(embeddings) - aim), -1)
            found["embedding"] = tf.reduce_sum(share * error)
        if self.weights["scores"]:
            wanted = tf.clip_by_value(tf.cast(batch["scores"], tf.float32), _LEAST_SCORE, 1 - _LEAST_SCORE)
            logits = self.model.get_layer("tags").get_layer("dense")(embeddings)
            cross = tf.nn.sigmoid_cross_entropy_with_logits(wanted, logits)
            own = -(wanted * tf.math.log(wanted) + (1 - wanted) * tf.math.log(1 - wanted))
            found["scores"] = tf.reduce_sum(share * tf.reduce_sum(cross - own, -1))
        if self.weights["relational"]:
            middle = embeddings.shape[1] // 2
            # An embedding is not negative and its cosines would not be either, as the teacher's are about its mean.
            mine = embeddings[:, middle]
            mine = tf.math.l2_normalize(mine - tf.reduce_mean(mine, 0, keepdims=True), -1)
            theirs = tf.cast(batch["embedding"], tf.float32)[:, middle]
            theirs = tf.math.l2_normalize((theirs - self.aims.mean) @ self.aims.matrix, -1) if self.aims else theirs
            found["relational"] = tf.reduce_mean(
                tf.square(tf.matmul(mine, mine, transpose_b=True) - tf.matmul(theirs, theirs, transpose_b=True))
            )
        if self.weights["keep"]:
            error = tf.reduce_mean(tf.square((embeddings - batch["first"]) / self._deviation), -1)
            found["keep"] = tf.reduce_sum(share * error)
        return found

    def _embed_windows(self, sounds: Sequence[Any]) -> NDArray[np.float32]:
        """The embeddings of sounds of one window, float32 [b, n] each: [all, d]."""
        return np.concatenate([self._embed_window(sound).numpy() for sound in sounds])

    def remember(self, batches: Sequence[dict[str, NDArray[Any]]]) -> None:
        """Keep the tower as it is, for the loss `keep`; batches: as for `fit_heads`."""
        self._first.audio.set_weights(self.tower.audio.get_weights())
        sounds = [_full_scale(batch["audio"]) * batch["gain"][:, None] for batch in batches]
        self._deviation.assign(deviations(self._embed_windows(sounds)))

    def fit_heads(self, batches: Sequence[dict[str, NDArray[Any]]]) -> None:
        """Begin with the linear layers that read the embedding best as it is: from random ones, the first steps would
        go into changing an embedding that is good already.

        batches: of crops of one window, as `batch_of` makes them. Least squares with a little decay, of the projection
        on the targets and of the tags on the logits of the scores.
        """
        embeddings = self._embed_windows([_full_scale(batch["audio"]) for batch in batches])

        def wanted(kind: str) -> NDArray[np.float32]:
            return np.concatenate([batch[kind][:, 0] for batch in batches]).astype(np.float32)

        if self.aims is not None and self.weights["embedding"]:
            self.projection.set_weights(_fit(embeddings, (wanted("embedding") - self.aims.mean) @ self.aims.matrix))
        if self.weights["scores"]:
            scores = np.clip(wanted("scores"), _LEAST_SCORE, 1 - _LEAST_SCORE)
            dense = self.model.get_layer("tags").get_layer("dense")
            dense.set_weights(_fit(embeddings, np.log(scores / (1 - scores))))

    def train(self, batch: dict[str, NDArray[Any]], rate: float, seen: dict[str, Any] | None = None) -> None:
        """One step on clips, as `batch_of` makes them.

        seen: a batch of `seeing.batches`, where there is something to see.
        """
        seed = tf.constant([self.seed, self.step], tf.int64)
        made = self._train(batch, tf.constant(rate, tf.float32), seed, seen)
        self.step += 1
        for name, value in made.items():
            self.sums[name] += float(value)

    @tf.function(reduce_retracing=True)
    def _train(self, batch: dict[str, Any], rate: Any, seed: Any, seen: Any) -> dict[str, Any]:
        self.optimizer.learning_rate.assign(rate)
        with tf.GradientTape() as tape:
            found = {}
            if self.listens:
                log_mel, windows = self._log_mel(_full_scale(batch["audio"])), batch["inside"].shape[1]
                embeddings = self._embed(log_mel, windows, True, seed if self.degrade else None)
                found = self._losses(embeddings, self._with_first(log_mel, batch))
            if self.seeing:
                key = tf.random.experimental.stateless_fold_in(seed, _SEEN) if self.degrade else None
                found |= self.seeing.losses(self._embed(self._log_mel(seen["audio"]), 1, True, key)[:, 0], seen)
            loss = tf.add_n([self.weights[name] * value for name, value in found.items()])
            kernels = [variable for variable in self.variables if "kernel" in variable.name]
            total = loss + self.decay * tf.add_n([tf.nn.l2_loss(kernel) for kernel in kernels])
        self.optimizer.apply_gradients(zip(tape.gradient(total, self.variables), self.variables, strict=True))
        return {"loss": loss, **found}

    @tf.function(reduce_retracing=True)
    def _evaluate(self, batch: dict[str, Any]) -> dict[str, Any]:
        log_mel = self._log_mel(_full_scale(batch["audio"]))
        embeddings = self._embed(log_mel, batch["inside"].shape[1], False)
        return self._losses(embeddings, self._with_first(log_mel, batch))

    @tf.function(reduce_retracing=True)
    def _embed_window(self, audio: Any) -> Any:
        return self._embed(self._log_mel(audio), 1, False)[:, 0]

    def watch(self, split: str) -> dict[str, float | None]:
        """The losses on a split of the videos, as `Seeing.evaluate`; nothing where there is nothing to see."""
        return self.seeing.evaluate(self._embed_window, split) if self.seeing else {}

    def evaluate(self, lessons: Lessons, clips: NDArray[np.int64], batch: int = 16) -> dict[str, float]:
        """The losses of clips as they are, unweighted; each the mean over batches."""
        if not self.listens:
            return {}
        sums = dict.fromkeys(LOSSES, 0.0)
        for begin in range(0, len(clips), batch):
            own = clips[begin : begin + batch]
            found = self._evaluate(_whole(lessons, own))
            for name, value in found.items():
                sums[name] += float(value) * len(own)
        return {name: sums[name] / len(clips) for name in LOSSES if self.weights[name]}

    def record(self, rate: float, validation: dict[str, float | None]) -> dict[str, float | None]:
        """Close a row of the history."""
        steps = self.step - (int(self.history[-1]["step"] or 0) if self.history else 0)
        if not math.isfinite(self.sums["loss"]):
            raise TrainingError(f"the loss is no number at step {self.step}; lower --learning-rate")
        row: dict[str, float | None] = {"step": self.step, "learning_rate": rate}
        row |= {f"train_{name}": self.sums[name] / steps for name in self.sums if self.weights.get(name, 1)}
        row |= {f"validation_{name}": value for name, value in validation.items()}
        self.sums = dict.fromkeys(self.sums, 0.0)
        self.history.append(row)
        return row


def _fit(x: NDArray[np.float32], y: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """(kernel, bias) of the ridge regression of y [n, k] on x [n, d]."""
    mean = x.mean(axis=0, dtype=np.float64)
    centred = x - mean
    gram = centred.T @ centred
    decay = _DECAY * np.trace(gram) / len(gram) + 1e-9
    kernel = np.linalg.solve(gram + decay * np.eye(len(gram)), centred.T @ (y - y.mean(axis=0)))
    return [kernel.astype(np.float32), (y.mean(axis=0) - mean @ kernel).astype(np.float32)]


def _full_scale(audio: Any) -> Any:
    return tf.cast(audio, tf.float32) / 32768.0


def _whole(lessons: Lessons, clips: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Whole clips, in the form of `batch_of`."""
    audio = lessons.audio[clips]
    return {
        "audio": audio,
        "gain": np.array([gain(clip) for clip in audio]),
        "inside": lessons.inside[clips],
        **{kind: values[clips] for kind, values in lessons.outputs.items()},
    }


def scores(model: tf_keras.Model, spec: Spec, lessons: Lessons, clips: NDArray[np.int64]) -> NDArray[np.float32]:
    """The scores of a `network.student_model` for all windows of clips as they are, float32 [clips, k, classes]."""
    tower = network.ClipTower(model.get_layer("audio"), spec)
    head = model.get_layer("tags").get_layer("dense")

    @tf.function(reduce_retracing=True)
    def batch(sound: Any) -> Any:
        x = frontend.features(_full_scale(sound), spec.front_end, TF_OPS)
        return tf.sigmoid(head(tower(x[..., None], lessons.inside.shape[1], lessons.hop, training=False)))

    parts = [batch(lessons.audio[clips[i : i + _BATCH]]).numpy() for i in range(0, len(clips), _BATCH)]
    return np.concatenate(parts)


@functools.lru_cache(2)  # every clip of a step asks for its pass, and a step may lie in two
def order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order of the clips in a pass: a function of its arguments, so that a run goes on anywhere."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def batch_of(
    lessons: Lessons, clips: NDArray[np.int64], seed: int, step: int, size: int, crop: int | None = None
) -> dict[str, NDArray[Any]]:
    """The clips of a step, in passes over all, each in an order of its own.

    audio: int16 [b, n]; gain [b]: how much louder the teacher heard it; inside [b, k]; outputs [b, k, d].
    crop: of each clip so many successive windows alone (and the sound of these, at least a second), drawn at random
        in each pass, loud ones rather than quiet ones. Windows of many clips teach more than as many of few.
    """
    numbers, begins = [], []
    for position in range(step * size, (step + 1) * size):
        epoch, place = divmod(position, len(clips))
        numbers.append(clips[order(len(clips), seed, epoch)[place]])
        if crop is not None:
            begins.append(_loud(lessons, numbers[-1], crop, np.random.default_rng([seed, epoch, place])))
    if crop is None:
        return _whole(lessons, np.array(numbers))
    length = lessons.audio.shape[1] - (lessons.inside.shape[1] - crop) * lessons.hop
    windows = [(number, slice(begin, begin + crop)) for number, begin in zip(numbers, begins, strict=True)]
    sounds = [(number, begin * lessons.hop) for number, begin in zip(numbers, begins, strict=True)]
    return {
        "audio": np.stack([lessons.audio[number, begin : begin + length] for number, begin in sounds]),
        "gain": np.array([gain(lessons.audio[number]) for number in numbers]),
        "inside": np.stack([lessons.inside[window] for window in windows]),
        **{kind: np.stack([values[window] for window in windows]) for kind, values in lessons.outputs.items()},
    }


_QUIET = 0.05  # of the power of a clip's loudest crop: what is quieter is drawn as often as that


def _loud(lessons: Lessons, number: int, crop: int, rng: np.random.Generator) -> int:
    """The first window of a crop, drawn with a chance that grows with the amplitude of its sound."""
    sound = lessons.audio[number].astype(np.float64)
    power = np.add.reduceat(np.square(sound), np.arange(0, len(sound), lessons.hop))
    summed = np.concatenate([[0.0], np.cumsum(power)])
    last = lessons.inside.shape[1] - crop
    blocks = len(power) - last  # of a crop
    powers = (summed[blocks:] - summed[:-blocks])[: last + 1]
    chances = np.sqrt(np.maximum(powers, _QUIET * max(float(powers.max()), 1.0)))
    return int(rng.choice(last + 1, p=chances / chances.sum()))
