"""Which of a student's tags can be trusted: python -m training.tags RUN [ROTATION...]

A finished run of distill has measured its tags on its held-out clips: few, of few recordings. Its rotations, runs of
the same making that were not to hear some clips (--exclude), make it many: each is asked about the clips that it was
not to hear. RUN/tags.json is written anew with the agreement on both, and export shows what agrees well.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from . import agreement, artifacts, shards, teachers
from . import lessons as lessons_
from .agreement import Unheard
from .artifacts import Run
from .cli import HelpFormatter, TrainingError, positive_int, run
from .distillation import scores
from .input import spread
from .plan import SPLITS

_OF_EACH = ("run", "data", "exclude", "cache", "init", "evaluate_every", "checkpoint_every")


def unheard(student: Run, own: bool, at_most: int, cache: Path) -> tuple[list[Unheard], tuple[str, ...], str]:
    """What a run's windows have, by its teacher and by itself; the names of the classes, and whose they are.

    own: the validation and test clips that it was allowed to hear; else, of all splits, those that it was not.
    """
    options = student.arguments["arguments"]
    if "scores" not in student.metrics.get("test", {}):
        raise TrainingError(f"{student.directory} has learned no scores: it is no run of training.distill with tags")
    teacher = teachers.asked_for(options)
    data, hop = shards.open_data(student.data), round(options["teacher_hop"] * student.spec.sample_rate)
    found = []
    for split in SPLITS[1:] if own else SPLITS:
        lessons = lessons_.prepare(data, split, teacher, hop, cache).for_windows(student.spec.window)
        allowed = lessons.without(student.excluded)
        clips = allowed if own else np.setdiff1d(np.arange(len(lessons.records)), allowed)
        clips = clips[spread(len(clips), at_most)]
        if len(clips):
            found.append(Unheard(lessons, clips, scores(student.model, student.spec, lessons, clips)))
    return found, teacher.names, teachers.source_of_names(teacher)


def _making(student: Run) -> dict[str, object]:
    """What a run has in common with its rotations."""
    own = {key: value for key, value in student.arguments["arguments"].items() if key not in _OF_EACH}
    return {**own, "data": student.arguments["data"]["sha256"], "teacher": student.arguments["teacher"]["sha256"]}


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = argparse.ArgumentParser(
        prog="python -m training.tags",
        description="Measure how a student's tags agree with its teacher's on clips that were never heard, and write "
        "RUN/tags.json: export shows those that agree well.",
        formatter_class=HelpFormatter,
    )
    made.add_argument("run", type=Path, metavar="RUN", help="a finished run of training.distill")
    made.add_argument(
        "rotations", type=Path, nargs="*", metavar="ROTATION", help="runs of the same making, with --exclude"
    )
    made.add_argument("--clips", type=positive_int, default=800, help="of each run and split, at most, evenly spread")
    made.add_argument("--cache", type=Path, default=lessons_.DEFAULT, metavar="DIR", help="the teacher's outputs")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write, print a table."""
    arguments = parser().parse_args(argv)
    runs = [artifacts.load_run(path) for path in (arguments.run, *arguments.rotations)]
    heard: list[Unheard] = []
    for number, student in enumerate(tqdm(runs, desc="asking about what was not heard", unit=" runs", disable=None)):
        if number and not student.excluded:
            raise TrainingError(f"{student.directory} was allowed to hear all clips: it is no rotation")
        if differing := sorted(name for name, value in _making(student).items() if value != _making(runs[0])[name]):
            raise TrainingError(
                f"{student.directory} was made otherwise than {runs[0].directory}: {', '.join(differing)}; a rotation "
                "differs by --exclude alone"
            )
        found, names, source = unheard(student, number == 0, arguments.clips, arguments.cache)
        heard += found
    made = agreement.of_unheard(heard)
    artifacts.write_json(arguments.run / "tags.json", agreement.document(source, names, made))
    good = agreement.selected(made, names)
    print("| tag | windows | recordings | average precision | precision | recall |\n|---|---:|---:|---:|---:|---:|")
    for name in good:
        each = made[names.index(name)]
        figures = f"{each.average_precision:.2f} | {each.precision:.2f} | {each.recall:.2f}"
        print(f"| {name} | {each.windows} | {each.groups} | {figures} |")
    print(f"{len(good)} of {len(made)} tags that were there agree well", file=sys.stderr)
    return 0


if __name__ == "__main__":
    run(main)
