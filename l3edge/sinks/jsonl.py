"""Files of JSON lines: the first says what the others come from, then each record as `lines.JsonLines` writes it.

The first has `l3edge` (its version), `model`, `model_sha256`, `embedding_size`, `window` and `hop` (s), `source`,
`sample_rate` (Hz), `tags` and `labels` (their names) and `started`, the unix time of time zero, or null. Where records
could not be written there is `{"missed": how many, "time": of the first of them}`.
"""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

from ..records import About, Record
from .lines import JsonLines

BLOCK = 1 << 16  # bytes read at a time


def facts(about: About) -> dict[str, Any]:
    """What records come from, for the beginning of a file."""
    from .. import __version__

    return {
        "l3edge": __version__,
        "model": about.model,
        "model_sha256": about.model_sha256,
        "embedding_size": about.embedding_size,
        "window": about.window,
        "hop": about.hop,
        "source": about.source,
        "sample_rate": about.sample_rate,
        "tags": list(about.tags),
        "labels": list(about.labels),
        "started": about.started(),
    }


class JsonlFormat:
    """Records as bytes of a part."""

    def __init__(self, about: About) -> None:
        self._about, self._lines = about, JsonLines(about)

    def header(self) -> bytes:
        return (json.dumps(facts(self._about)) + "\n").encode()

    def record(self, record: Record) -> bytes:
        return self._lines.line(record).encode()

    def missed(self, count: int, time: float) -> bytes:
        return (json.dumps({"missed": count, "time": time}) + "\n").encode()


def finish(part: Path, target: Path) -> bool:
    """Cut a part to whole lines and give it its name; where it has no record, remove it. Whether it had one."""
    with part.open("r+b") as file:
        header = len(file.readline())
        end = _last_line_end(file.fileno())
        if end > header:
            file.truncate(end)
            os.fsync(file.fileno())
    if end <= header:
        part.unlink()
        return False
    if target.exists():
        raise FileExistsError(errno.EEXIST, f"{target} exists already")
    part.rename(target)
    return True


def _last_line_end(descriptor: int) -> int:
    """Where the last whole line ends; 0 where there is none."""
    end = os.fstat(descriptor).st_size
    while end > 0:
        begin = max(0, end - BLOCK)
        found = os.pread(descriptor, end - begin, begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0
