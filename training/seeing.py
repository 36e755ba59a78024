"""What a student learns by watching as well: two losses on videos, whose own networks are thrown away afterwards.

    avc     does this picture belong to this second? The student's audio tower, the preset's image tower and a fusion,
            on the pairs of `training.correspondence` (Arandjelovic & Zisserman 2017)
    vision  Kullback-Leibler divergence of the student's class posteriors (one linear layer and a softmax on the
            embedding) from those of an image network on the frame of the same second (SoundNet: Aytar et al. 2016)

The image network of "vision" is that of a run of `training.supervised`, and frozen.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from l3edge.spec import Spec

from . import artifacts, correspondence, network, pairs, shards
from .backend import tf, tf_keras
from .cli import TrainingError
from .input import checked, evaluation_clips, read, training_clips
from .pretrain import numbered_groups

LOSSES = ("avc", "vision")
_BATCH = 64  # clips, in an evaluation
_PARTS = ("kernel", "bias")


class VisionTeacher:
    """What a run of `training.supervised` sees: pictures -> shares of its classes.

    Attributes: name; identity, SHA-256; size, pixels of a picture; classes.
    """

    def __init__(self, run: str) -> None:
        loaded = artifacts.load_run(run)
        if loaded.metrics.get("task") != "labels":
            raise TrainingError(f"{run} is no run of training.supervised: its image network tells no classes")
        paths = [loaded.directory / name for name in ("weights.npz", "heads.npz")]
        self.name, self.size = loaded.directory.resolve().name, loaded.spec.image.size
        self._tower = loaded.image_tower
        heads = artifacts.arrays_of(paths[1])
        try:
            self._head = [tf.constant(heads[f"image/{layer}/{part}"]) for layer in ("fc1", "fc2") for part in _PARTS]
        except KeyError as error:
            raise TrainingError(
                f"{paths[1]} has no {error}: it is not of this version of training.supervised"
            ) from None
        self.classes = int(self._head[-1].shape[0])
        self.identity = hashlib.sha256(b"".join(hashlib.sha256(p.read_bytes()).digest() for p in paths)).hexdigest()

    def __call__(self, images: Any) -> Any:
        """float32 [n, size, size, 3] in [-1, 1] -> posteriors, float32 [n, classes]."""
        kernel1, bias1, kernel2, bias2 = self._head
        hidden = tf.nn.relu(self._tower(images, training=False) @ kernel1 + bias1)
        return tf.nn.softmax(hidden @ kernel2 + bias2)


class Seeing:
    """The losses on a data set of videos, and the networks that only they need.

    Attributes: weights, of the losses that are asked for; parts, the networks.
    """

    def __init__(
        self,
        spec: Spec,
        videos: shards.Data,
        weights: dict[str, float],
        teacher: VisionTeacher | None,
        batch: int,
        seed: int,
    ) -> None:
        """Raises TrainingError where the videos are no use: another rate, no pictures, no two to make a pair of."""
        check(videos, spec, weights)
        self.videos, self.batch, self.seed, self.teacher = videos, batch, seed, teacher
        self.weights = {name: weights[name] for name in LOSSES if weights[name]}
        # A frozen teacher sees pictures of its own size, and what sees beside it the same ones.
        size = teacher.size if teacher else spec.image.size
        self.spec = dataclasses.replace(spec, image=dataclasses.replace(spec.image, size=size))
        self.parts: list[Any] = []
        if "avc" in self.weights:
            self.image, self.fusion = network.image_tower(self.spec), network.fusion(self.spec)
            self.parts += [self.image, self.fusion]
        if "vision" in self.weights and teacher:
            self.classes = tf_keras.layers.Dense(teacher.classes)
            self.classes.build((None, spec.embedding_size))
            self.parts.append(self.classes)
        self._held_out: dict[str, pairs.Clips] = {}

    def batches(self, first: int) -> Iterator[dict[str, Any]]:
        """Endless batches from step `first` on: image, audio and group, as `input.training_clips` makes them."""
        train = self.videos.split("train")
        clips = training_clips(train, self.spec, self.seed, self.batch, first)
        return checked(clips.map(numbered_groups), train)

    def losses(self, embedding: Any, clip: dict[str, Any]) -> dict[str, Any]:
        """Each loss, unweighted, of a batch's embeddings [n, d] in training."""
        found = {}
        if "avc" in self.weights:
            made = correspondence.paired(clip["group"], self.batch - 1)
            image = self.image(clip["image"], training=True)
            found["avc"] = correspondence.pairs_loss(self.fusion, image, embedding, made)[0]
        if "vision" in self.weights:
            found["vision"] = self._divergence(embedding, clip["image"])
        return found

    def _divergence(self, embedding: Any, images: Any) -> Any:
        assert self.teacher is not None
        wanted = self.teacher(images)
        own = tf.nn.log_softmax(self.classes(embedding))
        return tf.reduce_mean(tf.reduce_sum(wanted * (tf.math.log(tf.maximum(wanted, 1e-12)) - own), -1))

    def evaluate(self, embed: Callable[[Any], Any], split: str) -> dict[str, float | None]:
        """The losses on a split's clips as they are, and the accuracy of avc; None where there are too few.

        embed: float32 [n, window] -> embeddings [n, d], as deployed.
        """
        if split not in self._held_out:
            self._held_out[split] = evaluation_clips(self.videos.split(split), self.spec)
        clips = self._held_out[split]
        count = clips.images.shape[0]
        cuts = [slice(i, i + _BATCH) for i in range(0, count, _BATCH)]
        found: dict[str, float | None] = {}
        sound = tf.concat([embed(clips.audio[cut]) for cut in cuts], 0) if count else None
        if "avc" in self.weights:
            found |= {"avc": None, "avc_accuracy": None}
            if len(clips.other):
                image = tf.concat([self.image(clips.images[cut], training=False) for cut in cuts], 0)
                made = correspondence.judged(self.fusion, image, sound, clips)
                found |= {"avc": made["loss"], "avc_accuracy": made["accuracy"]}
        if "vision" in self.weights:
            parts = [float(self._divergence(sound[cut], clips.images[cut])) * len(clips.audio[cut]) for cut in cuts]
            found["vision"] = float(np.sum(parts)) / count if count else None
        return found


def check(videos: shards.Data, spec: Spec, weights: dict[str, float]) -> None:
    """Raise TrainingError where the videos are of another rate, have no pictures, or are too few for negatives."""
    rate = videos.statistics["sample_rate"]
    if rate != spec.sample_rate:
        raise TrainingError(f"{videos.directory} is at {rate} Hz, {spec.name} hears {spec.sample_rate} Hz")
    first = next(read(videos.split("train"), [0]), None)
    if first is None or not len(shards.fields(first)["frames"]):
        raise TrainingError(
            f"{videos.directory} has no pictures to train on: --videos wants what training.prepare made"
        )
    if weights["avc"] and videos.statistics["splits"]["train"]["groups"] < 2:
        raise TrainingError(f"{videos.directory} has fewer than two training videos: no negative pair can be made")
