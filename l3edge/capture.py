"""A microphone that comes back: capture in a process of its own, begun anew whenever it ends.

Why a process: PortAudio lists the devices once, when it starts, so that what was plugged in again is only seen by one
that starts anew; a sound server or driver that hangs, hangs whoever called it, and only a process can be killed; and
the callback shares its interpreter with nothing that computes, so that it is never late for that.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import time
import warnings
from collections.abc import Callable, Generator, Iterator
from types import TracebackType
from typing import Any

import numpy as np

from .backlog import Block
from .capture_child import END, ERROR, FOUND, OPEN, OPENED, START, STOP, Counts, Message
from .capture_process import TICK, CaptureProcess
from .clock import Drift
from .errors import MicrophoneError, MicrophoneWarning
from .lock import Lock, microphone_lock
from .microphone import WATCHDOG_SECONDS, Device, check_options

OPEN_SECONDS = 20.0  # until a new process has opened the device: Python starts slowly from a card
STALL_SECONDS = WATCHDOG_SECONDS + 2.0  # the process's own watchdog comes first, and knows more
STOP_SECONDS = 1.0
FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0  # seconds between attempts to have the device again


class SteadyMicrophone:
    """A `Microphone` that is found again when it goes away, by its name and at the same rate.

    What is missed meanwhile, by the monotonic clock, is `lost` of the first block after it, so that time goes on and no
    window spans it. While there is no sound an empty block comes each second, for whoever has other things to see to.
    MicrophoneWarning says when the microphone goes away, and when it is back: each once.

    Attributes: those of `Microphone`, over all connections, and
        reconnects: how often it came back
        connected: whether sound comes

    Args:
        device, sample_rate, channels, block: as of `Microphone`
        reconnect: False: raise MicrophoneError when it goes away
        wait: for a device that is not there yet, instead of raising
        idle: called about once a second while that is waited for; what it raises ends the waiting
        share: False: raise InUseError where another process of this user has the same microphone with share=False

    Raises MicrophoneError when the device does not exist, does not open, or never gives a first block.
    """

    device: Device
    sample_rate: int
    channels: int

    def __init__(
        self,
        device: int | str | None = None,
        sample_rate: int | None = None,
        channels: int | None = None,
        block: float = 0.05,
        *,
        reconnect: bool = True,
        wait: bool = False,
        share: bool = True,
        idle: Callable[[], None] = lambda: None,
    ) -> None:
        check_options(sample_rate, channels, block)
        self._options: dict[str, Any] = {"device": device, "sample_rate": sample_rate, "channels": channels}
        self._options |= {"block": block, "known": None}
        self._reconnect, self._wait, self._share, self._idle = reconnect, wait, share, idle
        self.started = time.time()
        self.reconnects = 0
        self.connected = False
        self._counts = self._before = Counts()  # of this connection, of those before
        self._told = 0  # samples of _counts.lost that came before some block
        self._missed = 0  # samples between connections
        self._heard = 0  # samples of this connection
        self._end: float | None = None  # monotonic time at the end of the last block
        self._away = False  # and said so
        self._delay = FIRST_DELAY / 2
        self._ended = self._closed = False
        self._lock: Lock | None = None
        self._child: CaptureProcess | None = None
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        try:
            self._open_first()
        except BaseException:
            self.close()
            raise
        self.drift = Drift(self.sample_rate)

    @property
    def lost(self) -> int:
        return self._before.lost + self._missed + self._counts.lost

    @property
    def overflows(self) -> int:
        return self._before.overflows + self._counts.overflows

    @property
    def stalls(self) -> int:
        return self._before.stalls + self._counts.stalls

    @property
    def stuck(self) -> int:
        return self._before.stuck + self._counts.stuck

    def _open_first(self) -> None:
        try:
            for _ in self._open():
                pass
        except MicrophoneError as error:
            if not self._wait:
                raise
            self._kill()
            self._say_lost(error)
            for _ in self._open_again():
                self._idle()

    def _open(self) -> Iterator[None]:
        """A new child that has the device open, and has not started. Yields while that takes its time."""
        self._child = CaptureProcess(self._options, self._woken)
        found = yield from self._answer(FOUND)
        self.device = Device(**found)
        if not self._share and not self._lock:
            self._lock = self._locked()
        self._child.tell(OPEN)
        opened = yield from self._answer(OPENED)
        self._options |= {"known": found, **opened}
        self.sample_rate, self.channels = opened["sample_rate"], opened["channels"]
        self._heard = 0

    def _locked(self) -> Lock | None:
        try:
            return microphone_lock(self.device.name, self.device.host_api)
        except OSError as error:  # no place to write is no reason not to listen
            warnings.warn(
                f"nothing keeps a second l3edge from this microphone: {error}", MicrophoneWarning, stacklevel=5
            )
            return None

    def _answer(self, kind: int) -> Generator[None, None, dict[str, Any]]:
        until = time.monotonic() + OPEN_SECONDS
        while (message := self._hear(until)) is None:
            if self._over():
                raise MicrophoneError("it was stopped before it was open")
            yield
        if message.kind != kind:
            raise MicrophoneError("its capture process is confused")
        answer: dict[str, Any] = json.loads(message.data)
        return answer

    def _hear(self, until: float) -> Message | None:
        """The next message, or None for now; MicrophoneError after `until`, and for what the child calls one."""
        assert self._child is not None
        message = self._child.hear()
        if message is None:
            if time.monotonic() > until:
                raise MicrophoneError("nothing comes from its capture process; does the driver or sound server hang?")
            return None
        self._counts = message.counts
        if message.kind == ERROR:
            raise MicrophoneError(message.data.decode(errors="replace"))
        return message

    def _over(self) -> bool:
        return self._ended or self._closed

    def __iter__(self) -> Iterator[Block]:
        """Blocks as they come, until the microphone is stopped or closed."""
        for block in self._come():
            self.drift.take(block)
            yield block

    def _come(self) -> Iterator[Block]:
        while True:
            try:
                yield from self._connection()
                return
            except MicrophoneError as error:
                if self._over():
                    return
                self._lose(error)
            for _ in self._open_again():
                yield self._nothing()
            if self._over():
                break
            self._tell(START)
        if not self._closed and self._end is not None:  # stopped while it was away
            yield self._nothing(self._gap_until(time.monotonic()))

    def _connection(self) -> Iterator[Block]:
        """The blocks of one child, to its end."""
        until, told = time.monotonic() + STALL_SECONDS, False
        while not self._closed:
            message = self._hear(until)
            if message is None:
                if self._ended and not told:
                    self._tell(STOP)
                    until, told = time.monotonic() + STOP_SECONDS, True
                yield self._nothing()
            elif message.kind == END:
                return
            else:
                yield self._block(message)
                until = time.monotonic() + (STOP_SECONDS if told else STALL_SECONDS)

    def _nothing(self, lost: int = 0) -> Block:
        return Block(np.zeros((0, self.channels), np.float32), lost)

    def _block(self, message: Message) -> Block:
        samples = np.frombuffer(message.data, "<f4").reshape(-1, self.channels)
        lost = message.lost
        self._told += lost
        if not self.connected:
            self.connected = True
            if self._end is None:
                self.started = message.counts.started
            else:
                lost += self._gap_until(message.heard - len(samples) / self.sample_rate)
                self.reconnects += 1
            self._say_back(lost / self.sample_rate)
        self._end = message.heard
        self._heard += len(samples)
        return Block(samples, lost, message.heard)

    def _gap_until(self, begin: float) -> int:
        """Samples between the last block and `begin`; at least one, so that no window spans the place."""
        assert self._end is not None
        gap = max(1, round((begin - self._end) * self.sample_rate))
        self._missed += gap
        return gap

    def _lose(self, error: MicrophoneError) -> None:
        """The connection has ended; raise where that is the end of all."""
        self._kill()
        if not self._reconnect or (self._end is None and not self._wait):
            raise MicrophoneError(str(error)) from error
        # What it lost after its last block lies in the gap that is to come.
        self._before = self._before.plus(self._counts._replace(lost=self._told))
        self._counts, self._told = Counts(), 0
        self.connected = False
        if not self._away:
            self._say_lost(error)
        if self._heard > self._delay * self.sample_rate:
            self._delay = FIRST_DELAY
        else:  # it comes and goes
            self._delay = min(2 * self._delay, LONGEST_DELAY)

    def _open_again(self) -> Iterator[None]:
        """Try until the device is open, or until stopped. Yields while that takes its time."""
        while True:
            until = time.monotonic() + self._delay * random.uniform(0.75, 1.25)
            while (left := until - time.monotonic()) > 0:
                self._pause(min(left, TICK))
                if self._over():
                    return
                yield
            try:
                yield from self._open()
                return
            except MicrophoneError:
                self._kill()
                if self._over():
                    return
                self._delay = min(2 * self._delay, LONGEST_DELAY)

    def _pause(self, seconds: float) -> None:
        poll = select.poll()
        poll.register(self._woken, select.POLLIN)
        if poll.poll(seconds * 1e3):
            os.read(self._woken, 64)

    def _say_lost(self, error: MicrophoneError) -> None:
        self._away = True
        warnings.warn(
            f"no microphone ({self.reconnects + 1}): {error}; looking for it", MicrophoneWarning, stacklevel=4
        )

    def _say_back(self, seconds: float) -> None:
        if self._away:
            self._away = False
            text = f"microphone {self.device.index} ({self.device.name}) is back; {seconds:.1f} s are missing"
            warnings.warn(f"{text} ({self.reconnects})", MicrophoneWarning, stacklevel=4)

    def _tell(self, order: bytes) -> None:
        if self._child:
            self._child.tell(order)

    def _kill(self) -> None:
        if self._child:
            self._child.kill()

    def stop(self) -> None:
        """Take nothing more: the iteration ends after what was heard until now. Does not wait; for signal handlers too.

        When the microphone is away it ends at once.
        """
        self._ended = True
        if not self._closed:
            with contextlib.suppress(OSError):
                os.write(self._wake, b"s")

    def close(self) -> None:
        """End the capture; what has not been read is discarded."""
        if self._closed:
            return
        self._closed = True
        self._kill()
        if self._lock:
            self._lock.close()
        os.close(self._wake)
        os.close(self._woken)

    def __enter__(self) -> SteadyMicrophone:
        if self._closed:
            raise MicrophoneError("this SteadyMicrophone was closed; make a new one")
        self._tell(START)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
