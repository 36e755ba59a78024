"""From videos to a model file on real parts: a tiny run, each recipe, and the checks that can refuse an export."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="TensorFlow is not in the device environment")

import l3edge
from export import ExportError, contract, convert, graph, quantise, representative, verify
from export import __main__ as command
from l3edge import frontend, model_file
from l3edge.spec import PRESETS, LogMel, Spec, l3_stack
from training.backend import tf
from training.network import audio_tower, folded

from . import make_stub


def export(run: Path, output: Path, *options: str) -> l3edge.Model:
    arguments = command.parser().parse_args([str(run), "--output", str(output), *options])
    command.export(arguments)
    return l3edge.load(output)


@pytest.mark.parametrize("recipe", ["float32", "float16", "int8_ptq", "int8_qat"])  # others: tests/test_recipes.py
def test_recipes(run: Path, tmp_path: Path, recipe: str) -> None:
    output = tmp_path / "m.tflite"
    model = export(run, output, "--recipe", recipe, "--steps", "5", "--batch", "8", "--name", "small")
    assert [path.name for path in tmp_path.iterdir()] == ["m.tflite"]
    assert model.name == "small"
    assert model.spec == PRESETS["edge-s"]
    assert model.network.dtype == (np.int8 if recipe.startswith("int8") else np.float32)
    parity = model.metadata["parity"]
    assert not verify.failures(parity, verify.TOLERANCES[recipe])
    assert parity["step_values"] > 1000
    if recipe.startswith("int8"):
        assert parity["step_values_differing"] == 0
        assert output.stat().st_size < 450_000
    provenance = model.metadata["provenance"]
    assert provenance["training"]["arguments"]["preset"] == "edge-s"
    assert provenance["training"]["data"]["videos"] == 16
    assert str(run.parent) not in str(model.metadata)
    load = functools.cache(lambda threads: l3edge.load(output, threads=threads))
    contract.check(load, contract.sounds(1, 24_000), 16_000, [17, 1600])
    contract.tells_apart(model)


def test_an_export_outside_its_tolerance_is_not_written(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(verify.TOLERANCES, "int8_ptq", verify.Tolerance(1.1, 0.5, 1.0, 0.0))
    (tmp_path / "m.tflite").write_bytes(b"the model before")
    with pytest.raises(ExportError, match=r"not written.*mean cosine is 0\.9.*limit is 1\.1"):
        export(run, tmp_path / "m.tflite", "--recipe", "int8_ptq")
    assert (tmp_path / "m.tflite").read_bytes() == b"the model before"
    assert len(list(tmp_path.iterdir())) == 1


def test_each_tolerance_can_fail() -> None:
    good = {"cosine_mean": 1.0, "cosine_min": 1.0, "max_error": 0.1, "step_max_error": 0.0, "max_value": 2.0}
    limits = verify.Tolerance(0.99, 0.9, 0.1, 1e-5)
    assert verify.failures(good, limits) == []
    for key, value in (("cosine_mean", 0.98), ("cosine_min", 0.89), ("max_error", 0.3), ("step_max_error", 3e-5)):
        assert len(verify.failures({**good, key: value}, limits)) == 1
        assert len(verify.failures({**good, key: np.nan}, limits)) == 1


@pytest.mark.parametrize("share", [0.8, 1.0])
def test_an_output_that_collapsed_has_no_parity(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file whose embedding is zero where the tower hears something: as bad quantisation would make it."""
    model = l3edge.load(make_stub.DATA / "stub-float32.tflite")
    clips = [contract.sounds(seed, 40_000) for seed in range(3)]

    def true(cut: np.ndarray) -> np.ndarray:
        return np.stack([model.network.window(x) for x in cut])

    assert not verify.failures(verify.measure(model, true, clips), verify.TOLERANCES["float32"])
    embed = model.embed

    def collapsed(*arguments: object) -> tuple[np.ndarray, np.ndarray]:
        embeddings, times = embed(*arguments)
        embeddings[: round(share * len(embeddings))] = 0
        return embeddings, times

    monkeypatch.setattr(model, "embed", collapsed)
    monkeypatch.setattr(model.network, "window", lambda x: np.zeros(8, np.float32))
    with pytest.raises(verify.VerifyError, match="nothing but zeros"):
        verify.measure(model, lambda cut: np.zeros((len(cut), 8), np.float32), clips)
    monkeypatch.undo()
    monkeypatch.setattr(model, "embed", collapsed)
    wrong = verify.failures(verify.measure(model, true, clips), verify.TOLERANCES["int8_ptq"])
    assert any("mean cosine" in text for text in wrong)


def test_measure_sees_a_different_network(run: Path, tmp_path: Path) -> None:
    """Parity is measured against the reference it is given: another one has no parity."""
    model = export(run, tmp_path / "m.tflite", "--recipe", "float32")
    other = audio_tower(model.spec)
    clips = [contract.sounds(seed, 24_000) for seed in range(3)]
    parity = verify.measure(model, lambda cut: other(representative.features(model.spec, cut)).numpy(), clips)
    assert parity["step_max_error"] <= 1e-5 * parity["max_value"]
    assert verify.failures(parity, verify.TOLERANCES["float32"])


