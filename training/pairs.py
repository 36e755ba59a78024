"""Records -> clips: a picture and the second of sound around it.

A clip is a positive pair by itself; the picture of one clip and the sound of another video's are a negative
(Arandjelovic & Zisserman 2017, section 2). Which clips a training step sees, and how they are augmented, is a
pure function of (seed, step): random numbers are drawn statelessly from the seed and the example's number, so a
resumed run sees what an undisturbed one would have seen.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from l3edge.spec import Spec

from . import shards
from .backend import tf

CROP = 7 / 8  # of the picture's small side: the 224 of 256 in the paper
BRIGHTNESS = 0.2  # at most added or taken, of 1
SATURATION = (0.7, 1.3)
VOLUME = 0.1  # "up to 10 %"

_MICRO = 1_000_000


class Clips(NamedTuple):
    """Evaluation clips, and for each a clip of another source video whose sound makes the negative pair."""

    images: Any  # float32 [n, size, size, 3] in [-1, 1]
    audio: Any  # float32 [n, window]
    other: NDArray[np.int64]  # [n]; empty when all clips are of one video
    same_label: NDArray[np.bool_]  # [n]: the negative shares a label with the clip, hence is hardly one


def _heard(fields: dict[str, Any], frame: Any, rate: int) -> Any:
    """Index of the sample that is heard when a frame is shown, int64."""
    late = tf.gather(fields["frame_times"], frame) - fields["audio_start"]  # microseconds
    last = tf.size(fields["audio"], tf.int64) - 1
    return tf.clip_by_value((late * rate + _MICRO // 2) // _MICRO, 0, last)


def _second(fields: dict[str, Any], begin: Any, spec: Spec) -> Any:
    return tf.ensure_shape(fields["audio"][begin : begin + spec.window], [spec.window])


def _image(jpeg: Any, size: int, corner: Any) -> Any:
    """The square at `corner` (two floats in [0, 1]: of the room above and to the left), float32 in [0, 1]."""
    image = tf.image.decode_jpeg(jpeg, channels=3)
    shape = tf.shape(image)[:2]
    side = tf.cast(tf.cast(tf.reduce_min(shape), tf.float32) * CROP, tf.int32)
    top, left = tf.unstack(tf.cast(tf.cast(shape - side + 1, tf.float32) * corner * 0.999999, tf.int32))
    square = image[top : top + side, left : left + side]
    return tf.image.resize(tf.cast(square, tf.float32) / 255.0, [size, size], antialias=True)


def _training_clip(record: Any, seed: Any, spec: Spec) -> dict[str, Any]:
    """One augmented clip of a record, every choice from `seed` [2]."""
    fields = shards.parse(record)
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 7))
    frames = tf.size(fields["frames"])
    frame = tf.random.stateless_uniform([], seeds[0], 0, frames, tf.int32)
    # The second begins anywhere that leaves the frame inside it and itself inside the recorded sound.
    heard = _heard(fields, frame, spec.sample_rate)
    earliest = tf.maximum(heard - (spec.window - 1), 0)
    latest = tf.minimum(heard, tf.size(fields["audio"], tf.int64) - spec.window)
    begin = tf.random.stateless_uniform([], seeds[1], earliest, latest + 1, tf.int64)
    gain = tf.random.stateless_uniform([], seeds[2], 1 - VOLUME, 1 + VOLUME)
    corner = tf.random.stateless_uniform([2], seeds[3])
    image = _image(fields["frames"][frame], spec.image.size, corner)
    image = tf.image.stateless_random_flip_left_right(image, seeds[4])
    image = tf.image.stateless_random_brightness(image, BRIGHTNESS, seeds[5])
    image = tf.image.stateless_random_saturation(image, *SATURATION, seeds[6])
    return {
        "image": tf.ensure_shape(tf.clip_by_value(image, 0, 1) * 2 - 1, [spec.image.size, spec.image.size, 3]),
        "audio": _second(fields, begin, spec) * gain,
        "group": fields["group"],
        "begin": begin,
        "heard": heard,
    }


def training_clips(records: Any, spec: Spec, seed: int, batch: int, first_step: int = 0) -> Any:
    """Endless batches from step `first_step` on: tf.data of dicts.

    image float32 [batch, size, size, 3] in [-1, 1], audio float32 [batch, window], group string [batch], and
    begin and heard, int64 [batch]: the record's sample at which the audio begins, and the one heard with the
    image. Each pass visits every record once, in an order of its own.
    """
    count = len(records)
    first = first_step * batch

    def one_pass(number: Any) -> Any:
        order = tf.random.experimental.stateless_shuffle(tf.range(count), [seed, number])
        return tf.data.Dataset.from_tensor_slices(order)

    passes = tf.data.Dataset.range(first // count, 2**62).flat_map(one_pass)
    examples = passes.skip(first % count).enumerate(first)
    clips = examples.map(
        lambda number, index: _training_clip(tf.gather(records, index), tf.stack([seed, number]), spec),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    return clips.batch(batch, drop_remainder=True).prefetch(2)


def evaluation_clips(records: Any, spec: Spec, at_least: int = 400, seed: int = 0) -> Clips:
    """Fixed clips without augmentation: frames evenly spread over each record, in the middle of their second.

    As many a record as it takes for `at_least` clips, if the records have so many frames. Where there are more
    records than that, `at_least` of them, evenly spread: all clips are in memory, decoded.
    """
    if len(records) > at_least:
        records = tf.gather(records, (2 * np.arange(at_least) + 1) * len(records) // (2 * at_least))
    each = math.ceil(at_least / max(1, len(records)))
    images, audio, groups, labels = [], [], [], []
    for record in records:
        fields = shards.parse(record)
        frames = len(fields["frames"])
        for k in range(min(each, frames)):
            frame = (2 * k + 1) * frames // (2 * min(each, frames))
            heard = _heard(fields, frame, spec.sample_rate)
            begin = tf.clip_by_value(heard - spec.window // 2, 0, len(fields["audio"]) - spec.window)
            images.append(_image(fields["frames"][frame], spec.image.size, tf.constant([0.5, 0.5])) * 2 - 1)
            audio.append(_second(fields, begin, spec))
            groups.append(fields["group"].numpy())
            labels.append(set(fields["labels"].numpy().tolist()))
    other, same_label = _negatives(np.array(groups), labels, seed)
    return Clips(tf.stack(images), tf.stack(audio), other, same_label)


def _negatives(groups: NDArray[Any], labels: list[set[bytes]], seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """For each clip a random one of another source video, and whether the two share a label."""
    random = np.random.default_rng(seed)
    if len(np.unique(groups)) < 2:
        return np.zeros(0, np.int64), np.zeros(0, bool)
    other = np.array([random.choice(np.flatnonzero(groups != group)) for group in groups])
    return other, np.array([bool(labels[i] & labels[j]) for i, j in enumerate(other)])
