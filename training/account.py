"""What a corpus says of itself: what each clip is made of, and what there was to make them of."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import mixing, rendered, storage, verdicts
from .mixing import SAMPLE_RATE, Clip
from .output import CLIPS, SOURCES
from .plan import Plan
from .pool import Sound
from .recordings import Source
from .videos import STATISTICS

_COLUMNS = ("name", "split", "group", "labels", "recordings", "done", "shard")


def write(
    target: str,
    shards: Plan,
    clips: dict[str, Clip],
    sounds: dict[str, Sound],
    sources: Sequence[Source],
) -> dict[str, Any]:
    """clips.csv, sources.json, and last statistics.json."""
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    table.writeheader()
    for shard, items in shards.by_shard():
        for item in items:
            row = {"name": item.name, "split": item.split, "group": item.group, "labels": ";".join(item.labels)}
            table.writerow({**row, **mixing.described(clips[item.name]), "shard": f"{shard.name}.tfrecord"})
    storage.write(storage.join(target, CLIPS), text.getvalue().encode("utf-8", "backslashreplace"))
    described = _described(clips, sounds, sources)
    content = json.dumps({"sources": described, "versions": _versions(sources)}, indent=1) + "\n"
    storage.write(storage.join(target, SOURCES), content.encode())
    statistics = {**verdicts.collect(target, shards).statistics, "sources": described}
    storage.write(storage.join(target, STATISTICS), (json.dumps(statistics, indent=1) + "\n").encode())
    return statistics


def _described(
    clips: dict[str, Clip], sounds: dict[str, Sound], sources: Sequence[Source]
) -> dict[str, dict[str, Any]]:
    """By source: what there was of it, what became of it."""
    main = Counter(clip.parts[0].name.split("/", 1)[0] for clip in clips.values() if clip.parts)
    mixed = Counter(part.name.split("/", 1)[0] for clip in clips.values() for part in clip.parts[1:])
    described = {}
    for source in sources:
        own = [sounds[item.name] for item in source.items]
        described[source.name] = {
            "recordings": len(own),
            "seconds": round(sum(len(sound.samples) for sound in own) / SAMPLE_RATE, 1),
            "clips": main[source.name],
            "mixed_into": mixed[source.name],
            "licence": source.licence,
            "missing": source.missing,
            "skipped": {sound.item.name: sound.reason for sound in own if sound.reason},
        }
    return described


def _versions(sources: Sequence[Source]) -> dict[str, str]:
    programs = {"espeak": rendered.SPEAKER, "fluidsynth": rendered.PLAYER}
    used = [programs[source.name] for source in sources if source.name in programs and source.items]
    return {"numpy": np.__version__, **{program: rendered.version(program) for program in used}}


def summary(statistics: dict[str, Any]) -> str:
    lines = [f"{'source':<14} {'recordings':>10} {'skipped':>8} {'minutes':>8} {'clips':>7} {'mixed':>7}"]
    for name, found in statistics["sources"].items():
        if not found["missing"]:
            counts = f"{found['recordings']:>10} {len(found['skipped']):>8} {found['seconds'] / 60:>8.1f}"
            lines.append(f"{name:<14} {counts} {found['clips']:>7} {found['mixed_into']:>7}")
    lines += ["", f"{'split':<14} {'groups':>10} {'clips':>8}"]
    for split, sizes in statistics["splits"].items():
        lines.append(f"{split:<14} {sizes['groups']:>10} {sizes['records']:>8}")
    lines += ["", f"{statistics['hours']:.2f} h, {statistics['bytes'] / 1e6:.1f} MB"]
    return "\n".join(lines)
