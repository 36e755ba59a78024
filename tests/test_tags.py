"""Tags: what a file may say of them, what Python and the command line give, and that nothing else changed."""

from __future__ import annotations

import contextlib
import copy
import csv
import functools
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import l3edge
from export import contract
from l3edge import cli, model_file, tags
from l3edge.display import LiveView, Meter, Terminal

from .conftest import STUBS, TAGGED
from .test_cli import COMMAND, ENVIRONMENT, parse, run
from .test_model_file import archived

ROOT = Path(__file__).parent.parent
PLAIN = STUBS[0]  # the same network without tags
SCENE = ROOT / "examples" / "scene.flac"
NAMES = ["Dog", "Vehicle horn, car horn, honking", 'So-called "music"', "Sprache, Gespräch"]
SHORT = ("--input", SCENE, "--duration", 3)


@pytest.fixture(scope="module")
def model() -> l3edge.Model:
    return l3edge.load(TAGGED)


@pytest.fixture(scope="module")
def embeddings(model: l3edge.Model) -> np.ndarray:
    audio, rate = l3edge.audio.read(SCENE)
    return model.embed(audio[: 3 * rate], rate)[0]


@pytest.fixture(scope="module")
def scores(model: l3edge.Model, embeddings: np.ndarray) -> np.ndarray:
    return model.tag_scores(embeddings)


# --- the file ---------------------------------------------------------------------------------------------------------


