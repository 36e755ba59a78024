"""The linear probe: what it counts, what it refuses, and that its intervals mean something."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not in the device environment")

import soundfile

import l3edge
from training import probe
from training.cli import TrainingError

STUB = Path(__file__).parent / "data" / "stub-float32.tflite"
LABELS = ("cat", "dog", "hen")


def clips(each: int = 4, seconds: float = 2.2) -> list[probe.Clip]:
    """Silent clips, so many of each class in each of three folds."""
    samples = np.zeros(round(16_000 * seconds), np.float32)
    return [
        probe.Clip(f"{label}/{fold}-{number}{kind}-A.wav", label, fold, samples)
        for kind, label in enumerate(LABELS)
        for fold in (1, 2, 3)
        for number in range(each)
    ]


def windows(listed: list[probe.Clip], distance: float, each: int = 6, seed: int = 0) -> probe.Windows:
    """Normal embeddings of 8 values, the classes' means so far apart."""
    rng = np.random.default_rng(seed)
    index = np.repeat(np.arange(len(listed)), each)
    values = rng.normal(size=(len(index), 8))
    for i, label in enumerate(LABELS):
        values[[listed[j].label == label for j in index], i] += distance
    return probe.Windows(values.astype(np.float32), index)


def test_what_can_be_told_apart_is() -> None:
    listed = clips()
    counts = probe.probe(windows(listed, 20.0), listed)
    assert (counts.correct == counts.windows).all()
    assert (counts.windows == 6).all()
    assert (counts.clips_correct == 1).all()


def test_what_cannot_is_at_chance() -> None:
    listed = clips(10)
    counts = probe.probe(windows(listed, 0.0), listed)
    assert abs(counts.correct.sum() / counts.windows.sum() - 1 / 3) < 0.12


def test_clips_are_surer_than_windows() -> None:
    listed = clips(8)
    counts = probe.probe(windows(listed, 1.5, each=20), listed)
    assert counts.clips_correct.mean() > counts.correct.sum() / counts.windows.sum() + 0.05


def test_no_clip_is_judged_by_a_probe_that_heard_it() -> None:
    """Embeddings that say which clip they are of, and nothing of its class: by heart they would be right."""
    listed = clips()
    embeddings = windows(listed, 0.0)
    alone = np.eye(len(listed), dtype=np.float32)[embeddings.clip]
    counts = probe.probe(probe.Windows(alone, embeddings.clip), listed)
    assert counts.correct.sum() <= counts.windows.sum() / 2


def test_a_fold_can_be_tested_alone() -> None:
    listed = clips()
    counts = probe.probe(windows(listed, 3.0), listed, [2])
    assert {listed[i].fold for i in np.flatnonzero(counts.windows)} == {2}


def test_intervals() -> None:
    listed = clips(10)
    few, many = (
        probe.estimate(part, counts.correct, counts.windows)
        for part, counts in ((part, probe.probe(windows(part, 1.5), part)) for part in (listed, clips(60)))
    )
    for value, low, high in (few, many):
        assert low < value < high
    assert many.high - many.low < 0.7 * (few.high - few.low)  # six times the clips


def test_an_interval_holds_the_truth_as_often_as_it_says() -> None:
    listed = clips(10)
    ones = np.ones(len(listed))
    rng = np.random.default_rng(1)
    estimates = [probe.estimate(listed, (rng.random(len(listed)) < 0.7) * 1.0, ones) for _ in range(200)]
    held = sum(low <= 0.7 <= high for _, low, high in estimates)
    assert 175 <= held <= 199


def test_differences_are_paired() -> None:
    listed = clips(10)
    ones = np.ones(len(listed))
    correct = (np.random.default_rng(0).random(len(listed)) < 0.7) * 1.0
    assert probe.estimate(listed, correct, ones, correct) == (0.0, 0.0, 0.0)
    worse = correct.copy()
    worse[np.flatnonzero(correct)[0]] = 0
    difference = probe.estimate(listed, worse, ones, correct)
    assert difference.value == pytest.approx(-1 / len(listed))
    assert difference.low < difference.high <= 0
    assert difference.high - difference.low < 0.06  # the accuracies' own intervals are 0.2 wide


