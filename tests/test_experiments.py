"""The published experiments: their scripts, and the tables and figures drawn from run directories."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("tensorflow", reason="TensorFlow is not in the device environment")
pytest.importorskip("sklearn", reason="scikit-learn is not in the device environment")
pytest.importorskip("matplotlib", reason="matplotlib is not in the device environment")

from matplotlib.image import imread

import l3edge
from training import content, experiment_tables, experiments
from training.manifest import Item

ROOT = Path(__file__).parents[1]
SCRIPTS = ("amount", "content", "controls", "l3-net", "representations")
SMALLEST = {"PRESET": "edge-s", "STEPS": "4", "BATCH": "4", "SNAPSHOT_EVERY": "8", "COUNT": "12", "KINDS": "bell,dog"}


def script(name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(ROOT / "training/runs" / f"{name}.sh"), *arguments],
        env={**os.environ, "PYTHON": sys.executable, **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `amount.sh --small` leaves, with everything as small as it gets."""
    folder = tmp_path_factory.mktemp("experiments") / "work"
    done = script("amount", str(folder), "--small", DATASET=str(folder / "videos"), **SMALLEST)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "| 0 | – |" in done.stdout
    return folder


def test_the_amount_script(work: Path) -> None:
    """Its curve begins at no training, and has a point for each snapshot; all it says of itself is in the JSON."""
    document = json.loads((work / "amount.json").read_text())
    assert [row["clips"] for row in document["rows"]] == [0, 8, 16]
    (run,) = document["runs"]
    assert run["run"] == "amount-0"
    assert run["arguments"]["preset"] == "edge-s"
    assert run["arguments"]["small"] is True
    assert run["data"]["videos"] == 12
    measured = run["metrics"]["validation"]["accuracy"]
    assert document["rows"][-1]["values"]["avc"]["mean"] == pytest.approx(measured)
    assert (work / "amount.md").read_text().startswith("# Amount of training (small)\n")
    assert imread(work / "amount.png").shape[2] == 4


