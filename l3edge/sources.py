"""Where the command line's sound comes from: a microphone, a file, standard input; and what ends it early."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from . import audio
from .backlog import Backlog, Block
from .capture import SteadyMicrophone
from .errors import AudioError
from .keeping_up import KeepingUp
from .microphone import QUEUE_SECONDS

BLOCK_SECONDS = 0.1  # of a file or of standard input
CONTAINERS = {b"RIFF": "a WAV", b"fLaC": "a FLAC", b"OggS": "an Ogg"}  # first bytes of what is no raw PCM


@dataclass
class Source:
    """Sound as it comes."""

    name: str
    sample_rate: int  # Hz
    channels: int
    blocks: Iterator[Block]
    seconds: float | None = None  # its length where that is known
    microphone: SteadyMicrophone | None = None
    backlog: Backlog | None = None  # of what is read in a thread
    keeping_up: KeepingUp | None = None

    def lost(self) -> int:
        """Samples per channel that never arrived or were dropped, also those that no block came after."""
        lost = self.microphone.lost if self.microphone else 0
        lost += self.backlog.dropped if self.backlog else 0
        return lost + (self.keeping_up.dropped if self.keeping_up else 0)

    def keep_up(self, policy: str, limit: float) -> None:
        """Do so when computing falls behind: see `KeepingUp`."""
        self.keeping_up = KeepingUp(self.blocks, policy, limit)
        self.blocks = iter(self.keeping_up)


@contextlib.contextmanager
def microphone(
    device: int | str | None, sample_rate: int | None, channels: int | None, **options: Any
) -> Iterator[Source]:
    """What a microphone hears from now on; options as of SteadyMicrophone."""
    with SteadyMicrophone(device, sample_rate, channels, **options) as mic:
        yield Source(mic.device.name, mic.sample_rate, mic.channels, iter(mic), microphone=mic)


@contextlib.contextmanager
def file(path: str) -> Iterator[Source]:
    """An audio file."""
    with audio.open_file(path) as opened:
        blocks = opened.blocks(max(1, round(BLOCK_SECONDS * opened.sample_rate)))
        seconds = opened.frames / opened.sample_rate
        yield Source(Path(path).name, opened.sample_rate, opened.channels, map(Block, blocks), seconds)


@contextlib.contextmanager
def standard_input(sample_rate: int, channels: int, dtype: str, live: bool = False) -> Iterator[Source]:
    """Raw little-endian PCM, interleaved, "int16" or "float32".

    live: read it when it comes, and keep 10 seconds of it; else, who writes it waits until it is wanted.
    """
    rate = audio.check_rate(sample_rate)
    source = Source("standard input", rate, channels, _raw(sys.stdin.buffer, rate, channels, dtype))
    if live:
        # A file of our own: Python would wait at exit for who reads the one that it knows.
        own = open(sys.stdin.fileno(), "rb", closefd=False)  # noqa: SIM115
        source.backlog = Backlog(round(QUEUE_SECONDS * rate))
        source.blocks = _ahead(_raw(own, rate, channels, dtype), source.backlog)
    yield source


def _ahead(blocks: Iterator[Block], backlog: Backlog) -> Iterator[Block]:
    """Blocks that a thread takes as soon as they come, from now on."""
    failures = list[BaseException]()

    def read() -> None:
        try:
            for block in blocks:
                backlog.put(block)
        except BaseException as error:
            failures.append(error)
        backlog.end()

    threading.Thread(target=read, name="l3edge-standard-input", daemon=True).start()

    def come() -> Iterator[Block]:
        while (block := backlog.get()) is not None:
            yield block
        for failure in failures:
            raise failure

    return come()


def _raw(stream: Any, rate: int, channels: int, dtype: str) -> Iterator[Block]:
    """Blocks as they arrive, in whole frames."""
    kind = np.dtype(dtype).newbyteorder("<")
    frame = kind.itemsize * channels  # bytes
    most = max(1, round(BLOCK_SECONDS * rate)) * frame
    rest, data = b"", stream.read(4)
    if data in CONTAINERS:
        raise AudioError(f"standard input looks like {CONTAINERS[data]} file, not raw PCM; use --input FILE")
    while data:
        data = rest + data
        whole = len(data) - len(data) % frame
        rest = data[whole:]
        if whole:
            samples = np.frombuffer(data[:whole], kind).reshape(-1, channels).astype(np.float32)
            yield Block(samples / np.float32(32768) if kind.kind == "i" else samples, heard=time.monotonic())
        data = stream.read1(most)
    if rest:
        message = f"the last {len(rest)} byte(s) of standard input are not a whole frame of {frame}, and were left out"
        warnings.warn(message, stacklevel=1)


def limited(blocks: Iterator[Block], frames: int) -> Iterator[Block]:
    """The first `frames` samples; those that were lost count, so that the time is right."""
    while frames > 0 and (block := next(blocks, None)) is not None:
        lost = min(block.lost, frames)
        samples = block.samples[: frames - lost]
        frames -= lost + len(samples)
        yield block._replace(samples=samples, lost=lost)


def paced(blocks: Iterator[Block], rate: int) -> Iterator[Block]:
    """Each block no sooner than a microphone would have it."""
    begun, frames = time.monotonic(), 0
    for block in blocks:
        frames += len(block.samples)
        due = begun + frames / rate
        time.sleep(max(0.0, due - time.monotonic()))
        yield block._replace(heard=due)


class Interrupt:
    """Ctrl-C, SIGTERM and SIGHUP end the waiting for sound, never the computing; a second one ends everything.

    reloads: SIGHUP does something else instead: on the thread that takes the blocks `reload` is called, which says
        whether that ends them.

    Attribute `signal`: number of the last signal, 0 before there was one.
    """

    reload: Callable[[], bool]

    def __init__(self, reloads: bool = False) -> None:
        self.signal = 0
        self._reloads, self._hung_up = reloads, False
        self._waiting = False
        self._stop: Callable[[], None] | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # Ignored is what nohup, and `&` in scripts, want to stay so; but reading anew ends nothing.
            wanted = number == signal.SIGHUP and self._reloads
            if wanted or signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP and self._reloads:
            self._hung_up = True
            return
        again, self.signal = bool(self.signal), number
        if again or (self._waiting and not self._stop):
            raise KeyboardInterrupt
        if self._stop:
            self._stop()

    @contextlib.contextmanager
    def opening(self) -> Iterator[None]:
        """Meanwhile a signal that ends is a KeyboardInterrupt: there is nothing yet that could be lost."""
        self._stop = None
        self._waiting = True
        try:
            if self.signal:
                raise KeyboardInterrupt
            yield
        finally:
            self._waiting = False

    def until(self, blocks: Iterator[Block], stop: Callable[[], None] | None = None) -> Iterator[Block]:
        """The blocks up to the first signal; that calls `stop`, if given, which must make them end by themselves."""
        self._stop = stop
        came = self.signal  # before there was anything to stop
        while not came:
            try:
                self._waiting = True
                if self.signal and not stop:
                    return
                block = next(blocks, None)
                self._waiting = False
            except KeyboardInterrupt:
                return
            finally:
                self._waiting = False
            if block is None:
                return
            yield block
            if self.hung_up():
                if not stop:
                    return
                stop()  # what waits was heard, and is taken

    def hung_up(self) -> bool:
        """Whether a SIGHUP came, and what it does instead ends the blocks."""
        if not self._hung_up or self.signal:
            return False
        self._hung_up = False
        return self.reload()
