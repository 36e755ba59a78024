"""The queue of messages: bounded, counted, and there again after whatever ends the process."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

import l3edge
from l3edge.sinks.outbox import Outbox
from tests.reliability import record
from tests.sinking import Disk, small_disk, until

pytestmark = pytest.mark.once

ROOT = Path(__file__).parent.parent
MB = 1_000_000


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with small_disk(tmp_path / "disk") as made:
        yield made


@pytest.fixture(params=["disk", "memory"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "queue" if request.param == "disk" else None


def payloads(outbox: Outbox, count: int = 1_000_000) -> list[int]:
    return [int(message.payload) for message in outbox.oldest(count)]


def told(outbox: Outbox) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        outbox.tell()
    return [str(warning.message) for warning in caught]


def test_messages_come_out_in_order_and_leave_when_done(path: Path | None) -> None:
    outbox = Outbox(path, 1000, MB)
    for number in range(10):
        outbox.put(f"topic/{number % 2}", b"%d" % number)
    first = outbox.oldest(3)
    assert [message.topic for message in first] == ["topic/0", "topic/1", "topic/0"]
    assert [message.payload for message in first] == [b"0", b"1", b"2"]
    assert outbox.done([first[0].id, first[2].id])
    assert payloads(outbox) == [1, 3, 4, 5, 6, 7, 8, 9]
    assert (outbox.waiting, outbox.size, outbox.sent, outbox.dropped) == (8, 8, 2, 0)
    assert outbox.done([first[0].id])  # again
    assert outbox.sent == 2
    outbox.close()
    outbox.put("topic", b"0")
    assert outbox.oldest(9) == []


def test_beyond_the_count_the_oldest_are_dropped_and_counted(path: Path | None) -> None:
    outbox = Outbox(path, 100, MB)
    for number in range(250):
        outbox.put("topic", b"%d" % number)
    assert payloads(outbox) == list(range(150, 250))
    assert (outbox.waiting, outbox.dropped, outbox.failed) == (100, 150, 0)
    outbox.close()


def test_beyond_the_bytes_the_oldest_are_dropped_and_counted(path: Path | None) -> None:
    outbox = Outbox(path, 1000, 100)
    for number in range(50):
        outbox.put("topic", b"%010d" % number)
    assert payloads(outbox) == list(range(40, 50))
    outbox.put("topic", bytes(101))  # more than there is room for
    assert (outbox.waiting, outbox.size, outbox.dropped) == (0, 0, 51)
    outbox.close()


def test_it_is_there_again(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "queue", 100, MB)
    for number in range(103):
        outbox.put("topic", b"%d" % number)
    outbox.done([outbox.oldest(1)[0].id])
    outbox.close()
    again = Outbox(tmp_path / "queue", 50, MB)  # and the bound is another one now
    assert payloads(again) == list(range(53, 103))
    assert (again.waiting, again.dropped, again.sent) == (50, 3 + 49, 0)
    again.close()


def test_a_message_that_was_dropped_under_way_is_not_sent(path: Path | None) -> None:
    outbox = Outbox(path, 2, MB)
    for number in range(2):
        outbox.put("topic", b"%d" % number)
    under_way = [message.id for message in outbox.oldest(2)]
    outbox.put("topic", b"2")
    outbox.done(under_way)
    assert payloads(outbox) == [2]
    assert outbox.sent + outbox.dropped + outbox.waiting == 3
    outbox.close()


def test_one_thread_puts_and_another_takes(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "queue", 1_000_000, 100 * MB)
    taken: list[int] = []

    def take() -> None:
        while len(taken) < 5000:
            messages = outbox.oldest(32)
            outbox.done([message.id for message in messages])
            outbox.store()
            taken.extend(int(message.payload) for message in messages)

    thread = threading.Thread(target=take)
    thread.start()
    for number in range(5000):
        outbox.put("topic", b"%d" % number)
    thread.join(60)
    assert taken == list(range(5000))
    assert (outbox.waiting, outbox.sent, outbox.failed) == (0, 5000, 0)
    outbox.close()


def test_storing_keeps_the_files_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("l3edge.sinks.outbox.STORE_SECONDS", 0.0)
    outbox = Outbox(tmp_path / "queue", 100, MB)
    for number in range(5000):
        outbox.put("topic", b"%d" % number)
        if number % 50 == 0:
            outbox.store()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 2 * MB
    outbox.close()


# --- faults -----------------------------------------------------------------------------------------------------------


def test_a_second_one_says_so_and_leaves(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "queue", 100, MB)
    with pytest.raises(l3edge.Error, match="in use by another"):
        Outbox(tmp_path / "queue", 100, MB)
    outbox.put("topic", b"0")
    assert payloads(outbox) == [0]
    outbox.close()
    Outbox(tmp_path / "queue", 100, MB).close()


@pytest.mark.parametrize("content", [b"RIFF....WAVE", b"dear diary\n" * 100, b"x"])
def test_a_file_of_something_else_is_left_alone(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "recording.wav"
    path.write_bytes(content)
    with pytest.raises(l3edge.OptionError, match="is a file of something else"):
        Outbox(path, 1000, MB)
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("recording.wav", content)]


@pytest.mark.parametrize("damage", ["zeros", "zeros in the middle", "end cut off", "tables of others"])
def test_a_corrupt_database_is_set_aside(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "queue"
    outbox = Outbox(path, 1000, MB)
    for number in range(300):
        outbox.put("topic", b"%0100d" % number)
    outbox.close()
    data = path.read_bytes()
    if damage == "tables of others":
        with sqlite3.connect(path) as database:
            database.execute("DROP TABLE counts")
        database.close()
    else:
        path.write_bytes(
            {
                "zeros": bytes(len(data)),
                "zeros in the middle": data[:4096] + bytes(len(data) - 8192) + data[-4096:],
                "end cut off": data[: len(data) // 2],
            }[damage]
        )
    damaged = path.read_bytes()
    outbox = Outbox(path, 1000, MB)
    (message,) = told(outbox)
    assert f"was corrupt; it is now {path}.corrupt" in message
    assert path.with_name("queue.corrupt").read_bytes() == damaged
    outbox.put("topic", b"7")
    assert payloads(outbox) == [7]
    assert (told(outbox), outbox.failed) == ([], 0)
    outbox.close()


def test_a_database_of_something_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "photos.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE photos (id)")
    database.close()
    before = path.read_bytes()
    with pytest.raises(l3edge.OptionError, match="of something else"):
        Outbox(path, 100, MB)
    assert path.read_bytes() == before


def test_an_empty_database_of_something_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "photos.db"
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA application_id = 7")
    database.close()
    before = path.read_bytes()
    with pytest.raises(l3edge.OptionError, match="of something else"):
        Outbox(path, 100, MB)
    assert path.read_bytes() == before


@pytest.mark.parametrize("place", ["no/such/queue", "."])
def test_a_place_where_no_file_can_be_is_refused(place: str, tmp_path: Path) -> None:
    with pytest.raises(l3edge.OptionError, match=r"folder|no file"):
        Outbox(tmp_path / place, 100, MB)


class Puts:
    """Numbered messages, one after the other."""

    def __init__(self, outbox: Outbox) -> None:
        self.outbox, self.number = outbox, 0

    def one(self) -> bool:
        """The next; whether it was taken."""
        failed = self.outbox.failed
        self.outbox.put("topic", b"%0500d" % self.number)
        self.number += 1
        return self.outbox.failed == failed


def test_a_full_disk_is_counted_told_and_recovered_from(disk: Disk) -> None:
    outbox = Outbox(disk.path / "queue", 100_000, 100 * MB)
    puts = Puts(outbox)
    assert all(puts.one() for _ in range(10))
    disk.fill()
    until(lambda: not puts.one())
    (message,) = told(outbox)
    assert "full" in message
    assert not any(puts.one() for _ in range(100))
    assert told(outbox) == []
    disk.free()
    until(puts.one)
    assert all(puts.one() for _ in range(10))
    (message,) = told(outbox)
    assert "recovered" in message
    assert outbox.waiting + outbox.failed == puts.number
    found = payloads(outbox)
    assert found == sorted(set(found))
    assert len(found) == outbox.waiting
    record("disk full, queue", {"messages": puts.number, "failed, counted": outbox.failed, "lost silently": 0})
    outbox.close()


def test_a_removed_folder_is_counted_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("l3edge.sinks.outbox.RETRY_SECONDS", 0.05)
    folder = tmp_path / "usb"
    folder.mkdir()
    outbox = Outbox(folder / "queue", 100, MB)
    puts = Puts(outbox)
    assert puts.one()
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    assert not puts.one()
    assert len(told(outbox)) == 1
    folder.mkdir()
    until(puts.one)
    assert payloads(outbox) == [puts.number - 1]
    assert "recovered" in told(outbox)[0]
    outbox.close()


CHILD = """
import os, sys
from pathlib import Path
from l3edge.sinks.outbox import Outbox
outbox, number = Outbox(Path(sys.argv[1]), 10**6, 10**9), int(sys.argv[2])
while True:
    outbox.put("topic", b"%d" % number)
    os.write(1, b"p%d\\n" % number)
    number += 1
    if number % 3 == 0:
        message = outbox.oldest(1)[0]
        os.write(1, b"t%d\\n" % int(message.payload))
        outbox.done([message.id])
        os.write(1, b"d%d\\n" % int(message.payload))
    if number % 100 == 0:
        outbox.store()
"""


def test_killed_while_it_puts_and_takes(tmp_path: Path) -> None:
    """What was put is there unless it was taken; what was done stays away; 20 times."""
    chance, number = random.Random(7), 0
    put, taken, done, in_flight = set[int](), set[int](), set[int](), set[int]()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for _ in range(20):
        command = [sys.executable, "-c", CHILD, str(tmp_path / "queue"), str(number)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
        assert child.stdout
        said = child.stdout.readline()
        time.sleep(chance.uniform(0.0, 0.1))
        child.send_signal(signal.SIGKILL)
        said += child.stdout.read()
        child.wait()
        child.stdout.close()
        for line in said.splitlines():
            {ord("p"): put, ord("t"): taken, ord("d"): done}[line[0]].add(int(line[1:]))
        number = max(put) + 2
        in_flight.add(number - 1)
    outbox = Outbox(tmp_path / "queue", 10**6, 10**9)
    found = payloads(outbox)
    assert found == sorted(set(found))
    assert put - taken <= set(found) <= (put | in_flight) - done
    outbox.close()
