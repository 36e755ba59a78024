"""Microphones: a virtual one of PulseAudio, heard through PortAudio by the real command; and a fake PortAudio for
what a sound server does not do on demand: overflow, refuse channels, go away."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import l3edge
from l3edge import microphone
from l3edge.microphone import Block, Microphone
from l3edge.sources import Interrupt
from tests.conftest import STUBS
from tests.pulse import Pulse, sound_server
from tests.test_cli import parse, sounds

STUB = STUBS[0]

# --- PulseAudio -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pulse]:
    with sound_server(tmp_path_factory.mktemp("pulse"), 48_000, 1) as pulse:
        yield pulse


def _lag(heard: np.ndarray, clip: np.ndarray) -> int:
    """Samples by which the clip begins later in what was heard: the peak of the cross-correlation."""
    n = 1 << (len(heard) + len(clip)).bit_length()
    correlation = np.fft.irfft(np.fft.rfft(heard, n) * np.conj(np.fft.rfft(clip, n)), n)
    return int(np.argmax(correlation[: len(heard)]))


@pytest.mark.parametrize(("rate", "channels"), [(48_000, 1), (44_100, 2)], ids=["48000-mono", "44100-stereo"])
def test_streamed_is_embedded_is_the_clip(rate: int, channels: int, tmp_path: Path) -> None:
    with sound_server(tmp_path, rate, channels) as pulse:
        assert check_streamed_is_embedded_is_the_clip(pulse, rate, channels, tmp_path).min() >= 0.99


def check_streamed_is_embedded_is_the_clip(
    pulse: Pulse, rate: int, channels: int, tmp_path: Path, path: Path = STUB
) -> np.ndarray:
    """Returns the cosines of the embeddings of what was heard and of what was played."""
    clip, heard = tmp_path / "clip.wav", tmp_path / "heard.wav"
    # A null sink swallows the first 40 ms of what is played (measured, all else comes through): let that be silence.
    sound = np.concatenate([np.zeros(rate // 4, np.float32), sounds(rate, 4.0)])
    soundfile.write(clip, np.repeat(sound[:, None], channels, axis=1), rate, subtype="FLOAT")
    command = [sys.executable, "-m", "l3edge", "stream", "--model", str(path), "--format", "jsonl", "--duration", "8"]
    command += ["--rate", str(rate), "--record", str(heard)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=pulse.environment
    )
    assert process.stdout is not None
    first = process.stdout.readline()  # the microphone is heard: a null sink takes about two seconds to wake
    played = pulse.run("paplay", clip)
    rest, errors = process.communicate(timeout=60)
    assert played.returncode == 0, played.stderr
    assert process.returncode == 0, errors
    assert "lost 0" in errors

    audio, heard_rate = l3edge.audio.read(heard)
    assert (heard_rate, len(audio)) == (rate, 8 * rate)
    embeddings, times = parse(first + rest)
    model = l3edge.load(path)
    expected, expected_times = model.embed(audio, rate)
    np.testing.assert_array_equal(embeddings, expected)
    np.testing.assert_array_equal(times, expected_times)
    assert len(times) == 71
    assert (times[0], times[-1]) == (0.5, 7.5)

    mono = audio.mean(axis=1)
    lag = _lag(mono, sound)
    aligned = mono[lag : lag + len(sound)]
    assert np.corrcoef(aligned, sound)[0, 1] > 0.999999
    hears, plays = model.embed(aligned, rate)[0], model.embed(sound, rate)[0]
    cosines = (hears * plays).sum(axis=1) / np.linalg.norm(hears, axis=1) / np.linalg.norm(plays, axis=1)
    return cosines


def test_ctrl_c_at_the_microphone(room: Pulse, tmp_path: Path) -> None:
    heard = tmp_path / "heard.wav"
    command = [sys.executable, "-m", "l3edge", "stream", "--model", str(STUB), "--format", "jsonl"]
    process = subprocess.Popen(
        [*command, "--record", str(heard)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=room.environment,
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    process.send_signal(2)
    rest, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors.startswith("l3edge: ")
    audio, rate = l3edge.audio.read(heard)
    np.testing.assert_array_equal(parse(first + rest)[0], l3edge.load(STUB).embed(audio, rate)[0])


def test_devices(room: Pulse) -> None:
    done = room.l3edge("devices")
    assert done.returncode == 0
    marked = [line for line in done.stdout.splitlines() if line.startswith("*")]
    assert len(marked) == 1
    assert "ALSA" in marked[0]


def test_no_such_device(room: Pulse) -> None:
    for device in ("kitchen", "99"):
        done = room.l3edge("stream", "--model", STUB, "--device", device)
        assert done.returncode == 1
        assert done.stderr.startswith("l3edge: error: no input device")
        assert done.stderr.count("\n") == 1
        assert "(pulse)" in done.stderr


def test_device_by_name(room: Pulse) -> None:
    done = room.l3edge("stream", "--model", STUB, "--device", "PULSE", "--duration", 0.2, "--channels", 1)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1


def test_doctor_listens(room: Pulse) -> None:
    findings = {f["what"]: f for f in json.loads(room.l3edge("doctor", "--json").stdout)["findings"]}
    assert findings["portaudio"]["state"] == "ok"
    assert findings["microphone"]["state"] == "warning"  # an empty room of no noise at all
    assert "digital silence" in findings["microphone"]["detail"]


def test_listen(room: Pulse) -> None:
    code = (
        "import sys, l3edge\n"
        "model = l3edge.load(sys.argv[1])\n"
        "with l3edge.Microphone() as mic:\n"
        "    for embedding, time in model.listen(mic):\n"
        "        print(embedding.shape, time)\n"
        "        if time >= 0.65: break\n"
    )
    done = room.run(sys.executable, "-c", code, STUB)
    assert done.stdout == "(8,) 0.5\n(8,) 0.6\n(8,) 0.7\n", done.stderr


# --- a fake PortAudio -------------------------------------------------------------------------------------------------


class PortAudioError(Exception):
    """As in sounddevice."""


class FakeStream:
    """A stream that calls back when a test says so."""

    refused: tuple[int, ...] = ()  # channel counts it does not open with
    opened: FakeStream

    def __init__(
        self, *, channels: int, callback: Callable[..., None], finished_callback: Callable[[], None], **_: Any
    ):
        if channels in self.refused:
            raise PortAudioError(f"Invalid number of channels: {channels}")
        self.channels, self.callback, self.finished = channels, callback, finished_callback
        FakeStream.opened = self

    def deliver(self, frames: int, value: float = 0.0, overflow: bool = False) -> None:
        buffer = np.full((frames, self.channels), value, np.float32)
        self.callback(buffer, frames, None, types.SimpleNamespace(input_overflow=overflow))
        buffer[:] = np.nan  # PortAudio's memory is its own again

    def start(self) -> None:
        pass

    def close(self) -> None:
        self.finished()


@pytest.fixture
def portaudio(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """Two microphones and a loudspeaker."""
    rows = [("Array (hw:0,0)", 8, 16_000.0), ("Speaker", 0, 48_000.0), ("Array two", 1, 44_100.0)]
    devices = [
        {"name": name, "hostapi": 0, "max_input_channels": channels, "default_samplerate": rate}
        for name, channels, rate in rows
    ]
    fake = types.SimpleNamespace(
        default=types.SimpleNamespace(device=[2, 1]),
        query_hostapis=lambda: [{"name": "ALSA"}],
        query_devices=lambda: devices,
        InputStream=FakeStream,
        PortAudioError=PortAudioError,
        _exit_handler=lambda: None,
    )
    monkeypatch.setattr(microphone, "_portaudio", lambda: fake)
    monkeypatch.setattr(FakeStream, "refused", ())
    return fake


@pytest.mark.usefixtures("portaudio")
def test_defaults_are_the_device_s() -> None:
    assert [d.default for d in microphone.device_list()] == [False, True]
    mic = Microphone()
    assert (mic.device.index, mic.sample_rate, mic.channels) == (2, 44_100, 1)
    assert Microphone(0).channels == 2
    assert Microphone("HW:0").device.index == 0


@pytest.mark.usefixtures("portaudio")
@pytest.mark.parametrize(("refused", "channels"), [((2,), 1), ((2, 1), 8)])
def test_falls_back_to_what_opens(monkeypatch: pytest.MonkeyPatch, refused: tuple[int, ...], channels: int) -> None:
    monkeypatch.setattr(FakeStream, "refused", refused)
    assert Microphone(0).channels == channels
    with pytest.raises(l3edge.MicrophoneError, match=r"16000 Hz with 2 channel.*Invalid number"):
        Microphone(0, channels=2)


@pytest.mark.usefixtures("portaudio")
@pytest.mark.parametrize(
    ("device", "message"), [(1, "index 1"), ("kitchen", "contains 'kitchen'"), ("array", "several .* contain 'array'")]
)
def test_device_that_is_not_one(device: int | str, message: str) -> None:
    with pytest.raises(l3edge.MicrophoneError, match=rf"{message}; there are: 0 \(Array \(hw:0,0\)\), 2 \(Array two\)"):
        Microphone(device)


def test_a_device_is_found_again_though_its_numbers_have_changed(portaudio: types.SimpleNamespace) -> None:
    before = microphone.find_device(0)
    devices = portaudio.query_devices()
    devices.insert(0, {**devices[2], "name": "New"})
    assert microphone.find_again(before).index == 1
    devices[1] = {**devices[1], "name": "Array (hw:3,0)"}
    with pytest.raises(l3edge.MicrophoneError, match="several"):  # "Array two" might be it as well
        microphone.find_again(before)
    del devices[3]
    assert microphone.find_again(before).name == "Array (hw:3,0)"
    del devices[1]
    with pytest.raises(l3edge.MicrophoneError, match="no input device's name contains 'Array'"):
        microphone.find_again(before)


@pytest.mark.usefixtures("portaudio")
def test_stuck_input_is_counted() -> None:
    with Microphone(0) as mic:
        blocks = iter(mic)
        for value in (0.0, 0.25, float("nan")):
            FakeStream.opened.deliver(1_600, value)
            next(blocks)
        FakeStream.opened.callback(
            np.linspace(0, 1, 3_200, dtype=np.float32).reshape(-1, 2),
            1_600,
            None,
            types.SimpleNamespace(input_overflow=False),
        )
        next(blocks)
    assert mic.stuck == 3_200


def test_no_device(portaudio: types.SimpleNamespace) -> None:
    portaudio.query_devices = list
    with pytest.raises(l3edge.MicrophoneError, match="there is no input device"):
        Microphone()


@pytest.mark.usefixtures("portaudio")
def test_impossible_options() -> None:
    for options in ({"sample_rate": 0}, {"channels": -1}, {"block": 0}):
        with pytest.raises(l3edge.OptionError):
            Microphone(**options)  # type: ignore[arg-type]


@pytest.mark.usefixtures("portaudio")
def test_dropped_samples_are_counted_exactly() -> None:
    with Microphone(0) as mic:
        for second in range(13):  # the queue holds ten
            FakeStream.opened.deliver(16_000, second / 16)
        blocks = iter(mic)
        assert [next(blocks) for _ in range(4)][-1].samples[0, 0] == 3 / 16
        FakeStream.opened.deliver(16_000, 1.0, overflow=True)
        rest: list[Block] = [next(blocks) for _ in range(7)]
    # The driver's overflow took at least one sample more; in this test no time passes in which it could be more.
    assert [block.lost for block in rest] == [0, 0, 0, 0, 0, 0, 48_001]
    assert rest[-1].samples[0, 0] == 1.0
    assert (mic.lost, mic.overflows) == (48_001, 1)


@pytest.mark.usefixtures("portaudio")
def test_an_overflow_is_estimated_from_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(microphone.time, "monotonic", lambda: clock[0])
    with Microphone(0) as mic:
        for seconds, overflow in ((0.1, False), (0.6, True), (0.1, False)):
            clock[0] += seconds
            FakeStream.opened.deliver(1_600, 0.1, overflow=overflow)
        blocks = iter(mic)
        assert [next(blocks).lost for _ in range(3)] == [0, 8_000, 0]  # 0.6 s passed, 0.1 s came
    assert (mic.lost, mic.overflows) == (8_000, 1)


@pytest.mark.usefixtures("portaudio")
def test_a_gap_shows_in_counts_and_time() -> None:
    model = l3edge.load(STUB)
    with Microphone(0) as mic:
        for _ in range(13):
            FakeStream.opened.deliver(16_000, 0.1)
        listening = model.listen(mic)
        times = [next(listening)[1] for _ in range(91)]  # ten seconds
        FakeStream.opened.deliver(16_000, 0.1)
        times.append(next(listening)[1])
    assert times[-2:] == [9.5, 13.5]


@pytest.mark.usefixtures("portaudio")
def test_silent_stall_and_end_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microphone, "WATCHDOG_SECONDS", 0.1)
    with Microphone() as mic, pytest.raises(l3edge.MicrophoneError, match=r"stopped delivering: no sound .* 0\.1 s"):
        next(iter(mic))
    with Microphone() as mic:
        FakeStream.opened.finished()
        with pytest.raises(l3edge.MicrophoneError, match="PortAudio ended the stream"):
            next(iter(mic))


@pytest.mark.usefixtures("portaudio")
def test_ctrl_c_ends_after_what_was_heard_before_it() -> None:
    heard = []
    with Interrupt() as interrupt, Microphone(0) as mic:
        for number in range(5):
            FakeStream.opened.deliver(16_000, number / 16)
        for block in interrupt.until(iter(mic), mic.stop):
            if not heard:
                signal.raise_signal(signal.SIGINT)
                FakeStream.opened.deliver(16_000, 1.0)
            heard.append(block.samples[0, 0] * 16)
        assert interrupt.signal == signal.SIGINT
    assert heard == [0, 1, 2, 3, 4]


@pytest.mark.usefixtures("portaudio")
def test_ctrl_c_at_a_device_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microphone, "CLOSE_SECONDS", 0.1)
    hung = threading.Event()
    monkeypatch.setattr(FakeStream, "close", lambda _: hung.wait(20))
    begun = time.monotonic()
    with Interrupt() as interrupt, Microphone(0) as mic:
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        assert list(interrupt.until(iter(mic), mic.stop)) == []
    assert time.monotonic() - begun < 3
    hung.set()


def test_summary_has_what_was_lost_after_the_last_block(tmp_path: Path) -> None:
    """The reader gets ten seconds, and no block that could tell it of the three that did not fit."""
    (tmp_path / "sounddevice.py").write_text("""
