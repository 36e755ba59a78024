"""The TensorFlow side of the log-mel front end, for training and export."""

from __future__ import annotations

from l3edge import frontend

from .backend import tf

TF_OPS = frontend.Ops(
    reshape=tf.reshape,
    concat=tf.concat,
    magnitude=lambda x, n: tf.abs(tf.signal.rfft(x, [n])),
    log=tf.math.log,
)
