"""Searching an archive: what is found, how the index grows, and what it survives."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

import l3edge
from l3edge import index, model_file, search

from .conftest import STUBS
from .reliability import record
from .sinking import small_disk
from .test_cli import COMMAND, ENVIRONMENT, assert_one_line_error, run
from .test_learn import sound

STUB = STUBS[0]
RATE = 16_000


def write(path: Path, samples: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, RATE)
    return path


def planted(seed: int, at: float | None = None) -> np.ndarray:
    """Eight seconds of noise, with the query's tone in one of them."""
    made = sound("noise", seed, 8.0)
    if at is not None:
        made[round(at * RATE) : round((at + 1) * RATE)] = sound("tone", 1, 1.0)
    return made


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    write(tmp_path / "query.wav", sound("tone", 1, 1.0))
    write(tmp_path / "archive" / "a.wav", planted(1))
    write(tmp_path / "archive" / "2024" / "may" / "b.flac", planted(2, 3.0))
    write(tmp_path / "archive" / "2024" / "c, d.wav", planted(3, 6.0))
    write(tmp_path / "archive" / ".hidden" / "e.wav", planted(4, 1.0))
    (tmp_path / "archive" / "notes.txt").write_text("not sound")
    return tmp_path / "archive"


def ask(archive: Path, *options: object) -> subprocess.CompletedProcess[str]:
    return run("search", "--model", STUB, archive.parent / "query.wav", archive, *options)


def moments(archive: Path, *options: object) -> list[dict[str, object]]:
    done = ask(archive, "--format", "jsonl", *options)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


# --- what is found ----------------------------------------------------------------------------------------------------


def test_planted_sounds_are_found_where_they_are(archive: Path) -> None:
    first, second, *others = moments(archive)
    assert {(first["file"], first["time"]), (second["file"], second["time"])} == {
        ("2024/may/b.flac", 3.5),
        ("2024/c, d.wav", 6.5),
    }
    for moment in (first, second):
        assert isinstance(moment["score"], float)
        assert moment["score"] > 0.99
    assert all(moment["score"] < second["score"] for moment in others)
    assert len(others) <= 8
    assert not any(str(moment["file"]).startswith(".hidden") for moment in others)


def test_formats_and_top(archive: Path) -> None:
    wanted = moments(archive, "--top", 3)
    assert len(wanted) == 3
    header, *rows = csv.reader(ask(archive, "--top", 3, "--format", "csv").stdout.splitlines())
    assert header == ["file", "time", "score"]
    assert [(file, float(time), float(score)) for file, time, score in rows] == [tuple(m.values()) for m in wanted]
    lines = ask(archive, "--top", 2).stdout.splitlines()
    assert {line.split(maxsplit=2)[2] for line in lines} == {"2024/may/b.flac", "2024/c, d.wav"}
    assert {line.split()[1] for line in lines} == {"0:03.5", "0:06.5"}


def test_scores_are_cosines_of_the_model_s_embeddings(archive: Path) -> None:
    model = l3edge.load(STUB)
    audio, rate = l3edge.audio.read(archive / "a.wav")
    embeddings, times = model.embed(audio, rate, hop=0.5)
    wanted = search.query(model, archive.parent / "query.wav").astype(np.float64)
    cosines = embeddings @ wanted / np.linalg.norm(embeddings, axis=1)
    found = {m["time"]: m["score"] for m in moments(archive, "--top", 1000) if m["file"] == "a.wav"}
    best = int(np.argmax(cosines))
    assert found[float(times[best])] == pytest.approx(cosines[best], abs=2e-3)  # of float16


@pytest.mark.parametrize("hop", [0.1, 0.3, 0.4, 0.7, 1.5])
def test_neighbours_of_a_better_moment_are_the_same_hit(hop: float, archive: Path) -> None:
    """Also where a window is no whole number of hops."""
    times: dict[object, list[float]] = {}
    for moment in moments(archive, "--top", 1000, "--hop", hop):
        assert isinstance(moment["time"], float)
        times.setdefault(moment["file"], []).append(moment["time"])
    assert min(np.diff(sorted(own)).min() for own in times.values() if len(own) > 1) >= 1.0 - 1e-9


