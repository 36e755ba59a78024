"""The probe: what it counts, that its intervals mean something, and the command."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not in the device environment")

import soundfile

from training import classifiers, datasets, embedders, probe, rotation
from training.cli import TrainingError
from training.datasets import Clip
from training.embeddings import Windows

STUB = Path(__file__).parent / "data" / "stub-float32.tflite"
LABELS = ("cat", "dog", "hen")


def clips(each: int = 4) -> list[Clip]:
    """Clips of which nothing is read, so many of each class in each of three folds."""
    return [
        Clip(f"{label}/{fold}-{number}{kind}-A.wav", Path("nowhere"), label, fold, f"{fold}-{number}{kind}")
        for kind, label in enumerate(LABELS)
        for fold in (1, 2, 3)
        for number in range(each)
    ]


def windows(listed: list[Clip], distance: float, each: int = 6, seed: int = 0) -> Windows:
    """Normal embeddings of 8 values, the classes' means so far apart."""
    rng = np.random.default_rng(seed)
    index = np.repeat(np.arange(len(listed)), each)
    values = rng.normal(size=(len(index), 8))
    for i, label in enumerate(LABELS):
        values[[listed[j].label == label for j in index], i] += distance
    return Windows(values.astype(np.float32), index)


def test_what_can_be_told_apart_is() -> None:
    listed = clips()
    counts = rotation.probe(windows(listed, 20.0), listed)
    assert (counts.correct == counts.windows).all()
    assert (counts.windows == 6).all()
    assert (counts.clips_correct == 1).all()


def test_what_cannot_is_at_chance() -> None:
    listed = clips(10)
    counts = rotation.probe(windows(listed, 0.0), listed)
    assert abs(counts.correct.sum() / counts.windows.sum() - 1 / 3) < 0.12


def test_clips_are_surer_than_windows() -> None:
    listed = clips(8)
    counts = rotation.probe(windows(listed, 1.5, each=20), listed)
    assert counts.clips_correct.mean() > counts.correct.sum() / counts.windows.sum() + 0.05


def test_no_clip_is_judged_by_a_probe_that_heard_it() -> None:
    """Embeddings that say which clip they are of, and nothing of its class: by heart they would be right."""
    listed = clips()
    embeddings = windows(listed, 0.0)
    alone = np.eye(len(listed), dtype=np.float32)[embeddings.clip]
    counts = rotation.probe(Windows(alone, embeddings.clip), listed)
    assert counts.correct.sum() <= counts.windows.sum() / 2


def test_a_fold_can_be_tested_alone() -> None:
    listed = clips()
    counts = rotation.probe(windows(listed, 3.0), listed, [2])
    assert {listed[i].fold for i in np.flatnonzero(counts.windows)} == {2}


def test_intervals() -> None:
    listed = clips(10)
    few, many = (
        rotation.estimate(part, counts.correct, counts.windows)
        for part, counts in ((part, rotation.probe(windows(part, 1.5), part)) for part in (listed, clips(60)))
    )
    for value, low, high in (few, many):
        assert low < value < high
    assert many.high - many.low < 0.7 * (few.high - few.low)  # six times the clips


def test_an_interval_holds_the_truth_as_often_as_it_says() -> None:
    listed = clips(10)
    ones = np.ones(len(listed))
    rng = np.random.default_rng(1)
    estimates = [rotation.estimate(listed, (rng.random(len(listed)) < 0.7) * 1.0, ones) for _ in range(200)]
    held = sum(low <= 0.7 <= high for _, low, high in estimates)
    assert 175 <= held <= 199


def test_differences_are_paired() -> None:
    listed = clips(10)
    ones = np.ones(len(listed))
    correct = (np.random.default_rng(0).random(len(listed)) < 0.7) * 1.0
    assert rotation.estimate(listed, correct, ones, correct) == (0.0, 0.0, 0.0)
    worse = correct.copy()
    worse[np.flatnonzero(correct)[0]] = 0
    difference = rotation.estimate(listed, worse, ones, correct)
    assert difference.value == pytest.approx(-1 / len(listed))
    assert difference.low < difference.high <= 0
    assert difference.high - difference.low < 0.06  # the accuracies' own intervals are 0.2 wide


def test_takes_of_one_recording_go_together() -> None:
    # Ten takes each of six recordings, all right or all wrong, are six observations and not sixty.
    takes = [Clip(f"dog/1-{i}-{t}.wav", Path("nowhere"), "dog", 1, f"1-{i}") for i in range(6) for t in "ABCDEFGHIJ"]
    each = [clip._replace(group=clip.name) for clip in takes]
    correct, ones = np.repeat([1.0, 0, 1, 1, 0, 1], 10), np.ones(60)
    together, apart = (rotation.estimate(part, correct, ones) for part in (takes, each))
    assert together.high - together.low > 2 * (apart.high - apart.low)


