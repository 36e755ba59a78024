"""What the tests of sinks share: numbered records, and what files say of them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l3edge.records import About, Hop

SIZE = 8  # of an embedding
STARTED = 1_700_000_000.0  # unix time of time zero


def about(**changes: Any) -> About:
    told = {
        "model": "stub-1",
        "model_sha256": "ab" * 32,
        "embedding_size": SIZE,
        "window": 1.0,
        "hop": 0.1,
        "source": "test",
        "sample_rate": 48_000,
        "started": lambda: STARTED,
    }
    return About(**{**told, **changes})


def hop(number: int, **changes: Any) -> Hop:
    """One whose embedding's first value is its number."""
    embedding = np.arange(SIZE, dtype=np.float32) + np.float32(number)
    return Hop(number * 0.1 + 0.5, embedding, -40.0, None)._replace(**changes)


def finished(folder: Path, suffix: str) -> list[Path]:
    return sorted(folder.glob(f"*.{suffix}"))


def lines(folder: Path) -> list[dict[str, Any]]:
    """Those of all finished files, each of which begins with what it comes from."""
    told: list[dict[str, Any]] = []
    for path in finished(folder, "jsonl"):
        text = path.read_text()
        assert text.endswith("\n"), path
        first, *others = map(json.loads, text.splitlines())
        assert first["model"] == "stub-1", path
        assert others, path
        told += others
    return told


def arrays(folder: Path) -> list[dict[str, Any]]:
    """Of all finished files."""
    made = []
    for path in finished(folder, "npz"):
        with np.load(path, allow_pickle=False) as file:
            made.append(dict(file))
    return made


def numbers(folder: Path) -> list[int]:
    """Of the hops in all finished files of either kind, checked to be whole."""
    embeddings = [np.array(line["embedding"], np.float32) for line in lines(folder) if "embedding" in line]
    embeddings += [row for file in arrays(folder) for row in file["embeddings"]]
    for embedding in embeddings:
        np.testing.assert_array_equal(embedding, np.arange(SIZE, dtype=np.float32) + embedding[0])
    return [int(embedding[0]) for embedding in embeddings]


def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait for a condition; the limit is for what hangs."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)


@dataclass
class Disk:
    """A small disk of its own, that can be filled and made read-only."""

    path: Path

    def fill(self) -> None:
        with contextlib.suppress(OSError), (self.path / "filler").open("ab", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    def free(self) -> None:
        (self.path / "filler").unlink()

    def read_only(self, yes: bool) -> None:
        """Waits for the files on it that are open."""
        mode = "ro" if yes else "rw"
        until(lambda: not subprocess.run(["mount", "-o", f"remount,{mode}", str(self.path)], check=False).returncode)


@contextlib.contextmanager
def small_disk(path: Path, size: int = 1 << 20) -> Iterator[Disk]:
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "l3edge-test", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = f"a small disk needs the right to mount: {done.stderr.strip()}"
        if os.environ.get("CI"):
            pytest.fail(f"{reason}; CI must have it")
        pytest.skip(reason)
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)
