"""A machine too busy for its stream: the chosen policy, and every sample accounted for.

Starvation is real: a process that the kernel stops, and one that it runs only when nothing else wants its processor
(SCHED_IDLE, on one processor with busy loops).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

import l3edge
from tests import gaps
from tests.conftest import STUBS
from tests.reliability import record
from tests.test_cli import COMMAND, ENVIRONMENT, assert_one_line_error, run

pytestmark = pytest.mark.once

STUB = STUBS[0]
HANG = 240  # seconds
BUSY_LOOPS = 4  # beside one, an idle task still gets the 1 % of a processor that the stub needs
STARVED = 10  # seconds, several times the limit of the policy
SECONDS = 300  # of sound, of which each test hears a part


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "noise.wav"
    samples = np.random.default_rng(3).uniform(-0.3, 0.3, SECONDS * gaps.RATE).astype(np.float32)
    soundfile.write(path, samples, gaps.RATE, subtype="FLOAT")
    return path


class Stream:
    """`l3edge stream` of a file as if it were live."""

    def __init__(self, sound: Path, folder: Path, policy: str, *options: object) -> None:
        self.output, self.log, self.heard = folder / "out.jsonl", folder / "log", folder / "heard.wav"
        words = [
            "stream",
            "--model",
            STUB,
            "--input",
            sound,
            "--realtime",
            "--format",
            "jsonl",
            "--when-behind",
            policy,
        ]
        with self.output.open("wb") as out, self.log.open("wb") as err:
            self.process = subprocess.Popen(
                [*COMMAND, *map(str, [*words, "--format", "jsonl", "--record", self.heard, *options])],
                stdout=out,
                stderr=err,
                env=ENVIRONMENT,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    def wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + HANG
        while not condition():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def told(self) -> list[dict[str, object]]:
        return gaps.records(self.output.read_text())

    def wait_for_hops(self, count: int) -> None:
        seen = self.output.read_text().count('"embedding"')
        self.wait_until(lambda: self.output.read_text().count('"embedding"') >= seen + count)

    def stop_for(self, seconds: float) -> None:
        self.process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)  # the fault itself
        self.process.send_signal(signal.SIGCONT)

    def check(self, sound: Path) -> dict[str, object]:
        """What was heard is the file, at the times that it says, and embedded as each stretch alone."""
        audio, rate = l3edge.audio.read(self.heard)
        assert rate == gaps.RATE
        whole, _ = l3edge.audio.read(sound)
        for gap in gaps.gaps(self.told()):
            begin = round(float(gap["time"]) * rate)
            assert not audio[begin : begin + int(gap["lost"])].any()
            whole[begin : begin + int(gap["lost"])] = 0
        np.testing.assert_array_equal(audio, whole[: len(audio)])
        return gaps.assert_accounts_for(self.told(), audio, STUB)


@contextlib.contextmanager
def streaming(sound: Path, folder: Path, policy: str, *options: object) -> Iterator[Stream]:
    stream = Stream(sound, folder, policy, *options)
    try:
        stream.wait_for_hops(1)
        yield stream
    finally:
        stream.process.kill()
        stream.process.wait()


def test_skip(sound: Path, tmp_path: Path) -> None:
    with streaming(sound, tmp_path, "skip", "--duration", 14) as stream:
        for _ in range(2):
            stream.stop_for(4)
            stream.wait_for_hops(1)
        assert stream.process.wait(HANG) == 0
    figures = stream.check(sound)
    assert (figures["seconds"], figures["gaps"]) == (14.0, 2)
    lost = figures["lost samples"]
    assert f"lost {lost}, clipped 0, non-finite 0, dropped to keep up {lost}" in stream.log.read_text()
    assert 2 * 2.0 < float(str(figures["seconds lost"])) < 2 * 4.0 + 1
    record("starved-stopped-skip", {"times stopped for 4 s": 2, **figures})


def test_catch_up_loses_nothing(sound: Path, tmp_path: Path) -> None:
    with streaming(sound, tmp_path, "catch-up", "--duration", 8) as stream:
        stream.stop_for(4)
        assert stream.process.wait(HANG) == 0
    figures = stream.check(sound)
    assert (figures["seconds"], figures["gaps"], figures["hops"]) == (8.0, 0, 71)
    record("starved-stopped-catch-up", {"times stopped for 4 s": 1, **figures})


def test_fail_says_why(sound: Path, tmp_path: Path) -> None:
    with streaming(sound, tmp_path, "fail", "--behind", 1) as stream:
        stream.stop_for(3)
        assert stream.process.wait(HANG) == 1
    summary, error = stream.log.read_text().splitlines()
    assert " lost 0," in summary
    assert error.startswith("l3edge: error: computing is ")
    assert "behind the sound, 1 s are allowed" in error
    figures = stream.check(sound)  # what was heard until then is embedded
    assert figures["gaps"] == 0
    record("starved-stopped-fail", {"times stopped for 3 s": 1, "exit status": 1, **figures})


def test_scheduled_only_when_idle(sound: Path, tmp_path: Path) -> None:
    """Starved by the scheduler until it drops; then it gets its processor back, and keeps up again."""
    processor = {min(os.sched_getaffinity(0))}
    with streaming(sound, tmp_path, "skip") as stream:
        command = [sys.executable, "-c", "while True: pass"]
        busy = [
            subprocess.Popen(command, preexec_fn=lambda: os.sched_setaffinity(0, processor)) for _ in range(BUSY_LOOPS)
        ]
        try:
            for task in Path(f"/proc/{stream.process.pid}/task").iterdir():
                os.sched_setaffinity(int(task.name), processor)
                os.sched_setscheduler(int(task.name), os.SCHED_IDLE, os.sched_param(0))
            begun = time.monotonic()
            # It may tell of its gap only when it has its processor back: an idle task may get none at all.
            stream.wait_until(lambda: bool(gaps.gaps(stream.told())) or time.monotonic() - begun > STARVED)
            starved = time.monotonic() - begun
        finally:
            for process in busy:
                process.kill()
                process.wait()
        stream.wait_until(lambda: bool(gaps.gaps(stream.told())))
        stream.wait_for_hops(15)
        stream.process.send_signal(signal.SIGINT)
        assert stream.process.wait(HANG) == 130
    figures = stream.check(sound)
    assert int(str(figures["gaps"])) >= 1
    record(
        "starved-sched-idle",
        {"busy loops": BUSY_LOOPS, "policy": "skip", "starved for s": round(starved, 1), **figures},
    )


def test_a_file_that_waits_is_never_behind(sound: Path) -> None:
    for policy in ("skip", "fail"):
        done = run("stream", "--model", STUB, "--input", sound, "--when-behind", policy)
        assert_one_line_error(done, 2, f"--when-behind {policy}", "--realtime")
    assert_one_line_error(run("stream", "--model", STUB, "--input", sound, "--behind", 1), 2, "--behind")
    for option in ("--no-reconnect", "--wait", "--share"):
        assert_one_line_error(run("stream", "--model", STUB, "--input", sound, option), 2, option)
