"""What the student hears: a clip as a worse place, a worse microphone or a greater distance would have given it.

The teacher hears the clip, and the student learns to give the same answer for what is left of it. All is done to the
front end's output, which costs nothing beside the network, and differs in every step.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from l3edge.frontend import LogMel, mel_matrix, window

from .backend import tf

# Shares of the clips that are touched so, and how far; a quarter is heard as it is.
TOUCHED = 3 / 4
QUIETER, LEVELS = 0.7, (-40.0, 6.0)  # dB
FAINTEST = -50.0  # dB of full scale, of a clip's loudest moment: it is made no quieter than that
TILTED, TILT = 0.5, 12.0  # dB, at most, from one end of the spectrum to the other
RIPPLE, BUMPS = 4.0, 6  # dB, standard deviation, at so many frequencies
LIMITED, LOW, HIGH = 0.25, (100.0, 500.0), (2500.0, 6000.0)  # Hz: the edges of a narrow band
STOPPED = 50.0  # dB that the band's edges take away
NOISY, RATIOS = 0.8, (0.0, 35.0)  # dB, from the clip's mean power to that of the noise


class Bands(NamedTuple):
    """Of each mel band."""

    center: Any  # Hz, float32 [bins]
    noise: Any  # its mean value for white noise of power 1, float32 [bins]
    spread: Any  # standard deviation of the same, over its mean
    full: float  # the largest value that a tone of full scale gives


def bands(front: LogMel) -> Bands:
    """What the bands of a front end are, and what they make of noise."""
    matrix = mel_matrix(front).astype(np.float64)
    hertz = np.arange(len(matrix)) * front.sample_rate / front.fft_length
    width = np.maximum(matrix.sum(axis=0), 1e-9)
    # A bin's magnitude is Rayleigh distributed: mean sqrt(pi / 4), variance 1 - pi / 4, for noise of unit power.
    power = math.sqrt(float((window(front).astype(np.float64) ** 2).sum()))
    mean = math.sqrt(math.pi / 4) * width
    deviation = np.sqrt((1 - math.pi / 4) * (matrix**2).sum(axis=0))
    values = (hertz @ matrix / width, power * mean, deviation / mean)
    full = float(window(front).sum()) / 2 * float(matrix.max())
    return Bands(*(np.asarray(value, np.float32) for value in values), full)


def _uniform(seed: Any, number: int, shape: list[Any], limits: tuple[float, float]) -> Any:
    key = tf.random.experimental.stateless_fold_in(seed, number)
    return tf.random.stateless_uniform(shape, key, *limits)


def _normal(seed: Any, number: int, shape: Any) -> Any:
    return tf.random.stateless_normal(shape, tf.random.experimental.stateless_fold_in(seed, number))


def _magnitude(log_mel: Any, front: LogMel) -> Any:
    return tf.maximum(tf.exp(log_mel) - front.offset, 0.0)


def louder(log_mel: Any, gain: Any, front: LogMel) -> Any:
    """Log-mel of clips, float32 [b, frames, bins], as it is of each clip times its gain [b]."""
    return tf.math.log(_magnitude(log_mel, front) * gain[:, None, None] + front.offset)


def heard(log_mel: Any, seed: Any, front: LogMel, of: Bands) -> Any:
    """Log-mel of clips, float32 [b, frames, bins], as the student hears them; seed: int64 [2]."""
    b, bins = tf.shape(log_mel)[0], front.bands

    def chosen(number: int, share: float, values: Any) -> Any:
        """`values` [b, ...] for a share of the clips, 0 for the others."""
        on = _uniform(seed, number, [b, 1], (0.0, 1.0)) < share
        return tf.where(on, values, tf.zeros_like(values))

    level = chosen(0, QUIETER, _uniform(seed, 1, [b, 1], LEVELS))
    across = np.linspace(-0.5, 0.5, bins, dtype=np.float32)[None]
    tilt = _uniform(seed, 3, [b, 1], (-TILT, TILT)) * across
    places = np.linspace(0, BUMPS - 1, bins)
    corners = np.maximum(0, 1 - np.abs(places[None] - np.arange(BUMPS)[:, None])).astype(np.float32)  # [BUMPS, bins]
    curve = chosen(2, TILTED, tilt + RIPPLE * _normal(seed, 4, [b, BUMPS]) @ corners)
    low = _uniform(seed, 6, [b, 1], LOW)
    high = _uniform(seed, 7, [b, 1], HIGH)
    outside = tf.maximum(tf.math.log(low / of.center), tf.math.log(of.center / high)) / math.log(2)  # octaves
    limit = chosen(5, LIMITED, -STOPPED * tf.clip_by_value(2 * outside, 0.0, 1.0))
    magnitude = _magnitude(log_mel, front)
    # What is quiet already is not made so quiet that nothing is left to be heard.
    loudest = 20 / math.log(10) * tf.math.log(tf.reduce_max(magnitude, [1, 2])[:, None] / of.full + 1e-9)
    level = tf.maximum(level, tf.minimum(FAINTEST - loudest, 0.0))
    decibels = level + curve + limit  # [b, bins]

    ratio = _uniform(seed, 9, [b, 1], RATIOS)
    pink = _uniform(seed, 10, [b, 1], (0.0, 1.0))  # 0: white; 1: pink
    shape = of.noise * (of.center / 1000.0) ** (-0.5 * pink)  # [b, bins]
    power = tf.reduce_mean(tf.square(magnitude), [1, 2]) / tf.reduce_mean(tf.square(shape), 1)
    noise = tf.sqrt(power)[:, None] * 10 ** (-ratio / 20) * shape
    noise = chosen(8, NOISY, noise)[:, None] * (1 + of.spread * _normal(seed, 11, tf.shape(log_mel)))
    made = tf.sqrt(tf.square(magnitude) + tf.square(noise)) * 10 ** (decibels[:, None] / 20)
    touched = _uniform(seed, 12, [b, 1, 1], (0.0, 1.0)) < TOUCHED
    return tf.where(touched, tf.math.log(made + front.offset), log_mel)
