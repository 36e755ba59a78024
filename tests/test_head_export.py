"""Heads from sounds to a model file: what is fitted and judged, what a run keeps, and that the file computes it."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

pytest.importorskip("tensorflow", reason="TensorFlow is not in the device environment")

import l3edge
from export import ExportError, contract, convert, head, verify
from export import __main__ as command
from l3edge import model_file
from training import artifacts, classifiers, dense
from training import head as teaching
from training.classifiers import Rows
from training.cli import TrainingError
from training.datasets import Clip

from . import make_stub

LABELS = ("background", "hiss", "tone")


def sounds(folder: Path, folds: tuple[int, ...] = (1, 2, 3), each: int = 2) -> Path:
    """A data set of clips of 1.2 s that differ within a label, and more between labels."""
    rng = np.random.default_rng(5)
    t = np.arange(19_200) / 16_000
    for fold in folds:
        for number in range(each):
            made = {
                "tone": 0.3 * np.sin(2 * np.pi * rng.uniform(300, 900) * t),
                "hiss": rng.normal(0, rng.uniform(0.05, 0.2), len(t)),
                "background": rng.normal(0, 1e-4, len(t)),
            }
            for label, samples in made.items():
                path = folder / label / f"{fold}-{number}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, samples, 16_000)
    return folder


def toy(classes: int, distance: float, clips: int = 12, windows: int = 8) -> tuple[Rows, list[Clip]]:
    """Windows of clips of three folds; the first values tell labels apart, the others nothing, and one is constant."""
    rng = np.random.default_rng(1)
    listed = [
        Clip(f"{label}-{i}", Path("nowhere"), f"{label}", 1 + i % 3, f"{label}-{i}")
        for label in range(classes)
        for i in range(clips)
    ]
    clip = np.repeat(np.arange(len(listed)), windows)
    label, fold = (np.array(column)[clip] for column in ([int(c.label) for c in listed], [c.fold for c in listed]))
    values = rng.normal(3, 1, (len(clip), 8))
    values[np.arange(len(clip)), label] += distance
    values[:, -1] = 1
    return Rows(values.astype(np.float32), label, fold, clip), listed


def fitted(rows: Rows, clips: list[Clip], classes: int, seed: int = 0) -> teaching.Fit:
    def fit(own: Rows, heard: Any) -> tuple[dense.Layers, dict[str, float]]:
        out = dense.held_out(heard)
        return dense.fit(own, np.array([clips[i].group in out for i in own.clip]), classes, (16, 8), seed)

    return fit


# --- fitting and judging ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 3])
def test_what_can_be_told_apart_is(classes: int) -> None:
    rows, clips = toy(classes, 8.0)
    scores, rates = teaching.judged(rows, clips, classes, fitted(rows, clips, classes))
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-12)
    figures, overall = teaching.figures_of(rows, scores, [str(i) for i in range(classes)])
    assert len(rates) == overall["folds"] == 3
    assert (overall["clips"], overall["windows"]) == (12 * classes, 96 * classes)
    assert overall["clips_right"] == 1
    assert overall["known_right"] >= overall["windows_right"] > 0.95
    assert figures["1"] == {
        "clips": 12,
        "windows": 96,
        "clips_right": 1,
        "clip_precision": 1,
        "windows_right": pytest.approx(1, abs=0.1),
    }


def test_no_clip_is_judged_by_a_network_that_heard_it() -> None:
    rows, clips = toy(2, 0.0)
    heard: list[tuple[set[int], set[int]]] = []  # folds of the windows, and of the clips

    def fit(own: Rows, given: Sequence[Clip]) -> tuple[dense.Layers, dict[str, float]]:
        heard.append((set(own.fold.tolist()), {clip.fold for clip in given}))
        bias = np.array([len(heard), 0], np.float32)
        return [(np.zeros((8, 2), np.float32), bias)], {"learning_rate": float(len(heard))}

    scores, rates = teaching.judged(rows, clips, 2, fit)
    assert heard == [({2, 3}, {2, 3}), ({1, 3}, {1, 3}), ({1, 2}, {1, 2})]
    assert rates == [1, 2, 3]
    np.testing.assert_allclose(scores[:, 0], 1 / (1 + np.exp(-rows.fold)))


def test_what_stops_the_training_is_not_fitted() -> None:
    """A label that only the stopping windows have is never found, though they are told apart with ease."""
    rows, _ = toy(3, 20.0)
    stopping = (rows.label == 2) | (rows.clip % 5 == 0)
    layers, chosen = dense.fit(rows, stopping, 3, (16, 8))
    assert not (dense.scores(layers, rows.values).argmax(axis=1) == 2).any()
    assert chosen["learning_rate"] in classifiers.MLP_RATES


def test_figures_are_counts() -> None:
    """Two clips of two windows: one is right in the mean of its windows, one has a window that is unknown."""
    rows = Rows(
        np.zeros((4, 1), np.float32), *(np.array(column) for column in ([0, 0, 2, 2], [1, 1, 2, 2], [0, 0, 1, 1]))
    )
    scores = np.array([[0.9, 0.1, 0.0], [0.3, 0.6, 0.1], [0.4, 0.25, 0.35], [0.8, 0.1, 0.1]])
    figures, overall = teaching.figures_of(rows, scores, ["a", "b", "c"])
    assert figures["a"] == {"clips": 1, "windows": 2, "clips_right": 1, "windows_right": 0.5, "clip_precision": 0.5}
    assert figures["b"] == {"clips": 0, "windows": 0, "clips_right": 0, "windows_right": 0, "clip_precision": 0}
    assert figures["c"] == {"clips": 1, "windows": 2, "clips_right": 0, "windows_right": 0, "clip_precision": 0}
    assert overall == {
        "folds": 2,
        "clips": 2,
        "windows": 4,
        "clips_right": 0.5,
        "windows_right": 0.25,
        "windows_unknown": 0.25,
        "known_right": 0.3333,
    }


def test_recordings_stop_the_training_or_are_fitted() -> None:
    """A fifth of each label's, whatever comes or goes; and a recording with sounds of two labels is on one side."""
    clips = [
        Clip(f"{label}/{i}{take}", Path("nowhere"), label, 1, f"{label}-{i}")
        for label, count in (("cat", 10), ("dog", 2), ("hen", 1))
        for i in range(count)
        for take in "AB"
    ]
    out = dense.held_out(clips)
    assert {label: sum(group.startswith(label) for group in out) for label in ("cat", "dog", "hen")} == {
        "cat": 2,
        "dog": 1,
        "hen": 0,
    }
    assert dense.held_out([clip for clip in clips if clip.label != "dog"]) == {
        g for g in out if not g.startswith("dog")
    }
    both = [Clip(f"{label}/{i}", Path("nowhere"), label, 1, str(i)) for label in ("cat", "dog") for i in range(5)]
    assert len(dense.held_out(both)) == 1