def test_peaks_are_those_of_a_plain_search() -> None:
    numbers = np.random.default_rng(0)
    for apart in (1, 2, 5, 10):
        scores = numbers.integers(0, 6, 60).astype(np.float32)  # with many equals
        plain = []
        for k in range(60):
            before, after = scores[max(0, k - apart + 1) : k], scores[k + 1 : k + apart]
            if not (before >= scores[k]).any() and not (after > scores[k]).any():
                plain.append((k, float(scores[k])))
        assert search._peaks(scores, apart) == plain


def test_a_query_is_the_mean_of_what_is_heard_in_it(archive: Path) -> None:
    model = l3edge.load(STUB)
    tone = sound("tone", 1, 1.0)
    padded = write(archive.parent / "padded.wav", np.concatenate([np.zeros(4 * RATE, np.float32), tone]))
    alone = search.query(model, archive.parent / "query.wav")
    assert search.query(model, padded) @ alone > 0.8
    silent = write(archive.parent / "silent.wav", np.zeros(2 * RATE))
    assert_one_line_error(run("search", "--model", STUB, silent, archive), 1, "silent.wav: digital silence")


# --- the index --------------------------------------------------------------------------------------------------------


def files_of(folder: Path) -> list[str]:
    lines = map(json.loads, (folder / index.FILES).read_text().splitlines())
    return [line["file"] for line in lines if "file" in line]


def test_only_what_is_new_is_added(archive: Path) -> None:
    before = moments(archive)
    rows = (archive / ".l3edge" / index.ROWS).read_bytes()
    assert moments(archive) == before
    assert (archive / ".l3edge" / index.ROWS).read_bytes() == rows
    write(archive / "new.wav", planted(9, 2.0))
    assert ("new.wav", 2.5) in [(m["file"], m["time"]) for m in moments(archive)[:3]]
    assert (archive / ".l3edge" / index.ROWS).read_bytes().startswith(rows)
    assert files_of(archive / ".l3edge") == ["a.wav", "2024/c, d.wav", "2024/may/b.flac", "new.wav"]


def test_files_that_changed_or_went(archive: Path) -> None:
    moments(archive)
    write(archive / "2024" / "c, d.wav", planted(3, 0.5))
    (archive / "2024" / "may" / "b.flac").unlink()
    found = moments(archive, "--top", 1000)
    assert found[0]["file"] == "2024/c, d.wav"
    assert found[0]["time"] == 1.0
    assert {m["file"] for m in found} == {"a.wav", "2024/c, d.wav"}


