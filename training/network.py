"""The one convolution stack: audio tower, image tower, and the fusion that joins them for training.

Arandjelovic & Zisserman 2017 ("Look, Listen and Learn"), section 3.1 and figure 2: blocks of two 3x3
convolutions, each with batch normalisation and ReLU, 2x2 max pools between blocks, and a maximum over what is
left. The audio tower of a streaming spec is "valid" in time, so that an output column depends on its receptive field
alone. The fusion is concatenation, a fully connected layer with ReLU, and two logits.

A tower is a table of layers (`l3edge.spec`) and one loop; another network is another table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l3edge.layers import Conv, Layer, Pool, l3_stack, same_padding
from l3edge.spec import Spec

from .backend import tf, tf_keras

# Runs of a few hundred steps need statistics that follow the weights; Keras' 0.99 would lag behind them.
BATCH_NORM_MOMENTUM = 0.9
BATCH_NORM_EPSILON = 1e-3


TOWERS = ("audio", "image")  # of the layers of `avc_model`; the others, which join them, are not kept after training


class Pointwise(tf_keras.layers.Conv2D):
    """A 1x1 convolution as the product of matrices that it is: TensorFlow's gradient of this one is the faster on CPUs
    (6 times, of 512 channels on few columns: training/LOG.md). On GPUs it has not been measured.
    """

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """As Conv2D's."""
        return tf.tensordot(inputs, kernel[0, 0], 1)


def stack(x: Any, layers: Sequence[Layer], *, folded: bool = False, sync_batch_norm: bool = False) -> Any:
    """Apply the rows of a layer table to x, float32 [b, time, frequency, channels].

    folded: as deployed, with bias and ReLU in the convolution and no batch normalisation.
    sync_batch_norm: normalise by the statistics of all replicas.
    """
    convolutions = pools = 0
    for layer in layers:
        if isinstance(layer, Pool):
            pools += 1
            pool = tf_keras.layers.AveragePooling2D if layer.kind == "mean" else tf_keras.layers.MaxPool2D
            x = pool(layer.size, layer.stride, name=f"pool{pools}")(x)
            continue
        convolutions += 1
        normalised = layer.relu and not folded
        if layer.padding == "valid":  # in time; in frequency it is "same"
            sides = same_padding(x.shape[2], layer, 1)
            x = tf_keras.layers.ZeroPadding2D(((0, 0), sides), name=f"pad{convolutions}")(x)
        common = {
            "strides": layer.stride,
            "padding": layer.padding,
            "dilation_rate": layer.dilation,
            "activation": "relu" if layer.relu and folded else "linear",
            "use_bias": not normalised,  # batch normalisation has one
            "name": f"conv{convolutions}",
        }
        if layer.depthwise:
            # he_normal of what a filter reads; Keras would count every channel
            start = tf_keras.initializers.VarianceScaling(2.0 * layer.filters)
            x = tf_keras.layers.DepthwiseConv2D(layer.kernel, depthwise_initializer=start, **common)(x)
        else:
            # tensorflow-model-optimization, which takes folded stacks, knows Conv2D and no class made of it
            pointwise = not folded and layer.kernel == layer.stride == (1, 1)
            kind = Pointwise if pointwise else tf_keras.layers.Conv2D
            x = kind(layer.filters, layer.kernel, kernel_initializer="he_normal", **common)(x)
        if normalised:
            x = _normalised(x, f"bn{convolutions}", sync_batch_norm)
            x = tf_keras.layers.ReLU(name=f"relu{convolutions}")(x)
    return x


def _normalised(x: Any, name: str, synchronized: bool) -> Any:
    return tf_keras.layers.BatchNormalization(
        momentum=BATCH_NORM_MOMENTUM, epsilon=BATCH_NORM_EPSILON, synchronized=synchronized, name=name
    )(x)


def audio_tower(spec: Spec, *, sync_batch_norm: bool = False) -> tf_keras.Model:
    """Features of a window -> its embedding.

    Input float32 [b, spec.frames_used, bins, 1], natural log or decibels; output float32 [b, spec.embedding_size].
    """
    inputs = tf_keras.Input((spec.frames_used, spec.front_end.bins, 1), name="log_mel")  # [b, 76, 64, 1]
    x = stack(inputs, spec.rows, sync_batch_norm=sync_batch_norm)  # [b, 2, 8, 256]: the window's output columns
    if spec.embedding == "flatten":
        x = tf_keras.layers.Permute((2, 1, 3), name="permute")(x)  # [b, bins, columns, channels]
        x = tf_keras.layers.Flatten(name="flatten")(x)
    else:
        x = tf_keras.layers.GlobalMaxPool2D(name="maximum")(x)  # [b, 256]
    return tf_keras.Model(inputs, x, name="audio")


