"""Rotating files: whole records under names that never collide, whatever ends the process or fills the disk."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import l3edge
from l3edge.records import Event, Gap
from l3edge.sinks import Sink, journal, open_sink
from l3edge.sinks.outbox import Outbox
from tests.reliability import record
from tests.sinking import STARTED, Disk, about, arrays, finished, hop, lines, numbers, small_disk, until

FORMATS = ["jsonl", "npz"]
ROOT = Path(__file__).parent.parent
TAGS, LABELS = ("Dog", "Rain"), ("door", "glass, broken")


def files(folder: Path, kind: str = "jsonl", **options: Any) -> Sink:
    return open_sink("files", {"dir": str(folder), "format": kind, "fsync-seconds": 0.05, **options}, about())


@contextlib.contextmanager
def closing(sink: Sink) -> Iterator[Sink]:
    try:
        yield sink
    finally:
        sink.close()


# --- what is in them --------------------------------------------------------------------------------------------------


def told(folder: Path, kind: str) -> None:
    """A hop of each kind of model, a gap, and an event's beginning and end."""
    options = {"dir": str(folder), "format": kind}
    with closing(open_sink("files", options, about(tags=TAGS, labels=LABELS))) as sink:
        tags, scores = np.array([0.9, 0.05], np.float32), np.array([0.25, 0.75], np.float32)
        sink.write(hop(3, change=0.5, tags=tags, labels=scores, label=LABELS[1]))
        sink.write(Gap(2.0, 0.25, 12_000))
        sink.write(Event(LABELS[1], 0.8, None, 0.75))
        sink.write(Event(LABELS[1], 0.8, 1.5, 0.875))


def test_json_lines_say_all_of_it(tmp_path: Path) -> None:
    told(tmp_path, "jsonl")
    (path,) = finished(tmp_path, "jsonl")
    first, hopped, gap, begun, ended = map(json.loads, path.read_text().splitlines())
    assert first["started"] == STARTED
    assert (first["model_sha256"], first["hop"], first["source"]) == ("ab" * 32, 0.1, "test")
    assert (first["tags"], first["labels"]) == (list(TAGS), list(LABELS))
    assert hopped["time"] == 3 * 0.1 + 0.5
    assert hopped["embedding"] == list(range(3, 11))
    assert (hopped["tags"], hopped["label"]) == ({"Dog": 0.9}, LABELS[1])
    assert gap == {"time": 2.0, "gap": 0.25, "lost": 12_000}
    assert begun == {"event": LABELS[1], "onset": 0.8, "offset": None, "score": 0.75}
    assert ended == {"event": LABELS[1], "onset": 0.8, "offset": 1.5, "score": 0.875}


def test_arrays_say_all_of_it(tmp_path: Path) -> None:
    told(tmp_path, "npz")
    (file,) = arrays(tmp_path)
    np.testing.assert_array_equal(file["embeddings"], hop(3).embedding[None])
    assert file["embeddings"].dtype == np.float32
    assert file["times"].tolist() == [3 * 0.1 + 0.5]
    assert (file["levels"].tolist(), file["changes"].tolist()) == ([-40.0], [0.5])
    assert file["gaps"].tolist() == [(2.0, 0.25, 12_000)]
    begun, ended = file["events"].tolist()
    assert begun[:2] == (LABELS[1], 0.8)
    assert np.isnan(begun[2])
    assert ended == (LABELS[1], 0.8, 1.5, 0.875)
    assert (str(file["model"]), str(file["model_sha256"])) == ("stub-1", "ab" * 32)
    assert (file["hop"], file["window"], file["started"], file["sample_rate"]) == (0.1, 1.0, STARTED, 48_000)
    np.testing.assert_array_equal(file["tags"], np.array([[0.9, 0.05]], np.float32))
    assert (file["tag_names"].tolist(), file["label_names"].tolist()) == (list(TAGS), list(LABELS))
    np.testing.assert_array_equal(file["labels"], np.array([[0.25, 0.75]], np.float32))
    assert file["label"].tolist() == [LABELS[1]]
    assert len(file["missed"]) == 0


@pytest.mark.parametrize("kind", FORMATS)
def test_without_hops_there_are_gaps_and_events_alone(kind: str, tmp_path: Path) -> None:
    with closing(files(tmp_path, kind, hops=False)) as sink:
        for number in range(5):
            sink.write(hop(number))
        sink.write(Gap(0.5, 0.1, 4800))
    assert numbers(tmp_path) == []
    assert len(finished(tmp_path, kind)) == 1
    assert sink.figures()["written"] == 1


