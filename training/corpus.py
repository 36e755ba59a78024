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
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from . import (
    account,
    journal,
    mixing,
    output,
    plan,
    pool,
    recordings,
    records,
    splits,
    storage,
    workers,
)
from .children import Decoded
from .cli import HelpFormatter, TrainingError, held_out_share, positive_float, positive_int, run
from .manifest import Item
from .mixing import SAMPLE_RATE, Clip
from .plan import Shard
from .recordings import Source
from .videos import STATISTICS, Segment

_HEARD = 32  # clips that --listen writes


class Settings(NamedTuple):
    """What makes one corpus another, beside the recordings."""

    clips: int
    seconds: float
    seed: int
    held_out: float
    share: str  # JSON
    clips_per_shard: int
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
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="folder that holds esc10, librosa and fsdd, instead of L3EDGE_DATA's"
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
        "--held-out",
        type=held_out_share,
        default=0.1,
        metavar="SHARE",
        help="of recordings, in validation and in test each",
    )
    parser.add_argument("--clips-per-shard", type=positive_int, default=64, metavar="N", help="clips in a file")
    parser.add_argument(
        "--jobs", type=positive_int, default=os.cpu_count() or 1, metavar="N", help="processes; same bytes for any"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a corpus that another command made there")
    parser.add_argument(
        "--listen",
        type=Path,
        metavar="DIR",
        help=f"also write {_HEARD} clips to a folder as FLAC, to hear them",
    )
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
    share = json.dumps(shares, sort_keys=True)
    settings = Settings(args.clips, args.seconds, args.seed, args.held_out, share, args.clips_per_shard)
    sources = recordings.find(args.data or recordings.DATA, args.sources, shares, args.clips, args.seed)
    _say(sources)
    items = [item for source in sources for item in source.items]
    sides = splits.assign((item.group for item in items), args.held_out, {})
    planned = plan.make([item._replace(split=sides[item.group]) for item in items], settings, pool.PARTS)
    planned.document["of"] = "recordings"
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
    print(account.summary(statistics))
    if args.listen:
        _listen(Path(out), args.listen)
    return 0


def _listen(corpus: Path, folder: Path) -> None:
    """Clips of the training split, evenly spread, as NAME-LABELS.flac."""
    import soundfile

    from . import input, shards  # with TensorFlow, which nothing else here needs

    split = shards.open_data(corpus).split("train")
    folder.mkdir(parents=True, exist_ok=True)
    for record in input.read(split, input.spread(sum(shard.records for shard in split), _HEARD)):
        clip = shards.fields(record)
        name = "-".join([clip["name"].numpy().decode(), *(label.decode() for label in clip["labels"].numpy())])
        samples = np.frombuffer(clip["audio"].numpy(), "<i2")
        soundfile.write(folder / f"{name}.flac", samples, SAMPLE_RATE)


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
    shards = plan.make(as_items, settings, settings.clips_per_shard)
    calls = [
        (target, shard.name, [clips[item.name] for item in own], parts, settings) for shard, own in shards.by_shard()
    ]
    with tqdm(desc="clips", total=settings.clips, disable=None) as bar:
        for count in workers.run(_clip_shard, calls, args.jobs):
            bar.update(count)
    return account.write(target, shards, clips, sounds, sources)


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


if __name__ == "__main__":
    run(main)
