"""From a float32 network to an int8 one: ranges by calibration, weights by quantisation-aware fine-tuning."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from l3edge.layers import Pool
from training.backend import tf, tf_keras

from .graph import Network, input_range
from .representative import Features


def calibrate(network: Network, log_mels: Features) -> Network:
    """Post-training quantisation: each range is the largest value that representative audio gives."""
    largest = np.zeros(len(network.weights))
    model = _keras(network)
    outputs = [model.get_layer(f"conv{i}").output for i in range(len(network.weights))]
    probe = tf_keras.Model(model.input, [tf.reduce_max(x) for x in outputs])
    for begin in range(0, len(log_mels), 64):
        largest = np.maximum(largest, [float(x) for x in probe(_clip(network, log_mels[begin : begin + 64]))])
    # A layer that never fires still needs a scale.
    return dataclasses.replace(network, ranges=tuple((0.0, x) for x in np.maximum(largest, 1e-3).tolist()))


def fine_tune(
    network: Network,
    batches: Iterator[Features],
    steps: int,
    learning_rate: float,
    progress: Callable[[int, float], None],
) -> Network:
    """Quantisation-aware training with tensorflow-model-optimization, from a calibrated network.

    The float32 network is the teacher: the loss is the squared error of the embedding, relative to the embedding's
    own mean square, so no label is needed and what is learned is to undo quantisation. Cosine decay to zero.
    """
    from tensorflow_model_optimization.python.core.quantization.keras import quantize

    if network.ranges is None:
        raise ValueError("fine_tune starts from a calibrated network")
    teacher = _keras(dataclasses.replace(network, ranges=None))
    student = quantize.quantize_model(_keras(network))
    _set_ranges(student, network)
    optimizer = tf_keras.optimizers.Adam(tf_keras.optimizers.schedules.CosineDecay(learning_rate, steps))

    @tf.function
    def train(x: Any) -> Any:
        target = teacher(x)
        with tf.GradientTape() as tape:
            error = tf.reduce_mean(tf.square(student(x, training=True) - target)) / tf.reduce_mean(tf.square(target))
        weights = [w for w in student.trainable_variables if w.name.endswith(("kernel:0", "bias:0"))]
        optimizer.apply_gradients(zip(tape.gradient(error, weights), weights, strict=True))
        return error

    for step in range(steps):
        progress(step, float(train(tf.constant(_clip(network, next(batches))))))
    return _read(student, network)


def _clip(network: Network, log_mels: Features) -> Features:
    """What the int8 input can represent; in particular the quantiser of the input keeps the range it was given."""
    return np.clip(log_mels, *input_range(network))


def _keras(network: Network) -> Any:
    """The folded network as a tf_keras model of stock layers, which is what tensorflow-model-optimization takes."""
    spec = network.spec
    x = inputs = tf_keras.Input((spec.frames_used, spec.front_end.bins, 1))
    convolution = 0
    for layer in spec.layers:
        if isinstance(layer, Pool):
            x = tf_keras.layers.MaxPool2D(layer.size)(x)
            continue
        x = tf_keras.layers.ZeroPadding2D((0, (layer.kernel[1] - 1) // 2))(x)
        x = tf_keras.layers.Conv2D(layer.filters, layer.kernel, activation="relu", name=f"conv{convolution}")(x)
        convolution += 1
    x = tf_keras.layers.MaxPool2D(tuple(x.shape[1:3]))(x)
    model = tf_keras.Model(inputs, tf_keras.layers.Flatten()(x))
    for i, weights in enumerate(network.weights):
        model.get_layer(f"conv{i}").set_weights(list(weights))
    return model


def _quantisers(student: Any, network: Network) -> tuple[Any, list[Any]]:
    """The layer that quantises the input, and the wrapped convolutions; Keras numbers the former in each process."""
    entry = next(layer for layer in student.layers if layer.name.startswith("quantize_layer"))
    return entry, [student.get_layer(f"quant_conv{i}") for i in range(len(network.weights))]


def _variable(layer: Any, end: str) -> Any:
    return next(weight for weight in layer.weights if weight.name.endswith(f"{end}:0"))


def _set_ranges(student: Any, network: Network) -> None:
    """Start the quantisers from the calibrated ranges: their own start is (-6, 6), and they move slowly."""
    entry, convolutions = _quantisers(student, network)
    low, high = input_range(network)
    _variable(entry, "_min").assign(low)
    _variable(entry, "_max").assign(high)
    for layer, (_, largest) in zip(convolutions, network.ranges or (), strict=True):
        _variable(layer, "post_activation_min").assign(0.0)
        _variable(layer, "post_activation_max").assign(largest)


def _read(student: Any, network: Network) -> Network:
    """The fine-tuned weights and ranges."""
    _, convolutions = _quantisers(student, network)
    weights = tuple((_variable(layer, "kernel").numpy(), _variable(layer, "bias").numpy()) for layer in convolutions)
    ranges = tuple((0.0, float(_variable(layer, "post_activation_max").numpy())) for layer in convolutions)
    return dataclasses.replace(network, weights=weights, ranges=ranges)
