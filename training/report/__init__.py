"""One HTML page on a run: what was trained on what, how well it judges, and what its units hear and see.

    python -m training.report RUN [--data SHARDS] [--out FILE]

The page holds everything it shows, pictures and sounds too, and loads nothing: it can be mailed. It looks at the clips
of the validation and the test split, which training never saw. The same run, data and options give the same page.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .. import artifacts, shards
from ..cli import HelpFormatter, TrainingError, positive_int
from . import page
from .findings import gather

__all__ = ["main"]


def _numbers(text: str) -> tuple[int, ...]:
    """argparse type: whole numbers with commas between, each once."""
    try:
        return tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected numbers such as 3,17,40, got {text!r}") from None


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m training.report",
        description="Write one self-contained HTML page on a finished run: curves, accuracy by label, maps and "
        "clusters of embeddings beside those of random weights, the sounds and frames that excite units most with heat "
        "maps over them, and what the data and the network were.",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("run", metavar="RUN", help="folder written by pretrain or supervised; RUN@CLIPS: its snapshot")
    parser.add_argument(
        "--data", type=Path, metavar="SHARDS", help="folder written by prepare (default: where the run found it)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="the page (default: report.html in the folder of its weights)"
    )
    parser.add_argument("--clips", type=positive_int, default=400, help="held-out clips of each split, at least")
    parser.add_argument("--units", type=positive_int, default=8, help="units to show of each tower")
    for side in ("audio", "image"):
        parser.add_argument(
            f"--{side}-units",
            type=_numbers,
            metavar="N,N,...",
            help=f"these units of the {side} tower, in place of the most selective ones",
        )
    parser.add_argument("--examples", type=positive_int, default=4, help="clips to show for each unit")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    args = _parse(arguments)
    run = artifacts.load_run(args.run)
    where = args.data or run.data
    if not args.data and not where.is_dir():
        raise TrainingError(f"the data of {args.run} are no longer at {where}: say where they are with --data SHARDS")
    findings = gather(
        run,
        args.run,
        shards.open_data(where),
        at_least=args.clips,
        units=args.units,
        numbers={"audio": args.audio_units, "image": args.image_units},
        examples=args.examples,
    )
    out = args.out or findings.folder / "report.html"
    content = page.page(findings)
    artifacts.write(out, content)
    print(f"{out}: {len(content.encode()) / 1e6:.1f} MB, {len(findings.clips.names)} held-out clips")
    return 0