def test_files_that_cannot_be_read_are_told_once_and_then_counted(archive: Path) -> None:
    (archive / "text.wav").write_text("not sound")
    whole = (archive / "a.wav").read_bytes()
    (archive / "cut.wav").write_bytes(whole[: len(whole) // 2])
    (archive / "gone.wav").symlink_to("nowhere.wav")

    def told() -> list[str]:
        done = ask(archive)
        assert done.returncode == 0
        assert len(done.stdout.splitlines()) == 10
        lines: list[str] = done.stderr.splitlines()
        assert all(line.startswith("l3edge: warning: ") for line in lines)
        return lines

    counted = "l3edge: warning: 3 files that cannot be read are left out"
    *first, last = told()
    assert [name for line in first for name in ("text.wav", "cut.wav", "gone.wav") if name in line] == [
        *("cut.wav", "gone.wav", "text.wav"),
    ]
    assert last == counted
    assert told() == [counted]
    (archive / "text.wav").write_text("still not sound")  # changed: news
    changed, last = told()
    assert "text.wav" in changed
    assert last == counted
    (archive / "cut.wav").write_bytes(whole)
    (archive / "gone.wav").unlink()
    assert told() == ["l3edge: warning: 1 file that cannot be read is left out"]
    for wrong in ("[" * 10_000, "[1]", "{", '{"text.wav": {}}'):  # which costs no more than to be told again
        (archive / ".l3edge" / "unreadable.json").write_text(wrong)
        assert len(told()) == 2


def test_an_index_belongs_to_its_model_and_hop(archive: Path) -> None:
    moments(archive)
    done = run("search", "--model", STUBS[1], archive.parent / "query.wav", archive)
    assert_one_line_error(done, 1, "made with model stub-int8", "remove the folder to index anew")
    assert_one_line_error(ask(archive, "--hop", 0.1), 2, "moments every 0.5 s")
    assert_one_line_error(ask(archive, "--hop", 0.07), 2, "hop must be a multiple")
    assert len(moments(archive, "--hop", 0.5)) == 10


def test_a_model_without_the_default_hop_has_the_nearest(archive: Path, tmp_path: Path) -> None:
    """The stub at another rate: its step of 1600 samples is 0.0726 s, of which seven are 0.508 s."""
    file = model_file.read(STUB)
    spec = dataclasses.replace(file.spec, front_end=dataclasses.replace(file.spec.front_end, sample_rate=22_050))
    known = {key: file.metadata[key] for key in ("name", "recipe", "target", "parity", "provenance")}
    model_file.write(tmp_path / "m.tflite", file.flatbuffer, {**known, "spec": spec.to_json()})
    for _ in range(2):
        done = run("search", "--model", tmp_path / "m.tflite", tmp_path / "query.wav", archive)
        assert done.returncode == 0, done.stderr
    assert index.Index(archive / ".l3edge").about.hop == pytest.approx(7 * 1600 / 22_050)
    refused = ("--hop", 0.5, "--index", tmp_path / "elsewhere")
    done = run("search", "--model", tmp_path / "m.tflite", tmp_path / "query.wav", archive, *refused)
    assert_one_line_error(done, 2, "use 0.507936508")
    assert not (tmp_path / "elsewhere").exists()


def test_an_index_elsewhere(archive: Path, tmp_path: Path) -> None:
    """As of an archive that is read-only; here its index folder cannot be made, since a file has that name."""
    (archive / ".l3edge").write_text("")
    assert_one_line_error(ask(archive), 1, "say where with --index DIR")
    assert moments(archive, "--index", tmp_path / "elsewhere", "--top", 1)[0]["time"] in (3.5, 6.5)
    assert (tmp_path / "elsewhere" / index.ABOUT).is_file()


def test_bad_usage(archive: Path, tmp_path: Path) -> None:
    assert_one_line_error(ask(archive, "--top", 0), 2, "--top must be at least 1")
    assert_one_line_error(ask(archive / "none"), 1, "query.wav: no such file")
    assert_one_line_error(ask(archive.parent / "none"), 1, "none: no such folder")
    assert_one_line_error(ask(archive.parent / "query.wav"), 1, "query.wav: not a folder")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("not sound")
    assert_one_line_error(ask(tmp_path / "empty"), 1, f"no audio file in {tmp_path / 'empty'}")
    assert [path.name for path in (tmp_path / "empty").iterdir()] == ["notes.txt"]


def test_rows_are_read_in_blocks(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same moments, whatever the block; no block is larger than it."""
    wanted = moments(archive, "--top", 1000)
    monkeypatch.setattr(index, "BLOCK", 3)
    opened = index.Index(archive / ".l3edge")
    for entry in opened.entries.values():
        assert max(len(block) for block in opened.blocks(entry)) == 3
    direction = search.query(l3edge.load(STUB), archive.parent / "query.wav")
    found = search.search(opened, list(opened.entries.values()), direction, 1.0, 1000)
    assert [(m.file, m.time) for m in found] == [(m["file"], m["time"]) for m in wanted]


def made_index(folder: Path) -> index.Index:
    return index.create(folder, index.About.of(l3edge.load(STUB), 0.5))


def test_what_fails_adds_nothing(tmp_path: Path) -> None:
    opened = made_index(tmp_path / "i")

    def failing():  # type: ignore[no-untyped-def]
        yield np.ones((5, 8), np.float32)
        raise l3edge.AudioError("truncated")

    with opened.writing() as writer:
        writer.add("a", 1, 1, [np.ones((3, 8), np.float32)])
        with pytest.raises(l3edge.AudioError):
            writer.add("b", 1, 1, failing())
        with pytest.raises(l3edge.AudioError, match="too long"):
            writer.add("c" * index.MOST_LINE, 1, 1, [np.ones((3, 8), np.float32)])
        writer.add("d", 1, 1, [])
    again = index.Index(tmp_path / "i")
    assert {name: entry.rows for name, entry in again.entries.items()} == {"a": 3, "d": 0}
    assert (tmp_path / "i" / index.ROWS).stat().st_size == 3 * 8 * 2
    assert list(again.blocks(again.entries["d"])) == []


def test_a_full_disk_adds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that takes but a part, and then none: what a disk does that fills up."""
    opened = made_index(tmp_path / "i")
    with opened.writing() as writer:
        writer.add("a", 1, 1, [np.ones((3, 8), np.float32)])
        with monkeypatch.context() as patch:
            patch.setattr(index, "_write", lambda file, data: (file.write(data[:7]), os.write(9999, b"")))
            with pytest.raises(OSError, match="Bad file descriptor"):
                writer.add("b", 1, 1, [np.ones((3, 8), np.float32)])
        writer.add("c", 1, 1, [np.ones((2, 8), np.float32)])
    again = index.Index(tmp_path / "i")
    assert [(entry.file, entry.row, entry.rows) for entry in again.entries.values()] == [("a", 0, 3), ("c", 3, 2)]


def test_two_writers(tmp_path: Path) -> None:
    first, second = made_index(tmp_path / "i"), made_index(tmp_path / "i")
    with first.writing() as writer:
        writer.add("a", 1, 1, [np.ones((3, 8), np.float32)])
        with pytest.raises(l3edge.Error, match="another process is adding"), second.writing():
            pass
    with second.writing() as writer:  # which read it before "a" was there
        writer.add("b", 1, 1, [np.ones((2, 8), np.float32)])
    assert [entry.row for entry in index.Index(tmp_path / "i").entries.values()] == [0, 3]


# --- what changed or went ---------------------------------------------------------------------------------------------


def values(file: str, mtime_ns: int) -> np.ndarray:
    """Rows that no other file has, nor another state of it."""
    return np.random.default_rng([int(file), mtime_ns]).normal(size=(5, 8)).astype(np.float32)


def assert_whole(opened: index.Index) -> None:
    """Each entry has the rows that it was added with."""
    for entry in opened.entries.values():
        (rows,) = opened.blocks(entry)
        wanted = values(entry.file, entry.mtime_ns)
        np.testing.assert_allclose(rows, wanted / np.linalg.norm(wanted, axis=1, keepdims=True), atol=1e-3)


def change(opened: index.Index, files: list[str], mtime_ns: int) -> None:
    """Add files anew; those that there were before and are not given have gone."""
    with opened.writing() as writer:
        writer.compact({name for name in opened.entries if int(name) % 3 == 0})
        for name in files:
            writer.add(name, 1, mtime_ns, [values(name, mtime_ns)])


def test_an_index_of_files_that_change_does_not_grow(tmp_path: Path) -> None:
    """A third of twelve files stays, the others change: what is dead may take as much room as what lives."""
    folder = tmp_path / "i"
    opened = made_index(folder)
    change(opened, [str(k) for k in range(12)], 0)
    sizes = []
    for when in range(1, 30):
        change(opened, [str(k) for k in range(12) if k % 3], when)
        assert_whole(opened)
        again = index.Index(folder)
        assert again.entries == opened.entries
        assert len(again.entries) == 12
        assert {path.name for path in folder.iterdir()} == {index.ABOUT, index.FILES, again.rows_path.name}
        sizes.append(sum(path.stat().st_size for path in folder.iterdir()))
    assert again.generation > 5
    assert max(sizes) < 3000


def test_a_search_reclaims_what_changed_or_went(archive: Path) -> None:
    moments(archive)
    (archive / "2024" / "may" / "b.flac").unlink()
    for at in (0.5, 2.5, 4.5):
        write(archive / "2024" / "c, d.wav", planted(3, at))
        found = moments(archive, "--top", 1000)
        assert (found[0]["file"], found[0]["time"]) == ("2024/c, d.wav", at + 0.5)
    assert files_of(archive / ".l3edge") == ["a.wav", "2024/c, d.wav"]
    (rows,) = (archive / ".l3edge").glob("rows*")
    assert rows.stat().st_size == 2 * 15 * 8 * 2


def test_a_search_beside_a_copy_says_so(tmp_path: Path) -> None:
    opened = made_index(tmp_path / "i")
    change(opened, ["0"], 0)
    beside = index.Index(tmp_path / "i")
    change(opened, ["1", "2"], 1)
    change(opened, ["1", "2"], 2)
    assert index.Index(tmp_path / "i").generation == 1
    with pytest.raises(l3edge.Error, match="search again"):
        list(beside.blocks(beside.entries["0"]))


def test_a_disk_too_full_for_a_copy(tmp_path: Path) -> None:
    """It has room for what is added, and not for a copy besides."""
    with small_disk(tmp_path / "disk") as disk:
        opened = made_index(disk.path / "i")
        with opened.writing() as writer:
            for name in "abc":
                writer.add(name, 1, 1, [np.ones((20_000, 8), np.float32)])
        with opened.writing() as writer:
            writer.compact({"c"})
            writer.add("d", 1, 1, [np.ones((3, 8), np.float32)])
        again = index.Index(disk.path / "i")
        assert (again.generation, set(again.entries)) == (0, set("abcd"))
        assert {path.name for path in again.folder.iterdir()} == {index.ABOUT, index.FILES, index.ROWS}
        subprocess.run(["mount", "-o", "remount,size=2m", str(disk.path)], check=True)
        with opened.writing() as writer:
            writer.compact({"c"})
        again = index.Index(disk.path / "i")
        assert (again.generation, set(again.entries), again.rows) == (1, {"c"}, 20_000)


COPYING = """
import sys
from pathlib import Path
from l3edge import index
from tests.test_search import change
opened = index.Index(Path(sys.argv[1]))
print(flush=True)
time = 1 + max(entry.mtime_ns for entry in opened.entries.values())
while True:
    change(opened, [str(k) for k in range(12) if k % 3], time)
    time += 1
"""


@pytest.mark.once
def test_kill_9_while_it_is_copied(tmp_path: Path) -> None:
    """What stays is there, and right, after each kill; and in the end nothing is left over."""
    opened, numbers, generations = made_index(tmp_path / "i"), random.Random(5), [0]
    change(opened, [str(k) for k in range(12)], 0)
    for _ in range(20):
        process = subprocess.Popen(
            [sys.executable, "-c", COPYING, str(tmp_path / "i")], stdout=subprocess.PIPE, env=ENVIRONMENT
        )
        assert process.stdout
        process.stdout.readline()
        time.sleep(numbers.uniform(0.0, 0.1))
        process.kill()
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
        again = index.Index(tmp_path / "i")
        assert_whole(again)
        assert {entry.file for entry in again.entries.values() if entry.mtime_ns == 0} == {"0", "3", "6", "9"}
        generations.append(again.generation)
    assert generations == sorted(generations)
    assert generations[-1] > 20
    change(again, ["1"], again.entries["0"].mtime_ns)
    assert {path.name for path in again.folder.iterdir()} == {index.ABOUT, index.FILES, again.rows_path.name}
    record("index-killed-copying", {"kills": 20, "copies": generations[-1], "broken": 0})


# --- faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.once
def test_kill_9_leaves_whole_files(tmp_path: Path) -> None:
    """Killed at random moments, gone on with, and in the end byte for byte what it is without."""
    query = write(tmp_path / "query.wav", sound("tone", 1, 1.0))
    for number in range(40):
        write(tmp_path / "archive" / f"{number:02}.wav", planted(number, 3.0 if number % 7 == 0 else None))
    command = [*COMMAND, "search", "--model", str(STUB), str(query), str(tmp_path / "archive"), "--hop", "0.1"]
    clean = [*command, "--index", str(tmp_path / "clean")]
    begun = time.monotonic()
    done = subprocess.run(clean, capture_output=True, text=True, env=ENVIRONMENT, check=True, timeout=120)
    whole, numbers = time.monotonic() - begun, random.Random(3)
    killed = grew = 0
    for number in range(5):
        folder = tmp_path / str(number)
        adding = [*command, "--index", str(folder)]
        while True:
            process = subprocess.Popen(
                adding, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
            )
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(numbers.uniform(0.2, 0.8) * whole)
            process.kill()
            out, errors = process.communicate(timeout=60)
            if process.returncode == 0:
                break
            assert (process.returncode, errors) == (-signal.SIGKILL, "")
            killed += 1
            if (folder / index.ABOUT).exists():
                entries = index.Index(folder).entries.values()
                assert all(entry.rows == 71 for entry in entries)
                grew = max(grew, len(entries))
        assert out == done.stdout
        for name in (index.ROWS, index.FILES):
            assert (folder / name).read_bytes() == (tmp_path / "clean" / name).read_bytes()
    assert killed >= 5
    assert grew > 0
    record("index-killed", {"kills": killed, "indexes": 5, "broken": 0})


MANY = 500  # files: indexing them takes longer than a signal that comes late


def test_ctrl_c_leaves_a_whole_index(tmp_path: Path) -> None:
    query = write(tmp_path / "query.wav", sound("tone", 1, 1.0))
    for number in range(MANY):
        write(tmp_path / "archive" / f"{number:03}.wav", planted(number % 60))
    process = subprocess.Popen(
        [*COMMAND, "search", "--model", str(STUB), str(query), str(tmp_path / "archive"), "--hop", "0.1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    list_ = tmp_path / "archive" / ".l3edge" / index.FILES
    while process.poll() is None and not (list_.exists() and list_.stat().st_size > 500):
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    assert (process.returncode, out, errors) == (130, "", "l3edge: interrupted\n")
    opened = index.Index(tmp_path / "archive" / ".l3edge")
    assert 3 < len(opened.entries) < MANY
    assert (tmp_path / "archive" / ".l3edge" / index.ROWS).stat().st_size == opened.rows * opened.row_bytes


Damage = Callable[[Path], object]


def edit(name: str, **values: object) -> Damage:
    """The last line of a file, or all of it, with other values."""

    def damage(folder: Path) -> None:
        *lines, last = (
            (folder / name).read_text().splitlines() if name == index.FILES else [(folder / name).read_text()]
        )
        (folder / name).write_text("\n".join([*lines, json.dumps(json.loads(last) | values)]) + "\n")

    return damage


def generation(value: object) -> Damage:
    """A list of files that says of which copy it is."""

    def damage(folder: Path) -> None:
        text = (folder / index.FILES).read_text()
        (folder / index.FILES).write_text(json.dumps({"generation": value}) + "\n" + text)

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        *(
            edit(index.ABOUT, **{key: value})
            for key, value in (("format", "x"), ("hop", 0), ("hop", -0.5), ("hop", 1e9))
        ),
        *(edit(index.ABOUT, embedding_size=value) for value in (0, -8, 2**40, 8.0, "8", None)),
        edit(index.ABOUT, more=1),
        edit(index.ABOUT, model=[]),
        *(edit(index.FILES, row=value) for value in (0, -1, 10**18, 10**400, 1.5, True, None)),
        *(edit(index.FILES, rows=value) for value in (16, -1, 2**62, 10**30, "1")),
        *(edit(index.FILES, size=value) for value in (1.5, 2**63, None)),
        *(generation(value) for value in (0, -1, 1, 1.5, 10**400, "../x", None, True)),
        edit(index.FILES, file=3),
        edit(index.FILES, more=1),
        lambda folder: (folder / index.FILES).write_text("[" * 5000 + "\n"),
        lambda folder: (folder / index.FILES).write_text("\n"),
        lambda folder: (folder / index.FILES).write_bytes(b"\xff\xfe\n"),
        lambda folder: (folder / index.FILES).write_text("x" * 100_000),
        lambda folder: (folder / index.ABOUT).write_text("{" * 100_000),
        lambda folder: (folder / index.ABOUT).write_bytes(b"\xff"),
        lambda folder: os.truncate(folder / index.ROWS, 10),
        lambda folder: (folder / index.ROWS).unlink(),
    ],
)
def test_a_damaged_index_is_refused(archive: Path, damage: Damage) -> None:
    moments(archive)
    damage(archive / ".l3edge")
    done = ask(archive)
    assert_one_line_error(done, 1, "a damaged one; remove", "to index anew")
    shutil.rmtree(archive / ".l3edge")
    assert len(moments(archive)) == 10


def test_what_a_killed_writer_left_is_cut_off(archive: Path) -> None:
    wanted = moments(archive)
    rows, files = archive / ".l3edge" / index.ROWS, archive / ".l3edge" / index.FILES
    before = rows.read_bytes(), files.read_bytes()
    rows.write_bytes(before[0] + b"\x7f" * 101)
    files.write_bytes(before[1] + b'{"file": "x.wav", "si')
    assert moments(archive) == wanted
    write(archive / "z.wav", planted(5))
    moments(archive)
    assert len(rows.read_bytes()) == len(before[0]) + 15 * 8 * 2
    assert files.read_bytes().startswith(before[1])
    assert files_of(archive / ".l3edge")[-1] == "z.wav"


def test_rows_that_are_no_numbers(archive: Path) -> None:
    """Any bits are float16: NaN and infinity among them score nothing, and no path of an index is ever opened."""
    moments(archive)
    rows = archive / ".l3edge" / index.ROWS
    rows.write_bytes(np.random.default_rng(1).bytes(rows.stat().st_size))
    for moment in moments(archive, "--top", 1000):
        assert np.isfinite(moment["score"])


# --- an archive of somebody else's ------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", ["none", "some"])
@pytest.mark.parametrize("name", [index.ABOUT, index.FILES, index.ROWS])
@pytest.mark.parametrize("kind", ["link", "link to nothing", "pipe", "folder"])
def test_what_is_no_file_is_never_opened(kind: str, name: str, rows: str, archive: Path) -> None:
    """Whatever it leads to stays as it was, and nobody waits for what never comes."""
    theirs = archive.parent / "precious"
    theirs.write_bytes(b"binary without an end of line" * 100)
    if rows == "some":
        moments(archive)
        write(archive / "new.wav", planted(5))
    else:
        made_index(archive / ".l3edge")
    path = archive / ".l3edge" / name
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(theirs if kind == "link" else archive.parent / "made")
    assert_one_line_error(ask(archive), 1, f"{name}: ", "remove", "to index anew")
    assert theirs.read_bytes() == b"binary without an end of line" * 100
    assert not (archive.parent / "made").exists()


def test_an_index_that_is_a_link_must_be_asked_for(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (archive / ".l3edge").symlink_to(tmp_path / "elsewhere")
    assert_one_line_error(ask(archive), 1, ".l3edge is a link", "--index DIR")
    assert not list((tmp_path / "elsewhere").iterdir())
    assert len(moments(archive, "--index", archive / ".l3edge")) == 10
