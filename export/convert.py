"""Graphs to a .tflite flatbuffer: the signatures `stream`, the first subgraph, others, `window`, `tags` and `head`."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import Any

from absl import logging

from training.backend import tf

from . import half
from .graph import Network, step_function, window_function
from .head import Head, head_function
from .tags import Tags, tags_function


def convert(
    network: Network,
    *,
    hops: Sequence[int] = (),
    target: str = "cpu",
    float16: bool = False,
    tags: Tags | None = None,
    head: Head | None = None,
) -> bytes:
    """The flatbuffer of a network: float32 if it has no ranges, else int8 in all but the front end, tags and head.

    Int8 models take and give their states and outputs as int8; a waveform is float32 in all.

    hops: lengths of further steps, each a signature `stream_{hops}`.
    target: "cpu", or "edgetpu" for the step alone, log-mel in: its compiler takes one subgraph.
    float16: keep the weights of a float32 network as float16.
    tags, head: what scores an embedding, float32 always: the signatures `tags` and `head`, of a file for the CPU.
    """
    made = tf.Module()
    functions = {}
    if target == "edgetpu":
        functions["stream"] = step_function(network, waveform=False)
    else:
        if network.spec.streaming:
            functions["stream"] = step_function(network)
            functions.update({f"stream_{n}": step_function(network, n) for n in sorted(hops)})
        functions["window"] = window_function(network)
        if tags is not None:
            functions["tags"] = tags_function(tags)
        if head is not None:
            functions["head"] = head_function(head)
    for name, function in functions.items():
        setattr(made, name, function)
    with tempfile.TemporaryDirectory() as folder:
        logging.set_verbosity(logging.ERROR)  # the converter's advice is about models unlike these
        tf.saved_model.save(made, folder, signatures=functions)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(functions))
        made = first(next(iter(functions)), run(converter, int8=network.ranges is not None))
        return half.halve(made) if float16 else made


def run(converter: Any, *, int8: bool) -> bytes:
    """The flatbuffer that a TFLiteConverter makes, with the project's settings."""
    logging.set_verbosity(logging.ERROR)
    if int8:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    return bytes(converter.convert())


def first(key: str, flatbuffer: bytes) -> bytes:
    """The same graphs with that signature's the first, which an engine runs by the bare call; the converter has them in
    the order of their names.
    """
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(flatbuffer))
    numbers = {signature.signatureKey: signature.subgraphIndex for signature in model.signatureDefs}
    number = numbers[key.encode()]
    if number == 0:
        return flatbuffer
    model.subgraphs.insert(0, model.subgraphs.pop(number))
    for signature in model.signatureDefs:
        if signature.subgraphIndex <= number:
            signature.subgraphIndex = (signature.subgraphIndex + 1) % (number + 1)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))
