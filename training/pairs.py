"""Records -> clips: a picture and the second of sound around it.

A clip is a positive pair by itself; the picture of one clip and the sound of another video's are a negative
(Arandjelovic & Zisserman 2017, section 2). Which clips a training step sees, and how they are augmented, is a
pure function of (seed, step): random numbers are drawn statelessly from the seed and the example's number, so a
resumed run sees what an undisturbed one would have seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from l3edge.spec import Spec

from . import shards
from .backend import tf

# As published: crop, flip, brightness and saturation, volume "up to 10 %" in the paper; the numbers that it leaves
# open are those of the l3embedding pipeline (data/avc/sample.py, Cramer et al. 2019). Unlike that one, no louder sound
# is held below full scale: it stays in float32, where nothing clips.
CROP = 7 / 8  # of the picture's small side: the 224 of 256
BRIGHTNESS = 32 / 255  # at most added or taken, of 1
SATURATION = (0.5, 1.5)  # times
VOLUME = 0.1  # at most added or taken, of 1

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
    return tf.clip_by_value((late * rate + _MICRO // 2) // _MICRO, 0, _samples(fields) - 1)


def _samples(fields: dict[str, Any]) -> Any:
    """Length of the record's sound, int64."""
    return tf.cast(tf.strings.length(fields["audio"]), tf.int64) // 2


def _second(fields: dict[str, Any], begin: Any, spec: Spec) -> Any:
    """The window that begins there, float32 [window]: no more than that of ten seconds is converted."""
    pcm = shards.samples(tf.strings.substr(fields["audio"], 2 * begin, 2 * spec.window))
    return tf.ensure_shape(pcm, [spec.window])


def _image(jpeg: Any, size: int, corner: Any) -> Any:
    """The square at `corner` (two floats in [0, 1]: of the room above and to the left), float32 in [0, 1]."""
    image = tf.image.decode_jpeg(jpeg, channels=3)
    shape = tf.shape(image)[:2]
    side = tf.cast(tf.cast(tf.reduce_min(shape), tf.float32) * CROP, tf.int32)
    top, left = tf.unstack(tf.cast(tf.cast(shape - side + 1, tf.float32) * corner * 0.999999, tf.int32))
    square = tf.cast(image[top : top + side, left : left + side], tf.float32) / 255.0
    scaled = tf.cond(side == size, lambda: square, lambda: tf.image.resize(square, [size, size], antialias=True))
    return tf.ensure_shape(scaled, [size, size, 3])


def _jittered(image: Any, seeds: Sequence[Any]) -> Any:
    """Flip, brightness and saturation, the latter two in either order; float32 in [0, 1]."""

    def brightness(image: Any) -> Any:
        return tf.clip_by_value(tf.image.stateless_random_brightness(image, BRIGHTNESS, seeds[1]), 0, 1)

    def saturation(image: Any) -> Any:
        return tf.clip_by_value(tf.image.stateless_random_saturation(image, *SATURATION, seeds[2]), 0, 1)

    image = tf.image.stateless_random_flip_left_right(image, seeds[0])
    brightness_first = tf.random.stateless_uniform([], seeds[3]) < 0.5
    return tf.cond(brightness_first, lambda: saturation(brightness(image)), lambda: brightness(saturation(image)))


def training_clip(record: Any, seed: Any, spec: Spec) -> dict[str, Any]:
    """One augmented clip of a serialized record, every choice from `seed`, int64 [2]; a dict.

    Its entries: `input.training_clips`.
    """
    fields = shards.fields(record)
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 8))
    frames = tf.size(fields["frames"])
    frame = tf.random.stateless_uniform([], seeds[0], 0, frames, tf.int32)
    # The second begins anywhere that leaves the frame inside it and itself inside the recorded sound.
    heard = _heard(fields, frame, spec.sample_rate)
    earliest = tf.maximum(heard - (spec.window - 1), 0)
    latest = tf.minimum(heard, _samples(fields) - spec.window)
    begin = tf.random.stateless_uniform([], seeds[1], earliest, latest + 1, tf.int64)
    gain = tf.random.stateless_uniform([], seeds[2], 1 - VOLUME, 1 + VOLUME)
    corner = tf.random.stateless_uniform([2], seeds[3])
    image = _jittered(_image(fields["frames"][frame], spec.image.size, corner), seeds[4:])
    return {
        "image": image * 2 - 1,
        "audio": _second(fields, begin, spec) * gain,
        "group": fields["group"],
        "begin": begin,
        "heard": heard,
    }


def fixed_clips(records: Iterable[bytes], spec: Spec, each: int, seed: int) -> Clips:
    """Clips without augmentation: of each record so many frames, evenly spread, in the middle of their second.

    Fewer of a record that has fewer frames.
    """
    images, audio, groups, labels = [], [], [], []
    for record in records:
        fields = shards.fields(record)
        frames = len(fields["frames"])
        for k in range(min(each, frames)):
            frame = (2 * k + 1) * frames // (2 * min(each, frames))
            heard = _heard(fields, frame, spec.sample_rate)
            begin = tf.clip_by_value(heard - spec.window // 2, 0, _samples(fields) - spec.window)
            images.append(_image(fields["frames"][frame], spec.image.size, tf.constant([0.5, 0.5])) * 2 - 1)
            audio.append(_second(fields, begin, spec))
            groups.append(fields["group"].numpy())
            labels.append(set(fields["labels"].numpy().tolist()))
    other, same_label = _negatives(np.array(groups), labels, seed)
    size = spec.image.size
    return Clips(tf.reshape(images, [-1, size, size, 3]), tf.reshape(audio, [-1, spec.window]), other, same_label)


def _negatives(groups: NDArray[Any], labels: list[set[bytes]], seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """For each clip a random one of another source video, and whether the two share a label."""
    random = np.random.default_rng(seed)
    if len(np.unique(groups)) < 2:
        return np.zeros(0, np.int64), np.zeros(0, bool)
    other = np.array([random.choice(np.flatnonzero(groups != group)) for group in groups])
    return other, np.array([bool(labels[i] & labels[j]) for i, j in enumerate(other)])
