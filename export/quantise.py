"""From a float32 network to a smaller one: ranges, zeros, shared values, and fine-tuning that keeps them.

Each function takes a `Network` and gives one back. What they learn from is the float32 network itself, the teacher:
the loss is the squared error of the embedding relative to the embedding's own mean square. No label is needed, and
all that is learned is to undo what quantising, pruning or clustering did.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from l3edge.layers import Conv
from training.backend import tf, tf_keras
from training.network import stack

from .graph import Network, entering, fake_quant, input_range, operations, quantised_kernel
from .representative import Features

Progress = Callable[[int, float], None]  # step, loss

_MOST_VALUES = 1 << 27  # of one layer's output in `correct_biases`: 0.5 GB
_CHOICES = 30  # how often pruning would choose its weights anew, were it not for the next number
_PRUNED_AT = 2 / 3  # of the steps: from then on no more weights are pruned, and the others adapt


def calibrate(network: Network, features: Features) -> Network:
    """Post-training quantisation: the ranges are the smallest and largest values that representative audio gives."""
    model = _keras(network)
    outputs = [model.get_layer(f"conv{i + 1}").output for i in range(len(network.weights))]
    extremes = tf_keras.Model(model.input, [tf.stack([tf.reduce_min(x), tf.reduce_max(x)]) for x in outputs])
    # 0 is in every range, and a layer that never fires still needs a scale.
    low, high = np.zeros(len(outputs)), np.full(len(outputs), 1e-3)
    for begin in range(0, len(features), 64):
        made = np.stack([x.numpy() for x in extremes(_entering(network, features[begin : begin + 64]))])
        low, high = np.minimum(low, made[:, 0]), np.maximum(high, made[:, 1])
    return dataclasses.replace(network, ranges=tuple(zip(low.tolist(), high.tolist(), strict=True)))


def correct_biases(network: Network, features: Features) -> Network:
    """A calibrated network whose biases take back the mean error that rounding leaves in each filter's output.

    Layer by layer, each on what the corrected layers before it give (Nagel et al. 2019, "Data-Free Quantization
    Through Weight Equalization and Bias Correction", section 4.2, with data).
    """
    if network.ranges is None:
        raise ValueError("correct_biases starts from a calibrated network")
    spec = network.spec
    largest = max(math.prod(shape) for shape in spec.shapes(spec.frames_used))
    inputs = _entering(network, features[: max(8, _MOST_VALUES // largest)])
    rows = tuple(layer._replace(relu=False) if isinstance(layer, Conv) else layer for layer in spec.rows)
    plain = dataclasses.replace(network, spec=spec.with_rows(rows), ranges=None)
    kernels = [
        (quantised_kernel(kernel, layer).numpy(), bias)
        for layer, (kernel, bias) in zip(spec.convolutions, network.weights, strict=True)
    ]
    exact, rounded, weights = inputs, entering(inputs, network), []
    for layer, true, coarse in zip(
        spec.rows, operations(plain), operations(dataclasses.replace(plain, weights=kernels)), strict=True
    ):
        exact, rounded = true.apply(exact), coarse.apply(rounded)
        if isinstance(layer, Conv):
            error = tf.reduce_mean(rounded, [0, 1, 2]) - tf.reduce_mean(exact, [0, 1, 2])
            rounded = rounded - error
            if layer.relu:
                exact, rounded = tf.nn.relu(exact), tf.nn.relu(rounded)
            rounded = fake_quant(network.ranges[len(weights)])(rounded)
            kernel, bias = network.weights[len(weights)]
            weights.append((kernel, bias - error.numpy()))
    return dataclasses.replace(network, weights=tuple(weights))


def fine_tune(
    network: Network,
    batches: Iterator[Features],
    steps: int,
    learning_rate: float,
    progress: Progress,
    *,
    teacher: Network | None = None,
    keep: str | None = None,
) -> Network:
    """Quantisation-aware training with tensorflow-model-optimization, from a calibrated network.

    teacher: whose embeddings are learned; by default those of the network itself in float32.
    keep: "zeros" (weights that are zero stay zero), "clusters" (as many different values in each filter as there are
    in the kernel, at most) or None.
    """
    from .quantisers import wrapped

    if network.ranges is None:
        raise ValueError("fine_tune starts from a calibrated network")
    student = wrapped(_keras(network), keep)
    _set_ranges(student, network)
    trained = ("kernel", "depthwise_kernel", "bias", "cluster_centroids_tf", "ori_weights_vars_tf")
    _distil(student, trained, teacher or network, batches, steps, learning_rate, progress)
    return _read(student, network)


def prune(
    network: Network,
    sparsity: Sequence[float],
    batches: Iterator[Features],
    steps: int,
    learning_rate: float,
    progress: Progress,
) -> Network:
    """Set the smallest weights of each kernel to zero, more and more of them, while the others learn to do without.

    sparsity: share of zeros in each convolution's kernel at the end, in [0, 1); biases and depthwise kernels, which
    are few numbers that each decide much, stay.
    The share grows by a cubic law (Zhu & Gupta 2017, tensorflow-model-optimization's PolynomialDecay).
    """
    from tensorflow_model_optimization.python.core.sparsity.keras import prune as pruning
    from tensorflow_model_optimization.python.core.sparsity.keras import pruning_callbacks, pruning_schedule

    every = max(1, steps // _CHOICES)
    end = max(1, int(_PRUNED_AT * steps) // every) * every  # a step at which weights are chosen, or some would be left

    def wrap(layer: Any, share: float) -> Any:
        return pruning.prune_low_magnitude(layer, pruning_schedule.PolynomialDecay(0.0, share, 0, end, frequency=every))

    shares = {f"conv{i + 1}": sparsity[i] for i in _whole(network) if sparsity[i] > 0}
    student = _wrapped(network, {name: lambda layer, s=share: wrap(layer, s) for name, share in shares.items()})
    callback = pruning_callbacks.UpdatePruningStep()
    callback.set_model(student)
    callback.on_train_begin()
    _distil(student, ("kernel", "depthwise_kernel", "bias"), network, batches, steps, learning_rate, progress)
    callback.on_epoch_end(0)  # what the last step added to pruned weights
    return _unwrapped(pruning.strip_pruning(student), network)


def cluster(
    network: Network,
    clusters: int,
    batches: Iterator[Features],
    steps: int,
    learning_rate: float,
    progress: Progress,
) -> Network:
    """Replace the weights of each kernel but the first by so many shared values, which then learn.

    The first kernel is left alone: it is the smallest, and everything hangs on it. So are depthwise ones, whose filters
    have hardly more weights than there would be values.
    """
    from tensorflow_model_optimization.python.core.clustering.keras import cluster as clustering
    from tensorflow_model_optimization.python.core.clustering.keras import cluster_config

    start = cluster_config.CentroidInitialization.KMEANS_PLUS_PLUS

    def wrap(layer: Any) -> Any:
        return clustering.cluster_weights(layer, number_of_clusters=clusters, cluster_centroids_init=start)

    student = _wrapped(network, {f"conv{i + 1}": wrap for i in _whole(network) if i > 0})
    trained = ("kernel", "depthwise_kernel", "bias", "cluster_centroids_kernel")
    _distil(student, trained, network, batches, steps, learning_rate, progress)
    return _unwrapped(clustering.strip_clustering(student), network)


def _whole(network: Network) -> list[int]:
    """The numbers of the convolutions that are not depthwise."""
    return [i for i, layer in enumerate(network.spec.convolutions) if not layer.depthwise]


def sparsity(network: Network) -> list[float]:
    """Share of zeros in each kernel."""
    return [float(np.mean(kernel == 0)) for kernel, _ in network.weights]


def _distil(
    student: Any,
    trained: tuple[str, ...],
    teacher: Network,
    batches: Iterator[Features],
    steps: int,
    learning_rate: float,
    progress: Progress,
) -> None:
    """Train the student's variables of these names towards the teacher's embeddings; Adam, cosine decay to zero."""
    reference = _keras(dataclasses.replace(teacher, ranges=None))
    optimizer = tf_keras.optimizers.Adam(tf_keras.optimizers.schedules.CosineDecay(learning_rate, steps))
    variables = [v for v in student.trainable_variables if v.name.split("/")[-1].split(":")[0] in trained]

    @tf.function
    def train(x: Any) -> Any:
        target = reference(x)
        with tf.GradientTape() as tape:
            error = tf.reduce_mean(tf.square(student(x, training=True) - target)) / tf.reduce_mean(tf.square(target))
        optimizer.apply_gradients(zip(tape.gradient(error, variables), variables, strict=True))
        return error

    for step in range(steps):
        progress(step, float(train(tf.constant(_entering(teacher, next(batches))))))


def _entering(network: Network, features: Features) -> Features:
    """What the int8 input can represent; in particular the input's quantiser keeps the range it was given."""
    return np.clip(features, *input_range(network))


def _keras(network: Network) -> Any:
    """The folded network as a tf_keras model of stock layers, which is what tensorflow-model-optimization takes."""
    spec = network.spec
    inputs = tf_keras.Input((spec.frames_used, spec.front_end.bins, 1))
    x = stack(inputs, spec.rows, folded=True)
    if spec.embedding == "maximum":
        x = tf_keras.layers.MaxPool2D(tuple(x.shape[1:3]))(x)
    model = tf_keras.Model(inputs, tf_keras.layers.Flatten()(x))  # in which order does not matter to the loss
    for i, weights in enumerate(network.weights):
        model.get_layer(f"conv{i + 1}").set_weights(list(weights))
    return model


def _wrapped(network: Network, wrappers: dict[str, Callable[[Any], Any]]) -> Any:
    """The network as a tf_keras model, some layers replaced by what a wrapper makes of them."""
    return tf_keras.models.clone_model(
        _keras(network), clone_function=lambda layer: wrappers.get(layer.name, lambda same: same)(layer)
    )


def _unwrapped(model: Any, network: Network) -> Network:
    """The network with the weights of a model as `_keras` makes it."""
    weights = tuple(tuple(model.get_layer(f"conv{i + 1}").get_weights()) for i in range(len(network.weights)))
    return dataclasses.replace(network, weights=weights)


def _quantisers(student: Any, network: Network) -> tuple[Any, list[Any]]:
    """The layer that quantises the input, and the wrapped convolutions; Keras numbers the former in each process."""
    entry = next(layer for layer in student.layers if layer.name.startswith("quantize_layer"))
    return entry, [student.get_layer(f"quant_conv{i + 1}") for i in range(len(network.weights))]


def _variable(layer: Any, end: str) -> Any:
    return next(weight for weight in layer.weights if weight.name.endswith(f"{end}:0"))


def _set_ranges(student: Any, network: Network) -> None:
    """Start the quantisers from the calibrated ranges: their own start is (-6, 6), and they move slowly."""
    entry, convolutions = _quantisers(student, network)
    low, high = input_range(network)
    _variable(entry, "_min").assign(low)
    _variable(entry, "_max").assign(high)
    for layer, (low, high) in zip(convolutions, network.ranges or (), strict=True):
        _variable(layer, "post_activation_min").assign(low)
        _variable(layer, "post_activation_max").assign(high)


def _read(student: Any, network: Network) -> Network:
    """The fine-tuned weights and ranges."""
    _, convolutions = _quantisers(student, network)
    weights = tuple(
        (
            _variable(layer, "/depthwise_kernel" if row.depthwise else "/kernel").numpy(),
            _variable(layer, "/bias").numpy(),
        )
        for row, layer in zip(network.spec.convolutions, convolutions, strict=True)
    )
    ends = ("post_activation_min", "post_activation_max")
    ranges = tuple(tuple(float(_variable(layer, end).numpy()) for end in ends) for layer in convolutions)
    return dataclasses.replace(network, weights=weights, ranges=ranges)
