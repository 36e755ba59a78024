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
from training import content, experiment_runs, experiment_tables, experiments
from training.manifest import Item

ROOT = Path(__file__).parents[1]
SCRIPTS = ("amount", "content", "controls", "l3-net", "representations")
SMALLEST = {"PRESET": "edge-s", "STEPS": "4", "BATCH": "4", "SNAPSHOT_EVERY": "8", "COUNT": "12", "KINDS": "bell,dog"}
SMALLEST |= {"DOWNSTREAM_COUNT": "8"}


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
    done = script("amount", str(folder), "--small", **SMALLEST, L3EDGE_DATA=str(folder / "no ESC-10"))
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
    kept = [path for path in work.rglob("*") if path.is_file() and path.parent != work and path.name != "index.csv"]
    before = {path: path.stat().st_mtime_ns for path in kept}  # synthesize writes its index again
    document = json.loads((work / "amount.json").read_text())
    again = script("amount", str(work), "--small", **SMALLEST, L3EDGE_DATA=str(work / "no ESC-10"))
    assert again.returncode == 0, again.stderr[-3000:]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert json.loads((work / "amount.json").read_text())["rows"] == document["rows"]


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [("FRAME_SIZE", "66", "--frame-size 64 there, 66 here"), ("STEPS", "8", "--steps was 4, now 8")],
)
def test_another_command_is_not_answered_by_finished_results(work: Path, name: str, value: str, told: str) -> None:
    done = script("amount", str(work), "--small", **{**SMALLEST, name: value}, L3EDGE_DATA=str(work / "no ESC-10"))
    assert done.returncode == 1
    assert told in done.stderr


def test_towers_are_probed_on_what_they_have_not_heard(work: Path, tmp_path: Path) -> None:
    """On a set of its own, as there is no ESC-10; asked about what they know, the table says so."""
    document = json.loads((work / "amount.json").read_text())
    assert "downstream downstream" in document["rows"][0]["values"]
    trained, probed = ({path.read_bytes() for path in (work / name).glob("*.mp4")} for name in ("videos", "downstream"))
    assert (len(trained), len(probed)) == (12, 8)
    assert not trained & probed
    assert "were trained on" not in (work / "amount.md").read_text()
    asked = ["amount", str(work), "--out", str(tmp_path), "--probe-seeds", "0", "--dataset", str(work / "videos")]
    assert experiments.main(asked) == 0
    statistics = json.loads((work / "shards" / "statistics.json").read_text())
    known = f"The towers were trained on {statistics['splits']['train']['videos']} of the 12 clips of videos: "
    assert known in (tmp_path / "amount.md").read_text()


