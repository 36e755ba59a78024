"""The system's clock jumps by a day, both ways, under a stream: a preloaded library lies to the whole process."""

from __future__ import annotations

import signal
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

import l3edge
from tests import gaps
from tests.conftest import STUBS
from tests.pulse import need, noise, sound_server
from tests.reliability import record
from tests.test_cli import ENVIRONMENT, assert_same, parse, sounds

pytestmark = pytest.mark.once

STUB = STUBS[0]
DAY = 86_400
HANG = 120
SOURCE = Path(__file__).parent / "wall_clock.c"


class FakeClock:
    """A wall clock to be set by a test; the monotonic one stays true."""

    def __init__(self, folder: Path) -> None:
        need("cc")
        library, self._file = folder / "wall_clock.so", folder / "ahead"
        flags = ["-std=gnu11", "-O1", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"]
        subprocess.run(["cc", *flags, str(SOURCE), "-o", str(library)], check=True)
        self._file.write_bytes(bytes(8))
        self.environment = {"LD_PRELOAD": str(library), "WALL_CLOCK": str(self._file)}

    def set(self, seconds: int) -> None:
        """Let it be so many seconds ahead of the true time."""
        with self._file.open("r+b", buffering=0) as file:
            file.write(struct.pack("=q", seconds))


def wait_until(process: subprocess.Popen[bytes], condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + HANG
    while not condition():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_wall_clock_says_by_how_much_it_moved(tmp_path: Path) -> None:
    clock = FakeClock(tmp_path)
    code = (
        "from l3edge.clock import WallClock\n"
        "clock = WallClock()\n"
        "while input() != 'end': print(clock.moved, flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**ENVIRONMENT, **clock.environment},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    for seconds in (0, DAY, -DAY, 0):
        clock.set(seconds)
        process.stdin.write("\n")
        process.stdin.flush()
        assert float(process.stdout.readline()) == pytest.approx(seconds, abs=1)
    process.communicate("end\n", timeout=HANG)


def _jump(process: subprocess.Popen[bytes], clock: FakeClock, output: Path, log: Path) -> list[float]:
    """A day ahead, then a day behind, with hops before, between and after; what the stream itself saw of it."""
    seen = []

    def hops() -> int:
        return output.read_text().count('"embedding"')

    def moved() -> float:
        url = log.read_text().split("health at ", 1)[1].split()[0]
        with urllib.request.urlopen(url, timeout=30) as answer:
            lines = dict(line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if line[0] != "#")
        return float(lines["l3edge_clock_step_seconds"])

    wait_until(process, lambda: hops() > 0)
    for seconds in (DAY, -DAY):
        clock.set(seconds)
        wait_until(process, lambda seconds=seconds: abs(moved() - seconds) < 5)
        seen.append(moved())
        before = hops()
        wait_until(process, lambda before=before: hops() > before + 5)
    return seen


def test_a_file_in_real_time(tmp_path: Path) -> None:
    clock = FakeClock(tmp_path)
    path, output, log = tmp_path / "sound.wav", tmp_path / "out.jsonl", tmp_path / "log"
    soundfile.write(path, sounds(44_100, 12.0), 44_100, subtype="FLOAT")
    command = [sys.executable, "-m", "l3edge", "stream", "--model", str(STUB), "--input", str(path), "--realtime"]
    command += ["--when-behind", "skip", "--format", "jsonl", "--health", "0"]
    begun = time.monotonic()
    with output.open("wb") as out, log.open("wb") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err, env={**ENVIRONMENT, **clock.environment})
    seen = _jump(process, clock, output, log)
    assert process.wait(HANG) == 0, log.read_text()
    took = time.monotonic() - begun
    audio, rate = l3edge.audio.read(path)
    found = parse(output.read_text())
    assert_same(found, l3edge.load(STUB).embed(audio, rate))
    assert 12 <= took < 12 + HANG / 2
    record(
        "wall-clock-jumps",
        {
            "jumps seen, s": [round(each) for each in seen],
            "hops": len(found[1]),
            "hops that differ from embed": 0,
            "largest error of a time stamp, s": float(np.abs(found[1] - (0.5 + np.arange(len(found[1])) / 10)).max()),
        },
    )


def test_a_microphone(tmp_path: Path) -> None:
    clock = FakeClock(tmp_path)
    output, log, heard = tmp_path / "out.jsonl", tmp_path / "log", tmp_path / "heard.wav"
    with sound_server(tmp_path, 48_000, 1) as pulse:
        pulse.play(noise(tmp_path / "noise", 60))
        command = [sys.executable, "-m", "l3edge", "stream", "--model", str(STUB), "--rate", str(gaps.RATE)]
        command += ["--format", "jsonl", "--health", "0", "--record", str(heard)]
        with output.open("wb") as out, log.open("wb") as err:
            process = subprocess.Popen(command, stdout=out, stderr=err, env={**pulse.environment, **clock.environment})
        seen = _jump(process, clock, output, log)
        process.send_signal(signal.SIGINT)
        assert process.wait(HANG) == 130, log.read_text()
    audio, _ = l3edge.audio.read(heard)
    figures = gaps.assert_accounts_for(gaps.records(output.read_text()), audio, STUB)
    assert figures["gaps"] == 0, log.read_text()
    assert "lost 0," in log.read_text()
    record("wall-clock-jumps-microphone", {"jumps seen, s": [round(each) for each in seen], **figures})
