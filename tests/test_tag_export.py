"""Tags from a run to a model file: what a run says of its tags, and that the file's scores are those of its head."""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="TensorFlow is not in the device environment")

import l3edge
from export import ExportError, contract, convert, graph, tags, verify
from export import __main__ as command
from l3edge import model_file
from l3edge.spec import PRESETS

from . import make_stub

NAMES = ["Silence", "Dog", "Vehicle horn, car horn, honking", "Music"]
SELECTED = ["Music", "Dog"]  # in another order, and not all
DESCRIBED = {
    "source": "YAMNet, AudioSet display names",
    "names": NAMES,
    "agreement": {
        "Dog": {"positives": 40, "average_precision": 0.91},
        "Music": {"positives": 9, "average_precision": 1},
    },
    "selected": SELECTED,
}


def with_tags(folder: Path, described: object, head: dict[str, np.ndarray]) -> Path:
    """A run directory's part that tags are read from."""
    folder.mkdir(exist_ok=True)
    np.savez(folder / "weights.npz", **head)
    (folder / "tags.json").write_text(json.dumps(described))
    return folder


def head(d: int = 8, n: int = 4) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(4)
    kernel, bias = rng.normal(0, d**-0.5, (d, n)).astype(np.float32), rng.normal(size=n).astype(np.float32)
    return dict(zip(tags.WEIGHTS, (kernel, bias), strict=True))


def test_a_run_says_which_tags_are_good(tmp_path: Path) -> None:
    found = tags.of_run(with_tags(tmp_path, DESCRIBED, head()), 8)
    assert found is not None
    assert found.names == ("Music", "Dog")
    kernel, bias = head().values()
    np.testing.assert_array_equal(found.kernel, kernel[:, [3, 1]])
    np.testing.assert_array_equal(found.bias, bias[[3, 1]])
    assert found.to_json() == {
        "names": SELECTED,
        "source": DESCRIBED["source"],
        "agreement": [{"positives": 9, "average_precision": 1}, {"positives": 40, "average_precision": 0.91}],
    }


def test_runs_without_tags(tmp_path: Path) -> None:
    assert tags.of_run(with_tags(tmp_path, {**DESCRIBED, "selected": []}, head()), 8) is None
    (tmp_path / "tags.json").unlink()
    assert tags.of_run(tmp_path, 8) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ([], "must be a JSON object"),
        ({"source": None}, "needs 'source' as str"),
        ({"selected": "Dog"}, "needs 'selected' as list"),
        ({"names": ["Dog", "Dog", "Music", "Cat"]}, "'names' must be strings, each once"),
        ({"selected": ["Dog", 3]}, "'selected' must be strings"),
        ({"selected": ["Cat"]}, "'Cat' is selected, and is not among its names"),
        ({"selected": ["Silence"]}, "'Silence' is selected, and how well it agrees was not measured"),
        ({"names": NAMES[:3], "selected": ["Dog"]}, r"kernel \(8, 4\) and bias \(4,\); for the 3 names"),
        ({"agreement": {"Dog": 0.9, "Music": 1}}, "'Music' is selected, and how well it agrees was not measured"),
        ({"agreement": {"Dog": {"good": "yes"}, "Music": {}}}, "tags.agreement must be"),
        ({"names": [*NAMES[:3], "\x1b"], "selected": ["\x1b"], "agreement": {"\x1b": {}}}, "printable characters"),
    ],
)
def test_a_description_that_is_wrong(tmp_path: Path, change: Any, message: str) -> None:
    described = {**DESCRIBED, **change} if isinstance(change, dict) else change
    with pytest.raises(ExportError, match=message) as caught:
        tags.of_run(with_tags(tmp_path, described, head()), 8)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda made: made.pop("tags/dense/bias"), "has no tags/dense/bias"),
        (lambda made: made.update({"tags/dense/bias": np.zeros(3)}), r"bias \(3,\)"),
        (lambda made: made.update({"tags/dense/bias": np.full(4, np.nan)}), "not finite"),
        (lambda made: made.update({"tags/dense/bias": np.array([{}] * 4)}), "cannot be read"),
        (lambda made: made.update({"tags/dense/bias": np.array(["a"] * 4)}), "cannot be read"),
    ],
)
def test_a_head_that_is_wrong(tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str) -> None:
    made = head()
    change(made)
    with pytest.raises(ExportError, match=message):
        tags.of_run(with_tags(tmp_path, DESCRIBED, made), 8)


def test_weights_that_are_none(tmp_path: Path) -> None:
    folder = with_tags(tmp_path, DESCRIBED, head())
    (folder / "weights.npz").write_bytes(b"PK not an archive")
    with pytest.raises(ExportError, match=r"weights\.npz cannot be read"):
        tags.of_run(folder, 8)
    (folder / "tags.json").write_text("{")
    with pytest.raises(l3edge.Error, match=r"tags\.json cannot be read"):
        tags.of_run(folder, 8)


@pytest.fixture
def tagged(run: Path, tmp_path: Path) -> Path:
    """A student's run: the tower of the tiny run, and a tag head that learned nothing."""
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    with np.load(run / "weights.npz", allow_pickle=False) as file:
        audio = {name: file[name] for name in file.files if name.startswith("audio/")}
    return with_tags(folder, DESCRIBED, {**audio, **head(PRESETS["edge-s"].embedding_size)})


def export(run: Path, output: Path, *options: str) -> None:
    command.export(command.parser().parse_args([str(run), "--output", str(output), *options]))


