"""Distillation: what is asked for is what comes out, and a run that was stopped ends as if it had not been."""

from __future__ import annotations

import csv
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

for module in ("tensorflow", "tf_keras", "av", "soxr", "scipy", "sklearn", "tqdm", "matplotlib"):
    pytest.importorskip(module, reason=f"training needs {module}, which a device does not have")

import export.__main__ as exporting  # noqa: E402
from l3edge import flatbuffer, frontend  # noqa: E402
from tests import sounds  # noqa: E402
from training import (  # noqa: E402
    agreement,
    artifacts,
    correspondence,
    degraded,
    distill,
    distillation,
    embedders,
    label_networks,
    lessons,
    network,
    report,
    seeing,
    shards,
    students,
    supervised,
    tags,
    targets,
    teachers,
)
from training.backend import tf, tf_keras  # noqa: E402
from training.cli import TrainingError  # noqa: E402
from training.tf_ops import TF_OPS  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
STUB = ROOT / "tests" / "data" / "stub-float32.tflite"
WINDOW = ROOT / "tests" / "data" / "stub-window.tflite"  # one input, one output, int8
STUDENT = "separable:12-12-24-24"
QUICK = ("--student", "separable:8-8")  # nothing to learn with, but soon built


class Shape:
    """A teacher that is known by heart: how loud octaves are beside each other, and whether the lower ones win."""

    name, sample_rate, window = "shape", 16_000, 16_000
    names = ("low", "high", "dull")

    def __init__(self, rate: int = 16_000, kinds: tuple[str, ...] = ("embedding", "scores"), fail_at: int = -1) -> None:
        self.sample_rate = self.window = rate
        self.widths = {kind: width for kind, width in (("embedding", 5), ("scores", 3)) if kind in kinds}
        self.identity = f"shape {rate} {kinds}"
        self.calls, self.fail_at = 0, fail_at

    def __call__(self, samples: NDArray[np.float32], hop: int) -> dict[str, NDArray[np.float32]]:
        if self.calls == self.fail_at:
            raise KeyboardInterrupt
        self.calls += 1
        windows = np.lib.stride_tricks.sliding_window_view(samples, self.window)[::hop]
        power = np.abs(np.fft.rfft(windows)) ** 2
        hertz = np.fft.rfftfreq(self.window, 1 / self.sample_rate)
        edges = 125 * 2 ** np.arange(6)
        bands = [power[:, (hertz >= low) & (hertz < 2 * low)].mean(axis=1) for low in edges[:5]]
        level = np.log10(np.stack(bands, 1) + 1e-3 * power.mean() + 1e-9)
        level -= level.mean(axis=1, keepdims=True)
        lower = level[:, :2].mean(axis=1) - level[:, 3:].mean(axis=1)
        scores = 1 / (1 + np.exp(-4 * np.stack([lower, -lower, lower * 0 - 1], 1)))
        found = {"embedding": level.astype(np.float32), "scores": scores.astype(np.float32)}
        return {kind: found[kind] for kind in self.widths}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    held = {"validation": sounds.clips(12, 2, 1), "test": sounds.clips(12, 2, 2)}
    return sounds.write(tmp_path_factory.mktemp("distill") / "data", {"train": sounds.clips(48, 2, 0), **held})


@pytest.fixture
def shape(monkeypatch: pytest.MonkeyPatch) -> Shape:
    teacher = Shape()
    monkeypatch.setattr(teachers, "load", lambda name, wanted: teacher)
    return teacher


def arguments(data: Path, folder: Path, *more: str) -> list[str]:
    chosen = ["--data", str(data), "--run", str(folder / "run"), "--cache", str(folder.parent / "cache")]
    return [*chosen, "--student", STUDENT, "--batch", "8", "--learning-rate", "1e-2", "--warmup", "5", *more]


def dies_at_its_checkpoint(options: list[str]) -> None:
    """A run that ends when it has saved the first."""
    with pytest.MonkeyPatch.context() as patch:
        save = distillation.Distiller.save

        def dying(student: distillation.Distiller, manager: Any) -> None:
            save(student, manager)
            raise MemoryError

        patch.setattr(distillation.Distiller, "save", dying)
        with pytest.raises(MemoryError):
            distill.main(options)


def same(one: Path, two: Path, *files: str) -> None:
    with np.load(one / "weights.npz") as a, np.load(two / "weights.npz") as b:
        assert set(a) == set(b)
        for name in a:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)
    for file in files:
        assert (one / file).read_bytes() == (two / file).read_bytes(), file


