"""A head that a model file holds: what the file may say of it, what Python and the command line make of it."""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import l3edge
from export import contract
from l3edge import cli, head_file, heads, model_file
from l3edge.events import Detector
from l3edge.learning import Windows, learn

from .conftest import HEADED, STUBS, TAGGED
from .test_cli import run
from .test_tags import SCENE, changed

PLAIN = STUBS[0]  # the same network without a head
LABELS = ("Hund", "background", "Sprache, Gespräch")


@pytest.fixture(scope="module")
def model() -> l3edge.Model:
    return l3edge.load(HEADED)


@pytest.fixture(scope="module")
def heard(model: l3edge.Model) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings and times of the scene."""
    return model.embed(*l3edge.audio.read(SCENE))


@pytest.fixture(scope="module")
def embeddings(heard: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return heard[0]


@pytest.fixture(scope="module")
def scores(model: l3edge.Model, embeddings: np.ndarray) -> np.ndarray:
    return model.label_scores(embeddings)


# --- the file ---------------------------------------------------------------------------------------------------------


def _set(key: str, value: object) -> Callable[[dict[str, Any]], object]:
    return lambda document: document["head"].update({key: value})


FIGURES = [{"clips_right": 0.9}] * 3
HOSTILE: list[tuple[str, Callable[[dict[str, Any]], object]]] = [
    ("head must be a JSON object", lambda document: document.update(head=[])),
    ("head must be a JSON object", lambda document: document.update(head="Hund")),
    ("head.labels must be 1 to 1024 strings", _set("labels", None)),
    ("head.labels must be 1 to 1024 strings", _set("labels", [])),
    ("head.labels must be 1 to 1024 strings", _set("labels", ["Hund", "Katze", 4])),
    ("head.labels must be 1 to 1024 strings", _set("labels", ["Hund", "Katze", "\x1b[2J"])),
    ("head.labels must be 1 to 1024 strings", _set("labels", ["Hund", "Katze", "x" * 81])),
    ("head.labels must be 1 to 1024 strings", _set("labels", [str(i) for i in range(1025)])),
    ("head.labels has a name twice", _set("labels", ["Hund", "Katze", "Hund"])),
    ("head.source must be a string", _set("source", 3)),
    ("head.figures must be a table of numbers for each of its 3 labels", _set("figures", FIGURES[:2])),
    ("head.figures must be", _set("figures", [0.9] * 3)),
    ("head.figures must be", _set("figures", [{"clips_right": "good"}] * 3)),
    ("head.figures must be", _set("figures", [{"clips_right": float("nan")}] * 3)),
    ("head.overall must be a table of numbers", _set("overall", None)),
    ("head.overall must be a table of numbers", _set("overall", {"\x1b[2J": 1})),
    ("head.overall must be a table of numbers", _set("overall", {"right": 10**400})),
    ("contradicts the file's spec: scores is", lambda d: d["head"].update(labels=["Hund"], figures=FIGURES[:1])),
    (r"has signatures \['head', 'stream', 'window'\], expected", lambda document: document.pop("head")),
    (r"has signatures \['head', 'stream', 'window'\], expected", lambda document: document.update(head=None)),
    ("expected.*'tags'", lambda d: d.update(tags={"names": ["Hund"], "source": "", "agreement": [{}]})),
    ("tensors contradict", lambda document: document["signatures"].pop("head")),
    ("head in a file for the edgetpu, which holds the step alone", lambda document: document.update(target="edgetpu")),
]


@pytest.mark.parametrize(("message", "change"), HOSTILE)
def test_hostile_metadata(tmp_path: Path, message: str, change: Callable[[dict[str, Any]], object]) -> None:
    with pytest.raises(l3edge.ModelFileError, match=message) as caught:
        model_file.read(changed(tmp_path / "m.tflite", HEADED, change))
    assert str(caught.value).isprintable()


def test_labels_for_a_file_without_a_head(tmp_path: Path) -> None:
    metadata = model_file.read(HEADED).metadata["head"]
    for path in (PLAIN, TAGGED):
        with pytest.raises(l3edge.ModelFileError, match=r"expected.*'head'"):
            model_file.read(changed(tmp_path / "m.tflite", path, lambda document: document.update(head=metadata)))
    none = model_file.read(changed(tmp_path / "m.tflite", PLAIN, lambda document: document.update(head=None)))
    assert (none.head, none.head_labels) == ({}, [])


# --- Python -----------------------------------------------------------------------------------------------------------


def dense(embeddings: np.ndarray) -> np.ndarray:
    """The scores by the layers in the file, in float64."""
    graph = model_file.read(HEADED).graph
    subgraph = graph.subgraphs[graph.signatures["head"].subgraph]
    *layers, softmax = subgraph.operators
    assert [(layer.name, layer.version) for layer in layers] == [("FULLY_CONNECTED", 1)] * 3  # tflite-runtime: up to 11
    assert softmax.name == "SOFTMAX"
    x = np.asarray(embeddings, np.float64)
    for number, layer in enumerate(layers):
        kernel, bias = (np.asarray(graph.constant(subgraph.tensors[i]), np.float64) for i in layer.inputs[1:])
        x = (np.maximum(x, 0) if number else x) @ kernel.T + bias
    return np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)


def test_scores_are_those_of_the_layers_in_the_file(
    model: l3edge.Model, embeddings: np.ndarray, scores: np.ndarray
) -> None:
    assert model.head is not None
    assert (model.head.labels, model.head.embedding_size) == (LABELS, 8)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, dense(embeddings), rtol=0, atol=1e-6)
    assert np.ptp(scores, axis=0).max() > 0.5  # sounds differ


def test_scores_hold_on_each_engine(engine_name: str, embeddings: np.ndarray, scores: np.ndarray) -> None:
    load = functools.cache(lambda threads: l3edge.load(HEADED, engine=engine_name, threads=threads))
    np.testing.assert_allclose(contract.labels_are_scores(load, embeddings), scores, rtol=0, atol=1e-6)


def test_the_check_can_fail(monkeypatch: pytest.MonkeyPatch, embeddings: np.ndarray) -> None:
    with pytest.raises(contract.ContractError, match="head: there is none"):
        contract.labels_are_scores(lambda _threads: l3edge.load(PLAIN), embeddings)
    model = l3edge.load(HEADED)
    right = model.label_scores(embeddings)
    for wrong, message in ((right * 0.5, "add up to 1"), (right[:, :2], "shape"), (right + 0.5, "from 0 to 1")):
        monkeypatch.setattr(l3edge.Model, "label_scores", lambda _model, _embeddings, wrong=wrong: wrong)
        with pytest.raises(contract.ContractError, match=message):
            contract.labels_are_scores(lambda _threads: model, embeddings)


def test_decisions(model: l3edge.Model, embeddings: np.ndarray, scores: np.ndarray) -> None:
    """The label of the highest score, unless that is the background's, or no score is half or more."""
    assert model.head is not None
    decided = model.head.decide(embeddings)
    best, sure = scores.argmax(axis=1), scores.max(axis=1) >= 0.5
    want = ["unknown" if not s or LABELS[i] == "background" else LABELS[i] for i, s in zip(best, sure, strict=True)]
    assert decided == want
    assert set(decided) == {"Hund", "Sprache, Gespräch", "unknown"}
    assert not sure.all()  # and so both ways to be unknown
    assert (best[sure] == 1).any()
    assert model.head.decide(embeddings[0]) == decided[0]
    assert [model.label(row) for row in embeddings] == [
        (label, float(row.max())) for label, row in zip(decided, scores, strict=True)
    ]


