"""Manifests of the same number of music videos, environmental ones, and of both mixed: the content experiment.

    python -m training.content VIDEOS --out FOLDER                                      AudioSet: needs --ontology
    python -m training.content VIDEOS --out FOLDER --music guitar --music drum --environmental rain

Cramer et al. 2019 (OpenL3) train on a music and an environmental subset of AudioSet and ask whether the content must
match that of the task downstream. So that content alone differs, each of music.csv, environmental.csv and mixed.csv
lists the same number of videos in each split; mixed.csv has half of its videos from each of the two others. Videos that
bear labels of both are in none. Which are taken depends on the seed and the videos' groups, not on their order.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

from . import artifacts, manifest
from .cli import HelpFormatter, TrainingError, positive_int, run
from .manifest import Item

CONTENTS = ("music", "environmental", "mixed")
_SPLITS = ("train", "validation", "test")


def _sampled(items: Sequence[Item], count: int, seed: int) -> list[Item]:
    """`count` of the items, the same whatever their order."""

    def place(item: Item) -> tuple[bytes, str]:
        return hashlib.sha256(f"{seed}/{item.group}".encode(errors="surrogateescape")).digest(), item.name

    return sorted(items, key=place)[:count]


def matched(
    music: Sequence[Item], environmental: Sequence[Item], count: int | None = None, seed: int = 0
) -> dict[str, list[Item]]:
    """The items of each of `CONTENTS`: in each split as many of the one as of the other, an even number.

    count: of training videos, at most. Raises TrainingError where a content has fewer than two for training.
    """
    both = {item.name for item in music} & {item.name for item in environmental}
    chosen: dict[str, list[Item]] = {content: [] for content in CONTENTS}
    for split in _SPLITS:
        sides = [
            [item for item in side if item.split == split and item.name not in both] for side in (music, environmental)
        ]
        least = min(map(len, sides))
        if count and split == "train":
            least = min(least, count)
        least -= least % 2
        if not least and split == "train":
            raise TrainingError(
                f"there are {len(sides[0])} music and {len(sides[1])} environmental videos to train on (those of both "
                "left out); two of each are needed"
            )
        sampled = [_sampled(side, least, seed) for side in sides]
        for content, side in zip(CONTENTS, sampled, strict=False):
            chosen[content] += side
        chosen["mixed"] += [item for side in sampled for item in side[: least // 2]]
    return {content: sorted(items) for content, items in chosen.items()}


def write(path: Path, items: Sequence[Item]) -> None:
    """A manifest, as `training.manifest` reads it."""
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(("path", "start", "end", "labels", "split", "group"))
    for item in items:
        times = ["" if time is None else f"{time:.3f}" for time in (item.start, item.end)]
        rows.writerow((item.path, *times, ";".join(item.labels), item.split, item.group))
    artifacts.write(path, table.getvalue().encode("utf-8", "surrogateescape"))


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = argparse.ArgumentParser(
        prog="python -m training.content",
        description="Write manifests of the same number of music videos, environmental ones, and of both mixed.",
        formatter_class=HelpFormatter,
    )
    made.add_argument("videos", nargs="+", metavar="VIDEOS", help="as for training.prepare")
    made.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder for the three manifests")
    made.add_argument("--clips", type=Path, metavar="FOLDER", help="clips of AudioSet's lists, named by YTID")
    made.add_argument("--clips-are-cut", action="store_true", help="YTID.mp4 is the listed part alone")
    made.add_argument("--ontology", type=Path, metavar="JSON", help="AudioSet's ontology.json")
    for content in ("music", "environmental"):
        made.add_argument(
            f"--{content}",
            action="append",
            default=[],
            metavar="LABEL",
            help=f"as --select of training.prepare; may be given several times (default: {content})",
        )
    made.add_argument("--count", type=positive_int, metavar="N", help="training videos of each, at most")
    made.add_argument("--seed", type=int, default=0, help="of which videos are taken")
    return made


def main(arguments: list[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    sides = [
        manifest.read(
            args.videos,
            clips=args.clips,
            ontology=args.ontology,
            clips_are_cut=args.clips_are_cut,
            select=select,
            missing_ok=True,
        )
        for select in (args.music or ["music"], args.environmental or ["environmental"])
    ]
    chosen = matched(*sides, args.count, args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    for content, items in chosen.items():
        write(args.out / f"{content}.csv", items)
    numbers = ", ".join(f"{sum(item.split == split for item in chosen['music'])} for {split}" for split in _SPLITS)
    print(f"{args.out}: {', '.join(f'{content}.csv' for content in CONTENTS)}; each lists {numbers}")
    return 0


if __name__ == "__main__":
    run(main)