def test_a_value_that_hardly_changes_does_not_decide() -> None:
    """One that is 1 in all but one window of a thousandth more moves no score, when int8 makes it a hundredth more."""
    rows, clips = toy(3, 4.0)
    rows.values[::17, -1] += 1e-3
    layers, _ = fitted(rows, clips, 3)(rows, clips)
    moved = rows.values + np.float32(1e-2) * np.eye(8, dtype=np.float32)[-1]
    assert np.abs(dense.scores(layers, moved) - dense.scores(layers, rows.values)).max() < 0.05


def test_neither_side_may_be_empty() -> None:
    rows, _ = toy(2, 1.0, clips=3)
    for stopping in (np.zeros(len(rows.values), bool), np.ones(len(rows.values), bool)):
        with pytest.raises(TrainingError, match="two of a label at least"):
            dense.fit(rows, stopping, 2)


def test_ctrl_c_within_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """scikit-learn takes it for the end of an epoch, and would go on."""
    rows, _ = toy(3, 1.0, clips=300, windows=60)  # an epoch takes seconds
    begun = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        with pytest.raises(KeyboardInterrupt):
            classifiers.mlp_fit(rows, rows, 3, 1e-3, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, begun)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "has no layers"),
        ({"fc1/kernel": np.zeros((2, 2), np.float32)}, "has no layers"),
        ({"fc1/kernel": np.zeros((2, 2), np.float32), "fc2/bias": np.zeros(2, np.float32)}, "cannot be read"),
        ({"fc1/kernel": np.zeros((2, 2)), "fc1/bias": np.zeros(2, np.float32)}, "float32, and finite"),
        ({"fc1/kernel": np.full((2, 2), np.nan, np.float32), "fc1/bias": np.zeros(2, np.float32)}, "and finite"),
        ({"fc1/kernel": np.zeros((2, 2), np.float32), "fc1/bias": np.zeros(3, np.float32)}, "do not fit"),
        ({"fc1/kernel": np.array([{}, 1]), "fc1/bias": np.zeros(2, np.float32)}, "cannot be read"),
    ],
)
def test_layers_that_are_none(tmp_path: Path, content: dict[str, np.ndarray], message: str) -> None:
    np.savez(tmp_path / "head.npz", **content)
    with pytest.raises(TrainingError, match=message):
        dense.read(tmp_path / "head.npz")