import types
import numpy

default = types.SimpleNamespace(device=[0, 0])
PortAudioError = OSError

def query_hostapis():
    return [{"name": "ALSA"}]

def query_devices():
    return [{"name": "Array", "hostapi": 0, "max_input_channels": 1, "default_samplerate": 16_000}]

class InputStream:
    def __init__(self, callback, finished_callback, **_):
        self.callback, self.close = callback, finished_callback

    def start(self):
        for _ in range(13):
            self.callback(numpy.zeros((16_000, 1), "f4"), 16_000, None, types.SimpleNamespace(input_overflow=False))
        self.close()
""")
    output = tmp_path / "heard.jsonl"
    command = [sys.executable, "-m", "l3edge", "stream", "--model", STUB, "--format", "jsonl", "--output", output]
    command.append("--no-reconnect")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{Path(__file__).parent.parent}"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)
    summary, error = done.stderr.splitlines()
    assert done.returncode == 1
    assert ", 10.00 s of audio; " in summary
    assert "; lost 48000, " in summary
    assert error.endswith("PortAudio ended the stream; is it still connected?")
    assert len(parse(output.read_text())[1]) == 91


@pytest.mark.usefixtures("portaudio")
def test_closed_microphone_ends_the_iteration() -> None:
    mic = Microphone()
    with mic:
        FakeStream.opened.deliver(100)
    assert list(mic) == []
    with pytest.raises(l3edge.MicrophoneError, match="closed"), mic:
        pass


def test_missing_portaudio_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    with pytest.raises(l3edge.MicrophoneError, match="apt install libportaudio2"):
        Microphone()
    sys.modules.pop("sounddevice", None)
