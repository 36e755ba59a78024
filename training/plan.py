"""Which video goes into which shard: a function of the items and the settings alone, fixed before the first is decoded.

A split's items are taken in the order of the SHA-256 of their names, which shuffles them the same way everywhere, and
cut into shards of a fixed number of items. A directory keeps its plan as plan.json and items.jsonl, one item a line in
the order of the shards, so that a worker reads its own lines alone.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from . import storage
from .cli import TrainingError
from .manifest import Item, is_url
from .records import FORMAT

PLAN = "plan.json"
ITEMS = "items.jsonl"
SPLITS = ("train", "validation", "test")


class Shard(NamedTuple):
    """One shard of the plan; where its items are in items.jsonl."""

    name: str  # "train-00000-of-00004"; a shard without a kept record is no file, so names may have holes
    offset: int  # bytes
    size: int  # bytes
    items: int


class Plan(NamedTuple):
    """What is to be done."""

    document: dict[str, Any]  # plan.json
    content: bytes  # items.jsonl
    items: list[Item]  # in the order of the shards
    shards: list[Shard]

    def by_shard(self) -> Iterator[tuple[Shard, list[Item]]]:
        first = 0
        for shard in self.shards:
            yield shard, self.items[first : first + shard.items]
            first += shard.items


def make(items: Sequence[Item], settings: NamedTuple, videos_per_shard: int) -> Plan:
    lines: list[bytes] = []
    ordered: list[Item] = []
    shards: list[Shard] = []
    offset = 0
    for split in SPLITS:
        chosen = sorted((item for item in items if item.split == split), key=_rank)
        count = -(-len(chosen) // videos_per_shard)
        for number in range(count):
            part = chosen[number * videos_per_shard : (number + 1) * videos_per_shard]
            content = b"".join(_line(item) for item in part)
            shards.append(Shard(f"{split}-{number:05d}-of-{count:05d}", offset, len(content), len(part)))
            offset += len(content)
            lines.append(content)
            ordered += part
    content = b"".join(lines)
    document = {
        "format": FORMAT,
        "settings": settings._asdict(),
        "videos_per_shard": videos_per_shard,
        "videos": len(ordered),
        "items": hashlib.sha256(content).hexdigest(),
    }
    return Plan(document, content, ordered, shards)


def _rank(item: Item) -> bytes:
    return hashlib.sha256(item.name.encode("utf-8", "surrogateescape")).digest()


def _line(item: Item) -> bytes:
    path = item.path if is_url(item.path) else os.path.abspath(item.path)  # noqa: PTH100 - resolves no link
    return json.dumps(item._replace(path=path)).encode() + b"\n"  # ASCII, whatever the names


def write(plan: Plan, directory: str) -> None:
    """plan.json last: a directory that has it has all of the plan."""
    storage.write(storage.join(directory, ITEMS), plan.content)
    storage.write(storage.join(directory, PLAN), json.dumps(plan.document, indent=1).encode() + b"\n")


def read_items(directory: str, shard: Shard) -> list[Item]:
    with storage.open_(storage.join(directory, ITEMS)) as file:
        file.seek(shard.offset)
        return parse_items(file.read(shard.size))


def parse_items(content: bytes) -> list[Item]:
    rows = (json.loads(line) for line in content.splitlines())
    return [Item(*row[:4], tuple(row[4]), *row[5:]) for row in rows]


def check(plan: Plan, directory: str) -> None:
    """Raises TrainingError, saying what differs, if the plan in the directory is another one."""
    try:
        old = json.loads(storage.read(storage.join(directory, PLAN)))
        differences = list(_differences(old, plan, directory))
    except (ValueError, KeyError, TypeError, AttributeError):
        differences = [f"{PLAN} cannot be read"]
    if differences:
        raise TrainingError(
            f"{directory} was begun by another command: {'; '.join(differences)}. Repeat that command to go on "
            "with it, give another --out, or --overwrite to replace it"
        )


def _differences(old: dict[str, Any], plan: Plan, directory: str) -> Iterator[str]:
    new = plan.document
    if old["format"] != new["format"]:
        yield f"data format {old['format']} there, {new['format']} here"
    for key, value in new["settings"].items():
        if old["settings"].get(key) != value:
            yield f"--{key.replace('_', '-')} {old['settings'].get(key)} there, {value} here"
    if old["videos_per_shard"] != new["videos_per_shard"]:
        yield f"--videos-per-shard {old['videos_per_shard']} there, {new['videos_per_shard']} here"
    elif old["items"] != new["items"]:
        there = {item.name: item for item in parse_items(storage.read(storage.join(directory, ITEMS)))}
        here = {item.name: item for item in parse_items(plan.content)}
        yield f"{len(there)} {new.get('of', 'videos')} there, {len(here)} here"
        for name in sorted(there.keys() | here.keys()):
            if there.get(name) != here.get(name):
                where = "is there alone" if name not in here else "is here alone" if name not in there else "changed"
                yield f"{name} {where}{_changed(there.get(name), here.get(name))}"
                break


def _changed(there: Item | None, here: Item | None) -> str:
    if there is None or here is None:
        return ""
    return "".join(
        f", {field} {old!r} there, {new!r} here"
        for field, old, new in zip(Item._fields, there, here, strict=True)
        if old != new
    )
