"""The TensorFlow side of the front ends, for training and export."""

from __future__ import annotations

from typing import Any

from l3edge import frontend

from .backend import tf


def _pad(x: Any, before: int, after: int) -> Any:
    return tf.pad(x, [[0, 0]] * (len(x.shape) - 1) + [[before, after]])


def _magnitude(x: Any, n: int) -> Any:
    # float64 on purpose: in float32 TensorFlow's FFT leaves 1e-7 of a frame's loudest bin in all the others, which
    # under a full-scale tone is 3e-3 nats in a quiet band. NumPy and TFLite's RFFT2D kernel compute in float64.
    return tf.cast(tf.abs(tf.signal.rfft(tf.cast(x, tf.float64), [n])), tf.float32)


TF_OPS = frontend.Ops(
    reshape=tf.reshape,
    concat=tf.concat,
    pad=_pad,
    magnitude=_magnitude,
    matmul=tf.matmul,
    log=tf.math.log,
    sqrt=tf.sqrt,
    maximum=tf.maximum,
    largest=lambda x: tf.reduce_max(x, axis=[-2, -1], keepdims=True),
)

# What converts to TFLite's builtin RFFT2D, which takes float32 (and computes in float64).
GRAPH_OPS = TF_OPS._replace(magnitude=lambda x, n: tf.abs(tf.signal.rfft(x, [n])))