def test_layers_round_trip(tmp_path: Path) -> None:
    layers = make_stub.layers(make_stub.SPECS["head"])
    (tmp_path / "head.npz").write_bytes(dense.written(layers))
    for own, other in zip(layers, dense.read(tmp_path / "head.npz"), strict=True):
        np.testing.assert_array_equal(own[0], other[0])
        np.testing.assert_array_equal(own[1], other[1])
    (tmp_path / "head.npz").write_bytes(b"PK not an archive")
    with pytest.raises(TrainingError, match="cannot be read"):
        dense.read(tmp_path / "head.npz")


def test_what_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    _, clips = toy(3, 1.0, clips=3)
    assert teaching.allowed(clips, [], []) == clips
    left = teaching.allowed(clips, ["fold-2", "2"], ["fold-2", "fold-3", "speech"])
    assert {(clip.label, clip.fold) for clip in left} == {(label, fold) for label in "01" for fold in (1, 3)}
    told = capsys.readouterr().err
    assert told == "warning: the run was made without fold-3; --exclude fold-3 keeps it from its head too\n"
    with pytest.raises(TrainingError, match="no clip has the label fold-9 of --exclude; there are 0, 1, 2, fold-1"):
        teaching.allowed(clips, ["fold-9"], [])


# --- a run with a head ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def taught(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run with a head, by the command."""
    folder = tmp_path_factory.mktemp("taught")
    shutil.copytree(run, folder / "run")
    arguments = [str(folder / "run"), str(sounds(folder / "sounds")), "--no-cache", "--exclude", "fold-3"]
    assert teaching.main(arguments) == 0
    return folder / "run"


@pytest.fixture
def headed(taught: Path, tmp_path: Path) -> Path:
    """A copy to be changed."""
    return Path(shutil.copytree(taught, tmp_path / "run"))


def test_what_a_run_keeps(taught: Path) -> None:
    described = json.loads((taught / "head.json").read_text())
    assert described["labels"] == list(LABELS)
    assert described["source"] == "sounds, 12 clips, folds 1 2"
    assert described["arguments"]["exclude"] == ["fold-3"]
    assert list(described["figures"]) == list(LABELS)
    assert {each["clips"] for each in described["figures"].values()} == {4}
    assert described["overall"]["clips"] == 12
    assert described["overall"]["windows"] == 12 * 3
    assert described["overall"]["clips_right"] > 0.8  # of tones, hiss and near silence, by a network of random weights
    for name in ("head.npz", "weights.npz"):
        assert described["sha256"][name] == hashlib.sha256((taught / name).read_bytes()).hexdigest()
    layers = dense.read(taught / "head.npz")
    assert [kernel.shape for kernel, _ in layers] == [(128, 512), (512, 128), (128, 3)]
    assert not [path for path in taught.iterdir() if path.name.endswith(".part")]