def test_takes_of_one_recording_go_together() -> None:
    samples = np.zeros(16_000, np.float32)
    names = ("dog/1-211527-A.ogg", "dog/1-211527-C-12.ogg", "dog/1-22694-A.ogg", "dog/2-anything.wav")
    found = [probe.Clip(name, "dog", 1, samples).recording for name in names]
    assert found == ["1-211527", "1-211527", "1-22694", "2-anything"]
    # Ten takes each of six recordings, all right or all wrong, are six observations and not sixty.
    takes = [probe.Clip(f"dog/1-{i}-{t}.wav", "dog", 1, samples) for i in range(6) for t in "ABCDEFGHIJ"]
    each = [clip._replace(name=f"dog/1-{i}x{clip.name[-5]}-A.wav") for i, clip in enumerate(takes)]
    correct, ones = np.repeat([1.0, 0, 1, 1, 0, 1], 10), np.ones(60)
    together, apart = (probe.estimate(part, correct, ones) for part in (takes, each))
    assert together.high - together.low > 2 * (apart.high - apart.low)


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
    model = l3edge.load(STUB)
    listed = probe.read_clips(dataset(tmp_path / "set"), 16_000)
    first, again, other = (probe.embed(model, listed, seed) for seed in (0, 0, 1))
    assert first.values.tobytes() == again.values.tobytes()
    assert (first.values != other.values).any()
    fewer = probe.embed(model, listed[1:], 0)  # where a clip's windows lie is its own affair
    np.testing.assert_array_equal(fewer.values, first.values[first.clip > 0])
    assert np.bincount(first.clip).max() <= 3  # of 2 s, less up to 0.5 s


def test_quiet_windows_are_left_out(tmp_path: Path) -> None:
    model = l3edge.load(STUB)
    listed = probe.read_clips(dataset(tmp_path / "set"), 16_000)
    half = [clip._replace(samples=clip.samples * (np.arange(32_000) < 8_000)) for clip in listed[:1]]
    assert len(probe.embed(model, half, 0).values) <= 1
    with pytest.raises(TrainingError, match="louder than -70 dB"):
        probe.embed(model, [clip._replace(samples=1e-5 * clip.samples) for clip in listed], 0)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = dataset(tmp_path / "set")
    figures = tmp_path / "f.json"
    assert probe.main([str(STUB), "--data", str(folder), "--seeds", "0", "5", "--json", str(figures)]) == 0
    assert "window accuracy" in capsys.readouterr().out
    (result,) = json.loads(figures.read_text())["results"]
    assert result["seeds"] == [0, 5]
    assert result["clips"] == 18
    assert set(result["by_fold"]) == {"1", "2", "3"}
    share = result["window_accuracy"]
    assert share["low"] <= share["value"] <= share["high"] <= 1
    assert np.mean(list(result["by_seed"].values())) == pytest.approx(share["value"], abs=0.1)


@pytest.mark.parametrize(
    ("folds", "name", "message"),
    [
        ((1, 2, 4), "{fold}-{n}-A.wav", "4-0-A.wav, 6 in all.*held"),
        ((1, 5), "{fold}-{n}-A-40.wav", "folds 4 and 5"),
        ((1,), "{fold}-{n}.wav", "two folds and two classes"),
        ((1, 2), "take-{fold}-{n}.wav", "must begin with the number of its fold"),
        ((), "", "holds no <class>/<fold>"),
    ],
)
def test_refusals(tmp_path: Path, folds: tuple[int, ...], name: str, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        probe.read_clips(dataset(tmp_path / "set", folds, name), 16_000)


def test_folds_of_other_sets_may_have_any_number(tmp_path: Path) -> None:
    assert len(probe.read_clips(dataset(tmp_path / "set", (4, 5), "{fold}-{n}.wav"), 16_000)) == 12


def test_a_class_must_be_in_each_fold(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "set")
    for path in (folder / "hen").glob("2-*"):
        path.unlink()
    with pytest.raises(TrainingError, match="no hen in fold 2"):
        probe.read_clips(folder, 16_000)
