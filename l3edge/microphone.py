"""Microphone capture in which every sample is delivered or counted.

PortAudio calls back on a thread of its own. The callback copies and counts and never waits, since whoever keeps it
waiting loses sound that nobody counts. Between it and the reader lies a queue of some seconds; when the reader falls
further behind than that, blocks are dropped whole and the next one that fits says how many samples are missing
before it. Time is the count of samples, with one wall-clock anchor (`Microphone.started`): stamps of PortAudio 19.6
jump with the system clock.
"""

from __future__ import annotations

import atexit
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .errors import MicrophoneError, OptionError

QUEUE_SECONDS = 10.0  # how far a reader may fall behind before samples are dropped, and counted
CLOSE_SECONDS = 2.0
WATCHDOG_SECONDS = 5.0  # a device that is silent raises no error in PortAudio; one that is well calls back every block


class Block(NamedTuple):
    """Samples as the device delivered them."""

    samples: NDArray[np.float32]  # [n, channels]
    lost: int = 0  # samples per channel that are missing between the block before and this one
    heard: float | None = None  # time.monotonic() when its last sample was there; None where nobody waits for it


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


class Microphone:
    """An input device, and an iterator over the blocks it delivers.

    `with Microphone() as microphone: for block in microphone: ...` begins to capture at `with`, and ends there.

    Attributes:
        device: what was opened
        sample_rate, channels: Hz and count in which blocks come
        started: unix time of the first sample, in seconds
        lost: samples per channel dropped because the reader was more than 10 s behind, or lost in overflows
        overflows: how often the driver said that it lost sound before it reached us. It does not say how much: that
            is estimated from the monotonic clock, at least one sample, so that no window spans the place

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
        for what, value in (("sample_rate", sample_rate), ("channels", channels), ("block", block)):
            if value is not None and not value > 0:
                raise OptionError(f"{what} must be positive, got {value!r}")
        self.device = find_device(device)
        self.sample_rate = sample_rate or self.device.sample_rate
        self.started = time.time()
        self.lost = 0
        self.overflows = 0
        self._waiting: queue.SimpleQueue[Block | None] = queue.SimpleQueue()  # None: no more will come
        self._limit = round(QUEUE_SECONDS * self.sample_rate)
        self._received = 0  # samples queued; written by the callback only, as _taken by the reader only:
        self._taken = 0  # so their difference needs no lock
        self._gap = 0  # samples lost since the last block that was queued
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
        if self._received == 0:
            self.started = time.time() - frames / self.sample_rate
        now = time.monotonic()
        if status.input_overflow and self._called is not None:  # before the first block nothing was being heard
            self.overflows += 1
            missing = max(1, round((now - self._called) * self.sample_rate) - frames)
            self._gap += missing
            self.lost += missing
        self._called = now
        if self._received - self._taken + frames > self._limit:
            self._gap += frames
            self.lost += frames
            return
        self._waiting.put(Block(samples.copy(), self._gap, now))
        self._gap = 0
        self._received += frames

    def _finished(self) -> None:
        """PortAudio's callback when the stream has ended, whether we asked for it or not."""
        self._waiting.put(None)

    def __iter__(self) -> Iterator[Block]:
        """Blocks as they come, until the microphone is stopped or closed."""
        while True:
            try:
                block = self._waiting.get(timeout=WATCHDOG_SECONDS)
            except queue.Empty:
                raise self._stopped(f"no sound has come for {WATCHDOG_SECONDS:g} s") from None
            if self._closed:
                return
            if block is None:
                if self._ended:
                    return
                raise self._stopped("PortAudio ended the stream")
            self._taken += len(block.samples)
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
        self._waiting.put(None)

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
