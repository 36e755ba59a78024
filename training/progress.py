"""A progress bar over videos, whatever runs the pipeline: it watches the journals in the directory.

Where stderr is no terminal, as in a cluster's log, a line a minute says the same.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType

from tqdm import tqdm

from . import storage
from .journal import FOLDER
from .manifest import is_url
from .plan import Shard

_LOCAL_INTERVAL = 0.5  # s between looks
_REMOTE_INTERVAL = 20.0
_LINE_INTERVAL = 60.0


class Progress:
    """Shows the bar while its block runs."""

    def __init__(self, directory: str, shards: Sequence[Shard]) -> None:
        self._folder = storage.join(directory, FOLDER)
        self._shards = {shard.name for shard in shards}
        self._read: dict[str, int] = {}  # bytes of a shard's journal that are counted
        self._finished: set[str] = set()
        self._verdicts: Counter[str] = Counter()
        self._look()
        self._before, self._start = self._verdicts.total(), time.monotonic()
        self._all = sum(shard.items for shard in shards)
        self._bar = tqdm(
            desc="prepare",
            total=self._all,
            initial=self._before,
            unit=" videos",
            disable=None,
        )
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()
        if kind is None and not self._bar.disable:
            self._show()
        self._bar.close()

    def _watch(self) -> None:
        interval = _REMOTE_INTERVAL if is_url(self._folder) else _LOCAL_INTERVAL
        while not self._end.wait(_LINE_INTERVAL if self._bar.disable else interval):
            if self._bar.disable:
                self._print()
            else:
                self._show()

    def _print(self) -> None:
        self._look()
        done, kept = self._verdicts.total(), self._verdicts["kept"]
        rate = (done - self._before) / (time.monotonic() - self._start)
        left = f", {(self._all - done) / rate / 60:.0f} min left" if rate else ""
        print(f"prepare: {done} of {self._all} videos, {kept} kept, {rate:.1f} a second{left}", file=sys.stderr)

    def _show(self) -> None:
        self._look()
        kept = self._verdicts["kept"]
        self._bar.set_postfix(kept=kept, skipped=self._verdicts.total() - kept, refresh=False)
        self._bar.update(self._verdicts.total() - self._bar.n)

    def _look(self) -> None:
        """Count what the journals say since the last look. A shard's name grows from .jsonl.part to .jsonl."""
        try:
            listed = storage.files(self._folder)
        except OSError:  # a bar is no reason to end
            return
        for file, size in listed.items():
            shard = file.split(".")[0]
            if shard not in self._shards or shard in self._finished or not file.endswith((".jsonl", ".jsonl.part")):
                continue
            begin = self._read.get(shard, 0)
            if size > begin:
                try:
                    with storage.open_(storage.join(self._folder, file)) as journal:
                        journal.seek(begin)
                        lines = journal.read()
                except OSError:  # it has just been renamed
                    continue
                whole = lines[: lines.rfind(b"\n") + 1]
                self._read[shard] = begin + len(whole)
                self._verdicts.update(_verdicts(whole))
            if file.endswith(".jsonl"):
                self._finished.add(shard)


def _verdicts(lines: bytes) -> list[str]:
    rows = (json.loads(line) for line in lines.splitlines())
    return [row[1] for row in rows if isinstance(row, list)]  # the last line of a finished journal is an object
