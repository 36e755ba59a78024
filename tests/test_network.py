"""The convolution stack: shapes, exact parameter counts, folding; log-mel, the same in NumPy and TensorFlow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

for module in ("tensorflow", "tf_keras"):
    pytest.importorskip(module, reason=f"training needs {module}, which a device does not have")

from l3edge import frontend  # noqa: E402
from l3edge.layers import Conv, Pool, mobilenet_stack, same_padding, separable_stack  # noqa: E402
from l3edge.spec import PRESETS, ImageTower, LogMel, Spec  # noqa: E402
from training import network  # noqa: E402
from training.artifacts import load_weights, save_weights  # noqa: E402
from training.backend import tf  # noqa: E402
from training.small import small  # noqa: E402
from training.tf_ops import TF_OPS  # noqa: E402

SEPARABLE = Spec("separable", (*separable_stack((4, 6, 8, 12, 16)), Pool((1, 2), (1, 2), "mean")))
MOBILENET = Spec("mobilenet", mobilenet_stack((4, 6, 8, 8, 10, 10, 12)))

# Trainable weights of audio tower, image tower and fusion together.
TRAINABLE = {"edge-s": 620_866, "edge-m": 1_516_178, "edge-l": 3_892_306}


@pytest.fixture(params=sorted(TRAINABLE))
def spec(request: pytest.FixtureRequest) -> Spec:
    return PRESETS[request.param]


def test_every_edge_preset_is_counted() -> None:
    assert set(TRAINABLE) == {name for name in PRESETS if name.startswith("edge-")}


def test_parameter_counts(spec: Spec) -> None:
    model = network.avc_model(spec)
    assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == TRAINABLE[spec.name]
    folded = network.folded(model.get_layer("audio"))
    assert sum(kernel.size + bias.size for kernel, bias in folded) == spec.parameters


def test_shapes(spec: Spec) -> None:
    audio, image = network.audio_tower(spec), network.image_tower(spec)
    assert audio.input_shape == (None, spec.frames_used, spec.front_end.bins, 1)
    assert audio.output_shape == (None, spec.embedding_size)
    names = [f"conv{i + 1}" for i in range(len(spec.convolutions))]
    assert [layer.name for layer in audio.layers if layer.name.startswith("conv")] == names
    assert audio.get_layer("maximum").input_shape[1] == spec.columns
    shapes = [layer.output_shape[1:] for layer in audio.layers if layer.name.startswith(("relu", "pool"))]
    assert shapes == spec.shapes(spec.frames_used)
    assert image.input_shape == (None, spec.image.size, spec.image.size, 3)
    assert network.fusion(spec).output_shape == (None, 2)


def _trained_looking(tower: object, seed: int) -> None:
    """Batch normalisation with statistics as after training, so that folding has something to fold."""
    random = np.random.default_rng(seed)
    for layer in tower.layers:
        if layer.name.startswith("bn"):
            n = layer.gamma.shape[0]
            gamma, variance = random.uniform(0.5, 2, n), random.uniform(0.2, 4, n)
            layer.set_weights([gamma, random.normal(size=n), random.normal(size=n), variance])


@pytest.mark.parametrize("spec", [PRESETS["edge-s"], SEPARABLE, MOBILENET], ids=lambda spec: spec.name)
def test_folded_is_the_tower(spec: Spec) -> None:
    tower = network.audio_tower(spec)
    _trained_looking(tower, 1)
    log_mel = (
        np.random.default_rng(2).uniform(-6.9, 5, (3, spec.frames_used, spec.front_end.bins, 1)).astype(np.float32)
    )
    x, folded = tf.constant(log_mel), iter(network.folded(tower))
    for layer in spec.layers:
        if isinstance(layer, Pool):
            pool = tf.nn.max_pool2d if layer.kind == "maximum" else tf.nn.avg_pool2d
            x = pool(x, layer.size, layer.stride, "VALID")
        else:
            assert isinstance(layer, Conv)
            kernel, bias = next(folded)
            assert (kernel.dtype, bias.dtype) == (np.float32, np.float32)
            assert kernel.shape[:2] == layer.kernel
            x = tf.pad(x, [[0, 0], [0, 0], same_padding(x.shape[2], layer, 1), [0, 0]])
            strides = (1, *layer.stride, 1)
            if layer.depthwise:
                assert kernel.shape[2:] == (layer.filters, 1)
                x = tf.nn.depthwise_conv2d(x, kernel, strides, "VALID")
            else:
                x = tf.nn.conv2d(x, kernel, strides, "VALID")
            x = tf.nn.relu(x + bias)
    embedding = tf.reduce_max(x, [1, 2])
    expected = tower(log_mel, training=False)
    np.testing.assert_allclose(embedding, expected, atol=1e-5 * float(tf.reduce_max(tf.abs(expected))))


def test_a_separable_tower_is_trained_and_kept(tmp_path: Path) -> None:
    """Depthwise kernels begin as large as whole ones, learn, and are saved and loaded as the others are."""
    spec = Spec("separable", separable_stack((16, 64)), image=ImageTower(8, (4,)), fusion=4)
    model = network.avc_model(spec)
    kernel = model.get_layer("audio").get_layer("conv5").depthwise_kernel
    assert kernel.shape == (3, 3, 64, 1)
    assert np.std(kernel) == pytest.approx((2 / 9) ** 0.5, rel=0.15)
    before = kernel.numpy()
    images, sounds = tf.random.normal((4, 8, 8, 3)), tf.random.normal((4, spec.frames_used, 64, 1))
    model.compile("sgd", network.tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.train_on_batch([images, sounds], np.array([0, 1, 0, 1]))
    assert (kernel.numpy() != before).any()
    save_weights(tmp_path / "weights.npz", model)
    again = network.avc_model(spec)
    load_weights(tmp_path / "weights.npz", again)
    kept, loaded = (network.folded(one.get_layer("audio")) for one in (model, again))
    for one, other in zip(kept, loaded, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])
    assert sum(kernel.size + bias.size for kernel, bias in loaded) == spec.parameters


def test_time_is_valid_and_frequency_is_padded() -> None:
    """Columns stand for frames of their own: a change in the first frame reaches the first column alone."""
    spec = PRESETS["edge-s"]
    tower = network.audio_tower(spec)
    _trained_looking(tower, 3)
    columns = network.tf_keras.Model(tower.input, tower.get_layer("maximum").input)
    x = np.random.default_rng(4).normal(size=(1, spec.frames_used, spec.front_end.bins, 1)).astype(np.float32)
    changed = x.copy()
    changed[:, 0] += 5
    difference = np.abs(columns(x).numpy() - columns(changed).numpy()).max((0, 2, 3))
    assert difference[0] > 0
    assert not difference[1:].any()


@pytest.mark.parametrize("spec", [LogMel(), LogMel(frame_step=100), LogMel(sample_rate=8000, high=3800.0)])
@pytest.mark.parametrize("level", [0.0, 1e-4, 0.1, 1.0])
def test_log_mel_of_tensorflow_is_that_of_numpy(spec: LogMel, level: float) -> None:
    """C4: at most 1e-4, from silence to full scale."""
    random = np.random.default_rng(5)
    samples = np.clip(level * random.normal(size=(2, 16_000)), -1, 1).astype(np.float32)
    samples[1] = level * np.sin(np.arange(16_000) * 0.3)
    in_graph = tf.function(lambda x: frontend.log_mel(x, spec, TF_OPS))(tf.constant(samples)).numpy()
    assert in_graph.dtype == np.float32
    for row, expected in zip(in_graph, samples, strict=True):
        np.testing.assert_allclose(row, frontend.log_mel(expected, spec), rtol=0, atol=1e-4)


def test_openl3_embeds_before_the_normalisation_that_it_is_trained_through() -> None:
    """The fusion hears max(ReLU(BN(map))), also where BN turns signs; the embedding is the map, pooled."""
    spec = small(PRESETS["openl3-mel128"])
    model = network.avc_model(spec)
    tower, head = network.embedding_tower(model), model.get_layer("head")
    _trained_looking(tower, 1)
    gamma, beta, mean, variance = np.random.default_rng(2).normal(size=(4, 64)).astype(np.float32)
    head.get_layer("bn").set_weights([gamma, beta, mean, variance**2])
    shape = (2, spec.frames_used, spec.front_end.bins, 1)
    log_mel = np.random.default_rng(3).normal(size=shape).astype(np.float32)
    last = network.tf_keras.Model(tower.input, tower.get_layer("conv8").output)(log_mel, training=False).numpy()
    assert last.min() < 0
    pooled = last.max((1, 2))
    np.testing.assert_allclose(tower(log_mel, training=False), pooled, rtol=1e-6)
    normal = (last - mean) / np.sqrt(variance**2 + network.BATCH_NORM_EPSILON) * gamma + beta
    images = np.zeros((2, spec.image.size, spec.image.size, 3), np.float32)
    heard = network.joined(model, images, log_mel, training=False)[1]
    np.testing.assert_allclose(heard, np.maximum(normal, 0).max((1, 2)), rtol=1e-4, atol=1e-5)
    assert len(network.folded(tower)) == 8
