"""Towers trained on labels: what they learn, what the run directory is good for, and where the threshold comes from."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="TensorFlow is not in the device environment")
pytest.importorskip("av", reason="PyAV is not in the device environment")

import l3edge
from training import direct_combination, prepare, pretrain, supervised, synthesize
from training.artifacts import load_run
from training.backend import tf
from training.label_networks import Labels
from training.manifest import Item
from training.pairs import Clips
from training.shards import Data

OPTIONS = ["--preset", "edge-s", "--small", "--batch", "12", "--steps", "40"]
OPTIONS += ["--learning-rate", "1e-2", "--warmup", "5"]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 short videos of two kinds that look and sound unlike."""
    folder = tmp_path_factory.mktemp("supervised")
    made = ["--count", "48", "--seed", "1", "--seconds", "2", "--size", "48", "--kinds", "drum,rain", "--jobs", "1"]
    synthesize.main(["--out", str(folder / "v"), *made])
    prepare.main([str(folder / "v"), "--out", str(folder / "s"), "--frame-size", "48"])
    return folder / "s"


@pytest.fixture(scope="module")
def run(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "direct"
    assert supervised.main([*OPTIONS, "--data", str(shards), "--run", str(folder)]) == 0
    return folder


def metrics(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metrics.json").read_text())


def test_the_towers_learn_labels(run: Path) -> None:
    result = metrics(run)
    assert result["labels"] == ["drum", "rain"]
    for split in ("validation", "test"):
        assert result[split]["class_accuracy"]["audio"] > 0.8  # chance: 0.5
        assert result[split]["class_accuracy"]["image"] > 0.65
    assert result["test"]["accuracy"] == (result["test"]["positives"] + result["test"]["negatives"]) / 2


def test_its_towers_can_be_joined_by_a_fusion(run: Path, shards: Path, tmp_path: Path) -> None:
    """Supervised pretraining: correspondence trains what joins the towers, and leaves them as they were."""
    arguments = [*OPTIONS, "--data", str(shards), "--run", str(tmp_path / "joined"), "--steps", "2"]
    assert pretrain.main([*arguments, "--init", str(run), "--freeze-towers"]) == 0
    direct, joined = load_run(run), load_run(tmp_path / "joined")
    for before, after in zip(direct.audio_tower.weights, joined.audio_tower.weights, strict=True):
        np.testing.assert_array_equal(before, after)
    fusions = [r.model.get_layer("fusion").get_weights() for r in (direct, joined)]
    assert any((before != after).any() for before, after in zip(*fusions, strict=True))


@pytest.fixture(scope="module")
def other(run: Path, shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run on the same data but for the test split, interrupted at step 7 and gone on with."""
    data = tmp_path_factory.mktemp("other") / "s"
    shutil.copytree(shards, data)
    statistics = json.loads((data / "statistics.json").read_text())
    for part in ("shards", "splits"):
        statistics[part]["test"] = statistics[part]["train"]
    (data / "statistics.json").write_text(json.dumps(statistics))
    folder = data.parent / "run"
    arguments = [*OPTIONS, "--data", str(data), "--run", str(folder)]
    rates = supervised.learning_rate

    def interrupted(step: int, *others: Any) -> float:
        if step == 6:  # between two rows of the history
            with pytest.raises(l3edge.Error, match="another process trains in"):
                supervised.main(arguments)
            os.kill(os.getpid(), signal.SIGINT)
        return rates(step, *others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervised, "learning_rate", interrupted)
        assert supervised.main(arguments) == 130
    assert not (folder / "metrics.json").exists()
    with pytest.raises(l3edge.Error, match="seed was 0, now 1"):
        supervised.main([*arguments, "--seed", "1"])
    assert supervised.main(arguments) == 0
    return folder


def test_an_interrupted_run_goes_on_to_the_same_weights(run: Path, other: Path) -> None:
    for name in ("weights.npz", "heads.npz"):
        with np.load(run / name) as whole, np.load(other / name) as gone_on:
            for key in whole.files:
                np.testing.assert_array_equal(whole[key], gone_on[key])
    assert (run / "history.csv").read_bytes() == (other / "history.csv").read_bytes()


def test_all_arithmetic_is_float32(run: Path, shards: Path) -> None:
    tf.config.experimental.enable_tensor_float_32_execution(True)
    assert supervised.main([*OPTIONS, "--data", str(shards), "--run", str(run)]) == 0  # is finished
    assert not tf.config.experimental.tensor_float_32_execution_enabled()
    assert json.loads((run / "arguments.json").read_text())["devices"]["tensor_float_32"] is False


def test_the_report_asks_no_fusion_that_was_not_trained(run: Path, tmp_path: Path) -> None:
    for module in ("soundfile", "sklearn"):
        pytest.importorskip(module, reason=f"the report needs {module}, which a device does not have")
    from training import report

    assert report.main([str(run), "--out", str(tmp_path / "page.html"), "--clips", "8", "--units", "2"]) == 0
    content = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "python -m training.supervised --" in content
    assert "--preset edge-s" in content
    assert "training.pretrain" not in content
    assert "The fusion, which would judge" in content
    assert "own pairs, accepted" not in content
    test = metrics(run)["test"]
    assert f"<b>{100 * test['accuracy']:.1f} %</b><span>test pairs judged right" in content
    assert f"<b>{100 * test['class_accuracy']['image']:.1f} %</b><span>test clips put into a class" in content


def test_labels_are_those_of_the_videos_that_were_kept(tmp_path: Path) -> None:
    rows = [
        (Item("a", "a", labels=("rain; heavy", "wind"), group="g\udcff", split="train"), "kept"),
        (Item("b", "b", labels=("bell",), group="g\udcff", split="train"), "corrupt"),
        (Item("c", "c", labels=("drum", "wind"), group="h", split="test"), "kept"),
    ]
    data = Data(tmp_path, {}, "")
    with pytest.raises(l3edge.Error, match=r"items\.jsonl cannot be read"):
        Labels(data)
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item, _ in rows))
    (tmp_path / "videos.csv").write_text("verdict\n" + "".join(f"{verdict}\n" for _, verdict in rows))
    labels = Labels(data)
    assert labels.names == ["rain; heavy", "wind"]
    assert labels.targets(np.array([b"g\xff", b"h"])).tolist() == [[0.5, 0.5], [0, 1]]
    (tmp_path / "videos.csv").write_text("verdict\nkept\n")
    with pytest.raises(l3edge.Error, match="do not tell the videos' labels"):
        Labels(data)


def test_the_threshold_never_sees_the_test_split(run: Path, other: Path) -> None:
    """Where nothing but the test split differs, nothing but the test figures may."""
    before, after = metrics(run), metrics(other)
    assert after["threshold"] == before["threshold"] is not None
    assert after["validation"] == before["validation"]
    assert after["test"]["pairs"] != before["test"]["pairs"]


def test_videos_without_labels_are_refused(shards: Path, tmp_path: Path) -> None:
    videos = tmp_path / "v"
    videos.mkdir()
    for path in sorted((shards.parent / "v").glob("*.mp4"))[:4]:
        shutil.copy(path, videos / f"{path.name.split('-')[0]}.mp4")
    prepare.main([str(videos), "--out", str(tmp_path / "s"), "--frame-size", "48"])
    with pytest.raises(l3edge.Error, match="from a manifest with labels"):
        supervised.main([*OPTIONS, "--data", str(tmp_path / "s"), "--run", str(tmp_path / "r"), "--steps", "2"])


def test_scores_and_threshold() -> None:
    """By hand: three clips, whose pictures are told right and whose last sound is told wrong."""
    image = np.array([[1, 0], [0, 1], [1, 0]], np.float32)
    audio = np.array([[0.75, 0.25], [0.25, 0.75], [0.25, 0.75]], np.float32)
    clips = Clips(None, None, np.array([1, 0, 1]), np.array([False, False, True]))
    positive, negative = direct_combination.scores({"image": image, "audio": audio}, clips)
    assert positive.tolist() == [0.75, 0.75, 0.25]
    assert negative.tolist() == [0.25, 0.25, 0.25]
    threshold = direct_combination.best_threshold(positive, negative)
    assert threshold == 0.5
    result = direct_combination.judged(positive, negative, threshold, clips.same_label)
    assert result["positives"] == pytest.approx(2 / 3)
    assert result["negatives"] == 1
    assert result["accuracy"] == result["other_labels"] == pytest.approx(5 / 6)
    assert direct_combination.judged(positive, negative, threshold, np.ones(3, bool))["other_labels"] is None


def test_the_threshold_can_call_all_pairs_one_thing() -> None:
    ones, some = np.array([0.5, 0.5, 0.9]), np.array([0.7])
    assert direct_combination.best_threshold(ones, some) < 0.5
    assert direct_combination.best_threshold(some, ones) > 0.9