def test_the_same_command_again_changes_nothing(work: Path) -> None:
    """Finished steps are kept: no model is trained or probed anew."""
    before = {path: path.stat().st_mtime_ns for path in work.rglob("*") if path.is_file() and path.parent != work}
    document = json.loads((work / "amount.json").read_text())
    arguments = ["amount", str(work), "--dataset", str(work / "videos"), "--protocol", "linear", "--probe-seeds", "0"]
    assert experiments.main(arguments) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert json.loads((work / "amount.json").read_text())["rows"] == document["rows"]


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name != "amount"])
def test_tables_and_figures(work: Path, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From runs of two seeds, which one run stands for: what is drawn does not depend on how they differ."""
    conditions = list(experiments.EXPERIMENTS[name].labels)
    for condition in conditions:
        for seed in (0, 1) if name == "l3-net" else (0,):
            shutil.copytree(work / "runs" / "amount-0", tmp_path / "runs" / f"{condition}-{seed}")
    (tmp_path / "out").mkdir()
    arguments = [name, str(tmp_path), "--out", str(tmp_path / "out"), "--probe-seeds", "0"]
    assert experiments.main([*arguments, "--dataset", f"music={work / 'videos'}"]) == 0
    table = (tmp_path / "out" / f"{name}.md").read_text()
    assert capsys.readouterr().out == table
    document = json.loads((tmp_path / "out" / f"{name}.json").read_text())
    accuracy = json.loads((work / "runs/amount-0/metrics.json").read_text())["test"]["accuracy"]
    rows = {row["name"]: row for row in document["rows"]}
    assert list(rows) == (["random"] if name == "controls" else []) + conditions
    for condition in conditions:
        values = rows[condition]["values"]
        assert values["avc"]["mean"] == accuracy
        assert 0 <= values["downstream music"]["mean"] <= 1
        assert f"| {rows[condition]['label']} |" in table
        if name == "l3-net":
            assert values["avc"]["seeds"] == {"0": accuracy, "1": accuracy}
            assert values["downstream music"]["sd"] == 0
            assert f"{accuracy * 100:.1f} % ± 0.0" in table
    if name == "content":
        assert [row["matched"] for row in rows.values()] == [["downstream music"], [], []]
    assert ("published" in json.dumps(document["rows"])) is False  # they are beside ours, not among them
    assert imread(tmp_path / "out" / f"{name}.png").shape[2] == 4


def test_runs_that_are_missing_are_named(work: Path) -> None:
    with pytest.raises(l3edge.Error, match="no finished run called openl3-linear-SEED or openl3-mel128-SEED"):
        experiments.main(["representations", str(work), "--dataset", str(work / "videos")])


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_shell_and_say_how_they_are_used(name: str) -> None:
    path = ROOT / "training/runs" / f"{name}.sh"
    subprocess.run(["bash", "-n", str(path)], check=True)
    for arguments in ([], ["work"], ["work", "--tiny"]):  # neither videos nor --small; an unknown option
        done = script(name, *arguments)
        assert done.returncode == 2
        assert done.stderr == f'usage: bash training/runs/{name}.sh WORK (VIDEOS... | --small) [--seeds "0 1 2"]\n'


def test_full_size_commands_are_the_published_ones(tmp_path: Path) -> None:
    """What the scripts would run, by a python that only says what it is asked."""
    said = tmp_path / "python"
    said.write_text(f'#!/bin/sh\n[ "$1" = -c ] && exec {sys.executable} "$@"\necho "$@"\n')
    said.chmod(0o755)
    for name, preset, options in (
        ("l3-net", "l3-net", "--steps 234375 --batch 256 --learning-rate 1e-4"),
        ("representations", "openl3-mel128", "--steps 1228800 --batch 64 --learning-rate 1e-5"),
        ("amount", "openl3-mel256", "--steps 1228800 --batch 64 --learning-rate 1e-5"),
    ):
        done = script(name, str(tmp_path / name), "clips", "--seeds", "0 1", PYTHON=str(said), PYTHONPATH=str(ROOT))
        assert done.returncode == 0, done.stderr
        assert "-m training.prepare clips" in done.stdout
        assert "--sample-rate 48000 --frame-size 256" in done.stdout
        trained = [line for line in done.stdout.splitlines() if f"training.pretrain --preset {preset}" in line]
        assert len(trained) == 2
        for seed, line in enumerate(trained):
            assert "--small" not in line
            assert f"--seed {seed} {options}" in line
            assert "--strategy mirrored --negatives 1" in line
            assert ("--snapshot-every 2621440" in line) == (name == "amount")
        assert f"training.experiments {name} {tmp_path / name}" in done.stdout


def test_contents_have_the_same_number_of_videos(tmp_path: Path) -> None:
    """Of 40 music, 24 environmental and 5 videos of both kinds."""
    rows = [("guitar",)] * 40 + [("rain",)] * 24 + [("guitar", "rain")] * 5
    videos = tmp_path / "videos.csv"
    with videos.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("path", "labels"))
        for number, labels in enumerate(rows):
            (tmp_path / f"{number}.mp4").touch()
            table.writerow((f"{number}.mp4", ";".join(labels)))
    arguments = [str(videos), "--out", str(tmp_path / "m"), "--music", "guitar", "--environmental", "rain"]
    assert content.main(arguments) == 0
    read = {}
    for name in content.CONTENTS:
        with (tmp_path / "m" / f"{name}.csv").open(newline="") as file:
            read[name] = list(csv.DictReader(file))
    splits = [sorted(row["split"] for row in own) for own in read.values()]
    assert splits[0] == splits[1] == splits[2]
    assert {row["labels"] for row in read["music"]} == {"guitar"}
    assert {row["labels"] for row in read["environmental"]} == {"rain"}
    mixed = [row["labels"] for row in read["mixed"]]
    assert mixed.count("guitar") == mixed.count("rain") == len(mixed) / 2 > 5
    assert content.main([*arguments[:2], str(tmp_path / "again"), *arguments[3:]]) == 0
    for name in content.CONTENTS:
        assert (tmp_path / "m" / f"{name}.csv").read_bytes() == (tmp_path / "again" / f"{name}.csv").read_bytes()


def test_too_few_videos_of_a_content_are_refused() -> None:
    items = [Item(f"{n}", f"/{n}", labels=("x",), group=f"{n}", split="train") for n in range(3)]
    with pytest.raises(l3edge.Error, match="0 music and 1 environmental videos"):
        content.matched(items[:2], items)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        ({"mean": 0.7219, "sd": None, "low": None, "high": None}, "72.2 %"),
        ({"mean": 0.7219, "sd": None, "low": 0.68, "high": 0.7611}, "72.2 % (68.0 to 76.1)"),
        ({"mean": 0.7219, "sd": 0.0131, "low": None, "high": None}, "72.2 % ± 1.3"),
    ],
)
def test_values_are_written_with_their_spread(value: dict[str, float | None] | None, text: str) -> None:
    assert experiment_tables.percent(value) == text