def test_shapes(model: l3edge.Model, embeddings: np.ndarray, scores: np.ndarray) -> None:
    np.testing.assert_array_equal(model.label_scores(embeddings[3]), scores[3])
    np.testing.assert_array_equal(model.label_scores(embeddings[:2].tolist()), scores[:2])
    assert model.label_scores(embeddings[:0]).shape == (0, 3)
    for wrong in (np.zeros(7), np.zeros((1, 1, 8)), "Hund"):
        with pytest.raises(l3edge.OptionError, match=r"embeddings must .* \[8\] or \[k, 8\]"):
            model.label_scores(wrong)


def test_what_is_no_number_is_unknown(model: l3edge.Model) -> None:
    assert model.head is not None
    audio, rate = l3edge.audio.read(SCENE)
    values = next(row for row in model.embed(audio, rate)[0] if model.head.decide(row) == "Hund")
    for wrong in (np.nan, np.inf, -np.inf):
        for number in range(8):
            row = np.where(np.arange(8) == number, np.float32(wrong), values)
            assert np.isfinite(model.head.scores(row)).all()
            assert model.head.decide(row) == "unknown"


def test_events(model: l3edge.Model, heard: tuple[np.ndarray, np.ndarray]) -> None:
    """The same detector as for heads that were learned on the device."""
    assert model.head is not None
    embeddings, times = heard
    detector, told = Detector(model.head.labels, on=0.5, off=0.4), []
    scored = zip(times, model.head.scores(embeddings), model.head.decide(embeddings), strict=True)
    for time, row, label in scored:
        told += detector.hop(float(time), row, label)
    told += detector.flush()
    ended = [event for event in told if event.offset is not None]
    assert "Hund" in {event.label for event in ended}
    assert "background" not in {event.label for event in ended}


