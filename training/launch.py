"""Train with several worker processes on this machine: `python -m training.launch --workers 2 -- PRETRAIN ARGUMENTS`.

Each worker gets the TF_CONFIG that says which one it is; they meet on the loopback interface. When one goes, those
left stop by themselves, and all are started again, to continue from the last checkpoint. On several machines the same
is left to what starts programs there (Kubernetes, SLURM), which sets TF_CONFIG and runs pretrain itself.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import IO, Any

from .cli import HelpFormatter, positive_int, run

GRACE = 60.0  # seconds that a worker has to stop by itself, before it is killed


def free_addresses(count: int) -> list[str]:
    """Addresses on loopback at which nobody listens."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    finally:
        for one in sockets:
            one.close()


def start(count: int, command: list[str]) -> list[subprocess.Popen[str]]:
    """Start a command, a path and arguments, as each worker, that ends with this process.

    What worker 0 says goes where this process writes, of the others line by line.
    """
    command = [sys.executable, "-m", "training.parent", str(os.getpid()), *command]
    addresses = free_addresses(count)
    workers = []
    for index in range(count):
        config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        worker = subprocess.Popen(
            command,
            env={**os.environ, "TF_CONFIG": json.dumps(config)},
            stderr=None if index == 0 else subprocess.PIPE,
            text=True,
            errors="backslashreplace",
            start_new_session=True,  # Ctrl-C comes from here, once
        )
        if worker.stderr is not None:
            threading.Thread(target=_relay, args=(worker.stderr, index), daemon=True).start()
        workers.append(worker)
    return workers


def _relay(lines: IO[str], index: int) -> None:
    with lines:
        for line in lines:
            print(f"worker {index}: {line}", end="", file=sys.stderr, flush=True)


class _Signals:
    """SIGINT and SIGTERM, passed on to all workers: they stop together, at the same step."""

    def __init__(self) -> None:
        self.received = 0
        self.workers: list[subprocess.Popen[str]] = []
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: Any) -> None:
        self.received = number
        for worker in self.workers:
            worker.send_signal(number)


def wait(workers: list[subprocess.Popen[str]], signals: _Signals) -> int:
    """Until all have ended; the status of the first that failed, or 0. Who outlives a failure by long is killed."""
    status, deadline = 0, None
    while any(worker.poll() is None for worker in workers):
        status = status or next((worker.returncode for worker in workers if worker.returncode), 0)
        if (status or signals.received) and deadline is None:
            deadline = time.monotonic() + GRACE
        if deadline is not None and time.monotonic() > deadline:
            for worker in workers:
                if worker.poll() is None:
                    worker.kill()
        time.sleep(0.05)
    return status or next((worker.returncode for worker in workers if worker.returncode), 0)


def launch(count: int, restarts: int, arguments: list[str]) -> int:
    """Run all workers, again after a failure; the exit status: 128 + the number of a signal that ended a worker."""
    signals = _Signals()
    command = [sys.executable, "-m", "training.pretrain", "--strategy", "multi_worker", *arguments]
    for left in range(restarts, -1, -1):
        signals.workers = start(count, command)
        status = wait(signals.workers, signals)
        if status == 0 or signals.received or status == 2:  # bad usage stays so
            break
        ending = f"signal {-status}" if status < 0 else f"status {status}"
        what = f"starting all again, {left - 1} restarts left" if left else "giving up"
        print(f"a worker ended with {ending}; {what}", file=sys.stderr, flush=True)
    return 128 - status if status < 0 else status


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m training.launch",
        description="Train with several worker processes on this machine: data-parallel, --strategy multi_worker. "
        "Each step's batch is shared out evenly to them. When one fails, all are started again and continue from the "
        "last checkpoint.",
        epilog="Example: python -m training.launch --workers 2 -- --data SHARDS --run DIR --sync-batch-norm",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--workers", type=positive_int, default=2, help="processes")
    parser.add_argument("--restarts", type=int, default=3, metavar="R", help="how often to start all again")
    parser.add_argument("arguments", nargs="+", metavar="ARGUMENT", help="of python -m training.pretrain, after --")
    args = parser.parse_args(arguments)
    if args.restarts < 0:
        parser.error(f"--restarts must be at least 0, got {args.restarts}")
    return launch(args.workers, args.restarts, args.arguments)


if __name__ == "__main__":
    run(main)
