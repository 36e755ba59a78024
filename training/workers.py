"""Many calls of one function in processes of its own, which Ctrl-C does not hurt."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from typing import Any

from .cli import TrainingError
from .parent import end_with_parent


@contextlib.contextmanager
def _interrupt_deferred() -> Iterator[None]:
    """Ctrl-C reaches all processes of a terminal; here it waits until the end; those started within are deaf.

    They inherit the blocked signal, so that not even their start-up can be interrupted with a traceback. The
    handler is for this process's other threads, which may be handed a signal that is blocked here.
    """
    resource_tracker.ensure_running()  # else started with the first process, and it unblocks SIGINT
    interrupts: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: interrupts.append(number))
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        signal.signal(signal.SIGINT, before)
    if interrupts:
        raise KeyboardInterrupt


def _begin(parent: int) -> None:
    end_with_parent()
    if os.getppid() != parent:  # it ended before that was said; our queues are open as long as we are
        os._exit(1)


def run(function: Callable[..., Any], calls: Sequence[tuple[Any, ...]], jobs: int) -> Iterator[Any]:
    """`function(*call)` for each of `calls`, in up to `jobs` processes; yields what each returns as it is done.

    The function must be one that a fresh interpreter can import, and what it raises must survive pickling. After an
    error, or when the caller closes this, calls that have not begun are dropped and those that have are finished.
    Raises TrainingError where a process dies.
    """
    if jobs == 1 or len(calls) < 2:
        for call in calls:
            yield function(*call)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(calls)), context, initializer=_begin, initargs=(os.getpid(),)) as pool:
        try:
            with _interrupt_deferred():
                running = [pool.submit(function, *call) for call in calls]  # starts the processes
            for done in as_completed(running):
                yield done.result()
        except BrokenProcessPool:
            raise TrainingError("a worker process died, perhaps for want of memory; try fewer --jobs") from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
