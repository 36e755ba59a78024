"""What became of the videos: the finished shards' journals -> videos.csv, statistics.json and a table to print."""

from __future__ import annotations

import csv
import heapq
import io
import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from . import journal, storage
from .manifest import Item
from .plan import SPLITS, Plan
from .records import FORMAT
from .videos import STATISTICS, VERDICTS

VIDEOS = "videos.csv"
_COLUMNS = (
    "name", "split", "group", "labels", "verdict", "reason", "seconds", "segments kept", "segments skipped", "shard",
)  # fmt: skip
_SHOWN = 5  # skipped videos
_READERS = 16  # threads; journals may lie behind a network


class Verdicts(NamedTuple):
    """All of a data set's."""

    statistics: dict[str, Any]  # statistics.json
    table: bytes  # videos.csv
    skipped: list[str]  # the first few by name, in words


def collect(directory: str, plan: Plan) -> Verdicts:
    """Read the journals. Raises TrainingError where one cannot be read."""
    rate = plan.document["settings"]["sample_rate"]
    verdicts: Counter[str] = Counter()
    segments: Counter[str] = Counter()
    labels: Counter[str] = Counter()
    shards: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
    videos: Counter[str] = Counter()
    groups: dict[str, set[str]] = {split: set() for split in SPLITS}
    skipped: list[tuple[str, str]] = []
    samples = frames = 0
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(_COLUMNS)
    for (shard, items), finished in zip(plan.by_shard(), _journals(directory, plan), strict=True):
        for item, entry in zip(items, finished.entries, strict=True):
            verdicts[entry.verdict] += 1
            segments.update(entry.segments)
            samples += entry.samples
            frames += entry.frames
            if entry.verdict == "kept":
                videos[item.split] += 1
                groups[item.split].add(item.group)
                labels.update(item.labels)
            else:
                skipped.append((item.name, f"{item.name} ({entry.verdict}: {entry.reason})"))
            table.writerow(_row(item, entry, rate, f"{shard.name}.tfrecord" if entry.records else ""))
        if finished.bytes:
            shards[items[0].split].append(
                {
                    "file": f"{shard.name}.tfrecord",
                    "records": sum(entry.records for entry in finished.entries),
                    "bytes": finished.bytes,
                    "sha256": finished.sha256,
                }
            )
    statistics = {
        "format": FORMAT,
        "sample_rate": rate,
        "settings": plan.document["settings"],
        "videos": len(plan.items),
        "verdicts": {verdict: verdicts[verdict] for verdict in VERDICTS},
        "hours": round(samples / rate / 3600, 6),
        "frames": frames,
        "bytes": sum(shard["bytes"] for listed in shards.values() for shard in listed),
        "segments": dict(sorted(segments.items())),
        "splits": {
            split: {
                "videos": videos[split],
                "groups": len(groups[split]),
                "records": sum(shard["records"] for shard in shards[split]),
            }
            for split in SPLITS
        },
        "labels": dict(sorted(labels.items())),
        "shards": shards,
    }
    return Verdicts(
        statistics,
        text.getvalue().encode("utf-8", "backslashreplace"),
        [text for _, text in heapq.nsmallest(_SHOWN, skipped)],
    )


def _journals(directory: str, plan: Plan) -> Iterator[journal.Finished]:
    with ThreadPoolExecutor(_READERS) as threads:
        yield from threads.map(lambda shard: journal.read(directory, shard.name), plan.shards)


def _row(item: Item, entry: journal.Entry, rate: int, shard: str) -> list[object]:
    kept = entry.segments.get("kept", 0)
    return [
        item.name,
        item.split,
        item.group,
        ";".join(item.labels),
        entry.verdict,
        entry.reason,
        f"{entry.samples / rate:.3f}",
        kept,
        sum(entry.segments.values()) - kept,
        shard,
    ]


def listed(found: Verdicts) -> str:
    """The first few that were skipped, with reasons; empty where none was."""
    more = found.statistics["videos"] - found.statistics["verdicts"]["kept"] - len(found.skipped)
    return "; ".join(found.skipped) + (f"; and {more} more" if more else "")


def write(directory: str, found: Verdicts) -> None:
    """videos.csv, and last statistics.json, which makes the directory a data set."""
    storage.write(storage.join(directory, VIDEOS), found.table)
    content = json.dumps(found.statistics, indent=1) + "\n"
    storage.write(storage.join(directory, STATISTICS), content.encode())


def describe(statistics: dict[str, Any]) -> str:
    """Verdicts with counts and shares, splits with what they hold."""
    lines = ["verdict      videos   share"]
    for verdict, count in statistics["verdicts"].items():
        if count:
            lines.append(f"{verdict:<10} {count:>8} {count / statistics['videos']:>7.1%}")
    lines += ["", "split        videos  groups records  shards"]
    for split, sizes in statistics["splits"].items():
        count = len(statistics["shards"][split])
        lines.append(f"{split:<10} {sizes['videos']:>8} {sizes['groups']:>7} {sizes['records']:>7} {count:>7}")
    lines += ["", f"{statistics['hours']:.2f} h, {statistics['frames']} pictures, {statistics['bytes'] / 1e6:.1f} MB"]
    return "\n".join(lines)
