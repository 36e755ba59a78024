"""Processes that embed files, several at a time; the other side is `embed_file.main`.

Processes rather than threads, which would take turns at what of a hop is Python (docs/archives.md has figures). Each
reads, resamples and embeds a file by itself, so that one reads while another computes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

from . import children
from .display import REDRAW_SECONDS
from .embed_file import OPTIONS, Heard, Told

END_SECONDS = 5.0  # that a process is given to end
ADVICE = "the others go on; where memory is short, use fewer --jobs"


def options(args: argparse.Namespace, watched: bool) -> str:
    """What a process is told when it begins; `watched`: whether it shall say how far it is."""
    values = {name: getattr(args, name) for name in OPTIONS}
    return json.dumps({**values, "watched": watched}, default=os.fspath)


def embedded(
    options: str,
    jobs: int,
    targets: Mapping[Path, Path],
    heard: Callable[[int, float, float | None], None],
    draw: Callable[[], None] | None,
) -> Generator[Told, None, None]:
    """What there is to say of each file, in their order, from so many processes.

    heard: called from threads with the number of a file, from 0, and as `Heard`.
    draw: called now and then while a file is waited for.
    """
    workers = Workers(options)
    threads = ThreadPoolExecutor(jobs)

    def begin(number: int, path: Path, target: Path) -> Future[Told]:
        return threads.submit(workers.embed, path, target, lambda *how: heard(number, *how))

    try:
        for future in [begin(number, *pair) for number, pair in enumerate(targets.items())]:
            while draw and not wait([future], REDRAW_SECONDS).done:
                draw()
            yield future.result()
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        workers.stop()
        threads.shutdown()


class Workers:
    """As many processes as threads call `embed` at a time; each is kept for the next file."""

    def __init__(self, options: str) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._busy: set[_Worker] = set()
        self._idle: set[_Worker] = set()
        self._stopped = False

    def embed(self, path: Path, target: Path, heard: Heard) -> Told:
        """Have a file embedded. Where its process ends over it, that is its error, and another takes the next one."""
        try:
            worker = self._take()
        except OSError as error:
            return Told(False, f"{path}: no process to embed it in can be started: {error}")
        told = worker.embed(path, target, heard)
        with self._lock:
            self._busy.discard(worker)
            if told and not self._stopped:
                self._idle.add(worker)
                return told
        ended = worker.end()
        return told or Told(False, f"{path}: the process that embedded it ended ({ended}); {ADVICE}")

    def _take(self) -> _Worker:
        with self._lock:
            if self._stopped:
                raise InterruptedError("interrupted")
            worker = self._idle.pop() if self._idle else _Worker(self._options)
            self._busy.add(worker)
            return worker

    def stop(self) -> None:
        """End all; of files that are not done nothing is left."""
        with self._lock:
            self._stopped = True
            busy, idle = list(self._busy), list(self._idle)
        for worker in (*busy, *idle):
            worker.process.terminate()
        for worker in busy:
            worker.wait()  # the thread that uses it ends it
        for worker in idle:
            worker.end()


class _Worker:
    """A process."""

    def __init__(self, options: str) -> None:
        self.process = children.start("embed_file", options, 2)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._orders, self._pipe = self.process.stdin, self.process.stdout
        self._answers = open(self._pipe.fileno(), "rb", closefd=False)  # noqa: SIM115

    def embed(self, path: Path, target: Path, heard: Heard) -> Told | None:
        """What it says of a file; None when it has ended without a word."""
        with contextlib.suppress(BrokenPipeError):
            self._orders.write(json.dumps([os.fspath(path), os.fspath(target)]).encode() + b"\n")
            while (line := self._answers.readline()).endswith(b"\n"):
                kind, *rest = json.loads(line)
                if kind != "heard":
                    return Told(kind == "done", *rest)
                heard(*rest)
        return None

    def wait(self) -> int:
        """Its exit status, as of `subprocess`; one that does not end is killed."""
        try:
            return self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def end(self) -> str:
        """Wait for its end, and say how it ended."""
        status = self.wait()
        for pipe in (self._orders, self._answers, self._pipe):
            pipe.close()
        return signal.Signals(-status).name if status < 0 else f"exit status {status}"