def _network() -> tuple[graph.Network, np.ndarray]:
    """A small trained-like network and log-mels to run it on."""
    spec = Spec("small", l3_stack((4, 4, 6, 8)), LogMel(bands=16))
    tower = audio_tower(spec)
    rng = np.random.default_rng(0)
    for layer in tower.layers:
        if layer.name.startswith("bn"):
            gamma, beta, mean, variance = layer.get_weights()
            layer.set_weights([gamma * 1.5, rng.normal(0, 0.2, beta.shape), mean + 0.1, variance * 2])
    windows = np.stack([contract.sounds(seed, spec.window) for seed in range(48)])
    mels = frontend.log_mel(windows, spec.front_end)[:, : spec.frames_used, :, None]
    network = graph.Network(spec, tuple(folded(tower)))
    reference = tower(mels).numpy()
    made = tf.reduce_max(graph.columns_of(network, mels), [1, 2]).numpy()
    np.testing.assert_allclose(made, reference, rtol=0, atol=1e-4 * np.abs(reference).max())
    return network, mels


def test_folding_keeps_the_tower_and_calibration_its_largest_values() -> None:
    network, mels = _network()
    calibrated = quantise.calibrate(network, mels)
    last = graph.columns_of(network, np.clip(mels, *graph.input_range(network))).numpy().max()
    assert calibrated.ranges is not None
    assert calibrated.ranges[-1][1] == pytest.approx(last, rel=1e-5)


def test_fine_tuning_moves_towards_the_float_network() -> None:
    network, mels = _network()
    calibrated = quantise.calibrate(network, mels)
    # Ranges that are far too narrow: there is something to learn.
    narrow = graph.Network(
        network.spec, network.weights, tuple((0.0, 0.5 * high) for _, high in calibrated.ranges or ())
    )
    want = tf.reduce_max(graph.columns_of(network, mels), [1, 2])

    def error(candidate: graph.Network) -> float:
        return float(tf.reduce_mean((tf.reduce_max(graph.columns_of(candidate, mels), [1, 2]) - want) ** 2))

    losses: list[float] = []
    tuned = quantise.fine_tune(narrow, iter([mels] * 60), 60, 1e-3, lambda step, loss: losses.append(loss))
    assert error(tuned) < 0.7 * error(narrow)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("kind", make_stub.SPECS)
def test_the_stub_is_what_its_script_makes(tmp_path: Path, kind: str) -> None:
    make_stub.make(kind, tmp_path / "stub.tflite")
    audio = contract.sounds(9, 40_000)
    made = l3edge.load(tmp_path / "stub.tflite").embed(audio, 16_000)[0]
    kept = l3edge.load(make_stub.DATA / f"stub-{kind}.tflite").embed(audio, 16_000)[0]
    np.testing.assert_allclose(made, kept, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["nowhere", "--output", "m.tflite"], "nowhere"),
        (["{run}", "--output", "no/such/folder/m.tflite"], "no such directory"),
        (["{run}", "--output", "{tmp}"], "not a regular file"),
        (["{run}", "--output", "{tmp}/m.tflite", "--recipe", "float32", "--audio", "{tmp}/none.wav"], "no such file"),
    ],
)
def test_bad_usage_is_told(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    arguments = [option.format(run=run, tmp=tmp_path) for option in options]
    monkeypatch.setattr("sys.argv", ["export", *arguments])
    with pytest.raises(l3edge.Error, match=message):
        command.main()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--hops-per-step", "10", "--target", "edgetpu"], "takes one graph; leave the option out"),
        (["--hops-per-step", "1001"], "at most 1000 hops"),
        (["--target", "edgetpu", "--recipe", "float16"], "computes in int8, not float16; use --recipe int8_qat"),
    ],
)
def test_what_is_not_to_be_had_is_refused_before_training(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    monkeypatch.setattr(command, "prepared", lambda *_: pytest.fail("trained first"))
    with pytest.raises(ExportError, match=message):
        export(run, tmp_path / "m.tflite", *options)


@pytest.mark.parametrize("target", ["cpu", "edgetpu"])
def test_a_layer_that_never_fires_is_no_obstacle(tmp_path: Path, target: str) -> None:
    """Its range would be next to nothing, and XNNPACK would refuse the file."""
    spec = make_stub.SPECS["int8"]
    weights = [(10 * kernel, bias) for kernel, bias in graph.random_weights(spec.layers, 1)]
    network = graph.Network(spec, weights, [(0.0, 6.0)] * 3 + [(0.0, 1e-6)] + [(0.0, 6.0)] * 4)
    metadata = {"name": "m", "spec": spec.to_json(), "recipe": "int8_ptq", "parity": {}, "provenance": {}}
    made = convert.convert(network, target=target)
    model_file.write(tmp_path / "m.tflite", made, {**metadata, "target": target})
    assert l3edge.load(tmp_path / "m.tflite").embed(contract.sounds(1, 20_000), 16_000)[0].shape == (4, 8)