def test_of_many_recordings_no_more_is_held_than_of_few() -> None:
    """The interval of one draw of all at once, in a fraction of its memory."""
    rng = np.random.default_rng(1)
    listed = [Clip(f"{n}", Path("nowhere"), "dog", 1, f"{n % 600}") for n in range(900)]
    count = rng.integers(1, 9, 900).astype(float)
    correct = np.minimum(count, rng.integers(0, 9, 900))
    tracemalloc.start()
    made = rotation.estimate(listed, correct, count)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 25e6  # all at once: 48 MB, and as much for their product
    names = sorted({clip.group for clip in listed})
    place = {name: i for i, name in enumerate(names)}
    sums = np.zeros((600, 2))
    np.add.at(sums, [place[clip.group] for clip in listed], np.stack([correct, count], 1))
    drawn = np.random.default_rng(0).multinomial(600, np.full(600, 1 / 600), rotation.RESAMPLES) @ sums
    assert made == (sums[:, 0].sum() / sums[:, 1].sum(), *np.percentile(drawn[:, 0] / drawn[:, 1], [2.5, 97.5]))


@pytest.mark.parametrize(
    ("lacking", "folds", "message"),
    [
        (lambda clip: clip.fold == 2, None, "no clip of fold 2 has a window.*--folds"),
        (lambda clip: clip.fold != 1, [1], "without fold 1 there are no windows to be fitted on.*--protocol svm"),
        (lambda clip: clip.fold != 1 and clip.label != "hen", None, "no windows but those of hen"),
    ],
)
def test_folds_without_windows_are_named(
    lacking: Callable[[Clip], bool], folds: list[int] | None, message: str
) -> None:
    listed = clips()
    made = windows(listed, 1.0)
    kept = ~np.array([lacking(listed[i]) for i in made.clip])
    with pytest.raises(TrainingError, match=message):
        rotation.probe(Windows(made.values[kept], made.clip[kept]), listed, folds)


def dataset(folder: Path, folds: tuple[int, ...] = (1, 2, 3), name: str = "{fold}-{n}-A.wav") -> Path:
    rng = np.random.default_rng(0)
    for i, label in enumerate(LABELS):
        (folder / label).mkdir(parents=True)
        for fold in folds:
            for n in range(2):
                t = np.arange(16_000 * 2) / 16_000
                sound = 0.3 * np.sin(2 * np.pi * 300 * 3**i * t) + rng.normal(0, 0.01, len(t))
                soundfile.write(folder / label / name.format(fold=fold, n=n), sound, 16_000)
    return folder


def test_a_seed_moves_the_windows_and_nothing_else(tmp_path: Path) -> None:
    model = embedders.load(str(STUB))
    listed = datasets.read(dataset(tmp_path / "set"))
    first, again, other = (rotation.embed(model, listed, seed) for seed in (0, 0, 1))
    assert first.values.tobytes() == again.values.tobytes()
    assert (first.values != other.values).any()
    fewer = rotation.embed(model, listed[1:], 0)  # where a clip's windows lie is its own affair
    np.testing.assert_array_equal(fewer.values, first.values[first.clip > 0])
    assert np.bincount(first.clip).max() <= 3  # of 2 s, less up to 0.5 s


def test_quiet_windows_are_left_out(tmp_path: Path) -> None:
    model = embedders.load(str(STUB))
    listed = datasets.read(dataset(tmp_path / "set"))
    half = rotation.embed(
        model, listed[:1], 0, load=lambda clip, rate: datasets.load(clip, rate) * (np.arange(32_000) < 8_000)
    )
    assert len(half.values) <= 1
    with pytest.raises(TrainingError, match="louder than -70 dB"):
        rotation.embed(model, listed, 0, load=lambda clip, rate: 1e-5 * datasets.load(clip, rate))


def test_svm_hears_two_windows_a_second_equally_spaced() -> None:
    """Of 5 s the published ten, of 30 s the published sixty."""
    for seconds, count in ((5.0, 10), (30.0, 60), (1.0, 1)):
        rows = round((seconds - 1.0) / 0.1) + 1
        made = classifiers.spread(Windows(np.arange(rows)[:, None], np.zeros(rows, int)), 2, 1.0, 0.1)
        begins = made.values[:, 0] * 0.1
        np.testing.assert_allclose(begins, np.linspace(0, seconds - 1, count) if count > 1 else [0], atol=0.0501)
        if count > 1:
            assert len(begins) == count or seconds == 1.0
            assert (begins[0], begins[-1]) == (0, pytest.approx(seconds - 1))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return dataset(tmp_path / "set")


