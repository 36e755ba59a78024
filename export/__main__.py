"""python -m export RUN --output M.tflite: a training run in, one checked model file out."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from training.artifacts import Run
from training.cli import ListHelpFormatter, run
from training.network import folded
from training.pretrain import load_run

from . import head, tags
from .build import add_options, check_output, check_target, finish, make_deterministic, prepared, recipes_told, tower_of
from .graph import Network
from .recipes import DEFAULT, RECIPES
from .representative import Signal, balanced, clips, parity_audio, recordings


def without_paths(training: dict[str, Any]) -> dict[str, Any]:
    """What a run was made from, less where that lay on the machine that made it."""
    return {
        **training,
        "arguments": {key: value for key, value in training["arguments"].items() if key not in ("run", "data")},
        "data": {key: value for key, value in training["data"].items() if key != "path"},
    }


def export(arguments: argparse.Namespace) -> None:
    """Build, convert, write, reload, check; the file takes its name only when it passed."""
    trained = load_run(arguments.run)
    spec = trained.spec
    check_target(spec, arguments)
    scoring = scoring_of(trained, arguments.target)
    data = Path(arguments.data or trained.data)
    make_deterministic(arguments.seed)
    checked_on, described = parity_audio(spec, data, arguments.audio, trained.excluded)
    network = Network(spec, tuple(folded(trained.audio_tower)))
    signals: list[Signal] = []
    if RECIPES[arguments.recipe].listens:
        signals = balanced(
            clips(data, "train", exclude=trained.excluded), recordings(arguments.representative, spec.sample_rate)
        )
    finish(
        prepared(network, signals, arguments),
        arguments,
        tower_of(trained),
        checked_on,
        described,
        {
            "run": Path(arguments.run).name,
            "training": without_paths(trained.arguments),
            "distillation" if trained.metrics.get("task") == "distillation" else "avc": trained.metrics,
            "representative": ["training split", *(path.name for path in arguments.representative)],
            "licence": arguments.licence,
            "data_licence": arguments.data_licence,
        },
        *scoring,
    )


def scoring_of(trained: Run, target: str) -> tuple[tags.Tags | None, head.Head | None]:
    """The tags and the head to export with a run: those that its end has, for a file that can hold them."""
    if trained.clips is not None:
        return None, None
    size = trained.spec.embedding_size
    found = tags.of_run(trained.directory, size), head.of_run(trained.directory, size)
    if target == "edgetpu":
        for what, there in zip(("tags", "head"), found, strict=True):
            if there is not None:
                print(f"without the run's {what}: a file for the Edge TPU holds the step alone", file=sys.stderr)
        return None, None
    return found


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = argparse.ArgumentParser(
        prog="python -m export",
        formatter_class=ListHelpFormatter,
        description="Turn a training run's audio tower into a streaming .tflite with its front end inside, reload it, "
        "and check it against the float32 tower and against its own whole-window graph. A run that was taught a "
        "teacher's tags, and says in tags.json which of them are good, has these in the file as well, and one that "
        "python -m training.head taught labels has its head.",
        epilog=recipes_told(),
    )
    made.add_argument("run", type=Path, metavar="RUN", help="directory written by python -m training.pretrain")
    add_options(made, recipe=DEFAULT)
    made.add_argument("--data", type=Path, metavar="SHARDS", help="calibrate and check on these (default: the run's)")
    made.add_argument(
        "--representative",
        type=Path,
        nargs="+",
        default=[],
        metavar="PATH",
        help="audio files, and folders of them: half of the sound to calibrate and fine-tune on; the rest, and all "
        "without this option, is the run's training split",
    )
    made.add_argument(
        "--audio", type=Path, nargs="*", default=[], metavar="FILE", help="recordings to check on as well"
    )
    for what, meaning in (("", "under which the weights may be used"), ("data-", "of the data they were trained on")):
        made.add_argument(f"--{what}licence", default="unstated", metavar="TEXT", help=f"{meaning}, for the model file")
    return made


def main() -> None:
    """Parse and export."""
    arguments = parser().parse_args()
    check_output(arguments.output)
    export(arguments)


if __name__ == "__main__":
    run(main)
