"""A real microphone without hardware: a PulseAudio server of our own, and what is played into its only sink."""

from __future__ import annotations

import contextlib
import ctypes.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@dataclass
class Pulse:
    """A sound server of our own, whose only sink is what its default microphone hears."""

    environment: dict[str, str]
    folder: Path
    sink: str  # the module's arguments
    server: subprocess.Popen[bytes] = field(init=False)
    player: subprocess.Popen[bytes] | None = None

    def run(self, *command: object, **options: Any) -> subprocess.CompletedProcess[str]:
        options = {"capture_output": True, "text": True, "timeout": 60, "env": self.environment, **options}
        return subprocess.run([str(word) for word in command], check=False, **options)

    def l3edge(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", "l3edge", *arguments)

    def start(self) -> None:
        """The server, with the room in it."""
        # In the foreground, so that it can be ended by its own process id.
        log = self.folder / "pulse.log"
        self.server = subprocess.Popen(
            [
                *("pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", f"--log-target=file:{log}"),
                f"--load=module-null-sink {self.sink}",
                "--load=module-native-protocol-unix",
            ],
            env=self.environment,
        )
        deadline = time.monotonic() + 30
        while self.run("pactl", "set-default-source", "room.monitor").returncode:
            assert self.server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, f"PulseAudio did not start: {log.read_text()}"

    def kill(self) -> None:
        self.stop_playing()
        self.server.kill()
        self.server.wait()

    def remove(self) -> None:
        """The microphone is unplugged."""
        assert self.run("pactl", "unload-module", "module-null-sink").returncode == 0
        self.stop_playing()

    def put_back(self) -> None:
        assert self.run("pactl", "load-module", "module-null-sink", *self.sink.split()).returncode == 0
        assert self.run("pactl", "set-default-source", "room.monitor").returncode == 0

    def play(self, noise: Path) -> None:
        """Play float32 mono of 48 kHz until it ends or the sink is gone; then a null sink wakes every few milliseconds,
        not every two seconds."""
        format_ = ("--raw", "--format=float32le", "--rate=48000", "--channels=1", "--latency-msec=20")
        self.player = subprocess.Popen(["pacat", *format_, noise], env=self.environment, stderr=subprocess.DEVNULL)

    def stop_playing(self) -> None:
        if self.player:
            self.player.kill()
            self.player.wait()
            self.player = None


def need(*programs: str) -> None:
    """Skip where one is missing; CI must have it."""
    missing = [program for program in programs if not shutil.which(program)]
    if "pulseaudio" in programs and not ctypes.util.find_library("portaudio"):
        missing.append("libportaudio2")
    if missing:
        reason = f"this test needs {', '.join(missing)}"
        if os.environ.get("CI"):
            pytest.fail(f"{reason}; CI must have it")
        pytest.skip(reason)


@contextlib.contextmanager
def sound_server(folder: Path, rate: int, channels: int) -> Iterator[Pulse]:
    need("pulseaudio", "pactl", "paplay", "pacat")
    home, runtime = folder / "home", folder / "run"
    home.mkdir()
    runtime.mkdir(mode=0o700)
    (home / ".asoundrc").write_text("pcm.!default { type pulse }\nctl.!default { type pulse }\n")
    root = str(Path(__file__).parent.parent)
    environment = {**os.environ, "HOME": str(home), "XDG_RUNTIME_DIR": str(runtime), "PYTHONPATH": root}
    pulse = Pulse(environment, folder, f"sink_name=room rate={rate} channels={channels}")
    pulse.start()
    try:
        yield pulse
    finally:
        pulse.kill()


def noise(path: Path, seconds: float) -> Path:
    """White noise for `Pulse.play`."""
    samples = np.random.default_rng(11).uniform(-0.3, 0.3, round(seconds * 48_000)).astype("<f4")
    path.write_bytes(samples.tobytes())
    return path