@pytest.mark.parametrize("kind", FORMATS)
def test_nothing_written_leaves_no_file(kind: str, tmp_path: Path) -> None:
    files(tmp_path / "new", kind).close()
    assert list((tmp_path / "new").iterdir()) == []


def test_values_that_are_not_finite_are_null_in_json(tmp_path: Path) -> None:
    values = np.array([1.5, np.nan, np.inf, -np.inf, 0, 0, 0, 0], np.float32)
    with closing(files(tmp_path)) as sink:
        sink.write(hop(0, embedding=values))
    (line,) = lines(tmp_path)
    assert line["embedding"] == [1.5, None, None, None, 0, 0, 0, 0]


# --- rotation ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMATS)
def test_files_rotate_by_size_in_order(kind: str, tmp_path: Path) -> None:
    with closing(files(tmp_path, kind, **{"max-mb": 0.01})) as sink:
        for number in range(1000):
            sink.write(hop(number))
        until(lambda: sink.figures()["waiting"] == 0)
        assert sink.figures()["files"] == len(finished(tmp_path, kind)) > 5
    assert numbers(tmp_path) == list(range(1000))
    assert list(tmp_path.glob("*.part")) == []
    for path in finished(tmp_path, kind):
        assert re.fullmatch(rf"\d{{8}}T\d{{6}}Z-\d{{6}}\.{kind}", path.name)


def test_files_rotate_by_hours_of_sound(tmp_path: Path) -> None:
    with closing(files(tmp_path, **{"max-hours": 0.01})) as sink:  # 36 s
        for number in range(1000):  # 100 s
            sink.write(hop(number))
    assert [len(path.read_text().splitlines()) - 1 for path in finished(tmp_path, "jsonl")] == [360, 360, 280]
    assert numbers(tmp_path) == list(range(1000))


def test_a_clock_that_jumps_back_overwrites_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([1e9, 1e9, 1e9 - 86_400, 1e9])
    gmtime = time.gmtime
    for number in range(4):
        with closing(files(tmp_path)) as sink, monkeypatch.context() as patched:
            patched.setattr(time, "gmtime", lambda: gmtime(next(clock)))
            sink.write(hop(number))
    names = [path.name for path in sorted(tmp_path.iterdir(), key=lambda path: path.name.split("-")[1])]
    assert names == [
        "20010909T014640Z-000001.jsonl",
        "20010909T014640Z-000002.jsonl",
        "20010908T014640Z-000003.jsonl",
        "20010909T014640Z-000004.jsonl",
    ]
    assert sorted(numbers(tmp_path)) == [0, 1, 2, 3]


