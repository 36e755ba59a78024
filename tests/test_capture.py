"""A microphone in a process of its own: what becomes of that process, and of two that want one microphone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import l3edge
from l3edge import capture
from l3edge.capture import SteadyMicrophone
from l3edge.capture_child import BLOCK, Counts, Message, packed, unpacked
from tests import gaps
from tests.conftest import STUBS
from tests.pulse import Pulse, noise, sound_server
from tests.reliability import record

STUB = STUBS[0]
HANG = 60


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pulse]:
    folder = tmp_path_factory.mktemp("pulse")
    with sound_server(folder, 48_000, 1) as pulse:
        pulse.play(noise(folder / "noise", 300))
        yield pulse


class Listener:
    """`l3edge stream` at the microphone, in a process group of its own as in a terminal, once it has given a hop."""

    def __init__(self, room: Pulse, folder: Path, *options: object) -> None:
        self.heard = folder / "heard.wav"
        command = [sys.executable, "-m", "l3edge", "stream", "--model", STUB, "--rate", gaps.RATE, "--format", "jsonl"]
        self.process = subprocess.Popen(
            [str(word) for word in [*command, "--record", self.heard, *options]],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=room.environment,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        assert self.process.stdout is not None
        self.first = self.process.stdout.readline()

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    @property
    def child(self) -> int:
        """Process id of its capture process."""
        pid = self.process.pid
        (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(child)

    def end(self) -> tuple[int, str, str]:
        rest, errors = self.process.communicate(timeout=HANG)
        return self.process.returncode, self.first + rest, errors


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + HANG
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has waited for yet counts."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_ctrl_c_is_for_who_streams(room: Pulse, tmp_path: Path) -> None:
    """A terminal sends it to all processes in the foreground."""
    with Listener(room, tmp_path) as listener:
        os.killpg(listener.process.pid, signal.SIGINT)
        status, output, errors = listener.end()
    assert (status, errors.count("\n")) == (130, 1)
    audio, _ = l3edge.audio.read(listener.heard)
    assert gaps.assert_accounts_for(gaps.records(output), audio, STUB)["gaps"] == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hanging"])
def test_capture_process_is_replaced(room: Pulse, tmp_path: Path, number: int) -> None:
    with Listener(room, tmp_path) as listener:
        assert listener.process.stdout is not None
        child = listener.child
        os.kill(child, number)
        wait_until(lambda: gone(child))
        lines = [listener.first]
        while '"gap"' not in lines[-1]:
            lines.append(listener.process.stdout.readline())
        lines += [listener.process.stdout.readline()]  # a hop after it
        listener.first = "".join(lines)
        listener.process.send_signal(signal.SIGINT)
        status, output, errors = listener.end()
    assert status == 130
    assert ["no microphone (1)" in errors, "is back" in errors] == [True, True]
    audio, _ = l3edge.audio.read(listener.heard)
    assert gaps.assert_accounts_for(gaps.records(output), audio, STUB)["gaps"] == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_capture_process_never_outlives(room: Pulse, tmp_path: Path, number: int) -> None:
    with Listener(room, tmp_path) as listener:
        child = listener.child
        listener.process.send_signal(number)
        wait_until(lambda: gone(child))


def test_two_at_one_microphone(room: Pulse, tmp_path: Path) -> None:
    with Listener(room, tmp_path) as first:
        second = room.l3edge("stream", "--model", STUB)
        assert second.returncode == 1
        assert second.stderr.startswith("l3edge: error: microphone default is in use by process")
        assert f" process {first.process.pid}:" in second.stderr
        assert "--share" in second.stderr
        assert second.stderr.count("\n") == 1
        assert second.stdout == ""
        shared = room.l3edge("stream", "--model", STUB, "--share", "--duration", 1)
        assert (shared.returncode, shared.stdout.count("\n")) == (0, 1), shared.stderr
        assert first.process.stdout is not None
        told = json.loads(first.process.stdout.readline())  # it has not noticed
        first.process.kill()
        first.process.wait()
    after = room.l3edge("stream", "--model", STUB, "--duration", 1)  # a kill lets go
    assert (after.returncode, after.stdout.count("\n")) == (0, 1), after.stderr
    assert "embedding" in told
    figures = {"exit status of the second": 1, "its message": second.stderr.strip()}
    record("two-instances-microphone", {**figures, "the first goes on": True, "free again after kill -9": True})


def test_listen(room: Pulse) -> None:
    code = (
        "import sys, l3edge\n"
        "from l3edge.capture import SteadyMicrophone\n"
        "model = l3edge.load(sys.argv[1])\n"
        "with SteadyMicrophone(sample_rate=16_000, channels=1) as mic:\n"
        "    for embedding, time in model.listen(mic):\n"
        "        print(embedding.shape, time)\n"
        "        if time >= 0.65: break\n"
        "print(mic.sample_rate, mic.channels, mic.lost, mic.reconnects, mic.stuck < 1_600)\n"
    )
    done = room.run(sys.executable, "-W", "error", "-c", code, STUB)
    assert done.stdout == "(8,) 0.5\n(8,) 0.6\n(8,) 0.7\n16000 1 0 0 True\n", done.stderr


def test_device_that_hangs_before_it_is_open(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "sounddevice.py").write_text(
        "import os, pathlib, time\n"
        f"pathlib.Path({str(tmp_path)!r}, str(os.getpid())).touch()\n"
        "print('what a library prints does not get into the pipe')\n"
        "time.sleep(3600)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(capture, "OPEN_SECONDS", 1.5)
    with pytest.raises(l3edge.MicrophoneError, match="does the driver or sound server hang"):
        SteadyMicrophone()
    (pid,) = [int(path.name) for path in tmp_path.iterdir() if path.name.isdecimal()]
    assert gone(pid)


def test_device_that_does_not_exist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(l3edge.MicrophoneError, match="apt install libportaudio2"):
        SteadyMicrophone()
    for options in ({"sample_rate": 0}, {"channels": -1}, {"block": 0}):
        with pytest.raises(l3edge.OptionError):
            SteadyMicrophone(**options)  # type: ignore[arg-type]


def test_nothing_is_imported_from_the_working_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither what we import, nor what the interpreter does by itself (from Python 3.13 on: linecache)."""
    for name in ("json", "numpy", "linecache", "l3edge", "sounddevice", "struct", "signal"):
        (tmp_path / f"{name}.py").write_text(f"import os\nos.close(os.open({str(tmp_path / 'ran')!r}, os.O_CREAT))\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(l3edge.MicrophoneError) as refused:
        SteadyMicrophone("no such microphone")
    assert "capture process" not in str(refused.value)  # which was there to say what is wrong
    assert not (tmp_path / "ran").exists()


def test_messages_come_whole_whatever_the_pieces() -> None:
    message = Message(BLOCK, np.arange(6, dtype="<f4").tobytes(), Counts(1, 2, 3, 4, 5.5), 7, 8.25)
    buffer, found = bytearray(), []
    for byte in packed(message) * 2:
        buffer.append(byte)
        if (made := unpacked(buffer)) is not None:
            found.append(made)
    assert found == [message, message]
    assert not buffer
    for damaged in (b"RIFF" + packed(message)[4:], packed(message)[:8] + b"\xff" * 4 + packed(message)[12:]):
        with pytest.raises(ValueError, match="no message"):
            unpacked(bytearray(damaged))
