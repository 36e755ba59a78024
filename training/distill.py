"""Learn sound embeddings from a teacher: python -m training.distill --teacher T --student S --data DATA --run DIR

The same command again continues a run that was stopped, killed or crashed, and ends with the very weights that the
undisturbed run would have had. What is asked of the student says `training.distillation`, what it hears
`training.degraded`.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from l3edge.spec import Spec

from . import agreement, arguments, artifacts, devices, distillation, inherit, seeing, shards, students, teachers
from . import lessons as lessons_
from .backend import tf, tf_keras
from .cli import TrainingError, run
from .correspondence import learning_rate
from .distill_arguments import parse
from .distillation import LOSSES, Distiller, batch_of
from .lessons import Lessons
from .seeing import Seeing, VisionTeacher
from .stopping import Stop
from .targets import target
from .teachers import Nobody, Teacher

_CURVES = {
    "embedding": ("embedding", "error of the embedding, variance = 1", 1.0),
    "scores": ("scores", "divergence of the scores, nats", None),
    "relational": ("relational", "error of the cosines, squared", None),
    "keep": ("keep", "difference from the beginning, variance = 1", 1.0),
    "avc": ("avc", "cross entropy of the pairs, nats", math.log(2)),
    "vision": ("vision", "divergence from what is seen, nats", None),
}
_VIDEOS_BATCH = 32
_INHERITED = 256  # windows that the statistics of inherited layers are taken of
_FITTED = 16  # times as many, that what reads them is fitted on


def _teacher(args: argparse.Namespace, spec: Spec, weights: dict[str, float]) -> Teacher:
    if not any(weights.values()):
        if not args.videos:
            raise TrainingError("all losses have weight 0: nothing is to be learned")
        return Nobody(spec)
    teacher = teachers.asked_for(vars(args))
    needed = {"embedding": "embedding", "relational": "embedding", "scores": "scores"}
    for loss, kind in needed.items():
        if kind not in teacher.widths:
            if loss != "relational" and len(teacher.widths) == 1:
                weights[loss] = 0.0  # a teacher of one output teaches that
            elif weights[loss]:
                raise TrainingError(f"{teacher.name} has no {kind} to learn: give --{loss} 0")
    if not any(weights.values()):
        raise TrainingError(f"{teacher.name} has no output that a loss is asked for: give --embedding or --scores")
    return teacher


def _seeing(args: argparse.Namespace, spec: Spec) -> Seeing | None:
    if not args.videos:
        return None
    weights = {name: getattr(args, name) or 0.0 for name in seeing.LOSSES}
    teacher = VisionTeacher(args.vision_teacher) if args.vision_teacher else None
    return Seeing(spec, shards.open_data(args.videos), weights, teacher, args.videos_batch or _VIDEOS_BATCH, args.seed)


def distill(args: argparse.Namespace) -> int:
    weights = {name: getattr(args, name) for name in LOSSES}
    spec, data = students.student(args.student), shards.open_data(args.data)
    hop = round(args.teacher_hop * spec.sample_rate)
    distillation.check(spec, hop)
    if spec.sample_rate != data.statistics["sample_rate"]:
        raise TrainingError(
            f"{args.data} is at {data.statistics['sample_rate']} Hz, {spec.name} hears {spec.sample_rate} Hz"
        )
    teacher = _teacher(args, spec, weights)
    devices.configure(deterministic=True)
    tf_keras.utils.set_random_seed(args.seed + 1)  # other weights than those that the student begins with
    watched = _seeing(args, spec)
    described = arguments.document(args, data, devices.find("one"))
    described["teacher"] = {"name": teacher.name, "sha256": teacher.identity, "widths": teacher.widths}
    if watched:
        described["videos"] = {"path": str(args.videos.resolve()), "sha256": watched.videos.digest}
        if watched.teacher:
            described["vision_teacher"] = {"name": watched.teacher.name, "sha256": watched.teacher.identity}
    with arguments.started(args.run, spec, described):
        _compare(args.run, described)
        if (args.run / "metrics.json").is_file():
            print(f"{args.run} is finished: {_summary(artifacts.read_json(args.run / 'metrics.json'))}")
            return 0
        return _go_on(args, spec, data, teacher, hop, weights, watched)


def _compare(directory: Path, described: dict[str, Any]) -> None:
    """Beyond `arguments.started`: that the files which were named hold what they did."""
    before = artifacts.read_json(directory / "arguments.json")
    for what in ("teacher", "videos", "vision_teacher"):
        if before.get(what, {}).get("sha256") != described.get(what, {}).get("sha256"):
            raise TrainingError(
                f"the run in {directory} was started with other content of --{what.replace('_', '-')}: give the same "
                "to continue it, or another --run to begin anew"
            )


def _go_on(
    args: argparse.Namespace,
    spec: Spec,
    data: shards.Data,
    teacher: Teacher,
    hop: int,
    weights: dict[str, float],
    watched: Seeing | None,
) -> int:
    splits = ("train", "validation", "test")
    heard = {
        split: lessons_.prepare(data, split, teacher, hop, args.cache).for_windows(spec.window) for split in splits
    }
    clips = _clips(heard, args.exclude)
    if args.crop and args.crop > heard["train"].inside.shape[1]:
        raise TrainingError(f"--crop {args.crop}: a clip has {heard['train'].inside.shape[1]} windows of the teacher's")
    stop = Stop()
    tf_keras.utils.set_random_seed(args.seed)
    aims = None
    if weights["embedding"] or weights["relational"]:
        aims = target(heard["train"], clips["train"], args.target, args.components, args.domain, args.seed)
    student = Distiller(
        spec,
        heard["train"],
        aims,
        weights,
        degrade=args.degrade,
        weight_decay=args.weight_decay,
        seed=args.seed,
        seeing=watched,
    )
    manager = tf.train.CheckpointManager(student.checkpoint, str(args.run / "checkpoints"), max_to_keep=2)
    if manager.latest_checkpoint:
        student.restore(manager.latest_checkpoint)
        print(f"continuing at step {student.step} of {args.steps}", file=sys.stderr)
    else:
        _begin(args, student, heard["train"], clips["train"], teacher)
    if args.focus:
        clips["train"] = heard["train"].repeated(clips["train"], *args.focus)
    status = _train(student, heard, clips, args, manager, stop)
    if status is None:
        _finish(args, student, heard, clips, teacher)
    return status or 0


def _begin(
    args: argparse.Namespace, student: Distiller, lessons: Lessons, clips: NDArray[np.int64], teacher: Teacher
) -> None:
    """Give a new student what it is to begin with."""
    if args.init:
        _check_unheard(args)
        artifacts.load_weights(artifacts.locate(args.init)[1] / "weights.npz", student.model, ("audio",))
    elif args.inherit:
        _inherit(student, lessons, clips, teacher, args.seed)
    if args.inherit or args.keep:
        sample = [batch_of(lessons, clips, args.seed, step, _INHERITED, 1) for step in range(_FITTED)]
        if args.inherit:
            student.fit_heads(sample)
        if args.keep:
            student.remember(sample)


def _inherit(student: Distiller, lessons: Lessons, clips: NDArray[np.int64], teacher: Teacher, seed: int) -> None:
    path = getattr(teacher, "path", None)
    if path is None:
        raise TrainingError(f"--inherit: {teacher.name} is no .tflite with weights to begin with, as yamnet is")
    batch = batch_of(lessons, clips, seed, 0, _INHERITED, 1)
    sound = np.stack([lessons_.leveled(each) for each in batch["audio"]])
    if teacher.sample_rate != student.spec.sample_rate:
        raise TrainingError(f"--inherit: {teacher.name} hears {teacher.sample_rate} Hz, {student.spec.name} does not")
    inherit.begin(student.model.get_layer("audio"), path, sound, teacher.sample_rate, student.features(sound))


def _check_unheard(args: argparse.Namespace) -> None:
    """TrainingError where the tower to begin with may have heard, in a distillation, what this run is not to hear."""
    begun = artifacts.read_json(artifacts.locate(args.init)[0] / "arguments.json")["arguments"]
    if heard := sorted(set(args.exclude) - set(begun.get("exclude", args.exclude))):
        raise TrainingError(f"--init {args.init} has heard clips of {', '.join(heard)}, which are to be left out")


def _clips(heard: dict[str, Lessons], excluded: list[str]) -> dict[str, NDArray[np.int64]]:
    """Numbers of the clips of each split that are used."""
    known = {label for lessons in heard.values() for record in lessons.records for label in record["labels"]}
    if unknown := sorted(set(excluded) - known):
        raise TrainingError(
            f"no clip has the label {', '.join(unknown)} of --exclude; there are {', '.join(sorted(known))}"
        )
    clips = {split: lessons.without(excluded) for split, lessons in heard.items()}
    if empty := [split for split, numbers in clips.items() if not len(numbers)]:
        raise TrainingError(f"no clip of {' and '.join(empty)} is left without {', '.join(excluded)}")
    return clips


def _train(
    student: Distiller,
    heard: dict[str, Lessons],
    clips: dict[str, NDArray[np.int64]],
    args: argparse.Namespace,
    manager: Any,
    stop: Stop,
) -> int | None:
    """Go on to the last step, or save and return an exit status where a signal ended it."""
    every = args.evaluate_every or max(1, args.steps // 10)
    bar = tqdm(
        desc=student.spec.name, initial=student.step * args.batch, total=args.steps * args.batch, unit=" clips",
        disable=None,
    )  # fmt: skip
    seen = student.seeing.batches(student.step) if student.seeing else itertools.repeat(None)
    with bar:
        for done in range(student.step + 1, args.steps + 1):
            rate = learning_rate(done - 1, args.steps, args.learning_rate, args.warmup)
            student.train(
                batch_of(heard["train"], clips["train"], args.seed, done - 1, args.batch, args.crop), rate, next(seen)
            )
            bar.update(args.batch)
            if done % every == 0 or done == args.steps:
                found = student.evaluate(heard["validation"], clips["validation"]) | student.watch("validation")
                row = student.record(rate, found)
                losses = ", ".join(
                    f"{name.replace('_', ' ')} {value:.3f}"
                    for name, value in row.items()
                    if name.startswith(("train", "validation")) and value is not None
                )
                bar.write(f"step {done}/{args.steps}: {losses}", file=sys.stderr)
            stops = stop.asked()
            if any(stops) or done % args.checkpoint_every == 0 or done == args.steps:
                student.save(manager)
            if any(stops) and done < args.steps:
                print(f"stopped at step {done} of {args.steps}; the same command continues", file=sys.stderr)
                return 130 if stops[0] else 0
    return None


def _finish(
    args: argparse.Namespace,
    student: Distiller,
    heard: dict[str, Lessons],
    clips: dict[str, NDArray[np.int64]],
    teacher: Teacher,
) -> None:
    """Evaluate and write what makes the directory a finished run."""
    metrics: dict[str, Any] = {
        "task": "distillation",
        "teacher": teacher.name,
        "steps": student.step,
        "clips": student.step * args.batch,
        "train": student.history[-1],
    }
    for split in ("validation", "test"):
        metrics[split] = student.evaluate(heard[split], clips[split]) | student.watch(split)
    artifacts.save_weights(args.run / "weights.npz", student.model)
    curves = [_CURVES[name] for name, weight in student.weights.items() if weight]
    artifacts.write_history(args.run, f"{student.spec.name}, taught by {teacher.name}", student.history, curves)
    if student.weights["scores"] and teacher.names:
        held_out = [(heard[split], clips[split]) for split in ("validation", "test")]
        made = agreement.of_unheard(
            [agreement.Unheard(*each, distillation.scores(student.model, student.spec, *each)) for each in held_out]
        )
        artifacts.write_json(
            args.run / "tags.json", agreement.document(teachers.source_of_names(teacher), teacher.names, made)
        )
        metrics["tags"] = len(agreement.selected(made, teacher.names))
    artifacts.write_json(args.run / "metrics.json", metrics)
    print(f"{args.run}: {_summary(metrics)}")


def _summary(metrics: dict[str, Any]) -> str:
    test = metrics["test"]
    parts = []
    if "embedding" in test:
        parts.append(f"{1 - test['embedding']:.1%} of the variance of {metrics['teacher']}'s embedding on test clips")
    if "scores" in test:
        parts.append(f"scores {test['scores']:.3f} nats from its own")
    if "tags" in metrics:
        parts.append(f"{metrics['tags']} tags agree well")
    if test.get("avc_accuracy") is not None:
        parts.append(f"AVC accuracy {test['avc_accuracy']:.3f} on test videos (chance 0.5)")
    if test.get("vision") is not None:
        parts.append(f"{test['vision']:.3f} nats from what is seen in test videos")
    return ", ".join(parts)


def main(argv: list[str] | None = None) -> int:
    return distill(parse(argv))


if __name__ == "__main__":
    run(main)
