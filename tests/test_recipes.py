"""What each recipe promises, read from the flatbuffer it ends in; and the networks it can be given."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="TensorFlow is not in the device environment")

import l3edge
from export import ExportError, contract, convert, graph, quantise, recipes, representative
from l3edge import model_file
from l3edge.flatbuffer import parse
from l3edge.frontend import Decibel, LogMel
from l3edge.layers import Conv, Pool, l3_stack
from l3edge.spec import Spec

SPEC = Spec("small", l3_stack((8, 8, 12, 16)), LogMel(bands=16))
SETTINGS = recipes.Settings(calibration_windows=16, steps=4, batch=4, clustering_steps=2, clusters=6)
SIGNALS = [contract.sounds(seed, 40_000) for seed in range(4)]


def network(spec: Spec = SPEC) -> graph.Network:
    """Weights that float16 can hold."""
    weights = graph.random_weights(spec.layers, 0)
    return graph.Network(spec, tuple((k.astype(np.float16).astype(np.float32), b) for k, b in weights))


@functools.cache
def prepared(recipe: str) -> graph.Network:
    return recipes.prepare(recipe, network(), SIGNALS, SETTINGS)


@functools.cache
def converted(recipe: str) -> bytes:
    return convert.convert(prepared(recipe), float16=recipes.RECIPES[recipe].float16)


def loaded(recipe: str, folder: Path) -> l3edge.Model:
    metadata = {"name": recipe, "spec": SPEC.to_json(), "recipe": recipe, "parity": {}, "provenance": {}}
    model_file.write(folder / f"{recipe}.tflite", converted(recipe), metadata)
    return l3edge.load(folder / f"{recipe}.tflite")


@pytest.mark.parametrize("recipe", recipes.RECIPES)
def test_kernels_are_stored_as_the_name_says(recipe: str) -> None:
    kernels = recipes.kernels(converted(recipe))
    wanted = {"float32": np.float32, "float16": np.float16}.get(recipe, np.int8)
    assert [kernel.dtype for kernel in kernels] == [wanted] * len(SPEC.convolutions)
    # Filters come first in a file.
    shapes = [(kernel.shape[3], *kernel.shape[:3]) for kernel, _ in prepared(recipe).weights]
    assert [kernel.shape for kernel in kernels] == shapes
    assert (prepared(recipe).ranges is not None) == recipe.startswith("int8")


def test_float16_is_smaller_and_its_front_end_and_arithmetic_are_float32(tmp_path: Path) -> None:
    saved = len(converted("float32")) - len(converted("float16"))
    assert saved == pytest.approx(sum(2 * kernel.size for kernel, _ in network().weights), abs=10_000)
    float16 = [
        tensor
        for subgraph in parse(converted("float16")).subgraphs
        for tensor in subgraph.tensors
        if tensor.dtype == "float16"
    ]
    assert {len(tensor.shape) for tensor in float16} == {4}
    assert len(float16) == 2 * len(SPEC.convolutions)  # of step and window
    assert len({tensor.buffer for tensor in float16}) == len(SPEC.convolutions)  # which share them
    # These weights are float16 to begin with, so not a bit may change.
    made, wanted = (loaded(recipe, tmp_path).embed(SIGNALS[0], 16_000)[0] for recipe in ("float16", "float32"))
    assert made.tobytes() == wanted.tobytes()


def test_pruned_weights_are_zeros_in_the_file() -> None:
    task = recipes.Task(network(), SIGNALS, SETTINGS)
    shares = task.sparsity()
    assert shares == pytest.approx(SETTINGS.sparsity)
    for kernel, share in zip(recipes.kernels(converted("int8_qat_pruned")), shares, strict=True):
        # Weights too small for a step of int8 are zeros as well.
        assert (kernel == 0).mean() >= share - 1 / kernel.size
    first, *others = recipes.kernels(converted("int8_qat"))
    assert (first == 0).mean() < 0.1
    assert max((kernel == 0).mean() for kernel in others) < 0.1


def test_quantisation_aware_training_moves_weights_and_leaves_zeros() -> None:
    task = recipes.Task(network(), SIGNALS, SETTINGS)
    sparse = recipes.pruned(task, task.sparsity())
    trained = prepared("int8_qat_pruned")
    assert quantise.sparsity(sparse)[1:] == pytest.approx(task.sparsity()[1:], abs=0.01)
    for (before, _), (after, _) in zip(sparse.weights, trained.weights, strict=True):
        assert not after[before == 0].any()
        assert (after != before).any()


def test_clustered_weights_share_values_in_the_file() -> None:
    first, *others = recipes.kernels(converted("int8_qat_clustered"))
    assert max(len(np.unique(row)) for kernel in others for row in kernel) <= SETTINGS.clusters
    assert len(np.unique(first)) > SETTINGS.clusters
    assert min(len(np.unique(row)) for kernel in recipes.kernels(converted("int8_qat"))[1:] for row in kernel) > 12


@pytest.mark.parametrize("recipe", ["int8_qat_pruned", "int8_qat_clustered"])
def test_a_step_of_these_equals_their_window(recipe: str, tmp_path: Path) -> None:
    model = loaded(recipe, tmp_path)
    stepped, _ = model.embed(SIGNALS[0], 16_000)
    for k in (0, 7):
        whole = model.network.window(SIGNALS[0][1600 * k : 1600 * k + 16_000])
        assert model.network.dequantize(whole).tobytes() == stepped[k].tobytes()


def test_pruning_learns_to_do_without() -> None:
    """Of as many zeros, those that the weights had time to adapt to leave more of the float network."""
    task = recipes.Task(network(), SIGNALS, SETTINGS)
    shares = [0.5] * len(SPEC.convolutions)
    judged = next(representative.representative(SPEC, SIGNALS, 64, 9))

    def error(steps: int) -> float:
        settings = dataclasses.replace(SETTINGS, steps=steps, batch=16)
        made = recipes.pruned(recipes.Task(task.network, SIGNALS, settings), shares)
        assert quantise.sparsity(made) == pytest.approx(shares, abs=0.02)
        embedded, wanted = (graph.embedding_of(graph.columns_of(n, judged), SPEC) for n in (made, task.network))
        return float(np.mean((embedded - wanted) ** 2) / np.mean(np.square(wanted)))

    assert error(120) < 0.6 * error(1)


OTHERS = {
    "strides": Spec("", (Conv(4, (3, 5), stride=(2, 2)), Pool((3, 2), (2, 1)), Conv(6, (2, 3), stride=(1, 2)))),
    "dilation": Spec("", (Conv(4, (3, 3), dilation=(2, 3)), Conv(6, relu=False))),
    "same": Spec(
        "",
        (Conv(4, (4, 3), stride=(2, 2), padding="same"), Conv(5, dilation=(2, 2), padding="same", relu=False)),
        streaming=False,
    ),
    "published": Spec(
        "",
        (*l3_stack((3, 4), "same"), Conv(5, padding="same", relu=False), Pool((20, 16), (20, 16))),
        Decibel(16_000, 512, 200, 64),
        streaming=False,
        embedding="flatten",
    ),
}


SEPARABLE = Spec(
    "",
    (Conv(6), Conv(6, depthwise=True), Conv(8, (1, 1)), Pool(kind="mean"), Conv(8, depthwise=True), Conv(8, (1, 1))),
    LogMel(bands=16),
)
OTHERS["separable"] = SEPARABLE


def uneven(spec: Spec) -> graph.Network:
    """Depthwise kernels whose filters are of many sizes, as batch normalisation leaves them."""
    rows = zip(spec.convolutions, network(spec).weights, strict=True)
    return graph.Network(
        spec,
        tuple(
            (
                kernel * np.geomspace(0.05, 2, layer.filters, dtype=np.float32)[:, None] if layer.depthwise else kernel,
                bias,
            )
            for layer, (kernel, bias) in rows
        ),
    )


@pytest.mark.parametrize("recipe", ["float16", "int8_ptq"])
def test_depthwise_kernels_are_stored_as_the_name_says(recipe: str) -> None:
    made = recipes.prepare(recipe, uneven(SEPARABLE), SIGNALS, SETTINGS)
    flatbuffer = convert.convert(made, float16=recipe == "float16")
    stored = recipes.kernels(flatbuffer)
    assert {kernel.dtype for kernel in stored} == {np.dtype("float16" if recipe == "float16" else "int8")}
    for layer, kernel, (exact, _) in zip(SEPARABLE.convolutions, stored, made.weights, strict=True):
        if layer.depthwise:
            assert kernel.shape == (1, *exact.shape[:3])
            scale = np.abs(exact).max((0, 1, 3)) / 127 if recipe == "int8_ptq" else 1  # for each filter
            off = np.abs(kernel.astype(np.float32)[0] - exact[..., 0] / scale)
            assert off.max() <= (0.501 if recipe == "int8_ptq" else 1e-3)


def test_quantisation_aware_training_rounds_as_the_graph_does() -> None:
    """Depthwise kernels have a scale for each filter in both, and a mean pool the range of what it reads."""
    float32 = uneven(SEPARABLE)
    heard = next(representative.representative(SEPARABLE, SIGNALS, 16, 0))
    losses: list[float] = []
    calibrated = quantise.calibrate(float32, heard)
    made = quantise.fine_tune(calibrated, iter([heard]), 1, 0.0, lambda step, loss: losses.append(loss))
    embedded, wanted = (graph.embedding_of(graph.columns_of(n, heard), SEPARABLE) for n in (made, float32))
    assert losses == pytest.approx([float(np.mean((embedded - wanted) ** 2) / np.mean(np.square(wanted)))], rel=1e-3)


@pytest.mark.parametrize("recipe", ["int8_qat_pruned", "int8_qat_clustered"])
def test_depthwise_kernels_learn_and_are_neither_pruned_nor_clustered(recipe: str) -> None:
    before = network(SEPARABLE)
    made = recipes.prepare(recipe, before, SIGNALS, dataclasses.replace(SETTINGS, clusters=3))
    stored = recipes.kernels(convert.convert(made))
    for number, layer in enumerate(SEPARABLE.convolutions):
        kernel = stored[number]
        if layer.depthwise:
            assert (kernel == 0).mean() < 0.1
            assert len(np.unique(kernel)) > 12
            learned = made.weights[number][0] != before.weights[number][0]
            assert learned.mean() > 0.5  # a filter that never fires cannot
        elif number:
            assert (kernel == 0).mean() > 0.3 if recipe == "int8_qat_pruned" else len(np.unique(kernel[0])) <= 3


@pytest.mark.parametrize("kind", OTHERS)
def test_ranges_of_any_table_are_those_of_the_graph_that_is_converted(kind: str) -> None:
    spec = OTHERS[kind]
    float32 = dataclasses.replace(network(spec), affine=(0.5, 0.25))
    heard = representative.features(spec, np.stack([x[: spec.window] for x in SIGNALS]), float32.affine)
    calibrated = quantise.calibrate(float32, heard)
    assert calibrated.ranges is not None
    # As it is before what makes the embedding of it.
    last = max(i for i, layer in enumerate(spec.layers) if isinstance(layer, Conv))
    cut = dataclasses.replace(float32, spec=dataclasses.replace(spec, layers=spec.layers[: last + 1]))
    columns = graph.columns_of(cut, np.clip(heard, *graph.input_range(float32))).numpy()
    low, high = calibrated.ranges[-1]
    assert low == pytest.approx(min(0, columns.min()), rel=1e-4, abs=1e-4)
    assert high == pytest.approx(columns.max(), rel=1e-4)
    assert (low < 0) != spec.convolutions[-1].relu


@pytest.mark.parametrize("kind", ["dilation", "published"])
def test_any_table_can_be_trained(kind: str) -> None:
    spec = OTHERS[kind]
    made = recipes.prepare("int8_qat", network(spec), SIGNALS, SETTINGS)
    assert made.spec == spec
    assert made.ranges is not None
    assert made.ranges[-1][0] < 0 < made.ranges[-1][1]
    assert any(
        (after != before).any() for (after, _), (before, _) in zip(made.weights, network(spec).weights, strict=True)
    )


def test_rows_of_sparsity_stretch_to_other_depths() -> None:
    shallow = network(Spec("", l3_stack((4, 4)), LogMel(bands=16)))
    shares = recipes.Task(shallow, SIGNALS, dataclasses.replace(SETTINGS, sparsity=(0.0, 0.6, 0.9))).sparsity()
    assert shares == pytest.approx([0.0, 0.4, 0.7, 0.9])


def test_groups_of_signals_are_balanced() -> None:
    made = representative.balanced(SIGNALS[:1], [], SIGNALS[1:])
    assert [sum(signal is x for signal in made) for x in SIGNALS] == [3, 1, 1, 1]
    assert representative.balanced(SIGNALS, []) == SIGNALS


def test_recordings_are_found_in_folders(tmp_path: Path) -> None:
    import soundfile

    folder = tmp_path / "sounds" / "rain"
    folder.mkdir(parents=True)
    soundfile.write(folder / "a.wav", SIGNALS[0], 16_000)
    soundfile.write(folder / "b.flac", np.stack([SIGNALS[1]] * 2, 1), 32_000)
    (folder / "notes.txt").write_text("no audio")
    made = representative.recordings([tmp_path / "sounds", folder / "a.wav"], 16_000)
    assert [len(x) for x in made] == [40_000, 20_000, 40_000]
    np.testing.assert_allclose(made[0], SIGNALS[0], atol=1e-4)
    assert len(representative.recording(folder / "a.wav", 48_000)) == 120_000
    (tmp_path / "empty").mkdir()
    with pytest.raises(ExportError, match=r"empty holds no audio.*\.wav"):
        representative.recordings([tmp_path / "empty"], 16_000)
    with pytest.raises(ExportError, match="no audio of at least 16000 samples"):
        next(representative.representative(SPEC, [SIGNALS[0][:100]], 4, 0))
