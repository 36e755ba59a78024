"""The process that captures for `capture.SteadyMicrophone`: a `Microphone` whose blocks go into a pipe.

It finds the device and says which; told OPEN it opens it and says how; told START it begins, and sends each block; told
STOP it sends what was heard until then, and ends. It ends at once when its standard input closes, which is when the
process that it captures for has gone, however that went: so it cannot be left behind, and heeds no signal.
"""

from __future__ import annotations

import dataclasses
import json
import os
import queue
import signal
import struct
import threading
from typing import Any, NamedTuple

import numpy as np

from .backlog import Block
from .microphone import Device, Microphone, find_again, find_device

OPEN, START, STOP = b"o", b"s", b"e"  # what it is told
FOUND, OPENED, BLOCK, END, ERROR = range(5)  # what it says
MAGIC = b"l3ec"
# magic, what it says, bytes that follow; of the microphone: lost, overflows, stalls, stuck, and started; of a block:
# lost before it, and heard
HEADER = struct.Struct("<4sII QQQQd Qd")
MOST = 1 << 26  # bytes that may follow: a second of 64 channels at 192 kHz, and some


class Counts(NamedTuple):
    """What a `Microphone` has counted so far."""

    lost: int = 0
    overflows: int = 0
    stalls: int = 0
    stuck: int = 0
    started: float = 0.0

    def plus(self, more: Counts) -> Counts:
        """Both together, from the first one's beginning."""
        return Counts(
            self.lost + more.lost,
            self.overflows + more.overflows,
            self.stalls + more.stalls,
            self.stuck + more.stuck,
            self.started,
        )


class Message(NamedTuple):
    """One thing that the child says."""

    kind: int
    data: bytes  # of a block float32 samples, of FOUND and OPENED JSON, of ERROR a text
    counts: Counts = Counts()
    lost: int = 0  # of a block, as heard is
    heard: float = 0.0


def packed(message: Message) -> bytes:
    """A message as it goes through the pipe."""
    header = HEADER.pack(MAGIC, message.kind, len(message.data), *message.counts, message.lost, message.heard)
    return header + message.data


def unpacked(buffer: bytearray) -> Message | None:
    """Take the first message from what came through the pipe; None until it is whole, ValueError if it is none."""
    if len(buffer) < HEADER.size:
        return None
    magic, kind, size, *counts, lost, heard = HEADER.unpack_from(buffer)
    if magic != MAGIC or size > MOST:
        raise ValueError("no message of a capture process")
    if len(buffer) < HEADER.size + size:
        return None
    data = bytes(buffer[HEADER.size : HEADER.size + size])
    del buffer[: HEADER.size + size]
    return Message(kind, data, Counts(*counts), lost, heard)


class _Capture:
    """The child's side of the pipes."""

    def __init__(self) -> None:
        # The pipe becomes ours alone: what a library prints must not get into it.
        self._pipe = os.dup(1)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        self._told: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._microphone: Microphone | None = None
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        """Heed what we are told, even while PortAudio hangs."""
        while order := os.read(0, 1):
            if order == STOP and self._microphone:
                self._microphone.stop()
            self._told.put(order)
        os._exit(0)

    def _say(self, kind: int, data: bytes = b"", block: Block | None = None) -> None:
        mic = self._microphone
        counts = Counts(mic.lost, mic.overflows, mic.stalls, mic.stuck, mic.started) if mic else Counts()
        about = (block.lost, block.heard or 0.0) if block else (0, 0.0)
        rest = memoryview(packed(Message(kind, data, counts, *about)))
        while rest:
            rest = rest[os.write(self._pipe, rest) :]

    def _wait_for(self, order: bytes) -> None:
        if self._told.get() != order:
            os._exit(0)

    def run(self, options: dict[str, Any]) -> None:
        """Capture until told to stop, or until something is wrong, which is said."""
        known = options.pop("known")
        try:
            device = find_again(Device(**known)) if known else find_device(options["device"])
            self._say(FOUND, json.dumps(dataclasses.asdict(device)).encode())
            self._wait_for(OPEN)
            mic = self._microphone = Microphone(**{**options, "device": device.index})
            self._say(OPENED, json.dumps({"sample_rate": mic.sample_rate, "channels": mic.channels}).encode())
            self._wait_for(START)
            with mic:
                for block in mic:
                    self._say(BLOCK, np.ascontiguousarray(block.samples, "<f4").tobytes(), block)
                self._say(END)  # before the device is let go, which may take its time
        except BrokenPipeError:  # nobody reads any more
            pass
        except Exception as error:
            self._say(ERROR, str(error).encode())


def main(options: str) -> None:
    """Capture as the options say, in JSON: those of `Microphone`, and `known`, the device if it was there before."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        _Capture().run(json.loads(options))
    finally:
        os._exit(0)  # a device that hangs would keep PortAudio, and so Python, from ending
