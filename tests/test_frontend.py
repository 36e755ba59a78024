"""Log-mel: against its formula written out, frame by frame, and (where TensorFlow is) against TensorFlow: C4."""

from __future__ import annotations

import numpy as np
import pytest

from export.contract import sounds
from l3edge import frontend
from l3edge.spec import PRESETS, LogMel

SPEC = PRESETS["edge-m"].front_end


def test_equals_the_formula() -> None:
    x = sounds(1, 16_000)
    got = frontend.log_mel(x, SPEC)
    assert got.shape == (79, 64)
    assert got.dtype == np.float32
    n = np.arange(400)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * n / 400)
    dft = np.exp(-2j * np.pi * np.outer(np.arange(512)[:400], np.arange(257)) / 512)
    for f in (0, 1, 40, 78):
        magnitude = np.abs((x[200 * f : 200 * f + 400] * hann) @ dft)
        want = np.log(magnitude @ frontend.mel_matrix(SPEC).astype(np.float64) + 1e-3)
        np.testing.assert_allclose(got[f], want, rtol=0, atol=1e-4)


def test_a_frame_depends_on_itself_alone() -> None:
    x = sounds(2, 16_000)
    whole = frontend.log_mel(x, SPEC)
    for f in (0, 7, 78):
        alone = frontend.log_mel(x[200 * f : 200 * f + 400], SPEC)
        np.testing.assert_allclose(alone[0], whole[f], rtol=0, atol=1e-5)


def test_a_batch_is_its_rows() -> None:
    x = np.stack([sounds(3, 16_000), sounds(4, 16_000)])
    batch = frontend.log_mel(x, SPEC)
    for row, signal in zip(batch, x, strict=True):
        np.testing.assert_allclose(row, frontend.log_mel(signal, SPEC), rtol=0, atol=1e-5)


def test_silence_is_the_offset() -> None:
    np.testing.assert_allclose(frontend.log_mel(np.zeros(16_000, np.float32), SPEC), np.log(1e-3), atol=1e-6)


def test_every_band_hears_something() -> None:
    matrix = frontend.mel_matrix(SPEC)
    assert matrix.shape == (257, 64)
    assert (matrix.max(axis=0) > 0.4).all()
    assert (matrix >= 0).all()
    assert matrix.max() <= 1
    peaks = matrix.argmax(axis=0) * 16_000 / 512
    assert 125 <= peaks[0] < peaks[-1] <= 7_500


def _hard() -> np.ndarray:
    """Sounds, silence, and what hurts a float32 FFT: full scale in one bin and nothing in the others."""
    t = np.arange(16_000) / 16_000
    return np.stack([sounds(5, 16_000), np.zeros(16_000), np.ones(16_000), np.sin(2 * np.pi * 440 * t)]).astype("f4")


@pytest.mark.parametrize("frame_step", [200, 100])
def test_tensorflow_computes_the_same(frame_step: int) -> None:
    pytest.importorskip("tensorflow", reason="TensorFlow is not in the device environment")
    from training.backend import tf
    from training.tf_ops import TF_OPS

    spec = LogMel(frame_step=frame_step)
    got = frontend.log_mel(tf.constant(_hard()), spec, TF_OPS).numpy()
    np.testing.assert_allclose(got, frontend.log_mel(_hard(), spec), rtol=0, atol=1e-4)


@pytest.mark.parametrize("frame_step", [200, 100])
def test_the_graph_computes_the_same(frame_step: int) -> None:
    pytest.importorskip("tensorflow", reason="TensorFlow is not in the device environment")
    from l3edge import engine
    from training.backend import tf
    from training.tf_ops import GRAPH_OPS

    spec = LogMel(frame_step=frame_step)
    signature = [tf.TensorSpec([16_000], tf.float32)]
    graph = tf.function(lambda x: frontend.log_mel(x, spec, GRAPH_OPS), input_signature=signature)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([graph.get_concrete_function()])
    interpreter = engine.find().interpreter.Interpreter(model_content=converter.convert())
    interpreter.allocate_tensors()
    for signal in _hard():
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], signal)
        interpreter.invoke()
        got = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        np.testing.assert_allclose(got, frontend.log_mel(signal, spec), rtol=0, atol=1e-4)