def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = tmp_path / "f.json"
    command = [str(STUB), str(folder), "--seeds", "0", "5", "--classes", "--no-cache"]
    assert probe.main([*command, "--json", str(figures)]) == 0
    shown = capsys.readouterr().out
    assert "window accuracy" in shown
    document = json.loads(figures.read_text())
    (result,) = document["results"]
    assert (document["data"], document["protocol"], document["labels"]) == ("set", "linear", list(LABELS))
    assert result["seeds"] == [0, 5]
    assert result["clips"] == 18
    assert set(result["by_fold"]) == {"1", "2", "3"}
    share = result["window_accuracy"]
    assert share["low"] <= share["value"] <= share["high"] <= 1
    assert np.mean(list(result["by_seed"].values())) == pytest.approx(share["value"], abs=0.1)
    by_clip = list(result["clips_by_fold"].values())
    assert result["fold_mean"] == pytest.approx(sum(by_clip) / 3)
    assert result["fold_sd"] ** 2 == pytest.approx(sum((x - sum(by_clip) / 3) ** 2 for x in by_clip) / 2)
    confusion = np.array(result["confusion"])
    assert confusion.sum() == 2 * 18  # each clip once for each seed
    assert result["clip_accuracy"]["value"] == pytest.approx(np.trace(confusion) / confusion.sum())
    for i, label in enumerate(LABELS):
        judged = result["classes"][label]
        assert judged["judged"] == 12
        assert judged["recall"] == pytest.approx(confusion[i, i] / 12)
        assert judged["precision"] == pytest.approx(confusion[i, i] / max(1, confusion[:, i].sum()))
        assert f"| {label} | 12 | {judged['recall']:.1%} | {judged['precision']:.1%} |" in shown


def test_two_models_a_picture_and_kept_embeddings(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not in the device environment")
    picture, figures = tmp_path / "c.png", [tmp_path / f"{name}.json" for name in "ab"]
    command = [str(STUB), str(STUB), str(folder), "--protocol", "svm", "--cache", str(tmp_path / "cache")]
    said = []
    for path in figures:
        assert probe.main([*command, "--plot", str(picture), "--json", str(path)]) == 0
        said.append(capsys.readouterr().err)
    assert "18 clips' embeddings were kept, 18 made" in said[0]  # the second model is the first
    assert "36 clips' embeddings were kept, 0 made" in said[1]
    assert figures[0].read_bytes() == figures[1].read_bytes()
    document = json.loads(figures[0].read_text())
    assert document["first_minus"][str(STUB)]["clip_accuracy"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert set(document["results"][0]["chosen"]["0"]) == {"1", "2", "3"}
    from PIL import Image

    with Image.open(picture) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert pixels.shape[0] > 300
    assert ((pixels[..., 2] - pixels[..., 0]) > 60).sum() > 1_000  # blue cells


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["{set}"], "is a dataset: name a model before it"),
        (["edge-m", "{set}", "--data", "{set}"], "two datasets"),
        (["edge-n", "{set}"], "no model and no dataset 'edge-n'"),
        (["edge-m", "nowhere/at/all"], "no model and no dataset 'nowhere/at/all'"),
        (["random:edge-n", "{set}"], "'edge-n' is neither a preset"),
        (["edge-m", "{set}", "--protocol", "svm", "--seeds", "1"], "draws nothing at random"),
        (["edge-m", "{set}", "--protocol", "mlp", "--folds", "1", "2"], "needs 3 folds.*found .1, 2."),
        (["edge-m", "{set}", "--folds", "7"], "two folds and two classes"),
    ],
)
def test_the_command_refuses(folder: Path, options: list[str], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        probe.main([option.format(set=folder) for option in options])


def test_which_names_are_models(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    table.touch()
    run = tmp_path / "run"
    run.mkdir()
    (run / "spec.json").touch()
    assert probe.split(["edge-m"]) == (["edge-m"], datasets.ESC10)
    assert probe.split(["edge-m", str(run)]) == (["edge-m", str(run)], datasets.ESC10)
    assert probe.split([f"{run}@640", str(folder)]) == ([f"{run}@640"], folder)
    assert probe.split(["a.tflite", f"random:{run}:3", str(table)]) == (["a.tflite", f"random:{run}:3"], table)
    assert probe.split(["edge-m"], folder) == (["edge-m"], folder)
