"""Videos decoded in child processes: what crashes or hangs there ends that video, not the run.

    python -m training.children SETTINGS      the child; SETTINGS is JSON

A child says that it is ready with an empty line on stdout: whatever ends it before is no video's fault. Then it reads
one item a line (JSON) on stdin and answers each on stdout with a line of JSON and the framed records.
It imports no TensorFlow and no Beam, and ends with its parent.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from . import records, storage
from .cli import TrainingError
from .manifest import Item, is_url
from .parent import end_with_parent
from .videos import Settings, read_video

_ROOT = Path(__file__).resolve().parent.parent
_CHUNK = 1 << 20
_START = 120.0  # s, for a child's imports; seconds even where disks are slow


class StoppedError(TrainingError):
    """The run that wanted the video has ended."""


class Decoded(NamedTuple):
    """What came of one item."""

    verdict: str
    reason: str
    samples: int  # of sound in the records, at settings.sample_rate
    frames: int  # pictures in the records
    records: int
    segments: dict[str, int]  # by verdict
    data: bytes  # the records, framed

    @classmethod
    def corrupt(cls, reason: str) -> Decoded:
        return cls("corrupt", reason, 0, 0, 0, {}, b"")


class _Child:
    """One decoding process. A thread of `Decoders` owns it."""

    def __init__(self, settings: Settings) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "training.children", json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(_ROOT), *filter(None, sys.path)])},
            start_new_session=True,  # a terminal's Ctrl-C is for the parent
        )
        assert self._process.stdin
        assert self._process.stdout
        self._requests, self._answers = self._process.stdin, self._process.stdout

    def await_ready(self) -> None:
        """Raises EOFError if it dies, TimeoutError if it cannot start within _START seconds."""
        self._receive(time.monotonic() + _START)

    def read(self, item: Item, timeout: float) -> Decoded:
        """Raises EOFError if the child dies, TimeoutError if it takes longer than `timeout` seconds."""
        deadline = time.monotonic() + timeout
        try:
            self._requests.write(json.dumps(item).encode() + b"\n")
            self._requests.flush()
        except BrokenPipeError:
            raise EOFError from None
        answer = bytearray()
        while (end := answer.find(b"\n")) < 0:
            answer += self._receive(deadline)
        header = json.loads(answer[:end])
        del answer[: end + 1]
        size = header.pop("size")
        while len(answer) < size:
            answer += self._receive(deadline)
        return Decoded(**header, data=bytes(answer))

    def _receive(self, deadline: float) -> bytes:
        file = self._answers.fileno()
        ready = select.poll()  # not select.select, which knows the first 1024 descriptors alone
        ready.register(file, select.POLLIN)
        if not ready.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise TimeoutError
        chunk = os.read(file, _CHUNK)
        if not chunk:
            raise EOFError
        return chunk

    def close(self) -> str:
        """Kill it; returns how it had ended, in words."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.2)  # after EOF it is about to end, and its own status is wanted
        status = self._process.poll()
        self.kill()
        self._process.wait()
        for file in (self._requests, self._answers):
            with contextlib.suppress(OSError):
                file.close()
        if status is None:
            return "killed"
        return signal.Signals(-status).name if status < 0 else f"exit status {status}"

    def kill(self) -> None:
        self._process.kill()


_stopped: set[str] = set()  # runs
_decoders: dict[str, list[Decoders]] = {}  # by run, of this process
_registry = threading.Lock()


def stop(run: str) -> None:
    """End the children of a run in this process; whoever waits for them gets StoppedError."""
    with _registry:
        _stopped.add(run)
        decoders = list(_decoders.get(run, ()))
    for one in decoders:
        one.kill()


