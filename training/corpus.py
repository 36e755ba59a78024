"""Sound that teaches: many degraded and mixed clips of real and rendered sound, as a data set without pictures.

    python -m training.corpus --out CORPUS [SOURCE...]

What is on this machine is used: ESC-10 (folds 1 to 3), librosa's examples and spoken digits in L3EDGE_DATA, the
synthesiser's sounds, speech by espeak-ng, music by fluidsynth, and folders of the user's own. CORPUS/sources.json says
what was found, what was not, and under which licences; CORPUS/clips.csv what each clip is made of. A clip and all that
is mixed into it are of recordings of one split. The same command goes on where it was interrupted; the same command
with the same sources and versions of packages and programs makes the same bytes, whatever --jobs.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from . import journal, mixing, output, plan, pool, records, recordings, rendered, splits, storage, verdicts, workers
from .children import Decoded
from .cli import HelpFormatter, TrainingError, positive_float, positive_int, run
from .manifest import Item
from .mixing import SAMPLE_RATE, Clip
from .plan import Shard
from .recordings import Source
from .videos import STATISTICS, Segment

_COLUMNS = ("name", "split", "group", "labels", "recordings", "done", "shard")


class Settings(NamedTuple):
    """What makes one corpus another, beside the recordings."""

    clips: int
    seconds: float
    seed: int
    held_out: float
    share: str  # JSON
    sample_rate: int = SAMPLE_RATE

    @property
    def length(self) -> int:
        """Samples of a clip."""
        return round(self.seconds * self.sample_rate)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.corpus",
        description="Make a data set of degraded and mixed clips of sound. The same command again goes on where it was "
        "interrupted.",
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "sources", nargs="*", type=Path, metavar="SOURCE", help="an audio file or a folder of such, labelled by folder"
    )
    parser.add_argument("--out", required=True, metavar="CORPUS", help="folder to write to")
    parser.add_argument("--clips", type=positive_int, default=8000, metavar="N", help="how many")
    parser.add_argument("--seconds", type=positive_float, default=5.0, metavar="S", help="length of each, 1 to 10")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="0 or more; another seed, another corpus")
    parser.add_argument(
        "--share",
        action="append",
        type=_share,
        default=[],
        metavar="NAME=WEIGHT",
        help=f"of the clips that are of a source, relative to the others'; 0: none. Unless said, {_shares_text()}, and "
        f"{recordings.OWN:g} for each SOURCE, whose NAME is that of its folder",
    )
    parser.add_argument(
        "--held-out", type=_held_out, default=0.1, metavar="SHARE", help="of recordings, in validation and in test each"
    )
    parser.add_argument("--clips-per-shard", type=positive_int, default=64, metavar="N", help="clips in a file")
    parser.add_argument(
        "--jobs", type=positive_int, default=os.cpu_count() or 1, metavar="N", help="processes; same bytes for any"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a corpus that another command made there")
    return parser


def _shares_text() -> str:
    return ", ".join(f"{name}={share:g}" for name, share in recordings.BUILT_IN.items())


def _share(text: str) -> tuple[str, float]:
    name, _, weight = text.rpartition("=")
    try:
        value = float(weight)
    except ValueError:
        value = -1.0
    if not name or not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected NAME=WEIGHT with a weight of at least 0, got {text!r}")
    return name, value


def _held_out(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 0.5:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to less than 0.5, got {text!r}")
    return value


def _shares(args: argparse.Namespace) -> dict[str, float]:
    shares = {**recordings.BUILT_IN, **{recordings.own_name(path): recordings.OWN for path in args.sources}}
    for name, weight in args.share:
        if name not in shares:
            raise TrainingError(f"--share {name}: there is no such source, only {', '.join(shares)}")
        shares[name] = weight
    if not any(shares.values()):
        raise TrainingError("every source has the share 0: nothing is left to make clips of")
    return shares


def main(arguments: list[str] | None = None) -> int:
    parser = _parser()
    args = parser.parse_args(arguments)
    if not 1 <= args.seconds <= 10:
        parser.error(f"--seconds must be 1 to 10, got {args.seconds:g}")
    if args.seed < 0:
        parser.error(f"--seed must be 0 or more, got {args.seed}")
    out = output.place(args.out)
    recordings.check_names(args.sources)
    shares = _shares(args)
    settings = Settings(args.clips, args.seconds, args.seed, args.held_out, json.dumps(shares, sort_keys=True))
    sources = recordings.find(args.sources, shares, args.clips, args.seed)
    _say(sources)
    items = [item for source in sources for item in source.items]
    sides = splits.assign((item.group for item in items), args.held_out, {})
    planned = plan.make([item._replace(split=sides[item.group]) for item in items], settings, pool.PARTS)
    planned.document["clips_per_shard"] = args.clips_per_shard
    with output.locked(out):
        target = output.begin(out, planned, args.overwrite)
        if target is None:
            print(f"{args.out} is finished; --overwrite makes it anew, as after recordings were replaced")
            statistics = json.loads(storage.read(storage.join(out, STATISTICS)))
        else:
            try:
                statistics = _make(target, planned, settings, shares, sources, args)
            except KeyboardInterrupt:
                print("stopped; the same command goes on where it was", file=sys.stderr)
                raise
            output.finish(target, out)
    print(_summary(statistics))
    return 0


def _say(sources: Sequence[Source]) -> None:
    for source in sources:
        found = f"left out: {source.missing}" if source.missing else f"{len(source.items)} recordings; {source.licence}"
        print(f"{source.name}: {found}", file=sys.stderr)


def _make(
    target: str,
    planned: plan.Plan,
    settings: Settings,
    shares: dict[str, float],
    sources: Sequence[Source],
    args: argparse.Namespace,
) -> dict[str, Any]:
    """Everything but bringing it to its place; returns statistics.json."""
    parts = tuple(planned.shards)
    missing = [(target, part, settings.sample_rate) for part in parts if not pool.done(target, part)]
    left = sum(part.items for _, part, _ in missing)
    with tqdm(desc="recordings", total=len(planned.items), initial=len(planned.items) - left, disable=None) as bar:
        for count in workers.run(_pool_part, missing, args.jobs):
            bar.update(count)
    sounds = pool.open_pool(target, parts)
    usable = {name: sound for name, sound in sounds.items() if len(sound.samples)}
    if not usable:
        output.abandon(target)
        reasons = [sound.reason for sound in sounds.values()] or [source.missing for source in sources]
        raise TrainingError(f"there is no sound to make clips of: {'; '.join(reasons[:5])}")
    clips = {clip.name: clip for clip in mixing.draw(usable, shares, settings.clips, settings.length, settings.seed)}
    as_items = [Item(c.name, c.name, None, None, c.labels, c.group, c.split) for c in clips.values()]
    shards = plan.make(as_items, settings, args.clips_per_shard)
    calls = [
        (target, shard.name, [clips[item.name] for item in own], parts, settings) for shard, own in shards.by_shard()
    ]
    with tqdm(desc="clips", total=settings.clips, disable=None) as bar:
        for count in workers.run(_clip_shard, calls, args.jobs):
            bar.update(count)
    return _write(target, shards, clips, sounds, sources)


def _pool_part(target: str, part: Shard, rate: int) -> int:
    pool.make_part(target, part, rate)
    return part.items


def _clip_shard(target: str, name: str, clips: Sequence[Clip], parts: tuple[Shard, ...], settings: Settings) -> int:
    by_name = {clip.name: clip for clip in clips}
    items = [Item(clip.name, clip.name) for clip in clips]

    def make(wanted: Sequence[Item]) -> Iterator[Decoded]:
        sounds = pool.open_pool(target, parts)
        for item in wanted:
            clip = by_name[item.name]
            sound = mixing.make(clip, sounds, settings.length, settings.seed)
            record = records.serialize(clip.name, clip.group, clip.labels, Segment(sound, 0, [], []))
            yield Decoded("kept", "", len(sound), 0, 1, {"kept": 1}, records.framed(record))

    journal.write_shard(target, name, items, make)
    return len(clips)


def _write(
    target: str,
    shards: plan.Plan,
    clips: dict[str, Clip],
    sounds: dict[str, pool.Sound],
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
    storage.write(storage.join(target, output.CLIPS), text.getvalue().encode("utf-8", "backslashreplace"))
    described = _described(clips, sounds, sources)
    content = json.dumps({"sources": described, "versions": _versions(sources)}, indent=1) + "\n"
    storage.write(storage.join(target, output.SOURCES), content.encode())
    statistics = {**verdicts.collect(target, shards).statistics, "sources": described}
    storage.write(storage.join(target, STATISTICS), (json.dumps(statistics, indent=1) + "\n").encode())
    return statistics


def _described(
    clips: dict[str, Clip], sounds: dict[str, pool.Sound], sources: Sequence[Source]
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


def _summary(statistics: dict[str, Any]) -> str:
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


if __name__ == "__main__":
    run(main)