def test_the_same_command_leaves_the_same_head(headed: Path, taught: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = str(taught.parent / "sounds")
    assert teaching.main([str(headed), data, "--no-cache", "--exclude", "fold-3"]) == 0
    assert (headed / "head.npz").read_bytes() == (taught / "head.npz").read_bytes()
    told = capsys.readouterr()
    assert [line.split(" | ")[0] for line in told.out.splitlines()[2:]] == [f"| {label}" for label in LABELS]
    assert "of 12 clips right" in told.err
    assert teaching.main([str(headed), data, "--no-cache", "--hidden", "7", "--folds", "1", "2"]) == 0
    assert [kernel.shape for kernel, _ in dense.read(headed / "head.npz")] == [(128, 7), (7, 3)]
    before = (headed / "head.npz").read_bytes()
    with pytest.raises(TrainingError, match="two folds"):
        teaching.main([str(headed), data, "--exclude", "fold-3", "fold-1"])
    with pytest.raises(TrainingError, match="has no snapshot"):
        teaching.main([f"{headed}@64", data])
    assert (headed / "head.npz").read_bytes() == before


def test_a_head_of_other_labels_takes_its_place(headed: Path, taught: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = artifacts.read_json(headed / "arguments.json")
    arguments["arguments"]["exclude"] = ["fold-2"]
    artifacts.write_json(headed / "arguments.json", arguments)
    data = str(taught.parent / "sounds")
    assert teaching.main([str(headed), data, "--no-cache", "--hidden", "5", "--exclude", "hiss", "fold-1"]) == 0
    assert "warning: the run was made without fold-2" in capsys.readouterr().err
    found = head.of_run(headed, 128)
    assert found is not None
    assert found.names == ("background", "tone")
    assert found.source == "sounds, 8 clips, folds 2 3"


def test_ctrl_c_leaves_the_run_as_it_was(headed: Path, taught: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the last moment at which there is something to lose: when all is fitted, and about to be written."""
    before = {path.name: path.stat().st_mtime_ns for path in headed.iterdir() if path.name != "lock"}

    def interrupted(_layers: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(dense, "written", interrupted)
    with pytest.raises(KeyboardInterrupt):
        teaching.main([str(headed), str(taught.parent / "sounds"), "--no-cache", "--hidden", "5"])
    assert {path.name: path.stat().st_mtime_ns for path in headed.iterdir() if path.name != "lock"} == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ([], "must be a JSON object"),
        ({"source": None}, "needs 'source' as str"),
        ({"labels": "tone"}, "needs 'labels' as list"),
        ({"sha256": "0" * 64}, "needs 'sha256' as dict"),
        ({"labels": ["background", "hiss", 3]}, "head.labels must be 1 to 1024 strings"),
        ({"labels": ["background", "hiss", []]}, "head.labels must be 1 to 1024 strings"),
        ({"labels": ["background", "hiss", "hiss"]}, "head.labels has a name twice"),
        ({"labels": ["background", "hiss", "cat"]}, "head.figures must be a table of numbers"),
        ({"overall": {"right": "all"}}, "head.overall must be a table of numbers"),
        ({"labels": ["background", "hiss"]}, "takes 128 values and gives 3 scores; for embeddings of 128 values and 2"),
        ({"sha256": {}}, "head.npz is not that of this head"),
    ],
)
def test_a_description_that_is_wrong(headed: Path, change: Any, message: str) -> None:
    described = json.loads((headed / "head.json").read_text())
    (headed / "head.json").write_text(json.dumps({**described, **change} if isinstance(change, dict) else change))
    with pytest.raises(ExportError, match=message) as caught:
        head.of_run(headed, 128)
    assert str(headed) in str(caught.value)


def test_a_head_of_other_weights(headed: Path) -> None:
    assert head.of_run(headed, 128) is not None
    with pytest.raises(ExportError, match="takes 128 values"):
        head.of_run(headed, 64)
    with (headed / "weights.npz").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ExportError, match=r"weights\.npz is not that of the run that it was trained on"):
        head.of_run(headed, 128)
    (headed / "head.npz").unlink()
    with pytest.raises(ExportError, match=r"head\.npz cannot be read"):
        head.of_run(headed, 128)
    (headed / "head.json").unlink()
    assert head.of_run(headed, 128) is None


# --- a file with a head -----------------------------------------------------------------------------------------------


def export(run: Path, output: Path, *options: str) -> None:
    command.export(command.parser().parse_args([str(run), "--output", str(output), *options]))


@pytest.mark.parametrize("recipe", ["float32", "int8_ptq"])
def test_a_run_is_exported_with_its_head(
    headed: Path, taught: Path, tmp_path: Path, recipe: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.tflite"
    export(headed, path, "--recipe", recipe)
    assert "scores of head: largest error" in capsys.readouterr().err
    file, model = model_file.read(path), l3edge.load(path)
    assert set(file.signatures) == {"stream", "head", "window"}
    assert model.head is not None
    assert model.head.labels == LABELS
    described = json.loads((headed / "head.json").read_text())
    assert file.head == {
        **{key: described[key] for key in ("labels", "source", "overall")},
        "figures": [described["figures"][label] for label in LABELS],
    }
    assert 0 < model.metadata["parity"]["head_max_error"] < 1e-5
    subgraph = file.graph.subgraphs[file.graph.signatures["head"].subgraph]
    assert {tensor.dtype for tensor in subgraph.tensors} == {"float32"}
    assert {operator.version for operator in subgraph.operators} == {1}
    right, count = 0, 0
    for clip in sorted((taught.parent / "sounds").glob("*/3-*.wav")):  # which it has not heard
        embeddings = model.embed(*l3edge.audio.read(clip))[0]
        want = dense.scores(dense.read(headed / "head.npz"), embeddings)
        np.testing.assert_allclose(model.label_scores(embeddings), want, rtol=0, atol=1e-5)
        right += model.head.decide(embeddings[0]) == (
            "unknown" if clip.parent.name == "background" else clip.parent.name
        )
        count += 1
    assert count == 6
    assert right >= 4
    load = functools.cache(lambda threads: l3edge.load(path, threads=threads))
    contract.check(load, contract.sounds(2, 24_000), 16_000, [1600])
    assert verify.structure(file).passed
    checks = {check.name: check for check in verify.verify(path, headed)}
    assert checks["parity"].passed
    assert checks["stored"].passed
    assert not [check for check in checks.values() if check.passed is False]
    assert "head" in {name.split(" on ")[0] for name in checks}
    for name in ("head.json", "head.npz"):
        (headed / name).unlink()
    with pytest.raises(ExportError, match=r"has a head that .* has not, or not these"):
        list(verify.parity_checks(file, headed, None, [], None))


def test_a_stored_figure_that_is_another(headed: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    export(headed, path, "--recipe", "float32")
    file = model_file.read(path)
    parity = {**file.metadata["parity"], "head_max_error": 0.5}
    model_file.write(path, file.flatbuffer, {**file.metadata, "parity": parity})
    checks = {check.name: check for check in verify.parity_checks(model_file.read(path), headed, None, [], None)}
    assert checks["stored"].passed is False
    assert "head_max_error is 0.5 in the file" in checks["stored"].told


def test_the_edge_tpus_file_and_snapshots_have_no_head(headed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained = command.load_run(headed)
    assert command.scoring_of(trained, "cpu")[1] is not None
    assert command.scoring_of(trained, "edgetpu") == (None, None)
    assert "without the run's head: a file for the Edge TPU" in capsys.readouterr().err
    assert command.scoring_of(dataclasses.replace(trained, clips=64_000), "cpu") == (None, None)


def test_scores_that_are_not_the_heads_are_not_written(
    headed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right: Callable[[head.Head], Any] = convert.head_function

    def wrong(made: head.Head) -> Any:
        *hidden, (kernel, bias) = made.layers
        moved = bias + np.array([0.01, 0, 0], np.float32)
        return right(dataclasses.replace(made, layers=[*hidden, (kernel, moved)]))

    monkeypatch.setattr(convert, "head_function", wrong)
    with pytest.raises(
        ExportError, match=r"not written.*largest error of a label's score is 0\.00\d+, the limit is 1e-05"
    ):
        export(headed, tmp_path / "m.tflite", "--recipe", "float32")
    assert not (tmp_path / "m.tflite").exists()


def test_the_stub_has_the_head_that_its_script_gives_it(tmp_path: Path) -> None:
    make_stub.make("head", tmp_path / "stub.tflite")
    kept, made = l3edge.load(make_stub.DATA / "stub-head.tflite"), l3edge.load(tmp_path / "stub.tflite")
    assert made.metadata["head"] == kept.metadata["head"]
    embeddings = kept.embed(contract.sounds(9, 40_000), 16_000)[0]
    np.testing.assert_allclose(made.label_scores(embeddings), kept.label_scores(embeddings), rtol=0, atol=1e-5)
