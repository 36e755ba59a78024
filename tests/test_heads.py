"""Heads: what they say of embeddings, whose model's they are, and that no file of them can do harm."""

from __future__ import annotations

import collections
import copy
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

import l3edge
from l3edge import head_file, learning
from l3edge.heads import UNKNOWN, Head

from .conftest import STUBS
from .mutations import VALUES
from .reliability import record

STUB = STUBS[0]
LABELS = ["background", "bell", "dog, large"]


@pytest.fixture(scope="module")
def model() -> l3edge.Model:
    return l3edge.load(STUB)


def clouds(size: int, clips: int = 6, spread: float = 0.2, seed: int = 0) -> learning.Windows:
    """Three labels whose embeddings lie about three directions, ten windows a clip."""
    random = np.random.default_rng(seed)
    values, label, clip = [], [], []
    for number in range(3 * clips):
        centre = np.eye(3, size)[number // clips] + spread * random.normal(size=size)
        values.append(centre + spread * random.normal(size=(10, size)))
        label += [number // clips] * 10
        clip += [number] * 10
    return learning.Windows(np.concatenate(values).astype(np.float32), np.array(label), np.array(clip))


@pytest.fixture(scope="module", params=["nearest-mean", "logistic"])
def head(request: pytest.FixtureRequest, model: l3edge.Model) -> Head:
    """One of each kind: clouds that touch are told apart by logistic regression, far ones as well by their means."""
    windows = clouds(8, spread=0.05 if request.param == "nearest-mean" else 0.3)
    made = learning.learn(windows, LABELS, model, 0.1)
    assert made.kind == request.param
    return made


def test_scores_and_decisions(model: l3edge.Model, head: Head) -> None:
    windows = clouds(8, spread=0.05, seed=1)
    scores = head.scores(windows.values)
    assert (scores.shape, scores.dtype) == ((180, 3), np.float32)
    assert scores.min() >= 0
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-6)
    assert np.mean(scores.argmax(axis=1) == windows.label) > 0.95
    decided = head.decide(windows.values)
    assert set(decided[:60]) == {UNKNOWN}  # the background
    assert decided.count("bell") > 40
    assert decided.count("dog, large") > 40
    labelling = model.with_head(head)
    np.testing.assert_array_equal(labelling.label_scores(windows.values), scores)
    assert labelling.label(windows.values[70]) == (decided[70], float(scores[70].max()))


def test_an_embedding_alone_has_the_bits_it_has_among_others(head: Head) -> None:
    values = clouds(8).values
    together = head.scores(values)
    for chunk in (1, 7, 100):
        parts = [head.scores(values[i : i + chunk]) for i in range(0, len(values), chunk)]
        np.testing.assert_array_equal(np.concatenate(parts), together)
    np.testing.assert_array_equal(head.scores(values[3]), together[3])
    assert head.scores(values[:0]).shape == (0, 3)
    assert head.decide(values[:0]) == []


def test_loudness_is_no_label(head: Head) -> None:
    values = clouds(8).values
    np.testing.assert_allclose(head.scores(values * 1000), head.scores(values), atol=1e-5)


def test_what_is_like_no_label_is_unknown(head: Head) -> None:
    novel = np.zeros((4, 8), np.float32)
    novel[0, 7], novel[1, 5], novel[2, 4], novel[3, :2] = 1, -1, np.nan, np.inf
    assert head.decide(novel) == [UNKNOWN] * 4
    assert all(head.novelty(row) > head.threshold for row in novel)
    assert np.isfinite(head.scores(novel)).all()


def test_shapes_that_are_none(head: Head) -> None:
    for wrong in (np.zeros(7), np.zeros((2, 9)), np.zeros((1, 1, 8)), "bell", None, [[1], [1, 2]]):
        with pytest.raises(l3edge.OptionError, match=r"embeddings must"):
            head.scores(wrong)
        with pytest.raises(l3edge.OptionError, match=r"embeddings must"):
            head.decide(wrong)


def test_a_file_gives_the_same_head(head: Head, model: l3edge.Model, tmp_path: Path) -> None:
    path = tmp_path / "h.json"
    head_file.write(head, path)
    again = head_file.read(path)
    assert (again.labels, again.clips, again.validation) == (head.labels, head.clips, head.validation)
    values = clouds(8).values
    np.testing.assert_allclose(again.scores(values), head.scores(values), atol=1e-5)
    assert again.decide(values) == head.decide(values)
    head_file.write(again, tmp_path / "again.json")  # from now on nothing is rounded
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()
    assert model.with_head(path).head is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.json", "h.json"]


def test_a_head_shares_its_model_and_belongs_to_no_other(head: Head, model: l3edge.Model, tmp_path: Path) -> None:
    labelling = model.with_head(head)
    assert labelling.network is model.network
    assert (labelling.identity, labelling.spec) == (model.identity, model.spec)
    assert model.head is None
    with pytest.raises(l3edge.OptionError, match="has no head to label with: `l3edge learn`"):
        model.label_scores(np.zeros(8, np.float32))
    path = tmp_path / "h.json"
    head_file.write(head, path)
    other = l3edge.load(STUBS[1])
    with pytest.raises(l3edge.HeadError, match=rf"h\.json was learned with model {model.name} \(SHA-256 .*learn again"):
        other.with_head(path)
    with pytest.raises(ValueError, match="one embedding, got 2"):
        labelling.label(np.zeros((2, 8), np.float32))
    document = json.loads(path.read_text())
    for key in ("mean", "scale"):
        document[key].append(1.0)
    for key in ("means", "weights"):
        for row in document.get(key, []):
            row.append(0.0)
    path.write_text(json.dumps(document))
    with pytest.raises(l3edge.HeadError, match="for embeddings of 9 values"):
        model.with_head(path)


# --- files that are wrong, by mistake or on purpose -------------------------------------------------------------------

Change = Callable[[dict[str, Any]], object]


def put(key: str, value: object) -> Change:
    return lambda document: document.update({key: value})


HOSTILE: list[tuple[str, Change]] = [
    ("not a head that this l3edge reads", put("format", "l3edge-head 2")),
    ("not a head that this l3edge reads", lambda document: document.pop("format")),
    ("kind must be one of", put("kind", "svm")),
    ("labels must be", put("labels", [])),
    ("labels must be", put("labels", ["bell", "bell", "dog"])),
    ("labels must be", put("labels", ["bell", "\x1b[2J", "dog"])),
    ("labels must be", put("labels", "bell")),
    ("labels must be", put("labels", [["bell"], ["x"], ["y"]])),
    ("clips must be a list of 3", put("clips", [1, 2])),
    ("clips must be whole numbers", put("clips", [1, 2, -1])),
    ("model must be a short printable text", put("model", "x\ny")),
    ("hop must be a number", put("hop", 0)),
    ("temperature must be a number", put("temperature", 0.0)),
    ("temperature must be a number", put("temperature", math.nan)),
    ("threshold must be a number", put("threshold", True)),
    ("threshold must be a number", put("threshold", 10**400)),
    ("mean must be a list", put("mean", [])),
    ("mean must be numbers", lambda document: document["mean"].__setitem__(0, math.inf)),
    ("mean must be numbers", lambda document: document["mean"].__setitem__(0, None)),
    ("scale must be numbers", lambda document: document["scale"].__setitem__(0, 0.0)),
    ("scale must be numbers", lambda document: document["scale"].pop()),
    ("means must be a list of 3", lambda document: document["means"].pop()),
    ("means must be numbers", lambda document: document["means"][1].pop()),
    ("means must be numbers", lambda document: document["means"].__setitem__(1, 3)),
    ("validation must be a JSON object", put("validation", [])),
    ("validation.candidates is missing", lambda document: document["validation"].pop("candidates")),
    ("validation.chosen must be", lambda document: document["validation"].update(chosen=64)),
    ("validation.confusion.row must be", lambda document: document["validation"]["confusion"].__setitem__(0, [1])),
    ("validation is missing", lambda document: document.pop("validation")),
]


@pytest.mark.parametrize(("message", "change"), HOSTILE)
def test_hostile_fields(head: Head, tmp_path: Path, message: str, change: Change) -> None:
    path = tmp_path / "h.json"
    head_file.write(head, path)
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(l3edge.HeadError, match=message) as caught:
        head_file.read(path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400 + len(str(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not a head"),
        (b'{"format": ' + b"9" * 5000 + b"}", "not JSON"),
        (b" " * (head_file.MOST_BYTES + 1), "larger than"),
        (STUB.read_bytes(), "not JSON"),
    ],
)
def test_files_that_are_no_heads(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "h.json").write_bytes(content)
    with pytest.raises(l3edge.HeadError, match=message):
        head_file.read(tmp_path / "h.json")
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(l3edge.HeadError, match="cannot be read"):
            head_file.read(path)


def mutant(random: Random, text: bytes) -> bytes:
    """A head's file with bytes changed, cut, doubled; or with values that are none of its own."""
    if random.random() < 0.4:
        data = bytearray(text)
        for _ in range(random.choice([1, 1, 3, 30])):
            place = random.randrange(len(data) or 1)
            change = random.choice(["set", "digit", "cut", "double"])
            if change in ("set", "digit") and data:
                data[place] = random.randrange(256) if change == "set" else random.choice(b'0123456789eE.-+,[]{}"')
            elif change == "cut":
                del data[place : place + random.choice([1, 5, 500])]
            else:
                data[place:place] = data[place : place + random.choice([1, 20, 500])]
        return bytes(data)
    document = json.loads(text)
    for _ in range(random.choice([1, 1, 2, 4])):
        parents: list[Any] = [document]
        for parent in parents:  # grows
            values = parent.values() if isinstance(parent, dict) else parent
            parents += [value for value in values if isinstance(value, (dict, list)) and value]
        parent = random.choice(parents)
        key = random.choice(list(parent) if isinstance(parent, dict) else range(len(parent)))
        change = random.choice(["set", "set", "scale", "remove", "add"])
        if change == "scale" and type(parent[key]) is float:
            parent[key] *= random.choice([-1, 1e3, 1e-9, 1e30])
        elif change == "remove":
            del parent[key]
        elif change == "add":
            parent.update({"more": 1}) if isinstance(parent, dict) else parent.append(copy.deepcopy(parent[key]))
        else:
            parent[key] = copy.deepcopy(random.choice(VALUES))
        if not document:
            break
    return json.dumps(document).encode("utf-8", "surrogatepass")


def test_a_thousand_mutants(model: l3edge.Model, tmp_path: Path) -> None:
    """Each is refused with one of our errors, or labels with finite scores."""
    originals = []
    for spread in (0.05, 0.3):
        head_file.write(learning.learn(clouds(8, spread=spread), LABELS, model, 0.1), tmp_path / "h.json")
        originals.append((tmp_path / "h.json").read_bytes())
    values = clouds(8).values[::30]
    outcomes: collections.Counter[str] = collections.Counter()
    longest = 0.0
    for seed in range(1000):
        random = Random(seed)
        (tmp_path / "mutant.json").write_bytes(mutant(random, random.choice(originals)))
        begun = time.monotonic()
        try:
            labelling = model.with_head(tmp_path / "mutant.json")
            assert labelling.head is not None
            scores = labelling.label_scores(values)
            decided = labelling.head.decide(values)
        except l3edge.Error as error:
            outcomes["refused" if "\n" not in str(error) else "refused in more than a line"] += 1
        else:
            assert scores.shape == (len(values), len(labelling.head.labels))
            assert np.isfinite(scores).all(), seed
            assert set(decided) <= {UNKNOWN, *labelling.head.labels}
            outcomes["labels"] += 1
        longest = max(longest, time.monotonic() - begun)
    assert set(outcomes) == {"refused", "labels"}
    assert outcomes["refused"] > 500
    assert outcomes["labels"] > 50  # or nobody would know whether what is accepted works
    assert longest < 10
    record("hostile-heads", {"inputs": 1000, **outcomes, "crashes": 0, "longest, s": round(longest, 3)})