def changed(path: Path, source: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A copy of a stub with other metadata, digests right: as somebody would who means it."""
    file = model_file.read(source)
    document = copy.deepcopy(file.metadata)
    change(document)
    text = json.dumps(document).encode()
    digest = f"{hashlib.sha256(text).hexdigest()}  {model_file.MEMBER}\n".encode()
    return archived(path, file.flatbuffer, {model_file.MEMBER: text, model_file.DIGEST: digest})


def _set(key: str, value: object) -> Callable[[dict[str, Any]], object]:
    return lambda document: document["tags"].update({key: value})


FIGURES = [{"average_precision": 0.9}] * 4
HOSTILE: list[tuple[str, Callable[[dict[str, Any]], object]]] = [
    ("JSON object", lambda document: document.update(tags=[])),
    ("JSON object", lambda document: document.update(tags="Dog")),
    ("tags.names must be 1 to 1024 strings", _set("names", None)),
    ("tags.names must be 1 to 1024 strings", _set("names", [])),
    ("tags.names must be 1 to 1024 strings", _set("names", "Dogs")),
    ("tags.names must be 1 to 1024 strings", _set("names", ["Dog", "Cat", "Cow", 4])),
    ("tags.names must be 1 to 1024 strings", _set("names", ["Dog", "Cat", "Cow", ""])),
    ("tags.names must be 1 to 1024 strings", _set("names", ["Dog", "Cat", "Cow", "Dog "])),
    ("tags.names must be 1 to 1024 strings", _set("names", ["Dog", "Cat", "Cow", "\x1b[2J"])),
    ("tags.names must be 1 to 1024 strings", _set("names", ["Dog", "Cat", "Cow", "two\nlines"])),
    ("tags.names must be 1 to 1024 strings", _set("names", ["Dog", "Cat", "Cow", "right\u202eleft"])),
    ("tags.names must be 1 to 1024 strings", _set("names", ["Dog", "Cat", "Cow", "\ud800"])),
    ("tags.names must be 1 to 1024 strings", _set("names", ["Dog", "Cat", "Cow", "x" * 81])),
    ("tags.names must be 1 to 1024 strings", _set("names", [str(i) for i in range(1025)])),
    ("a name twice", _set("names", ["Dog", "Cat", "Cow", "Dog"])),
    ("tags.source must be a string", _set("source", 3)),
    ("tags.agreement must be a table of numbers for each of its 4 names", _set("agreement", FIGURES[:3])),
    ("tags.agreement must be", _set("agreement", None)),
    ("tags.agreement must be", _set("agreement", [0.9] * 4)),
    ("tags.agreement must be", _set("agreement", [{"average_precision": "good"}] * 4)),
    ("tags.agreement must be", _set("agreement", [{"average_precision": float("nan")}] * 4)),
    ("tags.agreement must be", _set("agreement", [{"average_precision": 10**400}] * 4)),
    ("tags.agreement must be", _set("agreement", [{"good": True}] * 4)),
    ("tags.agreement must be", _set("agreement", [{"\x1b[2J": 1}] * 4)),
    ("tags.agreement must be", _set("agreement", [{str(i): 1 for i in range(17)}] * 4)),
    ("contradicts the file's spec: scores is", lambda d: d["tags"].update(names=["Dog"], agreement=FIGURES[:1])),
    (r"has signatures \['stream', 'tags', 'window'\], expected", lambda document: document.pop("tags")),
    (r"has signatures \['stream', 'tags', 'window'\], expected", lambda document: document.update(tags=None)),
    ("tensors contradict", lambda document: document["signatures"].pop("tags")),
    ("which holds the step alone", lambda document: document.update(target="edgetpu")),
]


@pytest.mark.parametrize(("message", "change"), HOSTILE)
def test_hostile_metadata(tmp_path: Path, message: str, change: Callable[[dict[str, Any]], object]) -> None:
    with pytest.raises(l3edge.ModelFileError, match=message) as caught:
        model_file.read(changed(tmp_path / "m.tflite", TAGGED, change))
    assert str(caught.value).isprintable()


def test_names_for_a_file_without_scores(tmp_path: Path) -> None:
    metadata = model_file.read(TAGGED).metadata["tags"]
    with pytest.raises(l3edge.ModelFileError, match=r"expected.*'tags'"):
        model_file.read(changed(tmp_path / "m.tflite", PLAIN, lambda document: document.update(tags=metadata)))
    assert (
        model_file.read(changed(tmp_path / "m.tflite", PLAIN, lambda document: document.update(tags=None))).tags == {}
    )


def test_a_files_strings_do_not_move_the_cursor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil = "\x1b[31mred"
    path = changed(
        tmp_path / "m.tflite", TAGGED, lambda document: document["tags"].update({"source": evil, evil: evil})
    )
    assert cli.main(["info", str(path)]) == 0
    told = capsys.readouterr().out
    assert "\x1b" not in told
    assert "red" in told


# --- Python -----------------------------------------------------------------------------------------------------------


def test_scores_are_those_of_the_layer_in_the_file(
    model: l3edge.Model, embeddings: np.ndarray, scores: np.ndarray
) -> None:
    graph = model_file.read(TAGGED).graph
    subgraph = graph.subgraphs[graph.signatures["tags"].subgraph]
    dense, sigmoid = subgraph.operators
    assert (dense.name, dense.version, sigmoid.name) == ("FULLY_CONNECTED", 1, "LOGISTIC")  # tflite-runtime: up to 11
    kernel, bias = (np.asarray(graph.constant(subgraph.tensors[i]), np.float64) for i in dense.inputs[1:])
    want = 1 / (1 + np.exp(-(embeddings @ kernel.T + bias)))
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, want, rtol=0, atol=1e-5)  # 32-bit ARM: 7e-6
    assert np.ptp(scores, axis=0).max() > 0.5  # sounds differ


def test_scores_hold_on_each_engine(engine_name: str, embeddings: np.ndarray, scores: np.ndarray) -> None:
    load = functools.cache(lambda threads: l3edge.load(TAGGED, engine=engine_name, threads=threads))
    np.testing.assert_allclose(contract.tags_are_scores(load, embeddings), scores, rtol=0, atol=1e-6)


class _Wrong:
    """A model whose scores are what a test says."""

    tag_names = ("a", "b")

    def __init__(self, scores: list[list[float]]) -> None:
        self._scores = np.array(scores, np.float32)

    def tag_scores(self, _embeddings: object) -> np.ndarray:
        return self._scores


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([[0.1, np.nan], [0.2, 0.3]], "finite"),
        ([[0.1, 1.1], [0.2, 0.3]], "from 0 to 1"),
        ([[0.1, 0.3], [0.1, 0.3]], "other sounds"),
        ([[0.1], [0.3]], "shape"),
    ],
)
def test_the_check_can_fail(wrong: list[list[float]], message: str) -> None:
    with pytest.raises(contract.ContractError, match=message):
        contract.tags_are_scores(lambda _threads: _Wrong(wrong), np.zeros((2, 8), np.float32))  # type: ignore[arg-type,return-value]


def test_threads_that_give_other_scores() -> None:
    models = {n: _Wrong([[0.1, 0.3], [0.2, 0.3 + 0.1 * (n == 3)]]) for n in range(1, 5)}
    with pytest.raises(contract.ContractError, match="3 threads"):
        contract.tags_are_scores(models.__getitem__, np.zeros((2, 8), np.float32))  # type: ignore[arg-type]


def test_tags_of_an_embedding(model: l3edge.Model, embeddings: np.ndarray, scores: np.ndarray) -> None:
    assert model.tag_names == NAMES
    first = model.tags(embeddings[0])
    assert sorted(first) == sorted(zip(NAMES, map(float, scores[0]), strict=True))
    assert [score for _, score in first] == sorted((float(score) for score in scores[0]), reverse=True)
    assert model.tags(embeddings[0], top=2) == first[:2]
    assert model.tags(embeddings[0], top=99) == first
    assert all(type(score) is float for _, score in first)


def test_shapes_of_scores(model: l3edge.Model, embeddings: np.ndarray, scores: np.ndarray) -> None:
    np.testing.assert_array_equal(model.tag_scores(embeddings[3]), scores[3])
    np.testing.assert_array_equal(model.tag_scores(embeddings[:2].tolist()), scores[:2])
    np.testing.assert_array_equal(model.tag_scores(np.asfortranarray(embeddings.astype(np.float64))), scores)
    assert model.tag_scores(embeddings[:0]).shape == (0, 4)


@pytest.mark.parametrize(
    "wrong", [np.zeros(7), np.zeros((2, 7)), np.zeros((1, 1, 8)), 3.0, "Dog", ["a"] * 8, [[1], [2, 3]]]
)
def test_wrong_embeddings(model: l3edge.Model, wrong: object) -> None:
    with pytest.raises(l3edge.OptionError, match=r"embeddings must .* \[8\] or \[k, 8\]"):
        model.tag_scores(wrong)


def test_tags_are_of_one_embedding(model: l3edge.Model, embeddings: np.ndarray) -> None:
    with pytest.raises(l3edge.OptionError, match="tags are of one embedding"):
        model.tags(embeddings)
    for top in (0, -1, 1.5, True):
        with pytest.raises(l3edge.OptionError, match="top must be"):
            model.tags(embeddings[0], top=top)  # type: ignore[arg-type]


def test_a_model_without_tags(monkeypatch: pytest.MonkeyPatch, embeddings: np.ndarray) -> None:
    plain = l3edge.load(PLAIN)
    assert plain.tag_names == []
    with pytest.raises(l3edge.OptionError, match=r"stub-int8 has no tags, .*built-in model"):
        plain.tags(embeddings[0])
    monkeypatch.setattr(l3edge.model, "FOLDER", TAGGED.parent)
    monkeypatch.setattr(l3edge.model, "BUILT_IN", ("stub-int8", "stub-tags"))
    with pytest.raises(l3edge.OptionError, match="has no tags, the built-in models that have are stub-tags;"):
        plain.tags(embeddings[0])


def test_threads_may_share_a_model(model: l3edge.Model, embeddings: np.ndarray, scores: np.ndarray) -> None:
    audio, rate = l3edge.audio.read(SCENE)
    found: list[bool] = []

    def work() -> None:
        again = model.embed(audio[: 3 * rate], rate)[0]
        found.append(again.tobytes() == embeddings.tobytes() and model.tag_scores(again).tobytes() == scores.tobytes())

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert found == [True] * 4


# --- the command line -------------------------------------------------------------------------------------------------


def stream(*arguments: object, **options: Any) -> str:
    done = run("stream", "--model", TAGGED, *SHORT, *arguments, **options)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("l3edge: ")  # and nothing of the engine's before it
    return str(done.stdout)


def test_jsonl_has_the_strongest(embeddings: np.ndarray, scores: np.ndarray) -> None:
    lines = stream("--format", "jsonl", "--tags")
    np.testing.assert_array_equal(parse(lines)[0], embeddings)
    for line, row in zip(lines.splitlines(), scores, strict=True):
        told = json.loads(line)["tags"]
        assert {name: np.float32(score) for name, score in told.items()} == {
            name: score for name, score in zip(NAMES, row, strict=True) if score >= tags.LEAST_SCORE
        }
        assert list(told.values()) == sorted(told.values(), reverse=True)
    assert (scores < tags.LEAST_SCORE).any()


def test_csv_has_all(embeddings: np.ndarray, scores: np.ndarray) -> None:
    header, *rows = csv.reader(stream("--format", "csv", "--tags").splitlines())
    assert header == ["time", *(f"e{i}" for i in range(8)), *NAMES]
    np.testing.assert_array_equal(np.array(rows, np.float64)[:, 1:].astype(np.float32), np.hstack([embeddings, scores]))


def test_text_has_three_at_most(scores: np.ndarray) -> None:
    with_tags, without = stream("--tags").splitlines(), stream().splitlines()
    for line, bare, row in zip(with_tags, without, scores, strict=True):
        assert line.startswith(bare)
        told = re.findall(r"  ([01]\.\d\d) (\D+?)(?=  |$)", line[len(bare) :])
        assert told == [(f"{score:.2f}", name) for name, score in tags.strongest(NAMES, row, least=0.1, most=3)]
    assert any("Sprache, Gespräch" in line for line in with_tags)


def test_text_in_an_encoding_without_umlauts() -> None:
    ascii_only = {"env": {**ENVIRONMENT, "PYTHONIOENCODING": "ascii"}, "encoding": "ascii"}
    assert "Sprache, Gespr?ch" in stream("--tags", **ascii_only)
    assert "Sprache, Gespr?ch" in stream("--tags", "--format", "csv", **ascii_only)
    assert "Sprache, Gespr\\u00e4ch" in stream("--tags", "--format", "jsonl", **ascii_only)


@pytest.mark.parametrize("kind", ["text", "jsonl", "csv"])
def test_without_the_option_nothing_is_added(kind: str) -> None:
    done = run("stream", "--model", PLAIN, *SHORT, "--format", kind)
    assert stream("--format", kind) == done.stdout


def test_npz_has_all(tmp_path: Path, model: l3edge.Model) -> None:
    for folder, options in (("with", ["--tags"]), ("without", [])):
        assert run("embed", SCENE, "--model", TAGGED, "--output", tmp_path / folder, *options).returncode == 0
    with np.load(tmp_path / "with" / "scene.npz") as saved, np.load(tmp_path / "without" / "scene.npz") as before:
        assert saved["tags"].dtype == np.float32
        np.testing.assert_array_equal(saved["tags"], model.tag_scores(saved["embeddings"]))
        assert saved["tag_names"].tolist() == NAMES
        assert set(saved.files) - set(before.files) == {"tags", "tag_names"}


@pytest.mark.parametrize("command", [("stream", "--input", SCENE), ("embed", SCENE)])
def test_tags_asked_of_a_model_without(command: tuple[object, ...]) -> None:
    done = run(*command, "--model", PLAIN, "--tags")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("l3edge: error: model stub-int8 has no tags, ")


def test_info_and_models(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli.main(["info", str(TAGGED)]) == 0
    section = capsys.readouterr().out.split("\ntags from nobody: random\n")[1]
    for line, name, positives in zip(section.splitlines(), NAMES, (10, 20, 30, 40), strict=True):
        assert line.split("  ")[1] == name
        assert line.endswith(f"positives {positives}")
        assert "average precision 0." in line
    assert cli.main(["info", "--json", str(TAGGED)]) == 0
    assert json.loads(capsys.readouterr().out)["tags"]["names"] == NAMES
    assert cli.main(["info", str(PLAIN)]) == 0
    assert "\ntags" not in capsys.readouterr().out
    monkeypatch.setattr(cli, "models", lambda: [str(PLAIN), str(TAGGED)])
    assert cli.main(["models"]) == 0
    assert [line.rsplit("  ", 1)[1] for line in capsys.readouterr().out.splitlines()] == ["no tags", "4 tags"]


# --- the live view ----------------------------------------------------------------------------------------------------


def drawn(names: list[str], scores: list[list[float]], width: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines of a live view after some scores, ten a second."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(Terminal, "width", width)
    view = LiveView(Terminal(out), "title", None, names, hop=0.1)
    for row in scores:
        view.add(np.ones(8, np.float32), None, np.array(row, np.float32))
    view.show(Meter(10), 1.0, "lost 0")
    out.seek(0)
    return [line.removeprefix("\x1b[K") for line in out.read().splitlines()]


def test_the_live_view_shows_the_mean_of_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    show = functools.partial(drawn, ["Dog", "Cat", "Cow", "Owl"], width=79, monkeypatch=monkeypatch)
    lines = show([[0.0, 0.9, 0.5, 0.25]] * 30 + [[1.0, 0.4, 0.5, 0.25]] * 5 + [[0.0, 0.2, 0.5, 0.25]] * 5)
    assert lines[3] == "tags     0.50 Dog  0.50 Cow  0.30 Cat"
    assert show([[0.1] * 4] * 10)[3] == "tags"
    assert show([[np.nan] * 4] * 10)[3] == "tags"
    assert show([])[3] == "tags"
    assert len(show([])) == len(drawn([], [], 79, monkeypatch)) + 1


def test_the_live_view_is_not_wider_than_its_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = drawn(["Dog", "x" * 40, "Owl"], [[0.9, 0.8, 0.7]], 40, monkeypatch)
    assert lines[3] == "tags     0.90 Dog"
    assert drawn(["x" * 40, "Dog"], [[0.9, 0.8]], 40, monkeypatch)[3] == "tags     0.90 " + 26 * "x"


def test_a_terminal_shows_tags(tmp_path: Path) -> None:
    """The command on a pseudo-terminal: with tags and without, and nothing of the engine's in the view."""
    shown = {}
    for path in (TAGGED, PLAIN):
        leader, follower = os.openpty()
        command = [*COMMAND, "stream", *SHORT, "--model", path, "--output", tmp_path / "out.jsonl"]
        process = subprocess.Popen(
            list(map(str, command)),
            stdout=follower,
            stderr=follower,
            env={**ENVIRONMENT, "TERM": "xterm", "NO_COLOR": "1"},
        )
        os.close(follower)
        read = b""
        with contextlib.suppress(OSError):  # which is how Linux says that the other side was closed
            while piece := os.read(leader, 4096):
                read += piece
        os.close(leader)
        assert process.wait() == 0
        shown[path] = read.decode()
        assert "INFO" not in shown[path]
        assert '"tags"' not in (tmp_path / "out.jsonl").read_text()
    assert re.search(r"tags     [01]\.\d\d (Dog|Sprache)", shown[TAGGED])
    assert "\x1b[Ktags" not in shown[PLAIN]


# --- the example ------------------------------------------------------------------------------------------------------


def test_the_example_on_a_model_with_tags(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "examples" / "tags.py"), str(SCENE), str(TAGGED)]
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    *lines, last = done.stdout.splitlines()
    assert all(re.fullmatch(r" *\d+\.\d\d s  .+ \([01]\.\d\d\)", line) for line in lines)
    assert lines
    assert last.startswith("in all: Dog 1.00")
