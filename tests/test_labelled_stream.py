"""A head from `l3edge learn` in a stream and in files: labels and events, the same in every format."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import l3edge
from l3edge.backlog import Block
from l3edge.config import tomllib
from l3edge.display import LiveView, Meter, Terminal
from tests.conftest import STUBS
from tests.field.clips import RATE, background, beep, knock
from tests.test_cli import ENVIRONMENT, run


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the default model learned from clips of two sounds, and of none of them."""
    folder = tmp_path_factory.mktemp("learn")
    random = np.random.default_rng(1)
    for label, sound in {"beep": beep, "knock": knock, "background": background}.items():
        (folder / label).mkdir()
        for number in range(4):
            soundfile.write(folder / label / f"{number}.wav", sound(random, 4.0), RATE)
    done = run("learn", "--output", folder / "head.json", folder)
    assert done.returncode == 0, done.stderr
    return folder / "head.json"


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4 s of nothing, of a beep, of nothing, of knocks, of nothing."""
    random = np.random.default_rng(2)
    path = tmp_path_factory.mktemp("room") / "room.wav"
    parts = [sound(random, 4.0) for sound in (background, beep, background, knock, background)]
    soundfile.write(path, np.concatenate(parts), RATE)
    return path


def test_events_are_what_was_heard(head: Path, room: Path) -> None:
    done = run("stream", "--input", room, "--head", head, "--format", "jsonl")
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    events = [record for record in records if "event" in record]
    assert [(e["event"], e["offset"] is None) for e in events] == [
        ("beep", True),
        ("beep", False),
        ("knock", True),
        ("knock", False),
    ]
    for event, begin in zip(events[1::2], (4.0, 12.0), strict=True):
        assert abs(event["onset"] - begin) <= 0.5  # the window that first hears it reaches half a second ahead
        assert abs(event["offset"] - (begin + 4.0)) <= 0.5
        assert 0.6 <= event["score"] <= 1
    hops = [record for record in records if "embedding" in record]
    model = l3edge.load().with_head(head)
    for hop in hops[::17]:
        embedding = np.array(hop["embedding"], np.float32)
        assert hop["label"] == model.label(embedding)[0]
        assert set(hop["labels"]) == {"background", "beep", "knock"}
        np.testing.assert_allclose(sorted(hop["labels"].values()), np.sort(model.label_scores(embedding)))


def test_the_same_in_every_format(head: Path, room: Path, tmp_path: Path) -> None:
    lines = run("stream", "--input", room, "--head", head, "--format", "jsonl").stdout.splitlines()
    labels = [record["label"] for record in map(json.loads, lines) if "label" in record]
    ended = [record for record in map(json.loads, lines) if record.get("offset") is not None]

    rows = list(csv.DictReader(run("stream", "--input", room, "--head", head, "--format", "csv").stdout.splitlines()))
    assert [row["label"] for row in rows] == labels
    named = {name: float(score) for name, score in rows[0].items() if name.startswith("label:")}
    assert {f"label:{name}": score for name, score in json.loads(lines[0])["labels"].items()} == named

    text = run("stream", "--input", room, "--head", head).stdout
    assert text.count(" begins\n") == text.count(" until ") == 2

    assert run("embed", room, "--head", head, "--output", tmp_path).returncode == 0
    with np.load(tmp_path / "room.npz") as made:
        assert made["label"].tolist() == labels
        assert made["labels"].shape == (len(labels), 3)
        assert made["label_names"].tolist() == ["background", "beep", "knock"]
        assert made["events"]["label"].tolist() == [record["event"] for record in ended]
        for name, digits in (("onset", 6), ("offset", 6), ("score", 4)):
            exact = made["events"][name].tolist()
            assert [record[name] for record in ended] == [round(value, digits) for value in exact]


def test_files_are_labelled_by_processes_too(head: Path, room: Path, tmp_path: Path) -> None:
    """The same bytes; and they are labelled again by another head, or by none."""
    other, another = tmp_path / "other.wav", tmp_path / "head.json"
    shutil.copy(room, other)
    another.write_text(head.read_text() + "\n")
    command = ("embed", room, other, "--output", tmp_path / "out")
    assert run(*command, "--head", head, "--jobs", 1).returncode == 0
    alone = [(tmp_path / "out" / name).read_bytes() for name in ("room.npz", "other.npz")]
    done = run(*command, "--head", head, "--jobs", 2, "--overwrite")
    assert done.stdout.count(" embeddings\n") == 2
    assert [(tmp_path / "out" / name).read_bytes() for name in ("room.npz", "other.npz")] == alone
    for options in (("--head", another), ()):
        assert run(*command, *options, "--jobs", 2).stdout.count(" embeddings\n") == 2
        assert run(*command, *options, "--jobs", 2).stdout.count(" already embedded\n") == 2


def test_a_gap_ends_what_goes_on(
    head: Path, room: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from l3edge import cli, sources

    plain = sources.file

    def torn(path: str) -> object:
        """The file, with a second lost in the middle of the beep, as a microphone loses it."""
        opened = plain(path)

        class Torn:
            def __enter__(self) -> sources.Source:
                source = opened.__enter__()
                source.blocks = (
                    block._replace(lost=source.sample_rate if number == 60 else 0)
                    for number, block in enumerate(source.blocks)
                )
                return source

            def __exit__(self, *error: object) -> None:
                opened.__exit__(None, None, None)

        return Torn()

    monkeypatch.setattr(sources, "file", torn)
    assert cli.main(["stream", "--input", str(room), "--head", str(head), "--format", "jsonl"]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    told = [record for record in records if "embedding" not in record]
    gap = next(i for i, record in enumerate(told) if "gap" in record)
    assert (told[gap]["time"], told[gap]["gap"], told[gap]["lost"]) == (6.0, 1.0, RATE)
    before, after = told[:gap], told[gap + 1 :]
    assert [record["event"] for record in before] == ["beep"]
    assert after[0]["event"] == "beep"  # ended by the gap, with its last window before it
    assert after[0]["offset"] == 5.5
    assert (after[1]["event"], after[1]["offset"]) == ("beep", None)  # and begun anew behind it
    assert after[1]["onset"] >= 7.5


def documented(mark: str, page: str = "sinks.md") -> str:
    """A block of the documentation."""
    text = (Path(__file__).parent.parent / "docs" / page).read_text()
    found = re.search(rf"<!-- {re.escape(mark)} -->\n```\w+\n(.*?)```", text, re.DOTALL)
    assert found, mark
    return found[1]


def test_the_events_in_the_documentation_end(head: Path, room: Path) -> None:
    """At a gap of half a second within the beep, at silence, and at the end, within the knocks."""
    audio = soundfile.read(room, dtype="float32")[0][: 15 * RATE]
    blocks = [Block(audio[: 11 * RATE // 2]), Block(audio[6 * RATE :], lost=RATE // 2)]
    names: dict[str, Any] = {"model": l3edge.load().with_head(head), "sample_rate": RATE, "blocks": blocks}
    exec(documented("events", "learn.md"), names)
    told = [(event.label, event.offset is None) for event in names["events"]]
    assert told == [(label, begins) for label in ("beep", "beep", "knock") for begins in (True, False)]
    before, behind, last = names["events"][1::2]
    assert before.offset == pytest.approx(5.0)
    assert behind.onset >= 6.5
    assert 14 < last.offset < 15.5


def test_the_sink_in_the_documentation_counts(head: Path, room: Path, tmp_path: Path) -> None:
    """Installed as a package is, and used by the command that is given there."""
    (tmp_path / "counter.py").write_text(documented("counter.py"))
    points = tomllib.loads(documented("entry point"))["project"]["entry-points"]["l3edge.sinks"]
    information = tmp_path / "counter-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: counter\nVersion: 1.0\n")
    listed = "".join(f"{name} = {value}\n" for name, value in points.items())
    (information / "entry_points.txt").write_text(f"[l3edge.sinks]\n{listed}")
    program, *options = shlex.split(documented("use"))
    assert program == "l3edge"
    options[options.index("home.json")] = str(head)
    path = f"{ENVIRONMENT['PYTHONPATH']}{os.pathsep}{tmp_path}"
    done = run(*options, "--input", room, cwd=tmp_path, env={**ENVIRONMENT, "PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert (tmp_path / "knocks.txt").read_text() == "1\n"


def test_a_head_of_another_model(head: Path, room: Path, tmp_path: Path) -> None:
    for command in (["stream", "--input", room], ["embed", room, "--output", tmp_path]):
        done = run(*command, "--head", head, "--model", STUBS[0])
        assert done.returncode == 1
        assert "load that model, or learn again with this one" in done.stderr
    assert not list(tmp_path.iterdir())


def test_the_live_view_shows_the_label(tmp_path: Path) -> None:
    with (tmp_path / "view").open("w+", encoding="utf-8") as out:
        view = LiveView(Terminal(out), "title", None, hop=0.5, labelled=True)
        embedding = np.arange(32, dtype=np.float32)
        for label in ("unknown", "beep", "knock", "knock"):
            view.add(embedding, None, None, label)
        view.show(Meter(2), 1.0, "lost 0")
        out.seek(0)
        assert "label    knock\n" in out.read()