def test_another_head_takes_its_place(model: l3edge.Model, embeddings: np.ndarray, tmp_path: Path) -> None:
    clips = np.arange(len(embeddings)) * 10 // len(embeddings)  # ten clips, of which the first five are early
    windows = Windows(embeddings, clips // 5, clips)
    learned = learn(windows, ["früh", "spät"], model, 0.1)
    head_file.write(learned, tmp_path / "head.json")
    other = model.with_head(tmp_path / "head.json")
    assert other.head is not None
    assert other.head.labels == ("früh", "spät")
    np.testing.assert_array_equal(other.label_scores(embeddings), learned.scores(embeddings))
    assert model.head is not None
    assert model.head.labels == LABELS
    assert isinstance(model.head, heads.Labeller)
    assert isinstance(other.head, heads.Labeller)
    with pytest.raises(l3edge.HeadError, match="was learned with model stub-head"):
        l3edge.load(PLAIN).with_head(learned)


def test_a_model_without_a_head(embeddings: np.ndarray) -> None:
    plain = l3edge.load(PLAIN)
    assert plain.head is None
    with pytest.raises(l3edge.OptionError, match="has no head to label with"):
        plain.label(embeddings[0])


def test_embeddings_are_those_without_a_head(embeddings: np.ndarray) -> None:
    """A head shares nothing with the network, which is the other stub's."""
    np.testing.assert_array_equal(l3edge.load(PLAIN).embed(*l3edge.audio.read(SCENE))[0], embeddings)


def test_threads_may_share_a_model(model: l3edge.Model, embeddings: np.ndarray, scores: np.ndarray) -> None:
    found: list[bool] = []
    workers = [
        threading.Thread(target=lambda: found.append(model.label_scores(embeddings).tobytes() == scores.tobytes()))
        for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert found == [True] * 4


# --- the command line -------------------------------------------------------------------------------------------------


def test_the_commands_label_without_an_option(
    model: l3edge.Model, embeddings: np.ndarray, scores: np.ndarray, tmp_path: Path
) -> None:
    assert model.head is not None
    decided = model.head.decide(embeddings)
    done = run("stream", "--input", SCENE, "--model", HEADED, "--format", "jsonl")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("l3edge: ")  # and nothing of the engine's before it
    records = [json.loads(line) for line in done.stdout.splitlines()]
    hops = [record for record in records if "embedding" in record]
    assert [hop["label"] for hop in hops] == decided
    told = np.array([[hop["labels"][label] for label in LABELS] for hop in hops], np.float32)
    np.testing.assert_array_equal(told, scores)
    assert "Hund" in {record["event"] for record in records if "event" in record}
    assert run("embed", SCENE, "--model", HEADED, "--output", tmp_path).returncode == 0
    with np.load(tmp_path / "scene.npz", allow_pickle=False) as saved:
        assert saved["label"].tolist() == decided
        np.testing.assert_array_equal(saved["labels"], scores)
        assert saved["label_names"].tolist() == list(LABELS)


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info", str(HEADED)]) == 0
    section = capsys.readouterr().out.split("\nhead trained on nothing: random\n")[1]
    overall, lines = section.splitlines()[:2], section.splitlines()[2:]
    assert [line.split() for line in overall] == [["overall.clips_right", "0.6"], ["overall.folds", "3"]]
    for line, label, clips in zip(lines, LABELS, (10, 20, 30), strict=True):
        assert line.split("  ")[1] == label
        assert f"clips {clips}, clips right 0." in line
    assert cli.main(["info", "--json", str(HEADED)]) == 0
    assert json.loads(capsys.readouterr().out)["head"]["labels"] == list(LABELS)
    assert cli.main(["info", str(PLAIN)]) == 0
    assert "\nhead" not in capsys.readouterr().out


def test_a_files_strings_do_not_move_the_cursor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil = "\x1b[31mred"
    path = changed(
        tmp_path / "m.tflite", HEADED, lambda document: document["head"].update({"source": evil, evil: evil})
    )
    assert cli.main(["info", str(path)]) == 0
    told = capsys.readouterr().out
    assert "\x1b" not in told
    assert "red" in told