def test_the_oldest_are_removed_within_a_bound(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with closing(files(tmp_path, **{"max-mb": 0.01, "keep-mb": 0.05})) as sink:
        for number in range(2000):
            sink.write(hop(number))
    kept = numbers(tmp_path)
    assert kept == list(range(kept[0], 2000))
    assert kept[0] > 0
    assert sum(path.stat().st_size for path in finished(tmp_path, "jsonl")) <= 50_000
    figures = sink.figures()
    assert figures["removed"] == figures["files"] - len(finished(tmp_path, "jsonl"))
    assert (tmp_path / "notes.txt").read_text() == "mine"


# --- what was left by one that was killed -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("other", FORMATS, ids=lambda kind: f"next-{kind}")
def test_what_is_left_is_cut_to_whole_records(kind: str, other: str, tmp_path: Path) -> None:
    """Cut at any byte, then finished by a sink of either format."""
    whole = tmp_path / "whole"
    with closing(files(whole, kind)) as sink:
        for number in range(4):
            sink.write(hop(number))
        until(lambda: sink.figures()["written"] == 4)
        (part,) = whole.glob("*.part")
        data = part.read_bytes()
    for length in [*range(0, len(data), 37), len(data)]:
        folder = tmp_path / str(length)
        folder.mkdir()
        (folder / part.name).write_bytes(data[:length])
        (folder / f".{part.name.removesuffix('.part')}.{'0' * 16}.part").write_bytes(b"half an array")
        files(folder, other).close()
        found = numbers(folder)
        assert found == list(range(len(found)))
        assert len(found) == (4 if length == len(data) else min(3, len(found)))
        assert len(list(folder.iterdir())) == (1 if found else 0)
    assert len(found) == 4


@pytest.mark.parametrize("finished_before", [False, True])
def test_the_new_name_is_stored_before_the_old_one_goes(
    finished_before: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a power cut, which cannot be had here, may take both: what is asked of the system is looked at instead."""
    with closing(files(tmp_path / "whole", "npz")) as sink:
        sink.write(hop(0))
        until(lambda: sink.figures()["written"])
        (whole,) = (tmp_path / "whole").glob("*.part")
        data = whole.read_bytes()
    part, target = tmp_path / "x.npz.part", tmp_path / "x.npz"
    part.write_bytes(data)
    if finished_before:  # by a process that was killed then
        journal.finish(part, target)
        part.write_bytes(data)
    folder, fsync, stored = tmp_path.stat().st_ino, os.fsync, []

    def storing(descriptor: int) -> None:
        fsync(descriptor)
        if os.fstat(descriptor).st_ino == folder:
            stored.append((target.exists(), part.exists()))

    monkeypatch.setattr(os, "fsync", storing)
    assert journal.finish(part, target)
    assert (True, True) in stored
    assert not part.exists()


def test_what_is_no_journal_is_set_aside(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    with closing(files(whole, "npz")) as sink:
        sink.write(hop(0))
        until(lambda: sink.figures()["written"])
        line, _, records = next(whole.glob("*.part")).read_bytes().partition(b"\n")
    changes: list[dict[str, Any]] = [
        {"format": "another"},
        {"embedding_size": 1 << 60},
        {"embedding_size": True},
        {"label_width": -1},
        {"tags": "Dog"},
        {"labels": ["x" * 100_000]},
        {"labels": [[]]},
        {"sample_rate": None},
        {"hop": []},
        {"window": 10**400},
    ]
    broken = [json.dumps({**json.loads(line), **change}).encode() for change in changes]
    broken += [b"x", b"[]", b"[" * 100_000, b"\xff" * 2_000_000, line[:-1]]
    for number, header in enumerate(broken, 1):
        (tmp_path / f"20010909T014640Z-{number:06d}.npz.part").write_bytes(header + b"\n" + records)
    with closing(files(tmp_path)) as sink:
        sink.write(hop(0))
    assert sink.figures()["broken"] == len(broken) == len(list(tmp_path.glob("*.npz.broken")))
    assert numbers(tmp_path) == [0]


CHILD = """
import os, sys
from pathlib import Path
from l3edge.sinks import open_sink
from l3edge.sinks.outbox import Outbox
from tests.sinking import about, hop

folder, number = Path(sys.argv[1]), int(sys.argv[2])
kinds = ("jsonl", "npz")
options = {"max-mb": 0.05, "fsync-seconds": 0.05}
sinks = [open_sink("files", {"dir": str(folder / kind), "format": kind, **options}, about()) for kind in kinds]
outbox = Outbox(folder / "queue", 1_000_000, 1 << 30)
while True:
    for sink in sinks:
        sink.write(hop(number))
    outbox.put("topic", b"%d" % number)
    if number % 500 == 0:
        outbox.store()
    os.write(1, b"%d\\n" % number)
    number += 1
"""


@pytest.mark.once
def test_killed_200_times_no_record_is_broken(tmp_path: Path) -> None:
    """Each child continues two numbers after the last that it had said to be written: the one between is in flight."""
    chance, number, acknowledged = random.Random(6), 0, set[int]()
    optional = set[int]()
    kills = before = 0
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", CHILD, str(tmp_path)]
    while kills < 200:
        child = subprocess.Popen([*command, str(number)], stdout=subprocess.PIPE, env=environment)
        assert child.stdout
        told = b""
        if chance.random() < 0.9:  # else at some moment of its beginning, where it finishes what is left
            told = child.stdout.readline()
        time.sleep(chance.uniform(0.0, 0.15))
        child.send_signal(signal.SIGKILL)
        told += child.stdout.read()
        assert child.wait() == -signal.SIGKILL
        child.stdout.close()
        kills += 1
        said = [int(line) for line in told.splitlines(keepends=True) if line.endswith(b"\n")]
        assert said == list(range(number, number + len(said)))
        before += not said
        acknowledged.update(said)
        optional.add(number + len(said))
        number += len(said) + 1
    missing = 0
    for kind in FORMATS:
        with closing(files(tmp_path / kind, kind)) as sink:
            until(lambda: sink.figures()["waiting"] == 0)
        found = numbers(tmp_path / kind)
        assert sorted(found) == sorted(set(found))
        assert acknowledged <= set(found) <= acknowledged | optional
        missing += len(optional - set(found))
        assert {path.suffix for path in (tmp_path / kind).iterdir()} == {f".{kind}"}
    outbox = Outbox(tmp_path / "queue", 10_000_000, 1 << 30)
    queued = [int(message.payload) for message in outbox.oldest(10_000_000)]
    outbox.close()
    assert queued == sorted(set(queued))
    assert acknowledged <= set(queued) <= acknowledged | optional
    record(
        "kill-9",
        {
            "kills": kills,
            "of them before the first record": before,
            "records": len(acknowledged),
            "files": sum(len(finished(tmp_path / kind, kind)) for kind in FORMATS),
            "broken records": 0,
            "records missing that were said to be written": 0,
            "records in flight that are missing, JSON lines and arrays": missing,
        },
    )


# --- disks ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with small_disk(tmp_path / "disk") as made:
        yield made


class Faults:
    """A sink that is written to while its disk fails and recovers, and what is told of that."""

    def __init__(self, sink: Sink) -> None:
        self.sink, self.number, self.told = sink, 0, list[str]()

    def write(self) -> dict[str, float]:
        """The next record; the figures after it."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.sink.write(hop(self.number))
        self.number += 1
        self.told += [str(warning.message) for warning in caught]
        return self.sink.figures()

    def until_it_fails(self) -> None:
        before = self.sink.figures()["failed"]
        until(lambda: self.write()["failed"] > before)
        for _ in range(100):
            self.write()
        assert self.sink.figures()["failed"] == before + 101

    def until_it_works(self) -> None:
        before = self.sink.figures()["written"]
        until(lambda: self.write()["written"] > before)
        failed = self.sink.figures()["failed"]
        for _ in range(5):
            self.write()
        assert self.sink.figures()["failed"] == failed

    def check(self, folder: Path, gone: int = 0) -> tuple[int, int]:
        """Every record is in a file, among those that a file says are missed, or `gone` with its folder."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            until(lambda: self.sink.figures()["waiting"] == 0)
            self.sink.close()
        self.told += [str(warning.message) for warning in caught]
        figures = self.sink.figures()
        found = numbers(folder)
        assert figures["written"] + figures["failed"] == self.number
        assert len(found) == figures["written"] - gone
        said = [(line["time"], line["missed"]) for line in lines(folder) if "missed" in line]
        said += [told for file in arrays(folder) for told in file["missed"].tolist()]
        assert sum(count for _, count in said) == figures["failed"]
        for when, count in said:  # and which
            first = round((when - 0.5) / 0.1)
            assert not set(range(first, first + count)) & set(found)
        return int(figures["written"]), int(figures["failed"])


KINDS = pytest.mark.parametrize("kind", FORMATS)


@KINDS
def test_a_full_disk_is_counted_told_and_recovered_from(kind: str, disk: Disk) -> None:
    folder = disk.path / "heard"
    faults = Faults(files(folder, kind, **{"max-mb": 0.05}))
    for _ in range(2):
        faults.write()
        disk.fill()
        faults.until_it_fails()
        disk.free()
        faults.until_it_works()
    written, failed = faults.check(folder)
    writing = [text for text in faults.told if "written to" in text]
    assert len(writing) == 2
    assert "No space left on device" in writing[0]
    assert sum("recovered" in text for text in faults.told) * 2 == len(faults.told)
    record(f"disk full, {kind}", {"written": written, "failed, counted": failed, "times full": 2, "lost silently": 0})


@KINDS
def test_a_read_only_disk_is_counted_told_and_recovered_from(kind: str, disk: Disk) -> None:
    """A kernel makes a disk read-only while files are open; mount does that between two files only."""
    folder = disk.path / "heard"
    sink = files(folder, kind, **{"max-mb": 0.01})
    faults = Faults(sink)
    until(lambda: faults.write()["files"] > 0)
    until(lambda: bool(faults.write()) and sink._finisher.current is None)  # the last record completed its file
    until(lambda: not list(folder.glob("*.part")))
    disk.read_only(True)
    faults.until_it_fails()
    disk.read_only(False)
    faults.until_it_works()
    written, failed = faults.check(folder)
    assert ["Read-only file system" in text for text in faults.told] == [True, False]
    assert "recovered" in faults.told[1]
    record(f"disk read-only, {kind}", {"written": written, "failed, counted": failed, "lost silently": 0})


@KINDS
def test_a_disk_that_is_read_only_at_the_start(kind: str, disk: Disk) -> None:
    folder = disk.path / "heard"
    folder.mkdir()
    disk.read_only(True)
    faults = Faults(files(folder, kind))
    faults.until_it_fails()
    disk.read_only(False)
    faults.until_it_works()
    faults.check(folder)


@KINDS
def test_a_removed_folder_is_made_anew(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "usb" / "heard"
    folder.parent.mkdir()
    faults = Faults(files(folder, kind))
    for _ in range(7):
        faults.write()
    until(lambda: numbers_in_parts(folder))
    moved = folder.parent.rename(tmp_path / "pulled")
    for path in (*moved.glob("heard/*"), moved / "heard", moved):
        path.unlink() if path.is_file() else path.rmdir()
    faults.until_it_fails()
    folder.parent.mkdir()
    faults.until_it_works()
    written, failed = faults.check(folder, gone=7)
    assert "removed" in faults.told[0]
    assert "recovered" in faults.told[1]
    assert len(faults.told) == 2
    record(f"folder removed, {kind}", {"written": written, "failed, counted": failed, "removed with it": 7})


def numbers_in_parts(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.part"))


@KINDS
def test_what_cannot_be_finished_is_finished_when_there_is_room(kind: str, disk: Disk) -> None:
    """An .npz is made beside its journal: a disk may have room for one and not for both."""
    folder = disk.path / "heard"
    sink = files(folder, kind, **{"max-mb": 0.3, "fsync-seconds": 0.1})
    faults = Faults(sink)
    (disk.path / "filler").write_bytes(bytes(550_000))
    while not sink.figures()["waiting"] and not sink.figures()["files"]:
        faults.write()
    if kind == "npz":
        until(lambda: faults.write() and any("finished" in text for text in faults.told))
    disk.free()
    until(lambda: sink.figures()["waiting"] == 0 and sink.figures()["files"] > 0)
    faults.check(folder)


# --- one at a time ----------------------------------------------------------------------------------------------------


def test_a_second_one_in_a_folder_says_so_and_leaves(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom l3edge.sinks import open_sink\nfrom l3edge.errors import Error\n"
        "from tests.sinking import about\n"
        f"try: open_sink('files', {{'dir': {str(tmp_path)!r}}}, about())\n"
        "except Error as error: sys.exit(str(error))"
    )
    second = [sys.executable, "-c", code]
    options: dict[str, Any] = {"capture_output": True, "text": True, "cwd": ROOT, "timeout": 60, "check": False}
    with closing(files(tmp_path)) as sink:
        sink.write(hop(0))
        refused = subprocess.run(second, **options)
        assert refused.returncode == 1
        assert refused.stderr.startswith(f"{tmp_path} is in use by another l3edge")
        assert refused.stderr.count("\n") == 1
        threads = threading.active_count()
        with pytest.raises(l3edge.Error, match="in use"):
            files(tmp_path)
        assert threading.active_count() == threads
        sink.write(hop(1))
    assert numbers(tmp_path) == [0, 1]
    assert subprocess.run(second, **options).returncode == 0
    record("two-instances-files", {"said by the second": refused.stderr.strip().replace(str(tmp_path), "DIR")})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "dir is missing"),
        ({"dir": "no/such/folder"}, "No such file or directory"),
        ({"dir": "/etc/hostname"}, "File exists"),
        ({"dir": "x", "format": "csv"}, "format must be jsonl or npz"),
        ({"dir": "x", "max-mb": 0}, "max-mb must be from"),
        ({"dir": "x", "max-hours": 1e9}, "max-hours must be from"),
        ({"dir": "x", "keep-mb": 1}, "keep-mb must be at least twice max-mb"),
        ({"dir": "x", "max-bm": 1}, "did you mean max-mb"),
        ({"dir": "y" * 5000}, "File name too long"),
    ],
)
def test_options_that_can_never_work_are_refused(
    options: dict[str, Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(l3edge.Error, match=words):
        open_sink("files", options, about())
    assert list(tmp_path.iterdir()) == []
