"""Microphone capture in which every sample is delivered or counted.

PortAudio calls back on a thread of its own. The callback copies and counts and never waits, since whoever keeps it
waiting loses sound that nobody counts. Between it and the reader lies a queue of some seconds; when the reader falls
further behind than that, blocks are dropped whole and the next one that fits says how many samples are missing
before it. Time is the count of samples, with one wall-clock anchor (`Microphone.started`): stamps of PortAudio 19.6
jump with the system clock. The monotonic clock judges what no driver tells: `clock.Stalls`.

A device that goes away ends a `Microphone` with an error; `capture.SteadyMicrophone` finds it again.
"""

from __future__ import annotations

import atexit
import queue
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .backlog import Backlog
from .backlog import Block as Block
from .clock import Drift, Stalls
from .errors import MicrophoneError, OptionError

QUEUE_SECONDS = 10.0  # how far a reader may fall behind before samples are dropped, and counted
CLOSE_SECONDS = 2.0
WATCHDOG_SECONDS = 5.0  # a device that is silent raises no error in PortAudio; one that is well calls back every block


@dataclass(frozen=True)
class Device:
    """An input device as PortAudio describes it."""

    index: int
    name: str
    host_api: str
    channels: int  # at most
    sample_rate: int  # Hz, the default one
    default: bool  # what `Microphone()` opens


def _portaudio() -> Any:
    """The sounddevice module; importing it loads and starts PortAudio."""
    try:
        import sounddevice
    except ImportError as error:
        raise MicrophoneError("listening needs the sounddevice package: pip install sounddevice") from error
    except OSError as error:
        raise MicrophoneError(
            "the PortAudio library was not found; on Debian, Ubuntu and Raspberry Pi OS: sudo apt install libportaudio2"
        ) from error
    except Exception as error:  # PortAudioError, which cannot be named before the import has succeeded
        raise MicrophoneError(f"PortAudio does not start: {error}") from error
    return sounddevice


def device_list() -> list[Device]:
    """The input devices, in PortAudio's order; empty when there are none."""
    portaudio = _portaudio()
    default = portaudio.default.device[0]
    host_apis = portaudio.query_hostapis()
    return [
        Device(
            index=index,
            name=found["name"],
            host_api=host_apis[found["hostapi"]]["name"],
            channels=found["max_input_channels"],
            sample_rate=round(found["default_samplerate"]),
            default=index == default,
        )
        for index, found in enumerate(portaudio.query_devices())
        if found["max_input_channels"] > 0
    ]


def find_device(device: int | str | None) -> Device:
    """The input device of that index, or whose name contains the text (case ignored); None: the default one."""
    devices = device_list()
    if not devices:
        raise MicrophoneError(
            "there is no input device; connect a microphone, check that this user may use it (group audio), or stream "
            "a file"
        )
    if device is None:
        matches = [d for d in devices if d.default]
        problem = "no input device is the default one; choose a device"
    elif isinstance(device, int):
        matches = [d for d in devices if d.index == device]
        problem = f"no input device has index {device}"
    else:
        wanted = device.casefold()
        matches = [d for d in devices if wanted == d.name.casefold()][:1]
        matches = matches or [d for d in devices if wanted in d.name.casefold()]
        problem = f"no input device's name contains {device!r}"
        if len(matches) > 1:
            problem = f"several input devices' names contain {device!r}"
    if len(matches) != 1:
        available = ", ".join(f"{d.index} ({d.name})" for d in devices)
        raise MicrophoneError(f"{problem}; there are: {available}")
    return matches[0]


def find_again(device: Device) -> Device:
    """A device that was there before, by its name: indices change, and so may ALSA's number of a card in the name."""
    try:
        return find_device(device.name)
    except MicrophoneError:
        bare = re.sub(r" \(hw:\d+,\d+\)$", "", device.name)
        if bare == device.name:
            raise
        return find_device(bare)


def check_options(sample_rate: int | None, channels: int | None, block: float) -> None:
    """OptionError for what no device can do."""
    for what, value in (("sample_rate", sample_rate), ("channels", channels), ("block", block)):
        if value is not None and not value > 0:
            raise OptionError(f"{what} must be positive, got {value!r}")


