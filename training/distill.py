"""Learn sound embeddings from a teacher: python -m training.distill --teacher T --student S --data DATA --run DIR

The same command again continues a run that was stopped, killed or crashed, and ends with the very weights that the
undisturbed run would have had. What is asked of the student says `training.distillation`, what it hears
`training.degraded`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from l3edge.spec import Spec

from . import agreement, arguments, artifacts, devices, shards, students, teachers
from . import lessons as lessons_
from .backend import tf, tf_keras
from .cli import HelpFormatter, TrainingError, positive_float, positive_int, run
from .correspondence import learning_rate
from .distillation import LOSSES, TARGETS, Distiller, batch_of, target
from .lessons import Lessons
from .stopping import Stop
from .teachers import Teacher

_CURVES = {
    "embedding": ("embedding", "error of the embedding, variance = 1", 1.0),
    "scores": ("scores", "divergence of the scores, nats", None),
    "relational": ("relational", "error of the cosines, squared", None),
}


def weight(text: str) -> float:
    """argparse type: a finite number of at least 0."""
    return 0.0 if text in ("0", "0.0") else positive_float(text)


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = argparse.ArgumentParser(
        prog="python -m training.distill",
        description="Learn sound embeddings from a teacher's, on unlabelled sound. The teacher's outputs are computed "
        "once and kept. The same command again continues a run that was stopped.",
        formatter_class=HelpFormatter,
    )
    made.add_argument("--teacher", default="yamnet", help="yamnet, a model of l3edge, or a .tflite (see below)")
    made.add_argument("--student", default="edge-m", help="a preset, or such as separable:32-64-128-256,size=512")
    made.add_argument("--data", type=Path, required=True, metavar="DATA", help="folder written by corpus or prepare")
    made.add_argument("--run", type=Path, required=True, metavar="DIR", help="folder for everything it makes")
    made.add_argument(
        "--exclude", nargs="+", default=[], metavar="LABEL", help="leave out clips with one of these labels"
    )
    made.add_argument("--init", metavar="RUN", help="begin with the audio tower of another run, or of RUN@CLIPS")
    made.add_argument("--steps", type=positive_int, default=2000, help="batches to train on")
    made.add_argument("--batch", type=positive_int, default=16, help="clips in a step, each with all its windows")
    made.add_argument("--learning-rate", type=positive_float, default=3e-3, help="of Adam, at its peak")
    made.add_argument("--warmup", type=positive_int, default=50, help="steps until the peak; a cosine follows")
    made.add_argument("--weight-decay", type=weight, default=1e-5, help="L2, on kernels")
    made.add_argument("--seed", type=int, default=0, help="of weights, order and degradation")
    made.add_argument("--evaluate-every", type=positive_int, help="steps between evaluations (default: a 10th of all)")
    made.add_argument("--checkpoint-every", type=positive_int, default=200, help="steps between checkpoints")
    asked = made.add_argument_group("what is learned", "Losses and their weights; 0 leaves one out.")
    asked.add_argument("--embedding", type=weight, default=1.0, metavar="W", help="regression on the embedding")
    asked.add_argument("--scores", type=weight, default=0.2, metavar="W", help="divergence from the scores")
    asked.add_argument("--relational", type=weight, default=0.0, metavar="W", help="cosines between windows")
    asked.add_argument("--target", choices=TARGETS, default="standardise", help="what the embedding is scaled by")
    asked.add_argument("--components", type=positive_int, metavar="N", help="of --target whiten: so many alone")
    asked.add_argument("--domain", metavar="LABEL", help="scale by the clips of this label alone")
    asked.add_argument(
        "--no-degrade",
        dest="degrade",
        action="store_false",
        help="let the student hear what the teacher hears, and not worse (level, equaliser, band limits, noise)",
    )
    other = made.add_argument_group("the teacher")
    other.add_argument("--teacher-hop", type=positive_float, default=0.2, metavar="S", help="seconds between windows")
    other.add_argument("--embedding-tensor", type=int, metavar="N", help="of a .tflite that is no model of l3edge")
    other.add_argument("--scores-tensor", type=int, metavar="N", help="likewise: posteriors from 0 to 1")
    other.add_argument("--teacher-rate", type=positive_int, default=16_000, metavar="HZ", help="likewise")
    other.add_argument("--teacher-names", type=Path, metavar="CSV", help="likewise: names of the scores, display_name")
    other.add_argument("--cache", type=Path, default=lessons_.DEFAULT, metavar="DIR", help="keep its outputs here")
    return made


def _teacher(args: argparse.Namespace) -> Teacher:
    wanted = teachers.Wanted(args.embedding_tensor, args.scores_tensor, args.teacher_rate, args.teacher_names)
    return teachers.load(args.teacher, wanted)


def distill(args: argparse.Namespace) -> int:
    weights = {name: getattr(args, name) for name in LOSSES}
    if not any(weights.values()):
        raise TrainingError("all losses have weight 0: nothing is to be learned")
    spec, data, teacher = students.student(args.student), shards.open_data(args.data), _teacher(args)
    if spec.sample_rate != teacher.sample_rate:
        raise TrainingError(f"{spec.name} hears {spec.sample_rate} Hz, {teacher.name} {teacher.sample_rate} Hz")
    needed = {"embedding": "embedding", "relational": "embedding", "scores": "scores"}
    for loss, kind in needed.items():
        if kind not in teacher.widths:
            if loss != "relational" and len(teacher.widths) == 1:
                weights[loss] = 0.0  # a teacher of one output teaches that
            elif weights[loss]:
                raise TrainingError(f"{teacher.name} has no {kind} to learn: give --{loss} 0")
    devices.configure(deterministic=True)
    described = arguments.document(args, data, devices.find("one"))
    described["teacher"] = {"name": teacher.name, "sha256": teacher.identity, "widths": teacher.widths}
    with arguments.started(args.run, spec, described):
        if (args.run / "metrics.json").is_file():
            print(f"{args.run} is finished: {_summary(artifacts.read_json(args.run / 'metrics.json'))}")
            return 0
        return _go_on(args, spec, data, teacher, weights)


def _go_on(args: argparse.Namespace, spec: Spec, data: shards.Data, teacher: Teacher, weights: dict[str, float]) -> int:
    hop = round(args.teacher_hop * teacher.sample_rate)
    splits = ("train", "validation", "test")
    heard: dict[str, Lessons] = {split: lessons_.prepare(data, split, teacher, hop, args.cache) for split in splits}
    clips = {split: lessons.without(args.exclude) for split, lessons in heard.items()}
    if empty := [split for split, numbers in clips.items() if not len(numbers)]:
        raise TrainingError(f"no clip of {' and '.join(empty)} is left without {', '.join(args.exclude)}")
    stop = Stop()
    tf_keras.utils.set_random_seed(args.seed)
    aims = None
    if weights["embedding"] or weights["relational"]:
        aims = target(heard["train"], clips["train"], args.target, args.components, args.domain, args.seed)
    student = Distiller(
        spec, heard["train"], aims, weights, degrade=args.degrade, weight_decay=args.weight_decay, seed=args.seed
    )
    manager = tf.train.CheckpointManager(student.checkpoint, str(args.run / "checkpoints"), max_to_keep=2)
    if manager.latest_checkpoint:
        student.restore(manager.latest_checkpoint)
        print(f"continuing at step {student.step} of {args.steps}", file=sys.stderr)
    elif args.init:
        artifacts.load_weights(artifacts.locate(args.init)[1] / "weights.npz", student.model, ("audio",))
    status = _train(student, heard, clips, args, manager, stop)
    if status is None:
        _finish(args, student, heard, clips, teacher)
    return status or 0


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
    with bar:
        for done in range(student.step + 1, args.steps + 1):
            rate = learning_rate(done - 1, args.steps, args.learning_rate, args.warmup)
            student.train(batch_of(heard["train"], clips["train"], args.seed, done - 1, args.batch), rate)
            bar.update(args.batch)
            if done % every == 0 or done == args.steps:
                row = student.record(rate, student.evaluate(heard["validation"], clips["validation"]))
                losses = ", ".join(
                    f"{k.replace('_', ' ')} {v:.3f}" for k, v in row.items() if k.count("_") and "rate" not in k
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
    metrics |= {split: student.evaluate(heard[split], clips[split]) for split in ("validation", "test")}
    artifacts.save_weights(args.run / "weights.npz", student.model)
    curves = [_CURVES[name] for name in LOSSES if student.weights[name]]
    artifacts.write_history(args.run, f"{student.spec.name}, taught by {teacher.name}", student.history, curves)
    if student.weights["scores"] and teacher.names:
        made = agreement.of_student(student, heard, clips)
        artifacts.write_json(args.run / "tags.json", agreement.document(teacher, made))
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
    return ", ".join(parts)


def main(argv: list[str] | None = None) -> int:
    return distill(parser().parse_args(argv))


if __name__ == "__main__":
    run(main)