@pytest.mark.parametrize(
    "name",
    [
        "pairs:6-8-8-10",
        "strided:6-8-8-10,size=12",
        "separable:6-8-8-10,step=100",
        "separable:6-8-8-10,size=12,pool=mean",
        "mobilenet:6-8-10-10-12-12-14-14-14-16,time=6,pool=mean+time",
        "mobilenet:6-8-10-10-12-12-14-14,window=2,pool=mean+time",
        "mobilenet:6-8-10-10-12-12-14-14,window=6",
        "mobilenet:6-8-10-10-12-12-14-14,time=7,halvings=4,step=100",
    ],
)
def test_columns_of_a_clip_are_those_of_its_windows(name: str) -> None:
    """What distillation trains on is what the tower makes of each window alone."""
    spec, random = students.student(name), np.random.default_rng(0)
    audio = network.student_model(spec).get_layer("audio")
    for variable in audio.weights:
        variable.assign_add(random.uniform(0, 0.2, variable.shape))
    clip = random.normal(0, 0.1, (2, 40_000)).astype(np.float32)
    hop, windows = 3200, 1 + (40_000 - spec.window) // 3200
    log_mel = frontend.features(clip, spec.front_end)[..., None]
    made = network.ClipTower(audio, spec)(log_mel, windows, hop, training=False)
    assert made.shape == (2, windows, spec.embedding_size)
    cut = np.stack([clip[:, i * hop : i * hop + spec.window] for i in range(windows)], 1).reshape(-1, spec.window)
    alone = audio(correspondence.features(cut, spec)).numpy().reshape(made.shape)
    assert alone.std() > 0.01
    np.testing.assert_allclose(made, alone, rtol=0, atol=1e-5 * alone.max())  # of float models, as in the contract


def test_learns_and_is_a_run_like_any_other(
    data: Path, tmp_path: Path, shape: Shape, capsys: pytest.CaptureFixture[str]
) -> None:
    """On sound of the same kinds that was never heard; degraded in training, and not in the evaluation."""
    assert distill.main([*arguments(data, tmp_path), "--steps", "200", "--evaluate-every", "100"]) == 0
    run = artifacts.load_run(tmp_path / "run")
    assert run.metrics["task"] == "distillation"
    assert 1 - run.metrics["test"]["embedding"] > 0.4
    with (tmp_path / "run" / "history.csv").open() as file:
        first, last = (row for row in csv.DictReader(file))
    for name in ("train_loss", "validation_embedding", "validation_scores"):
        assert float(last[name]) < float(first[name]), name
    assert (tmp_path / "run" / "learning-curve.png").read_bytes().startswith(b"\x89PNG")
    tags = artifacts.read_json(tmp_path / "run" / "tags.json")
    assert tags["names"] == list(Shape.names)
    assert set(tags["agreement"]) <= {"low", "high"}  # what the teacher never says is no tag
    assert "of the variance of shape's embedding" in capsys.readouterr().out

    # tags.json and metrics.json were measured with the weights that were saved.
    held = lessons.prepare(shards.open_data(data), "test", shape, 3200, tmp_path.parent / "cache")
    sound = held.audio[0].astype(np.float32) / 32768
    embedding = embedders.load(str(tmp_path / "run")).embed(sound, 0.2)
    assert embedding.shape == (len(held.inside[0]), run.spec.embedding_size)
    with np.load(tmp_path / "run" / "weights.npz") as weights:
        assert {name.split("/")[0] for name in weights} == {"audio", "tags"}
        scores = 1 / (1 + np.exp(-(embedding @ weights["tags/dense/kernel"] + weights["tags/dense/bias"])))
    wanted = held.outputs["scores"][0].astype(np.float32)
    assert np.abs(scores - wanted).mean() < np.abs(0.5 - wanted).mean()

    output = tmp_path / "mine.tflite"
    options = ["--output", str(output), "--recipe", "int8_ptq", "--name", "mine-1"]
    exporting.export(exporting.parser().parse_args([str(tmp_path / "run"), *options]))
    assert output.is_file()
    with pytest.raises(TrainingError, match="no image tower"):
        report.main([str(tmp_path / "run")])

    assert distill.main([*arguments(data, tmp_path), "--steps", "200", "--evaluate-every", "100"]) == 0
    assert "is finished" in capsys.readouterr().out
    shape.identity = "changed"
    with pytest.raises(TrainingError, match="other content of --teacher"):
        distill.main([*arguments(data, tmp_path), "--steps", "200", "--evaluate-every", "100"])


# Programs that kill themselves: between the notes of which records are done and of how many, and after a checkpoint.
KILLED_ASKING = """
import os, sys
from training import artifacts, distill, lessons
lessons._BLOCK, write = 16, artifacts.write_json
def dying(path, document):
    write(path, document)
    if path.name == "records.json" and len(document) == 32:
        os.kill(os.getpid(), 9)
artifacts.write_json = dying
distill.main(sys.argv[1:])
"""
KILLED_TRAINING = """
import os, sys
from training import distill, distillation
save = distillation.Distiller.save
def dying(*args):
    save(*args)
    os.kill(os.getpid(), 9)
distillation.Distiller.save = dying
distill.main(sys.argv[1:])
"""


def test_stopped_run_ends_as_the_undisturbed_one(data: Path, tmp_path: Path) -> None:
    """Killed while the teacher is asked, killed in training, and interrupted there: real processes, real signals."""
    options = [
        "--teacher",
        str(STUB),
        "--teacher-hop",
        "0.4",
        "--steps",
        "14",
        "--checkpoint-every",
        "4",
        "--evaluate-every",
        "5",
    ]
    whole, parts = tmp_path / "whole", tmp_path / "parts" / "x"
    assert distill.main([*arguments(data, whole), *options]) == 0

    for program in (KILLED_ASKING, KILLED_TRAINING):
        command = [sys.executable, "-c", program, *arguments(data, parts), *options]
        assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == -signal.SIGKILL
    assert list(parts.glob("run/checkpoints/*-4.index"))
    assert not (parts / "run" / "metrics.json").exists()

    with pytest.MonkeyPatch.context() as patch:
        rates = distill.learning_rate

        def interrupted(step: int, *others: Any) -> float:
            if step == 9:
                os.kill(os.getpid(), signal.SIGINT)
            return rates(step, *others)

        patch.setattr(distill, "learning_rate", interrupted)
        assert distill.main([*arguments(data, parts), *options]) == 130
    assert distill.main([*arguments(data, parts), *options]) == 0
    same(whole / "run", parts / "run", "history.csv", "metrics.json", "spec.json")
    with pytest.raises(TrainingError, match="--steps was 14, now 15"):
        distill.main([*arguments(data, parts), *options, "--steps", "15"])


