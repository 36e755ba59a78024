"""A student that begins with its teacher's layers: the very numbers, and what the tower makes of them."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

for module in ("tensorflow", "tf_keras"):
    pytest.importorskip(module, reason=f"training needs {module}, which a device does not have")

from l3edge import flatbuffer  # noqa: E402
from training import inherit, network, students, teachers  # noqa: E402
from training.backend import tf, tf_keras  # noqa: E402

CONVOLUTIONS = (tf_keras.layers.Conv2D, tf_keras.layers.DepthwiseConv2D)
STUDENT = "mobilenet:6-8-10-10-12,pool=mean"


def _teacher(path: Path, widths: tuple[int, ...] = (6, 8, 10, 10, 12)) -> tf_keras.Model:
    """A MobileNet of random weights with padding, as YAMNet has it, and its .tflite."""
    tf_keras.utils.set_random_seed(0)
    inputs = x = tf_keras.Input((96, 64, 1), 1)
    x = tf_keras.layers.Conv2D(widths[0], 3, 2, "same", activation="relu")(x)
    for number, (before, width) in enumerate(itertools.pairwise(widths)):
        x = tf_keras.layers.DepthwiseConv2D(3, 2 if number and width > before else 1, "same", activation="relu")(x)
        x = tf_keras.layers.Conv2D(width, 1, activation="relu")(x)
    model, random = tf_keras.Model(inputs, x), np.random.default_rng(0)
    for layer in model.layers[1:]:
        kernel, bias = layer.get_weights()
        layer.set_weights([2 * kernel, random.normal(0, 0.3, bias.shape)])
    path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    return model


def _features(frames: int, count: int = 16) -> np.ndarray:
    return np.random.default_rng(1).uniform(-6.9, 4, (count, frames, 64, 1)).astype(np.float32)


def _inherited(path: Path, name: str) -> tuple[tf_keras.Model, list[inherit.Weights], list[inherit.Moments], int]:
    spec = students.student(name)
    tower, weights = network.audio_tower(spec), inherit.convolutions(path)
    of_teacher = inherit.moments(weights, _features(96))
    count = inherit.inherit(tower, weights, of_teacher, _features(spec.frames_used))
    return tower, weights, of_teacher, count


def test_a_teachers_layers_are_read_as_they_are(tmp_path: Path) -> None:
    model = _teacher(tmp_path / "t.tflite")
    weights = inherit.convolutions(tmp_path / "t.tflite")
    assert [each.depthwise for each in weights] == [False, *(True, False) * 4]
    assert [each.stride[0] for each in weights] == [2, 1, 1, 2, 1, 1, 1, 2, 1]
    for each, layer in zip(weights, model.layers[1:], strict=True):
        np.testing.assert_allclose(each.kernel, layer.get_weights()[0], rtol=1e-6)
    features = _features(96)
    x = features
    for layer, of_layer in zip(model.layers[1:], inherit.moments(weights, features), strict=True):
        layer.activation = tf_keras.activations.linear
        x = layer(x).numpy()
        np.testing.assert_allclose(of_layer.mean, x.mean((0, 1, 2)), rtol=1e-3, atol=1e-3)
        # of a filter that hears nothing the deviation is rounding
        np.testing.assert_allclose(of_layer.deviation, x.std((0, 1, 2)), rtol=1e-3, atol=1e-5)
        x = np.maximum(x, 0)


def test_each_filter_gives_what_the_teachers_gives(tmp_path: Path) -> None:
    """Mean and deviation, in inference and in the first step of a training."""
    _teacher(tmp_path / "t.tflite")
    tower, _, of_teacher, count = _inherited(tmp_path / "t.tflite", STUDENT)
    norms = [layer for layer in tower.layers if isinstance(layer, tf_keras.layers.BatchNormalization)]
    assert count == len(norms) == 9
    features = _features(students.student(STUDENT).frames_used)
    for training in (False, True):
        made = tf_keras.Model(tower.input, [layer.output for layer in norms])(features, training=training)
        for values, wanted in zip(made, of_teacher, strict=True):
            np.testing.assert_allclose(values.numpy().mean((0, 1, 2)), wanted.mean, rtol=0.01, atol=0.01)
            deviation = values.numpy().std((0, 1, 2))
            np.testing.assert_allclose(deviation, wanted.deviation, rtol=0.02, atol=0.01)


def test_as_much_is_inherited_as_is_alike(tmp_path: Path) -> None:
    """The rest keeps its random weights, and a kernel that looks at one column in place of three has their sum."""
    _teacher(tmp_path / "t.tflite")
    tower, weights, _, count = _inherited(tmp_path / "t.tflite", "mobilenet:6-8-10-16-12")
    assert count == 6
    assert tower.get_layer("conv7").get_weights()[0].shape == (1, 1, 10, 16)
    np.testing.assert_array_equal(tower.get_layer("bn7").get_weights()[0], np.ones(16))
    np.testing.assert_array_equal(tower.get_layer("conv6").get_weights()[0], weights[5].kernel)
    tower, weights, _, count = _inherited(tmp_path / "t.tflite", "mobilenet:6-8-10-10-12,time=3")
    assert count == 9
    summed = weights[7].kernel.sum(axis=0, keepdims=True)
    np.testing.assert_array_equal(tower.get_layer("conv8").get_weights()[0], summed)


def test_nothing_alike_is_refused(tmp_path: Path) -> None:
    _teacher(tmp_path / "t.tflite")
    spec = students.student("pairs:4-4")
    tower, weights = network.audio_tower(spec), inherit.convolutions(tmp_path / "t.tflite")
    of_teacher = inherit.moments(weights, _features(96))
    assert inherit.inherit(tower, weights, of_teacher, _features(spec.frames_used)) == 0


@pytest.mark.skipif(not teachers.YAMNET.is_file(), reason="needs yamnet.tflite in the folder that L3EDGE_DATA names")
def test_yamnet_is_inherited_whole() -> None:
    """All 27 convolutions, from int8: one scale a filter, so that a kernel is a whole number of its own steps."""
    weights = inherit.convolutions(teachers.YAMNET)
    widths = (32, 64, 128, 128, 256, 256, *(512,) * 6, 1024, 1024)
    expected = [(3, 3, 1, 32)]
    for before, width in itertools.pairwise(widths):
        expected += [(3, 3, before, 1), (1, 1, before, width)]
    assert [each.kernel.shape for each in weights] == expected
    graph = flatbuffer.parse(teachers.YAMNET.read_bytes()).subgraphs[0]
    second = next(operator for operator in graph.operators if operator.name == "DEPTHWISE_CONV_2D")
    steps = weights[1].kernel[..., 0] / np.array(graph.tensors[second.inputs[1]].scales)
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)
    assert 100 < np.abs(steps).max() < 128.5