def image_tower(spec: Spec, *, sync_batch_norm: bool = False) -> tf_keras.Model:
    """RGB picture -> its embedding.

    Input float32 [b, size, size, 3] in [-1, 1]; output float32 [b, spec.image.filters[-1]], >= 0.
    """
    inputs = tf_keras.Input((spec.image.size, spec.image.size, 3), name="rgb")  # [b, 64, 64, 3]
    x = stack(inputs, l3_stack(spec.image.filters, "same"), sync_batch_norm=sync_batch_norm)  # [b, 8, 8, 128]
    x = tf_keras.layers.GlobalMaxPool2D(name="maximum")(x)  # [b, 128]
    return tf_keras.Model(inputs, x, name="image")


def _chain(layers: Sequence[Any], shape: Sequence[int | None], name: str) -> tf_keras.Model:
    inputs = x = tf_keras.Input(shape, name=f"{name}_in")
    for layer in layers:
        x = layer(x)
    return tf_keras.Model(inputs, x, name=name)


class ClipTower:
    """The layers of an `audio_tower`, weights and all, on clips of any length: all their windows at once.

    The tower is valid in time, so the columns of a clip are those of all its windows: a clip of 5 s gives 41 embeddings
    for the work of five windows. Only the spec's `window_layers` are computed window by window.
    """

    def __init__(self, audio: tf_keras.Model, spec: Spec) -> None:
        self.audio, self.spec = audio, spec
        _, *layers, _ = audio.layers  # less the input, and the maximum
        counts = {Conv: 1, Pool: 1}
        for row in spec.layers:
            counts[type(row)] += 1
        first = (f"pad{counts[Conv]}", f"conv{counts[Conv]}", f"pool{counts[Pool]}")  # of window_layers
        count = next((i for i, layer in enumerate(layers) if layer.name in first), len(layers))
        self._columns = _chain(layers[:count], (None, *audio.input_shape[2:]), "columns")
        shape = (spec.columns, *self._columns.output_shape[2:])
        self._windows = _chain(layers[count:], shape, "windows") if spec.window_layers else None

    def __call__(self, x: Any, windows: int, hop: int, *, training: bool) -> Any:
        """Float32 [b, frames, bins, 1] -> embeddings [b, windows, d] of so many windows, one every `hop` samples."""
        columns = self._columns(x, training=training)  # [b, columns, bins, channels]
        every = hop // (self.spec.front_end.frame_step * self.spec.stride)
        of_window = (np.arange(windows) * every)[:, None] + np.arange(self.spec.columns)
        if self._windows is None:
            return tf.reduce_max(tf.gather(tf.reduce_max(columns, 2), of_window, axis=1), 2)
        cut = tf.gather(columns, of_window, axis=1)  # [b, windows, columns, bins, channels]
        made = self._windows(tf.reshape(cut, [-1, *self._windows.input_shape[1:]]), training=training)
        return tf.reshape(tf.reduce_max(made, [1, 2]), [-1, windows, self.spec.embedding_size])


def student_model(spec: Spec, classes: int = 0) -> tf_keras.Model:
    """Features of a window -> its embedding, or the scores of so many classes: sigmoid(embedding @ kernel + bias).

    Layers: "audio", as `audio_tower` makes it, and with classes "tags".
    """
    audio = audio_tower(spec)
    x = audio(audio.input)
    if classes:
        embedding = tf_keras.Input((spec.embedding_size,), name="embedding")
        # Most classes are absent most of the time: from scores near 0.5 the first steps would go into saying so.
        start = tf_keras.initializers.Constant(-5.0)
        scores = tf_keras.layers.Dense(classes, bias_initializer=start, name="dense")(embedding)
        scores = tf_keras.layers.Activation("sigmoid", name="logistic")(scores)
        x = tf_keras.Model(embedding, scores, name="tags")(x)
    return tf_keras.Model(audio.input, x, name="student")


def needs_head(spec: Spec) -> bool:
    """Whether the audio tower ends in a convolution without batch normalisation and ReLU."""
    return not spec.convolutions[-1].relu


def head(spec: Spec, *, sync_batch_norm: bool = False) -> tf_keras.Model:
    """Output of the tower's last convolution -> what the fusion hears, float32 [b, channels], >= 0.

    OpenL3's embedding is that output, pooled; in its training batch normalisation, ReLU and the maximum over all of
    it come in between, whatever the embedding's pool (Cramer et al. 2019, section 2; l3embedding's audio_model.py).
    """
    last = max(i for i, layer in enumerate(spec.layers) if isinstance(layer, Conv))
    inputs = tf_keras.Input(spec.shapes(spec.frames_used)[last], name="embedding_map")  # [b, 24, 16, 512]
    x = _normalised(inputs, "bn", sync_batch_norm)
    x = tf_keras.layers.ReLU(name="relu")(x)
    x = tf_keras.layers.GlobalMaxPool2D(name="maximum")(x)  # [b, 512]
    return tf_keras.Model(inputs, x, name="head")