class Microphone:
    """An input device, and an iterator over the blocks it delivers.

    `with Microphone() as microphone: for block in microphone: ...` begins to capture at `with`, and ends there.

    Attributes:
        device: what was opened
        sample_rate, channels: Hz and count in which blocks come
        started: unix time of the first sample, in seconds
        lost: samples per channel dropped because the reader was more than 10 s behind, or lost in overflows and stalls
        overflows: how often the driver said that it lost sound before it reached us. It does not say how much: that
            is estimated from the monotonic clock, at least one sample, so that no window spans the place
        stalls: how often it lost sound and did not say so, by the monotonic clock
        stuck: samples per channel in blocks that were one value throughout on every channel, as of a dead or muted
            device (digital silence is one value too)
        drift: of the device's clock, `clock.Drift`

    Args:
        device: index, or part of a name, or None for the default one
        sample_rate: Hz; None for the device's default
        channels: None for two, or as many as the device will open with
        block: seconds in a block

    Raises MicrophoneError when the device does not exist, does not open, or delivers nothing for 5 seconds.
    """

    def __init__(
        self,
        device: int | str | None = None,
        sample_rate: int | None = None,
        channels: int | None = None,
        block: float = 0.05,
    ) -> None:
        check_options(sample_rate, channels, block)
        self.device = find_device(device)
        self.sample_rate = sample_rate or self.device.sample_rate
        self.started = time.time()
        self.overflows = 0
        self.stuck = 0
        self.drift = Drift(self.sample_rate)
        self._backlog = Backlog(round(QUEUE_SECONDS * self.sample_rate))
        self._stalls = Stalls(self.sample_rate)
        self._overflowed = 0  # samples lost in overflows
        self._called: float | None = None  # monotonic clock, when PortAudio called back last
        self._ended = False  # by `stop`
        self._closed = False
        self._stream, self.channels = self._open(channels, max(1, round(block * self.sample_rate)))

    def _open(self, channels: int | None, frames: int) -> tuple[Any, int]:
        """The PortAudio stream, not yet started, and the number of channels it opened with."""
        portaudio, most = _portaudio(), self.device.channels
        # Microphone arrays may offer all of their channels or none, cheap headsets one whatever they claim.
        attempts = [channels] if channels else list(dict.fromkeys((min(2, most), 1, most)))
        problem = ""
        for attempt in attempts:
            try:
                stream = portaudio.InputStream(
                    device=self.device.index,
                    samplerate=self.sample_rate,
                    channels=attempt,
                    blocksize=frames,
                    dtype="float32",
                    callback=self._receive,
                    finished_callback=self._finished,
                )
                return stream, attempt
            except portaudio.PortAudioError as error:
                problem = problem or str(error)
        raise MicrophoneError(
            f"microphone {self.device.index} ({self.device.name}) does not open at {self.sample_rate} Hz with "
            f"{attempts[0]} channel(s): {problem}; its default rate is {self.device.sample_rate} Hz and it has up to "
            f"{most} channel(s)"
        )

    def _receive(self, samples: NDArray[np.float32], frames: int, _time: Any, status: Any) -> None:
        """PortAudio's callback: copy, count, return."""
        if self._ended:
            return
        now, missing = time.monotonic(), 0
        if self._called is None:
            self.started = time.time() - frames / self.sample_rate
        elif status.input_overflow:  # before the first block nothing was being heard
            self.overflows += 1
            missing = max(1, round((now - self._called) * self.sample_rate) - frames)
            self._overflowed += missing
        self._called = now
        self._backlog.put(Block(samples.copy(), missing, now))

    def _finished(self) -> None:
        """PortAudio's callback when the stream has ended, whether we asked for it or not."""
        self._backlog.end()

    @property
    def lost(self) -> int:
        return self._backlog.dropped + self._overflowed + self._stalls.lost

    @property
    def stalls(self) -> int:
        return self._stalls.found

    def __iter__(self) -> Iterator[Block]:
        """Blocks as they come, until the microphone is stopped or closed."""
        try:
            for came in self._come():
                for block in self._stalls.take(came):
                    if len(block.samples) and (block.samples == block.samples[0]).all():
                        self.stuck += len(block.samples)
                    self.drift.take(block)
                    yield block
        except MicrophoneError:
            yield from self._stalls.end()
            raise
        yield from self._stalls.end()

    def _come(self) -> Iterator[Block]:
        while True:
            begun = time.monotonic()
            try:
                block = self._backlog.get(WATCHDOG_SECONDS)
            except queue.Empty:
                if time.monotonic() - begun < WATCHDOG_SECONDS:
                    continue  # Python without sem_clockwait waits by the system's time, which was set forward
                raise self._stopped(f"no sound has come for {WATCHDOG_SECONDS:g} s") from None
            if self._closed:
                return
            if block is None:
                if self._ended:
                    return
                raise self._stopped("PortAudio ended the stream")
            yield block

    def _stopped(self, how: str) -> MicrophoneError:
        return MicrophoneError(
            f"microphone {self.device.index} ({self.device.name}) stopped delivering: {how}; is it still connected?"
        )

    def stop(self) -> None:
        """Take nothing more: the iteration ends after what was heard until now. Does not wait; for signal handlers too.

        The device itself is only let go by `close`, since it may be what hangs.
        """
        self._ended = True
        self._backlog.end()

    def close(self) -> None:
        """End the capture; what has not been read is discarded."""
        if self._closed:
            return
        self._closed = True
        # A sound server that hangs would make us hang with it, error message and all; the thread is left behind then.
        closing = threading.Thread(target=self._stream.close, name="l3edge-microphone-close", daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)
        if closing.is_alive():  # nor must PortAudio be shut down at exit: that waits for the same device
            atexit.unregister(_portaudio()._exit_handler)

    def __enter__(self) -> Microphone:
        if self._closed:
            raise MicrophoneError("this Microphone was closed; make a new one")
        try:
            self._stream.start()
        except Exception as error:
            self.close()
            raise MicrophoneError(
                f"microphone {self.device.index} ({self.device.name}) does not start: {error}"
            ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