def test_a_run_is_exported_with_its_tags(tagged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export(tagged, tmp_path / "m.tflite", "--recipe", "int8_ptq", "--hops-per-step", "3")
    assert "scores of tags: largest error" in capsys.readouterr().err
    model = l3edge.load(tmp_path / "m.tflite")
    assert model.tag_names == SELECTED
    assert set(model.metadata["signatures"]) == {"stream", "stream_3", "tags", "window"}
    assert 0 < model.metadata["parity"]["tags_max_error"] < 1e-6
    kernel, bias = (np.load(tagged / "weights.npz", allow_pickle=False)[name][..., [3, 1]] for name in tags.WEIGHTS)
    embeddings = model.embed(contract.sounds(1, 40_000), 16_000)[0]
    want = 1 / (1 + np.exp(-(embeddings.astype(np.float64) @ kernel + bias)))
    np.testing.assert_allclose(model.tag_scores(embeddings), want, rtol=0, atol=1e-6)
    load = functools.cache(lambda threads: l3edge.load(tmp_path / "m.tflite", threads=threads))
    contract.check(load, contract.sounds(2, 24_000), 16_000, [1600])
    file = model_file.read(tmp_path / "m.tflite")
    assert verify.structure(file).passed
    checks = {check.name: check for check in verify.parity_checks(file, tagged, None, [], None)}
    assert checks["parity"].passed
    assert checks["stored"].passed
    described = {**DESCRIBED, "selected": SELECTED[::-1]}
    (tagged / "tags.json").write_text(json.dumps(described))
    with pytest.raises(ExportError, match=r"has tags that .* has not, or not these"):
        list(verify.parity_checks(file, tagged, None, [], None))


def test_the_edge_tpus_file_and_snapshots_have_no_tags(tagged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained = command.load_run(tagged)
    assert command.scoring_of(trained, "cpu")[0] is not None
    assert command.scoring_of(trained, "edgetpu") == (None, None)
    assert "without the run's tags" in capsys.readouterr().err
    of_snapshot = command.scoring_of(dataclasses.replace(trained, clips=64_000), "cpu")
    assert of_snapshot == (None, None)  # tags were measured at the run's end


def test_tags_that_are_not_the_heads_are_not_written(
    tagged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = convert.tags_function
    monkeypatch.setattr(
        convert, "tags_function", lambda made: right(dataclasses.replace(made, bias=made.bias + np.float32(1e-3)))
    )
    with pytest.raises(
        ExportError, match=r"not written.*largest error of a tag's score is 0\.0002\d+, the limit is 1e-05"
    ):
        export(tagged, tmp_path / "m.tflite", "--recipe", "float32")
    assert not (tmp_path / "m.tflite").exists()


@pytest.mark.parametrize("kind", ["float32", "window"])
def test_other_kinds_of_network(tmp_path: Path, kind: str) -> None:
    """Float16 weights, and a model that cannot stream: the head is float32 in each, and large enough to be tempting."""
    spec = make_stub.SPECS[kind]
    network = graph.Network(spec, graph.random_weights(spec.layers, 1))
    if kind == "window":
        network = dataclasses.replace(network, ranges=[(0.0, 6.0)] * len(network.weights))
    names = tuple(f"tag {i}" for i in range(300))
    kernel, bias = head(spec.embedding_size, 300).values()
    made = tags.Tags(names, kernel, bias, "nobody", ({},) * 300)
    flatbuffer = convert.convert(network, float16=kind == "float32", tags=made)
    metadata = {"name": "m", "spec": spec.to_json(), "recipe": "float16" if kind == "float32" else "int8_ptq"}
    model_file.write(
        tmp_path / "m.tflite", flatbuffer, {**metadata, "parity": {}, "provenance": {}, "tags": made.to_json()}
    )
    file, model = model_file.read(tmp_path / "m.tflite"), l3edge.load(tmp_path / "m.tflite")
    assert verify.structure(file).passed
    subgraph = file.graph.subgraphs[file.graph.signatures["tags"].subgraph]
    assert {tensor.dtype for tensor in subgraph.tensors} == {"float32"}
    embeddings = model.embed(contract.sounds(1, 40_000), 16_000)[0]
    np.testing.assert_allclose(model.tag_scores(embeddings), made.scores(embeddings), rtol=0, atol=1e-6)


def test_a_network_in_float_is_not_excused_by_its_tags(tmp_path: Path) -> None:
    """Only the graph of the tags may be float, and only under its name."""
    spec = make_stub.SPECS["int8"]
    network = graph.Network(spec, graph.random_weights(spec.layers, 1))
    made = tags.Tags(("Dog",), *(values[..., :1] for values in head().values()), "nobody", ({},))
    parsed = l3edge.model_file.tflite.parse(convert.convert(network, tags=made))
    found = verify.floats(parsed)
    assert any("CONV_2D" in line for line in found)
    renamed = {("other" if key == "tags" else key): value for key, value in parsed.signatures.items()}
    assert len(verify.floats(parsed._replace(signatures=renamed))) > len(found)


def test_sizes_that_do_not_fit() -> None:
    kernel, bias = head().values()
    for names, figures in ((("a",) * 3, ({},) * 4), (("a",) * 4, ({},) * 3)):
        with pytest.raises(ValueError, match="kernel"):
            tags.Tags(names, kernel, bias, "nobody", figures)


def test_the_stub_has_the_tags_that_its_script_gives_it(tmp_path: Path) -> None:
    make_stub.make("tags", tmp_path / "stub.tflite")
    kept, made = l3edge.load(make_stub.DATA / "stub-tags.tflite"), l3edge.load(tmp_path / "stub.tflite")
    assert made.metadata["tags"] == kept.metadata["tags"]
    embeddings = kept.embed(contract.sounds(9, 40_000), 16_000)[0]
    np.testing.assert_allclose(made.tag_scores(embeddings), kept.tag_scores(embeddings), rtol=0, atol=1e-5)
