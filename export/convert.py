"""Graphs to a .tflite flatbuffer with the signatures `stream` (the first subgraph) and `window`, sharing weights."""

from __future__ import annotations

import tempfile

from absl import logging

from training.backend import tf

from .graph import Network, module


def convert(network: Network) -> bytes:
    """The flatbuffer of a network: float32 if it has no ranges, else int8 in all but the front end.

    Int8 models take and give their states and outputs as int8; the waveform is float32 in both.
    """
    made = module(network)
    logging.set_verbosity(logging.ERROR)  # the converter's advice is about models unlike this one
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(made, folder, signatures={"stream": made.stream, "window": made.window})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["stream", "window"])
        if network.ranges is not None:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.inference_input_type = converter.inference_output_type = tf.int8
        return bytes(converter.convert())