def fusion(spec: Spec) -> tf_keras.Model:
    """(image embedding, what is heard) -> logits, float32 [b, 2]; class 1: they belong together.

    What is heard: the audio embedding, or what the head makes.
    """
    image = tf_keras.Input((spec.image.filters[-1],), name="image_embedding")
    heard = spec.convolutions[-1].filters if needs_head(spec) else spec.embedding_size
    audio = tf_keras.Input((heard,), name="audio_embedding")
    x = tf_keras.layers.Concatenate(name="concatenate")([image, audio])  # [b, 128 + 256]
    x = tf_keras.layers.Dense(spec.fusion, activation="relu", kernel_initializer="he_normal", name="fc1")(x)
    # Logits begin near zero, at the loss of chance. From larger ones the first hundreds of steps go into taking
    # back random opinions. Measured once, edge-s, 300 steps: 0.72 held-out accuracy with Keras' default, 0.84 so
    # and with a warm-up of 30 steps in place of 100; the two were not told apart.
    small = tf_keras.initializers.VarianceScaling(0.01, "fan_avg", "uniform")
    x = tf_keras.layers.Dense(2, kernel_initializer=small, name="fc2")(x)  # [b, 2]
    return tf_keras.Model([image, audio], x, name="fusion")


def avc_model(spec: Spec, *, sync_batch_norm: bool = False) -> tf_keras.Model:
    """Audio-visual correspondence, (image, log-mel) -> logits [b, 2].

    Layers: "image"; "audio", whose first output is the embedding (`embedding_tower`); "fusion"; and "head" where one
    is needed, which is given the second output of "audio".
    """
    image, audio = (tower(spec, sync_batch_norm=sync_batch_norm) for tower in (image_tower, audio_tower))
    if needs_head(spec):
        last = audio.get_layer(f"conv{len(spec.convolutions)}").output
        audio = tf_keras.Model(audio.input, [audio.output, last], name="audio")
    inputs = [tf_keras.Input(tower.input_shape[1:], name=tower.input_names[0]) for tower in (image, audio)]
    heard = audio(inputs[1])
    if needs_head(spec):
        heard = head(spec, sync_batch_norm=sync_batch_norm)(heard[1])
    return tf_keras.Model(inputs, fusion(spec)([image(inputs[0]), heard]), name="avc")


def embedding_tower(model: tf_keras.Model) -> tf_keras.Model:
    """The audio tower of an `avc_model`, as `audio_tower` makes it."""
    audio = model.get_layer("audio")
    return audio if len(audio.outputs) == 1 else tf_keras.Model(audio.input, audio.outputs[0], name="audio")


def joined(model: tf_keras.Model, images: Any, sounds: Any, *, training: bool, frozen: bool = False) -> tuple[Any, Any]:
    """(images, log-mel) -> what the fusion of an `avc_model` joins: image embedding, and what is heard.

    frozen: the towers as in inference, also in training.
    """
    image, audio = (model.get_layer(name) for name in ("image", "audio"))
    heard = audio(sounds, training=training and not frozen)
    if len(audio.outputs) > 1:
        heard = model.get_layer("head")(heard[1], training=training)
    return image(images, training=training and not frozen), heard


def folded(audio_tower: tf_keras.Model) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """The tower's convolutions for inference, batch normalisation folded in: conv(x, kernel) + bias, and ReLU.

    Returns (kernel, bias [filters]), float32, a pair for each row of spec.convolutions. A kernel is
    [time, frequency, inputs, filters], a depthwise one [time, frequency, filters, 1].
    """
    pairs = []
    names = {layer.name for layer in audio_tower.layers}
    number = 1
    while f"conv{number}" in names:
        layer = audio_tower.get_layer(f"conv{number}")
        depthwise = isinstance(layer, tf_keras.layers.DepthwiseConv2D)
        kernel = np.asarray(layer.depthwise_kernel if depthwise else layer.kernel, np.float64)
        if f"bn{number}" in names:
            norm = audio_tower.get_layer(f"bn{number}")
            gamma, beta, mean, variance = (np.asarray(value, np.float64) for value in norm.get_weights())
            scale = gamma / np.sqrt(variance + norm.epsilon)
            kernel, bias = kernel * (scale[:, np.newaxis] if depthwise else scale), beta - mean * scale
        else:
            bias = np.asarray(layer.bias)
        pairs.append((kernel.astype(np.float32), bias.astype(np.float32)))
        number += 1
    return pairs