class Decoders:
    """`jobs` children, each in the hands of one thread."""

    def __init__(self, run: str, settings: Settings, jobs: int, timeout: float) -> None:
        self._run = run
        self._settings = settings
        self._jobs = jobs
        self._timeout = timeout
        self._threads = ThreadPoolExecutor(jobs, "decode")
        self._children: dict[int, _Child] = {}  # by thread
        self._ended = False
        with _registry:
            _decoders.setdefault(run, []).append(self)

    def decode(self, items: Sequence[Item]) -> Iterator[Decoded]:
        """In order, a few ahead of the reader. Raises StoppedError, and TrainingError where no child can work."""
        waiting = deque(items)
        pending: deque[Future[Decoded]] = deque()
        try:
            while waiting or pending:
                self._check()
                while waiting and len(pending) < 2 * self._jobs:
                    pending.append(self._threads.submit(self._decode, waiting.popleft()))
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()

    def _decode(self, item: Item) -> Decoded:
        with _local(item) as near:
            if near is None:
                return Decoded.corrupt("no such file")
            outcome = self._attempt(near)
            if isinstance(outcome, str):
                # Once more: what killed the first child may have been meant for all processes of a machine going down.
                outcome = self._attempt(near)
            return outcome if isinstance(outcome, Decoded) else Decoded.corrupt(f"it crashes the decoder ({outcome})")

    def _attempt(self, item: Item) -> Decoded | str:
        """A string: how the child ended."""
        self._check()
        thread = threading.get_ident()
        if thread not in self._children:
            self._start(thread)
        child = self._children[thread]
        try:
            return child.read(item, self._timeout)
        except TimeoutError:
            self._end(thread)
            return Decoded.corrupt(f"the decoder did not finish within {self._timeout:g} s")
        except EOFError:
            status = self._end(thread)
            self._check()
            return status

    def _start(self, thread: int) -> None:
        try:
            child = self._children[thread] = _Child(self._settings)
            child.await_ready()
        except OSError as error:  # TimeoutError is one
            if thread in self._children:
                self._end(thread)
            reason = f"not ready within {_START:g} s" if isinstance(error, TimeoutError) else str(error)
        except EOFError:
            reason = self._end(thread)
        else:
            return
        self._check()
        raise TrainingError(f"a decoding process cannot start ({reason}); what it says itself is on stderr")

    def _check(self) -> None:
        if self._ended or self._run in _stopped:
            raise StoppedError("stopped")

    def _end(self, thread: int) -> str:
        return self._children.pop(thread).close()

    def kill(self) -> None:
        for child in list(self._children.values()):
            child.kill()

    def close(self) -> None:
        self._ended = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        self.kill()
        self._threads.shutdown()
        for thread in list(self._children):
            self._end(thread)
        with _registry:
            _decoders[self._run].remove(self)


@contextlib.contextmanager
def _local(item: Item) -> Iterator[Item | None]:
    """The item with a local path: one at a URL is copied to a temporary file. None where nothing is at the URL."""
    if not is_url(item.path):
        yield item
        return
    with tempfile.TemporaryDirectory(prefix="l3edge-") as scratch:
        copy = Path(scratch, "video")
        try:
            found = storage.exists(item.path)
            if found:
                storage.fetch(item.path, copy)
        except Exception as error:  # whatever the file system's client raises; the runner may try the shard again
            raise TrainingError(f"{item.path} cannot be read: {error}") from error
        yield item._replace(path=str(copy)) if found else None


def _answer(item: Item, settings: Settings) -> tuple[dict[str, Any], bytes]:
    video = read_video(item.path, settings, item.start, item.end)
    data = [records.framed(records.serialize(item.name, item.group, item.labels, segment)) for segment in video.kept]
    header = {
        "verdict": video.verdict,
        "reason": video.reason,
        "samples": sum(len(segment.audio) for segment in video.kept),
        "frames": sum(len(segment.frames) for segment in video.kept),
        "records": len(data),
        "segments": dict(sorted(video.segments.items())),
        "size": sum(map(len, data)),
    }
    return header, b"".join(data)


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to all processes of a job: the parent ends this one
        signal.signal(number, signal.SIG_IGN)
    end_with_parent()  # even in the midst of a video; where it does nothing the end of stdin does it, after that video
    settings = Settings(*json.loads(sys.argv[1]))
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    answers.write(b"\n")
    answers.flush()
    for line in sys.stdin.buffer:
        header, data = _answer(Item(*json.loads(line)), settings)
        answers.write(json.dumps(header).encode() + b"\n" + data)
        answers.flush()


if __name__ == "__main__":
    main()