def test_a_set_that_has_changed_is_probed_anew(work: Path, tmp_path: Path) -> None:
    """Under the same path, one clip fewer."""
    shutil.copytree(work / "downstream", tmp_path / "set")
    shutil.copytree(work / "runs", tmp_path / "runs")
    dataset = experiment_runs.Dataset.parse(str(tmp_path / "set"))
    prober = experiment_runs.Prober(tmp_path, "linear", seeds=(0,))
    run = tmp_path / "runs" / "amount-0"
    first = prober(str(run), run / "weights.npz", dataset)
    assert first["clips"] == 8
    assert prober(str(run), run / "weights.npz", dataset) == first
    index = tmp_path / "set" / "index.csv"
    index.write_text("\n".join(index.read_text().splitlines()[:-1]) + "\n")
    assert prober(str(run), run / "weights.npz", dataset)["clips"] == 7


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name != "amount"])
def test_tables_and_figures(work: Path, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From runs of two seeds, which one run stands for: what is drawn does not depend on how they differ."""
    conditions = list(experiments.EXPERIMENTS[name].labels)
    for condition in conditions:
        for seed in (0, 1) if name == "l3-net" else (0,):
            shutil.copytree(work / "runs" / "amount-0", tmp_path / "runs" / f"{condition}-{seed}")
    (tmp_path / "out").mkdir()
    arguments = [name, str(tmp_path), "--out", str(tmp_path / "out"), "--probe-seeds", "0"]
    assert experiments.main([*arguments, "--dataset", f"music={work / 'downstream'}"]) == 0
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


def test_scripts_are_shell() -> None:
    paths = sorted((ROOT / "training/runs").glob("*.sh"))
    assert {path.stem for path in paths} >= {*SCRIPTS, "experiment"}
    for path in paths:
        subprocess.run(["bash", "-n", str(path)], check=True)


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_say_how_they_are_used(name: str) -> None:
    for arguments in ([], ["work"], ["work", "--tiny"]):  # neither videos nor --small; an unknown option
        done = script(name, *arguments)
        assert done.returncode == 2
        assert done.stderr == f'usage: bash training/runs/{name}.sh WORK (VIDEOS... | --small) [--seeds "0 1 2"]\n'


@pytest.fixture
def said(tmp_path: Path) -> Path:
    """A python that only says what it is asked."""
    path = tmp_path / "python"
    path.write_text(f'#!/bin/sh\n[ "$1" = -c ] && exec {sys.executable} "$@"\nprintf "[%s] " "$@"\necho\n')
    path.chmod(0o755)
    return path


def lines(done: subprocess.CompletedProcess[str], module: str) -> list[str]:
    """What was asked of a module, in words with spaces between them."""
    assert done.returncode == 0, done.stderr
    asked = [line.strip()[1:-1].replace("] [", " ") for line in done.stdout.splitlines()]
    return [line.removeprefix(f"-m training.{module} ") for line in asked if line.startswith(f"-m training.{module} ")]


def test_full_size_commands_are_the_published_ones(tmp_path: Path, said: Path) -> None:
    """What the scripts would run."""
    for name, preset, options in (
        ("l3-net", "l3-net", "--steps 234375 --batch 256 --learning-rate 1e-4"),
        ("representations", "openl3-mel128", "--steps 1228800 --batch 64 --learning-rate 1e-5"),
        ("amount", "openl3-mel256", "--steps 1228800 --batch 64 --learning-rate 1e-5"),
    ):
        done = script(name, str(tmp_path / name), "clips", "--seeds", "0 1", PYTHON=str(said), PYTHONPATH=str(ROOT))
        assert lines(done, "prepare") == [f"clips --out {tmp_path / name}/shards --sample-rate 48000 --frame-size 256"]
        trained = [line for line in lines(done, "pretrain") if line.startswith(f"--preset {preset} ")]
        assert len(trained) == 2
        for seed, line in enumerate(trained):
            assert "--small" not in line
            assert f"--seed {seed} {options}" in line
            assert "--strategy mirrored --negatives 1" in line
            assert ("--snapshot-every 2621440" in line) == (name == "amount")
        assert lines(done, "experiments")[0].startswith(f"{name} {tmp_path / name} --protocol ")
        assert not lines(done, "synthesize")


@pytest.mark.parametrize("tune", ["", "1"])
def test_the_controls_share_their_towers(tmp_path: Path, said: Path, tune: str) -> None:
    """Classifiers, their towers joined by a fusion, and correspondence alone: all with the published settings."""
    work = tmp_path / "work"
    done = script("controls", str(work), "clips", PYTHON=str(said), PYTHONPATH=str(ROOT), FINE_TUNE=tune)
    common = "--seed 0 --steps 234375 --batch 256 --learning-rate 1e-4 --warmup 1000"
    (direct,) = lines(done, "supervised")
    assert direct == f"--preset l3-net --data {work}/shards --run {work}/runs/direct-0 {common}"
    pretrained, alone = lines(done, "pretrain")
    assert f"--run {work}/runs/pretrained-0 {common} " in pretrained
    assert f"--init {work}/runs/direct-0" in pretrained
    assert ("--freeze-towers" in pretrained) == (tune == "")
    assert f"--run {work}/runs/avc-0 {common} " in alone
    assert "--init" not in alone
    assert "--freeze-towers" not in alone
    assert lines(done, "experiments") == [f"controls {work} --protocol svm"]


def test_contents_are_labels_that_may_have_commas(tmp_path: Path, said: Path) -> None:
    work = tmp_path / "work"
    asked = {"MUSIC": "Violin, fiddle;Flute", "CONTENT": "--ontology o.json", "PREPARE": "--ontology o.json"}
    asked["DATASET"] = "music=G.csv environmental=E"
    done = script("content", str(work), "s.csv", PYTHON=str(said), PYTHONPATH=str(ROOT), **asked)
    (manifests,) = lines(done, "content")
    assert manifests.startswith(f"s.csv --out {work}/manifests --ontology o.json --music ")
    assert "[--music] [Violin, fiddle] [--music] [Flute] [--environmental] [environmental]" in done.stdout
    prepared, trained = lines(done, "prepare"), lines(done, "pretrain")
    for shards, run, of in zip(prepared, trained, content.CONTENTS, strict=True):
        assert shards.startswith(f"{work}/manifests/{of}.csv --out {work}/shards-{of} --sample-rate 48000 ")
        assert shards.endswith(" --ontology o.json")
        assert f"--data {work}/shards-{of} --run {work}/runs/{of}-0 --seed 0 --steps 1228800 --batch 64 " in run
    (drawn,) = lines(done, "experiments")
    assert drawn == f"content {work} --protocol mlp --dataset music=G.csv --dataset environmental=E"


@pytest.mark.parametrize("name", ["controls", "content"])
def test_small_towers_are_probed_on_videos_of_another_seed(tmp_path: Path, said: Path, name: str) -> None:
    """Unless ESC-10 is there or a set is named; contents have sets of their own."""
    (tmp_path / "esc10").mkdir()
    for data, named, sets in (("nowhere", "", 1), ("", "", 0), ("nowhere", "set.csv", 0)):
        more = {"L3EDGE_DATA": str(tmp_path / data), "DATASET": named, "PYTHONPATH": str(ROOT)}
        done = script(name, str(tmp_path / "work"), "--small", PYTHON=str(said), **more)
        made = [line for line in lines(done, "synthesize") if f"--out {tmp_path}/work/downstream" in line]
        assert len(made) == (sets if name != "content" else 0 if named else 2)
        assert all("--seed 2 " in line for line in made)


def test_contents_have_the_same_number_of_videos(tmp_path: Path) -> None:
    """Of 40 music, 24 environmental and 5 videos of both kinds; a label has a comma in it."""
    violin = "Violin, fiddle"
    rows = [("guitar",)] * 20 + [(violin,)] * 20 + [("rain",)] * 24 + [("guitar", "rain")] * 5
    videos = tmp_path / "videos.csv"
    with videos.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("path", "labels"))
        for number, labels in enumerate(rows):
            (tmp_path / f"{number}.mp4").touch()
            table.writerow((f"{number}.mp4", ";".join(labels)))
    arguments = [str(videos), "--out", str(tmp_path / "m"), "--music", "guitar", "--environmental", "rain"]
    arguments += ["--music", violin]
    assert content.main(arguments) == 0
    read = {}
    for name in content.CONTENTS:
        with (tmp_path / "m" / f"{name}.csv").open(newline="") as file:
            read[name] = list(csv.DictReader(file))
    splits = [sorted(row["split"] for row in own) for own in read.values()]
    assert splits[0] == splits[1] == splits[2]
    assert {row["labels"] for row in read["music"]} == {"guitar", violin}
    assert {row["labels"] for row in read["environmental"]} == {"rain"}
    mixed = [row["labels"] for row in read["mixed"]]
    assert mixed.count("guitar") + mixed.count(violin) == mixed.count("rain") == len(mixed) / 2 > 5
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