def arrays_of(made: lessons.Lessons) -> dict[str, NDArray[Any]]:
    return {"audio": made.audio, "inside": made.inside, **made.outputs}


def test_the_teachers_outputs_are_computed_once(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lessons, "_BLOCK", 5)
    opened = shards.open_data(data)
    whole = lessons.prepare(opened, "test", Shape(), 3200, tmp_path / "whole")
    names = [record["name"] for record in whole.records]
    assert names == [clip.name for clip in sounds.clips(12, 2, 2)]
    assert whole.inside.shape == (12, 6)
    assert whole.inside.all()

    def again(teacher: Shape) -> None:
        made = lessons.prepare(opened, "test", teacher, 3200, tmp_path / "parts")
        assert made.records == whole.records
        for name, array in arrays_of(whole).items():
            np.testing.assert_array_equal(array, arrays_of(made)[name], err_msg=name)

    with pytest.raises(KeyboardInterrupt):
        lessons.prepare(opened, "test", Shape(fail_at=7), 3200, tmp_path / "parts")
    (folder,) = (tmp_path / "parts").iterdir()
    assert artifacts.read_json(folder / "done.json")["clips"] == 5
    again(teacher := Shape())
    assert teacher.calls == 7  # of 12, less the block that was done
    again(teacher := Shape())
    assert teacher.calls == 0
    # Killed between the records and the number of those that are done.
    (folder / "done.json").write_text('{"clips": 10, "of": 12}')
    again(teacher := Shape())
    assert teacher.calls == 2
    assert "damaged" not in capsys.readouterr().err

    for damage in ("embedding.npy", "audio.npy", "records.json", "done.json"):
        content = (folder / damage).read_bytes()
        (folder / damage).write_bytes(content[: len(content) // 2])
        again(teacher := Shape())
        assert teacher.calls == 12, damage
        assert "is damaged" in capsys.readouterr().err, damage
    lessons.prepare(opened, "validation", Shape(), 3200, tmp_path / "parts")
    lessons.prepare(opened, "test", Shape(kinds=("scores",)), 3200, tmp_path / "parts")
    lessons.prepare(opened, "test", Shape(), 1600, tmp_path / "parts")
    assert len(list((tmp_path / "parts").iterdir())) == 4


def test_one_computes_and_the_others_wait(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    opened, made = shards.open_data(data), []
    lessons.prepare(opened, "test", Shape(), 3200, tmp_path)
    (folder,) = tmp_path.iterdir()
    (folder / "done.json").unlink()
    with (folder / "lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        other = threading.Thread(target=lambda: made.append(lessons.prepare(opened, "test", Shape(), 3200, tmp_path)))
        other.start()
        told, deadline = "", time.monotonic() + 60
        while "waiting" not in told and time.monotonic() < deadline:
            told += capsys.readouterr().err
            time.sleep(0.01)
        assert "waiting for another process" in told
        assert not made
    other.join(timeout=60)
    assert len(made[0].records) == 12


def test_a_damaged_shard_and_a_full_disk_are_told(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied = sounds.write(tmp_path / "data", {"test": sounds.clips(6, 2, 2)})
    path = copied / "test-00000-of-00001.tfrecord"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(TrainingError, match=r"test-00000-of-00001\.tfrecord is damaged"):
        lessons.prepare(shards.open_data(copied), "test", Shape(), 3200, tmp_path / "cache")
    monkeypatch.setattr(lessons.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    with pytest.raises(TrainingError, match="give another --cache"):
        lessons.prepare(shards.open_data(data), "test", Shape(), 3200, tmp_path / "cache")


def test_windows_of_short_clips_and_of_teachers_of_another_rate(tmp_path: Path) -> None:
    """Of clips of 2, 1.5 and 3 s; the first one's length counts. A teacher at 8 kHz hears the same times."""
    clips = [sounds.clips(3, seconds, 5)[i] for i, seconds in enumerate((2, 1.5, 3))]
    opened = shards.open_data(sounds.write(tmp_path / "data", {"test": clips}))
    made = lessons.prepare(opened, "test", Shape(), 3200, tmp_path / "cache")
    assert made.audio.shape == (3, 32_000)
    assert not made.audio[1, 24_000:].any()
    np.testing.assert_array_equal(made.inside.sum(axis=1), [6, 3, 6])
    t = np.arange(32_000) / 16_000
    heard = np.where(t < 1.2, np.sin(2 * np.pi * 300 * t), np.sin(2 * np.pi * 700 * t))
    changing = [sounds.Clip("c", "c", (), (heard * 9000).astype(np.int16))]
    opened = shards.open_data(sounds.write(tmp_path / "changing", {"test": changing}))
    loudest = [
        lessons.prepare(opened, "test", Shape(rate), 1600, tmp_path / "cache").outputs["embedding"][0].argmax(axis=1)
        for rate in (16_000, 8000)
    ]
    np.testing.assert_array_equal(loudest, [[1] * 9 + [2] * 2] * 2)  # two thirds of the one from 0.9 s on
    with pytest.raises(TrainingError, match="no whole samples"):
        lessons.prepare(opened, "test", Shape(11_026), 3200, tmp_path / "cache")
    assert made.for_windows(16_000).inside.shape == (3, 6)
    assert made.for_windows(16_001).inside.shape == (3, 5)


def made_of(values: NDArray[Any], labels: list[list[str]]) -> lessons.Lessons:
    """Lessons [clips, k, d] that were never heard."""
    inside = np.ones(values.shape[:2], bool)
    records = [{"name": str(i), "group": str(i), "labels": own} for i, own in enumerate(labels)]
    return lessons.Lessons(np.zeros((len(values), 8), np.int16), inside, {"embedding": values}, records, 3200)


def test_targets_have_variance_one() -> None:
    random = np.random.default_rng(0)
    values = (random.normal(size=(40, 5, 6)) * [5, 3, 2, 1, 0.5, 0.001] + 7).astype(np.float32)
    values[:, :, 1] += values[:, :, 0]
    heard = made_of(values, [["music"] if i < 20 else ["noise"] for i in range(40)])
    clips = np.arange(40)

    def aims(kind: str, components: int | None, domain: str | None, of: NDArray[Any]) -> NDArray[np.float32]:
        made = targets.target(heard, of, kind, components, domain, 0)
        return (values[of].reshape(-1, 6) - made.mean) @ made.matrix

    standard = aims("standardise", None, None, clips)
    np.testing.assert_allclose(standard.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(standard.std(0)[:5], 1, rtol=0.3)  # but for what hardly varies
    assert standard.std(0)[5] < 0.01
    white = aims("whiten", None, None, clips)
    assert white.shape[1] == 5  # what is left out is below a ten thousandth of the variance
    np.testing.assert_allclose(np.cov(white, rowvar=False), np.eye(5), atol=1e-2)
    assert aims("whiten", 2, None, clips).shape[1] == 2
    np.testing.assert_allclose(np.cov(aims("whiten", 3, "music", clips)[:100], rowvar=False), np.eye(3), atol=1e-2)
    with pytest.raises(TrainingError, match="no training clip has the label 'speech'"):
        aims("whiten", 3, "speech", clips)
    # What is excluded has no part in it.
    values[20:] = np.nan
    assert np.isfinite(aims("standardise", None, None, heard.without({"noise"}))).all()
    with pytest.raises(TrainingError, match="nothing to learn"):
        targets.target(made_of(np.ones((4, 5, 6)), [[]] * 4), np.arange(4), "whiten", None, None, 0)


def test_excluded_clips_are_nowhere(data: Path, tmp_path: Path, shape: Shape, monkeypatch: pytest.MonkeyPatch) -> None:
    used: dict[str, set[int]] = {"target": set(), "train": set(), "evaluate": set()}

    def spied(name: str, function: Any, place: int) -> Any:
        def call(*args: Any, **more: Any) -> Any:
            used[name] |= set(args[place].tolist())
            return function(*args, **more)

        return call

    monkeypatch.setattr(distill, "target", spied("target", targets.target, 1))
    monkeypatch.setattr(distill, "batch_of", spied("train", distillation.batch_of, 1))
    evaluate = distillation.Distiller.evaluate
    monkeypatch.setattr(distillation.Distiller, "evaluate", spied("evaluate", evaluate, 2))
    assert distill.main([*arguments(data, tmp_path), *QUICK, "--steps", "1", "--exclude", "noise", "domain"]) == 0
    kept = {i for i in range(48) if i % 2 == 0 and i % 3}
    assert used == {"target": kept, "train": kept, "evaluate": {i for i in kept if i < 12}}
    for exclude, message in ((["tone", "noise"], "no clip of train and"), (["fold-3"], "no clip has the label fold-3")):
        with pytest.raises(TrainingError, match=message):
            distill.main([*arguments(data, tmp_path / exclude[0]), "--exclude", *exclude])


@pytest.mark.parametrize("crop", [1, 3])
def test_a_crop_is_sound_with_its_own_windows(data: Path, tmp_path: Path, shape: Shape, crop: int) -> None:
    """The outputs of a crop are those of the windows that its sound is of; other passes, other crops."""
    heard = lessons.prepare(shards.open_data(data), "train", shape, 3200, tmp_path / "cache")
    clips = np.arange(len(heard.records))
    batches = [distillation.batch_of(heard, clips, 0, step, 24, crop) for step in range(4)]
    length, begins = 16_000 + (crop - 1) * 3200, range(heard.inside.shape[1] - crop + 1)
    where = {heard.audio[i, b * 3200 :][:length].tobytes(): (i, b) for i in clips for b in begins}
    for batch in batches:
        assert batch["audio"].shape == (24, length)
        for number, sound in enumerate(batch["audio"]):
            clip, begin = where[sound.tobytes()]
            for kind, values in heard.outputs.items():
                np.testing.assert_array_equal(batch[kind][number], values[clip, begin : begin + crop])
    first, again = (np.concatenate([batch["audio"] for batch in batches[i : i + 2]]) for i in (0, 2))
    assert not np.array_equal(np.sort(first.sum(axis=1)), np.sort(again.sum(axis=1)))
    same_again = distillation.batch_of(heard, clips, 0, 3, 24, crop)
    np.testing.assert_array_equal(same_again["audio"], batches[3]["audio"])


def test_crops_are_loud_rather_than_quiet(data: Path, tmp_path: Path, shape: Shape) -> None:
    heard = lessons.prepare(shards.open_data(data), "train", shape, 3200, tmp_path / "cache")
    sound = np.zeros((1, 80_000), np.int16)
    sound[0, 64_000:] = 10_000
    outputs = {kind: np.zeros((1, 21, 1), np.float16) for kind in heard.outputs}
    one = heard._replace(audio=sound, inside=np.ones((1, 21), bool), outputs=outputs, records=heard.records[:1])
    batch = distillation.batch_of(one, np.zeros(1, np.int64), 0, 0, 400, 1)
    assert 0.4 < np.mean(batch["audio"].any(axis=1)) < 0.95  # 5 of 21 windows have the sound, and all may be drawn


def test_focus_takes_clips_more_often(data: Path, tmp_path: Path, shape: Shape) -> None:
    heard = lessons.prepare(shards.open_data(data), "train", shape, 3200, tmp_path / "cache")
    own = np.array([i for i, record in enumerate(heard.records) if "noise" in record["labels"]])
    made = heard.repeated(np.arange(len(heard.records)), "noise", 3)
    count = np.bincount(made, minlength=len(heard.records))
    assert set(count[own]) == {3}
    assert count.sum() == len(heard.records) + 2 * len(own)
    with pytest.raises(TrainingError, match="no training clip has the label 'nose' of --focus"):
        heard.repeated(made, "nose", 2)
    with pytest.raises(SystemExit):
        distill.main([*arguments(data, tmp_path), "--focus", "noise"])


def test_tags_are_asked_of_rotations_too(
    data: Path, tmp_path: Path, shape: Shape, capsys: pytest.CaptureFixture[str]
) -> None:
    """A rotation is asked about the clips that it was not to hear, the run itself about those held out."""
    for name, exclude in (("all", []), ("rotation", ["--exclude", "noise"])):
        assert distill.main([*arguments(data, tmp_path / name), *QUICK, "--steps", "2", *exclude]) == 0
    run, rotation, cache = tmp_path / "all" / "run", tmp_path / "rotation" / "run", tmp_path / "cache"
    assert tags.main([str(run), "--cache", str(cache)]) == 0
    alone = artifacts.read_json(run / "tags.json")
    assert tags.main([str(run), str(rotation), "--cache", str(cache)]) == 0
    both = artifacts.read_json(run / "tags.json")
    assert "| tag | windows |" in capsys.readouterr().out
    assert both["names"] == alone["names"]
    for tag, figures in alone["agreement"].items():
        assert both["agreement"][tag]["windows"] > figures["windows"]
        assert both["agreement"][tag]["groups"] > figures["groups"]
    with pytest.raises(TrainingError, match="it is no rotation"):
        tags.main([str(run), str(run), "--cache", str(cache)])


def log_mel(count: int, seconds: float, front: Any) -> NDArray[np.float32]:
    sound = np.random.default_rng(0).normal(0, 0.1, (count, round(seconds * 16_000))).astype(np.float32)
    return frontend.features(sound, front)


def only(patch: pytest.MonkeyPatch, **shares: Any) -> None:
    """Degrade every clip, and in these ways alone."""
    patch.setattr(degraded, "TOUCHED", 1.1)
    for name in ("QUIETER", "TILTED", "LIMITED", "NOISY"):
        patch.setattr(degraded, name, -1.0)
    for name, value in shares.items():
        patch.setattr(degraded, name, value)


def test_what_is_heard_is_degraded_as_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    front = students.student("edge-m").front_end
    of, seed = degraded.bands(front), tf.constant([3, 4], tf.int64)
    clean = log_mel(6, 4, front)
    magnitude = np.exp(clean) - front.offset

    def heard() -> NDArray[np.float32]:
        return np.exp(degraded.heard(clean, seed, front, of).numpy()) - front.offset

    # White noise of power 0.01 is in each band about what `bands` says.
    np.testing.assert_allclose(magnitude.mean((0, 1)), 0.1 * of.noise, rtol=0.08)
    spread = magnitude.std((0, 1)) / magnitude.mean((0, 1))
    assert (spread > 0.85 * of.spread).all()
    assert (spread < 1.6 * of.spread).all()  # of.spread takes a window's neighbouring bins for independent
    with monkeypatch.context() as patch:
        only(patch, QUIETER=1.1, LEVELS=(-12.0, -12.0))
        np.testing.assert_allclose(heard() / magnitude, 10 ** (-12 / 20), rtol=2e-2)
    with monkeypatch.context() as patch:
        only(patch, LIMITED=1.1, LOW=(300.0, 300.0), HIGH=(3400.0, 3400.0))
        ratio = 20 * np.log10(np.median(heard() / magnitude, (0, 1)))
        inside = (of.center > 300) & (of.center < 3400)
        np.testing.assert_allclose(ratio[inside], 0, atol=0.1)
        far = (of.center < 300 / 2**0.5) | (of.center > 3400 * 2**0.5)
        assert far.any()
        assert (ratio[far] < -40).all()
    with monkeypatch.context() as patch:
        only(patch, NOISY=1.1, RATIOS=(10.0, 10.0))
        added = (heard() ** 2).mean((1, 2)) - (magnitude**2).mean((1, 2))
        measured = 10 * np.log10((magnitude**2).mean((1, 2)) / added)
        assert (np.abs(measured - 10) < 1.5).all(), measured

    many = np.repeat(clean[:1, :3], 900, axis=0)
    made = degraded.heard(many, seed, front, of).numpy()
    untouched = (made == many).all((1, 2)).mean()
    assert 1 / 4 - 0.05 < untouched < 1 / 4 + 0.05
    assert np.isfinite(made).all()
    np.testing.assert_array_equal(made, degraded.heard(many, seed, front, of).numpy())
    assert np.isfinite(degraded.heard(np.full_like(many, np.log(front.offset)), seed, front, of).numpy()).all()


def test_agreement_of_known_scores() -> None:
    truth = np.array([[0.9, 0.1, 0.0], [0.8, 0.1, 0.0], [0.2, 0.7, 0.0], [0.1, 0.0, 0.0]], np.float32)
    scores = np.array([[0.9, 0.3, 0.9], [0.4, 0.6, 0.9], [0.6, 0.5, 0.9], [0.1, 0.2, 0.9]], np.float32)
    found = agreement.measure(truth, scores, np.array([0, 0, 1, 2]))
    assert set(found) == {0, 1}  # nothing has the third
    assert found[0] == agreement.Agreement(2, 1, pytest.approx((1 + 2 / 3) / 2), 0.5, 0.5)
    assert found[1] == agreement.Agreement(1, 1, pytest.approx(0.5), 0.5, 1.0)
    good = agreement.Agreement(20, 4, 0.8, 0.1, 0.1)
    assert good.good
    for worse in (good._replace(windows=19), good._replace(groups=3), good._replace(average_precision=0.79)):
        assert not worse.good
    assert agreement.selected({0: good, 1: found[0], 2: good._replace(average_precision=0.9)}, ("a", "b", "c")) == [
        "c",
        "a",
    ]


@pytest.fixture(scope="module")
def seen(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image network that tells classes of the videos which `run` was trained on."""
    folder = tmp_path_factory.mktemp("seen") / "run"
    options = ["--preset", "edge-s", "--small", "--steps", "2", "--batch", "8", "--run", str(folder)]
    assert supervised.main([*options, "--data", str(artifacts.load_run(run).data)]) == 0
    return folder


def test_learns_by_watching_as_well(data: Path, run: Path, seen: Path, tmp_path: Path, shape: Shape) -> None:
    videos = artifacts.load_run(run).data
    options = [
        *QUICK,
        "--relational",
        "0.2",
        "--videos",
        str(videos),
        "--videos-batch",
        "6",
        "--avc",
        "0.5",
        "--vision",
        "0.3",
    ]
    options += ["--vision-teacher", str(seen), "--steps", "4", "--checkpoint-every", "2", "--evaluate-every", "2"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert distill.main([*arguments(data, whole), *options]) == 0
    found = artifacts.load_run(whole / "run").metrics
    assert {"embedding", "scores", "avc", "avc_accuracy", "vision"} <= set(found["test"])
    assert set(found["train"]) >= {"train_avc", "train_vision", "validation_avc"}
    with np.load(whole / "run" / "weights.npz") as weights:
        assert {name.split("/")[0] for name in weights} == {"audio", "tags"}
    dies_at_its_checkpoint([*arguments(data, parts), *options])
    assert distill.main([*arguments(data, parts), *options]) == 0
    same(whole / "run", parts / "run", "history.csv", "metrics.json")

    alone = [*arguments(data, tmp_path / "alone"), *options, "--embedding", "0", "--scores", "0", "--relational", "0"]
    alone += ["--no-degrade", "--steps", "1"]
    assert distill.main(alone) == 0
    assert set(artifacts.load_run(tmp_path / "alone" / "run").metrics["test"]) == {"avc", "avc_accuracy", "vision"}


def test_what_the_network_began_with_is_kept(data: Path, tmp_path: Path, shape: Shape) -> None:
    """By a student that is taught by that loss alone; for sound that it cannot hear; by one that was stopped."""
    assert distill.main([*arguments(data, tmp_path / "first"), "--steps", "200", "--evaluate-every", "200"]) == 0
    begun = ["--init", str(tmp_path / "first" / "run"), "--learning-rate", "1e-3", "--steps", "150"]
    begun += ["--evaluate-every", "150", "--checkpoint-every", "50", "--embedding", "0", "--scores", "0"]
    keep = [*begun, "--keep", "1", "--no-degrade"]
    assert distill.main([*arguments(data, tmp_path / "kept"), *keep]) == 0
    metrics = artifacts.load_run(tmp_path / "kept" / "run").metrics
    assert set(metrics["test"]) == {"keep"}
    assert metrics["test"]["keep"] < 0.3

    dies_at_its_checkpoint([*arguments(data, tmp_path / "parts"), *keep])
    assert distill.main([*arguments(data, tmp_path / "parts"), *keep]) == 0
    same(tmp_path / "kept" / "run", tmp_path / "parts" / "run", "history.csv", "metrics.json")

    with pytest.MonkeyPatch.context() as patch:  # what is kept is what was given for the sound as it was
        patch.setattr(degraded, "heard", lambda log_mel, *_: tf.zeros_like(log_mel))
        deaf = [*arguments(data, tmp_path / "deaf"), *begun, "--keep", "1"]
        assert distill.main(deaf) == 0
    assert artifacts.load_run(tmp_path / "deaf" / "run").metrics["train"]["train_keep"] > 0.7
    with pytest.raises(SystemExit):
        distill.main([*arguments(data, tmp_path / "random"), "--keep", "1"])


def test_what_is_kept_is_of_sound_as_the_teacher_hears_it(data: Path, tmp_path: Path) -> None:
    """An untaught student keeps all of a clip at the teacher's own level, and has to change for a quieter one."""
    spec = students.student(STUDENT)
    heard = lessons.prepare(shards.open_data(data), "train", Shape(), 3200, tmp_path).for_windows(spec.window)
    clips = heard.without([])
    tf_keras.utils.set_random_seed(0)  # whatever ran before
    student = distillation.Distiller(
        spec, heard, None, {"embedding": 0.0, "scores": 0.0, "relational": 0.0, "keep": 1.0}
    )
    student.remember([distillation.batch_of(heard, clips, 0, step, 16, 1) for step in range(12)])
    loud = np.stack([np.round(32768 * lessons.leveled(clip)).astype(np.int16) for clip in heard.audio])
    kept, quiet, silent = (
        student.evaluate(heard._replace(audio=sound), clips)["keep"] for sound in (loud, loud // 20, 0 * loud)
    )
    assert kept < 1e-5
    assert quiet > 0.1
    assert silent == 0  # nothing is made of nothing


def test_a_louder_log_mel_is_that_of_the_louder_sound() -> None:
    front = students.student(STUDENT).front_end
    gains = np.array([1 / 8, 1, 16], np.float32)  # powers of 2 round nothing
    sound = np.stack([lessons.leveled(clip.audio) for clip in sounds.clips(3, 1, 0)]) / 20
    quiet, loud = (frontend.features(tf.constant(x), front, TF_OPS) for x in (sound, sound * gains[:, None]))
    np.testing.assert_allclose(degraded.louder(quiet, tf.constant(gains), front), loud, atol=1e-4)


def test_what_is_seen_is_told_by_its_loss(run: Path, seen: Path) -> None:
    """The divergence is 0 from itself, and else that of the definition; a step down its gradient makes it smaller."""
    teacher, spec = seeing.VisionTeacher(str(seen)), students.student(STUDENT)
    assert teacher.classes == len(artifacts.load_run(seen).metrics["labels"])
    opened = shards.open_data(artifacts.load_run(run).data)
    watched = seeing.Seeing(spec, opened, {"avc": 1.0, "vision": 1.0}, teacher, 6, 0)
    clip = next(watched.batches(0))
    embedding = tf.random.stateless_normal([6, spec.embedding_size], [1, 2])
    posteriors = teacher(clip["image"]).numpy()
    np.testing.assert_allclose(posteriors.sum(1), 1, rtol=1e-5)
    own = tf.nn.softmax(watched.classes(embedding)).numpy()
    expected = (posteriors * np.log(posteriors / own)).sum(1).mean()
    assert float(watched.losses(embedding, clip)["vision"]) == pytest.approx(expected, rel=1e-4)
    again = next(watched.batches(0))
    np.testing.assert_array_equal(clip["audio"], again["audio"])
    loaded = label_networks.Classifiers(artifacts.load_run(seen).spec, teacher.classes, 0.0)
    artifacts.load_weights(seen / "weights.npz", loaded.model)
    with np.load(seen / "heads.npz") as heads:
        for variable in loaded.heads["image"].weights:
            variable.assign(heads[f"image/{variable.name.split(':')[0]}"])
    np.testing.assert_allclose(loaded.posteriors(clip["image"], clip["audio"])["image"], posteriors, atol=1e-5)

    with pytest.raises(TrainingError, match=r"no run of training\.supervised"):
        seeing.VisionTeacher(str(run))


def test_refusals(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = arguments(data, tmp_path)
    slow = sounds.write(tmp_path / "slow", {"train": sounds.clips(1, 2, 0)}, rate=8000)
    for options, message in (
        (["--student", "pears:3-4"], "no student 'pears:3-4'"),
        (["--student", "separable:8-8-8-8,step=0"], "no student"),
        (["--student", "separable:8-8-8-8,pool=median"], "no student"),
        (["--student", "separable:8-8-8-8,pool=mean+space"], "no student"),
        (["--student", "pairs:8-8-8-8,time=5"], "no student"),
        (["--student", "l3-net"], "l3-net does not stream"),
        (["--teacher", "nobody"], "no teacher 'nobody'"),
        (["--teacher", str(WINDOW), "--embedding-tensor", "99999"], "no float32 or 8-bit tensor 99999"),
        (["--teacher", str(STUB), "--embedding-tensor", "104"], "takes one window of sound"),
        (["--teacher", str(data / "statistics.json"), "--embedding-tensor", "1"], r"is no \.tflite"),
        (["--teacher", str(STUB), "--embedding", "0"], "no output that a loss is asked for"),
        (
            ["--teacher", str(STUB), "--embedding", "0", "--relational", "1", "--scores", "0", "--data", str(slow)],
            "at 8000 Hz",
        ),
        (["--embedding", "0", "--scores", "0"], "all losses have weight 0"),
        (["--teacher-hop", "0.21"], "multiple of 0.1 s"),
        (["--videos", str(data), "--avc", "1", "--teacher", str(STUB)], "no pictures"),
    ):
        with pytest.raises(TrainingError, match=message):
            distill.main([*given, *options])
    monkeypatch.setattr(teachers, "load", lambda name, wanted: Shape(kinds=("scores",)))
    with pytest.raises(TrainingError, match="shape has no embedding to learn: give --relational 0"):
        distill.main([*given, "--relational", "1"])
    assert not (tmp_path / "run").exists()
    for options, message in (
        (["--components", "3"], "--target whiten"),
        (["--avc", "1"], "go together"),
        (["--videos", str(data)], "go together"),
        (["--videos", str(data), "--vision", "1"], "--vision-teacher"),
        (["--inherit", "--init", "elsewhere"], "one or the other"),
        (["--embedding", "-1"], "at least 0"),
        (["--embedding", "nan"], "at least 0"),
    ):
        with pytest.raises(SystemExit, match="2"):
            distill.main([*given, *options])
        assert message in capsys.readouterr().err


def test_only_a_tflite_leaves_weights_to_inherit(data: Path, tmp_path: Path, shape: Shape) -> None:
    with pytest.raises(TrainingError, match=r"shape is no \.tflite with weights"):
        distill.main([*arguments(data, tmp_path), "--inherit"])


def test_heads_begin_with_what_the_embedding_says(data: Path, tmp_path: Path) -> None:
    """Least squares, which no random head comes near; the embedding itself stays as it is."""
    spec, teacher = students.student(STUDENT), Shape()
    heard = lessons.prepare(shards.open_data(data), "train", teacher, 3200, tmp_path).for_windows(spec.window)
    clips = heard.without([])
    aims = targets.target(heard, clips, "standardise", None, None, 0)
    tf_keras.utils.set_random_seed(0)  # whatever ran before
    student = distillation.Distiller(spec, heard, aims, {"embedding": 1.0, "scores": 1.0, "relational": 0.0})
    kept = [weights.copy() for weights in student.model.get_layer("audio").get_weights()]
    before = student.evaluate(heard, clips)
    student.fit_heads([distillation.batch_of(heard, clips, 0, step, 16, 1) for step in range(12)])
    after = student.evaluate(heard, clips)
    assert after["embedding"] < 0.5 * before["embedding"]
    assert after["scores"] < before["scores"]
    for old, new in zip(kept, student.model.get_layer("audio").get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_yamnet(data: Path, tmp_path: Path) -> None:
    if not teachers.YAMNET.is_file():
        pytest.skip("no yamnet/yamnet.tflite in the folder of L3EDGE_DATA")
    teacher = teachers.load("yamnet")
    assert teacher.widths == {"embedding": 1024, "scores": 521}
    assert len(teacher.names) == 521
    made = teacher(sounds.clips(1, 2, 0)[0].audio.astype(np.float32) / 32768, 3200)
    assert made["embedding"].shape == (6, 1024)
    assert made["embedding"].min() >= 0
    assert 0 <= made["scores"].min() <= made["scores"].max() <= 1


def test_a_model_as_teacher() -> None:
    teacher = teachers.load(str(STUB))
    sound = sounds.clips(1, 2, 0)[0].audio.astype(np.float32) / 32768
    whole = teacher(sound, 3200)["embedding"]
    assert whole.shape == (6, teacher.widths["embedding"])
    np.testing.assert_allclose(teacher(sound[6400 : 6400 + teacher.window], 3200)["embedding"][0], whole[2], atol=1e-5)
    assert teachers.load(str(STUB)).identity == teacher.identity
    assert teachers.load("edge-m").identity != teacher.identity


def test_any_tflite_as_teacher(tmp_path: Path) -> None:
    """By its tensors' numbers it gives what l3edge gives by its metadata; names belong to scores."""
    (output,) = flatbuffer.parse(WINDOW.read_bytes()).subgraphs[0].outputs
    sound = sounds.clips(1, 2, 0)[0].audio.astype(np.float32) / 32768
    by_number = teachers.load(str(WINDOW), teachers.Wanted(embedding=output))
    np.testing.assert_array_equal(
        by_number(sound, 3200)["embedding"], teachers.load(str(WINDOW))(sound, 3200)["embedding"]
    )
    assert by_number.identity != teachers.load(str(WINDOW), teachers.Wanted(scores=output)).identity
    table = tmp_path / "names.csv"
    table.write_text("index,display_name\n0,Dog\n1,Cat\n")
    with pytest.raises(TrainingError, match="2 names for the 32 scores"):
        teachers.load(str(WINDOW), teachers.Wanted(scores=output, names=table))
    table.write_text("index,label\n0,Dog\n")
    with pytest.raises(TrainingError, match="no CSV file with a column display_name or name"):
        teachers.load(str(WINDOW), teachers.Wanted(scores=output, names=table))
