"""A microphone that goes away and returns, a sound server that dies, restarts, hangs: the real command hears it."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import pytest

import l3edge
from tests import gaps
from tests.conftest import STUBS
from tests.pulse import Pulse, noise, sound_server
from tests.reliability import record

pytestmark = pytest.mark.once

STUB = STUBS[0]
HANG = 90  # seconds: nothing here takes so long


@dataclass
class Listening:
    """`l3edge stream` at the microphone, and what it has told so far."""

    process: subprocess.Popen[bytes]
    output: Path
    log: Path
    heard: Path
    begun: float = 0.0

    def wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + HANG
        while not condition():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)

    def hops(self) -> int:
        return self.output.read_text().count('"embedding"')

    def said(self, text: str) -> int:
        return self.log.read_text().count(text)

    def wait_for_hop(self) -> None:
        before = self.hops()
        self.wait_until(lambda: self.hops() > before)

    def end(self) -> str:
        """Ctrl-C; the last line, which is the summary."""
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(HANG) == 130
        return self.log.read_text().splitlines()[-1]


@pytest.fixture
def pulse(tmp_path: Path) -> Iterator[Pulse]:
    with sound_server(tmp_path, 48_000, 1) as server:
        server.play(noise(tmp_path / "noise", 300))
        yield server


@contextlib.contextmanager
def listening(pulse: Pulse, folder: Path, *options: str) -> Iterator[Listening]:
    output, log, heard = folder / "out.jsonl", folder / "log", folder / "heard.wav"
    command = [sys.executable, "-m", "l3edge", "stream", "--model", str(STUB), "--rate", str(gaps.RATE)]
    command += ["--format", "jsonl", "--record", str(heard), *options]
    with output.open("wb") as out, log.open("wb") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err, env=pulse.environment)
    stream = Listening(process, output, log, heard)
    try:
        stream.wait_until(lambda: stream.hops() > 0)
        yield stream
    finally:
        process.kill()
        process.wait()


def check(stream: Listening, times: int) -> dict[str, object]:
    """End it; all is accounted for, and each of `times` losses is one gap and two lines."""
    summary = stream.end()
    told = gaps.records(stream.output.read_text())
    audio, rate = l3edge.audio.read(stream.heard)
    assert rate == gaps.RATE
    figures = gaps.assert_accounts_for(told, audio, STUB)
    assert figures["gaps"] == times
    assert f"lost {figures['lost samples']}," in summary
    log = stream.log.read_text().splitlines()
    assert len([line for line in log if line.startswith("l3edge: warning: no microphone (")]) == times
    back = [re.search(r"is back; ([\d.]+) s are missing", line) for line in log]
    seconds = [float(found[1]) for found in back if found]
    assert len(seconds) == times
    assert len(log) == 2 * times + 1
    return {**figures, "lines logged": 2 * times, "longest gap told, s": max(seconds)}


def test_removed_and_returned_twenty_times(pulse: Pulse, tmp_path: Path) -> None:
    with listening(pulse, tmp_path) as stream:
        first, begun = stream.hops(), time.monotonic()
        for number in range(1, 21):
            pulse.remove()
            stream.wait_until(lambda number=number: stream.said("no microphone (") == number)
            pulse.put_back()
            pulse.play(tmp_path / "noise")
            stream.wait_until(lambda number=number: stream.said("is back") == number)
            stream.wait_for_hop()
        passed = time.monotonic() - begun
        figures = check(stream, 20)
    # Gaps are as long as they were: no error adds up.
    counted = float(str(figures["seconds"])) - 1 - (first - 1) / 10
    assert counted == pytest.approx(passed, abs=1.5)
    record(
        "microphone-removed", {"times": 20, **figures, "time counted less time passed, s": round(counted - passed, 2)}
    )


def test_the_configuration_is_read_again_while_the_microphone_is_away(pulse: Pulse, tmp_path: Path) -> None:
    """Twice in a row, so that a signal comes while one stream ends and the next begins; /metrics is read meanwhile."""
    file, out, log = tmp_path / "field.toml", tmp_path / "out.jsonl", tmp_path / "log"
    file.write_text(f"[stream]\nmodel = '{STUB}'\nformat = 'jsonl'\nrate = {gaps.RATE}\n[health]\nport = 0\n")
    command = [sys.executable, "-m", "l3edge", "stream", "--config", str(file)]
    with out.open("wb") as lines, log.open("wb") as errors:
        process = subprocess.Popen(command, stdout=lines, stderr=errors, env=pulse.environment)
    stream = Listening(process, out, log, tmp_path)
    try:
        stream.wait_until(lambda: stream.hops() > 0)
        assert connected(stream) == "1.0"
        pulse.remove()
        stream.wait_until(lambda: stream.said("no microphone (") == 1)
        stream.wait_until(lambda: connected(stream) == "0.0")
        for _ in range(2):
            process.send_signal(signal.SIGHUP)
            time.sleep(0.3)
        stream.wait_until(lambda: stream.said("health at ") >= 2)
        stream.wait_until(lambda: connected(stream) == "0.0")
        before = stream.hops()
        pulse.put_back()
        pulse.play(tmp_path / "noise")
        stream.wait_until(lambda: stream.hops() > before)
        stream.wait_until(lambda: connected(stream) == "1.0")
        process.send_signal(signal.SIGTERM)
        assert process.wait(HANG) == 128 + signal.SIGTERM
    finally:
        process.kill()
        process.wait()


def connected(stream: Listening) -> str:
    """What the latest endpoint tells, as Prometheus reads it; nothing while one ends and the next begins."""
    url = re.findall(r"health at (\S+)", stream.log.read_text())[-1]
    with contextlib.suppress(OSError, HTTPException), urllib.request.urlopen(url, timeout=10) as answer:
        return re.findall(r"^l3edge_connected (\S+)$", answer.read().decode(), re.MULTILINE)[0]
    return ""


def test_server_killed_and_restarted(pulse: Pulse, tmp_path: Path) -> None:
    with listening(pulse, tmp_path) as stream:
        for number in range(1, 5):
            pulse.kill()
            stream.wait_until(lambda number=number: stream.said("no microphone (") == number)
            pulse.start()
            pulse.play(tmp_path / "noise")
            stream.wait_until(lambda number=number: stream.said("is back") == number)
            stream.wait_for_hop()
        record("sound-server-killed", {"times": 4, **check(stream, 4)})


def test_server_hangs(pulse: Pulse, tmp_path: Path) -> None:
    with listening(pulse, tmp_path) as stream:
        pulse.server.send_signal(signal.SIGSTOP)
        stream.wait_until(lambda: stream.said("no microphone (") == 1)  # by the watchdog: no error comes
        pulse.server.send_signal(signal.SIGCONT)
        stream.wait_until(lambda: stream.said("is back") == 1)
        stream.wait_for_hop()
        record("sound-server-hangs", {"times": 1, **check(stream, 1)})


def test_ended_while_it_is_away(pulse: Pulse, tmp_path: Path) -> None:
    with listening(pulse, tmp_path) as stream:
        pulse.remove()
        stream.wait_until(lambda: stream.said("no microphone (") == 1)
        summary = stream.end()
    told = gaps.records(stream.output.read_text())
    audio, _ = l3edge.audio.read(stream.heard)
    figures = gaps.assert_accounts_for(told, audio, STUB)
    assert figures["gaps"] == 1
    assert f"lost {figures['lost samples']}," in summary


def test_no_reconnect(pulse: Pulse, tmp_path: Path) -> None:
    with listening(pulse, tmp_path, "--no-reconnect") as stream:
        pulse.remove()
        assert stream.process.wait(HANG) == 1
    summary, error = stream.log.read_text().splitlines()
    assert "lost 0," in summary
    assert re.fullmatch(r"l3edge: error: microphone .* stopped delivering: .*; is it still connected\?", error)


def test_waits_for_a_microphone(pulse: Pulse, tmp_path: Path) -> None:
    """At boot a service may come before its microphone."""
    pulse.kill()
    options = ("--wait", "--device", "default")
    command = [
        sys.executable,
        "-m",
        "l3edge",
        "stream",
        "--model",
        STUB,
        "--duration",
        "1",
        "--format",
        "jsonl",
        *options,
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=pulse.environment
    )
    assert process.stderr is not None
    assert process.stderr.readline().startswith("l3edge: warning: no microphone (1): ")
    pulse.start()
    output, log = process.communicate(timeout=HANG)
    assert process.returncode == 0, log
    back, _ = log.splitlines()
    assert back.startswith("l3edge: warning: microphone ")
    assert "is back" in back
    assert len(gaps.records(output)) == 1


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_waiting_can_be_ended(pulse: Pulse, number: int, status: int) -> None:
    pulse.kill()
    command = [sys.executable, "-m", "l3edge", "stream", "--model", str(STUB), "--wait"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=pulse.environment)
    assert process.stderr is not None
    process.stderr.readline()
    process.send_signal(number)
    _, log = process.communicate(timeout=HANG)
    assert process.returncode == status, log
