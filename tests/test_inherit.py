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
from training.cli import TrainingError  # noqa: E402

CONVOLUTIONS = (tf_keras.layers.Conv2D, tf_keras.layers.DepthwiseConv2D)
STUDENT = "mobilenet:6-8-10-10-12,pool=mean"


def _teacher(path: Path, name: str) -> tf_keras.Model:
    """A folded tower with random biases, and its .tflite."""
    spec = students.student(name)
    inputs = tf_keras.Input((spec.frames_used, 64, 1), 1)
    model = tf_keras.Model(inputs, network.stack(inputs, spec.layers, folded=True))
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, CONVOLUTIONS):
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel, random.normal(0, 0.3, bias.shape)])
    path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    return model


def _features(name: str, count: int = 8) -> np.ndarray:
    frames = students.student(name).frames_used
    return np.random.default_rng(1).uniform(-6.9, 4, (count, frames, 64, 1)).astype(np.float32)


def test_a_tower_computes_what_its_teacher_does(tmp_path: Path) -> None:
    model, features = _teacher(tmp_path / "t.tflite", STUDENT), _features(STUDENT)
    tower = network.audio_tower(students.student(STUDENT))
    kernels = [layer for layer in tower.layers if isinstance(layer, CONVOLUTIONS)]
    assert inherit.inherit(tower, inherit.convolutions(tmp_path / "t.tflite"), features) == len(kernels) == 9
    expected = model(features[:1]).numpy().max(axis=(1, 2))
    for training in (False, True):  # and in its first step: its statistics are those of the sound it hears
        made = tower(features, training=training).numpy()[:1]
        np.testing.assert_allclose(made, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_as_much_is_inherited_as_is_alike(tmp_path: Path) -> None:
    """The rest keeps its random weights, and a kernel that looks at one column in place of three has their sum."""
    _teacher(tmp_path / "t.tflite", STUDENT)
    wide, short = "mobilenet:6-8-10-16-12", "mobilenet:6-8-10-10-12,time=3"
    weights = inherit.convolutions(tmp_path / "t.tflite")
    tower = network.audio_tower(students.student(wide))
    before = tower.get_layer("conv7").get_weights()[0]
    assert inherit.inherit(tower, weights, _features(wide)) == 6
    np.testing.assert_array_equal(tower.get_layer("conv7").get_weights()[0], before)
    np.testing.assert_array_equal(tower.get_layer("conv6").get_weights()[0], weights[5].kernel)
    tower = network.audio_tower(students.student(short))
    assert inherit.inherit(tower, weights, _features(short)) == 9
    summed = weights[7].kernel.sum(axis=0, keepdims=True)
    np.testing.assert_array_equal(tower.get_layer("conv8").get_weights()[0], summed)


def test_nothing_alike_is_refused(tmp_path: Path) -> None:
    _teacher(tmp_path / "t.tflite", STUDENT)
    with pytest.raises(TrainingError, match=r"first convolution is another than that of t\.tflite"):
        inherit.begin(network.audio_tower(students.student("pairs:4-4")), tmp_path / "t.tflite", _features("pairs:4-4"))


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
