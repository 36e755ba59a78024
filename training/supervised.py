"""Train the towers on labels instead of correspondence: the supervised controls of the L3-Net paper.

    python -m training.supervised --preset l3-net --data SHARDS --run DIR

Arandjelovic & Zisserman 2017 compare L3-Net with networks that were told what is seen and heard:

- Direct combination: the audio and the image network are each trained as classifiers, by themselves, on the labels of
  the videos. How far a picture and a sound correspond is the scalar product of the two networks' class posteriors;
  they are said to correspond above a threshold. Here the threshold is the one with the best accuracy on pairs of the
  validation split. It is fixed before any pair of the test split is looked at.
- Supervised pretraining: the towers of those classifiers, joined by a fusion that is trained on correspondence:
  `python -m training.pretrain --init RUN --freeze-towers` with the run directory that this command leaves. Without
  --freeze-towers the towers are trained on as well.

The names of the controls and their accuracies are the paper's. How it combines the posteriors, chooses the threshold,
and whether it trains the pretrained towers on, was not looked up in its text but reconstructed: compare with care.

A classifier is the preset's tower with a head of two fully connected layers: `spec.fusion` units with ReLU, and the
classes. Labels are those of the source video; a video of several labels has each as a target with equal share, and
one without any is not trained on. The two networks share no weight, so training both in one step is training each by
itself. The same command again continues a run that was stopped.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from l3edge.spec import PRESETS, Spec

from . import arguments, artifacts, devices, direct_combination, shards
from .backend import tf, tf_keras
from .cli import HelpFormatter, positive_float, positive_int, run
from .correspondence import MEASURES, learning_rate
from .input import checked, evaluation_clips, training_clips
from .label_networks import Classifiers, Labels, class_accuracy
from .stopping import Stop


def _train(
    classifiers: Classifiers, data: shards.Data, labels: Labels, args: argparse.Namespace, manager: Any, stop: Stop
) -> int | None:
    """Go on to the last step, or save and return an exit status where a signal ended it."""
    first, train = int(classifiers.step), data.split("train")
    clips = checked(training_clips(train, classifiers.spec, args.seed, args.batch, first), train)
    every = max(1, args.steps // 20)
    bar = tqdm(desc=f"{classifiers.spec.name}, labels", initial=first, total=args.steps, unit=" steps", disable=None)
    with bar:
        for done in range(first + 1, args.steps + 1):
            clip = next(clips)
            rate = learning_rate(done - 1, args.steps, args.learning_rate, args.warmup)
            targets = labels.targets(clip["group"].numpy())
            classifiers.train(clip["image"], clip["audio"], targets, tf.constant(rate, tf.float32))
            bar.update()
            if done % every == 0 or done == args.steps:
                classifiers.record(rate)
            by_interrupt, by_termination = stop.asked()
            stops = by_interrupt or by_termination
            if stops or done % args.checkpoint_every == 0 or done == args.steps:
                manager.save(checkpoint_number=done)
            if stops and done < args.steps:
                print(f"stopped at step {done} of {args.steps}; the same command continues", file=sys.stderr)
                return 130 if by_interrupt else 0
    return None


def _finish(classifiers: Classifiers, data: shards.Data, labels: Labels, args: argparse.Namespace) -> dict[str, Any]:
    """Evaluate and write what makes the directory a finished run; the threshold is the validation split's."""
    history = classifiers.history
    metrics: dict[str, Any] = {
        "task": "labels",
        "labels": labels.names,
        "steps": args.steps,
        "clips": args.steps * args.batch,
        "train": history[-1],
        "threshold": None,
    }
    for split in ("validation", "test"):
        clips = evaluation_clips(data.split(split), classifiers.spec)
        result: dict[str, Any] = dict.fromkeys(MEASURES)
        if len(clips.other):
            scores = direct_combination.scores(classifiers.posteriors(clips.images, clips.audio), clips)
            if split == "validation":
                metrics["threshold"] = direct_combination.best_threshold(*scores)
            if metrics["threshold"] is not None:
                result = direct_combination.judged(*scores, metrics["threshold"], clips.same_label)
        metrics[split] = {
            **result,
            "class_accuracy": class_accuracy(classifiers, data, split, labels, args.batch),
        }
    artifacts.save_weights(args.run / "weights.npz", classifiers.model)
    content = io.BytesIO()
    heads = {
        f"{name}/{variable.name.split(':')[0]}": variable.numpy()
        for name, head in classifiers.heads.items()
        for variable in head.weights
    }
    np.savez(content, **heads)
    artifacts.write(args.run / "heads.npz", content.getvalue())
    table = io.StringIO()
    rows = csv.DictWriter(table, list(history[0]), lineterminator="\n")
    rows.writeheader()
    rows.writerows(history)
    artifacts.write(args.run / "history.csv", table.getvalue())
    artifacts.write_json(args.run / "metrics.json", metrics)
    return metrics


def _summary(metrics: dict[str, Any]) -> str:
    parts = []
    for split in ("validation", "test"):
        result = metrics[split]
        if result["accuracy"] is not None:
            parts.append(f"{split} AVC accuracy by direct combination {result['accuracy']:.3f}")
        if result["class_accuracy"]:
            own = ", ".join(f"{name} {value:.3f}" for name, value in result["class_accuracy"].items())
            parts.append(f"{split} class accuracy: {own} (chance {1 / len(metrics['labels']):.3f})")
    return "; ".join(parts) or "no held-out videos, no accuracy"


def supervise(args: argparse.Namespace) -> int:
    spec, data = arguments.opened(args)
    devices.configure(deterministic=True)
    document = arguments.document(args, data, devices.find("one"))
    with arguments.started(args.run, spec, document):
        return _go_on(args, spec, data)


def _go_on(args: argparse.Namespace, spec: Spec, data: shards.Data) -> int:
    """From the beginning, or the last checkpoint, to the end, where the run is not there yet."""
    if (args.run / "metrics.json").is_file():
        print(f"{args.run} is finished: {_summary(artifacts.read_json(args.run / 'metrics.json'))}")
        return 0
    labels = Labels(data)
    stop = Stop()
    tf_keras.utils.set_random_seed(args.seed)
    classifiers = Classifiers(spec, len(labels.names), args.weight_decay)
    manager = tf.train.CheckpointManager(classifiers.checkpoint, str(args.run / "checkpoints"), max_to_keep=2)
    if manager.latest_checkpoint:
        classifiers.checkpoint.restore(manager.latest_checkpoint).assert_consumed()
        print(f"continuing at step {int(classifiers.step)} of {args.steps}", file=sys.stderr)
    status = _train(classifiers, data, labels, args, manager, stop)
    if status is not None:
        return status
    print(f"{args.run}: {_summary(_finish(classifiers, data, labels, args))}")
    return 0


def parser() -> argparse.ArgumentParser:
    """The command's options; their names and meanings are those of training.pretrain."""
    made = argparse.ArgumentParser(
        prog="python -m training.supervised",
        description="Train a preset's towers as classifiers of the videos' labels, and judge correspondence by them: "
        "the supervised controls of the L3-Net paper. The same command again continues a run that was stopped.",
        formatter_class=HelpFormatter,
    )
    made.add_argument("--preset", choices=list(PRESETS), default="edge-m", help="the model")
    made.add_argument("--small", action="store_true", help="its small version: narrow towers, small pictures")
    made.add_argument("--data", type=Path, required=True, metavar="SHARDS", help="folder written by prepare")
    made.add_argument("--run", type=Path, required=True, metavar="DIR", help="folder for everything it makes")
    made.add_argument("--steps", type=positive_int, default=2000, help="batches to train on")
    made.add_argument("--batch", type=positive_int, default=64, help="clips in a step")
    made.add_argument("--learning-rate", type=positive_float, default=3e-3, help="of Adam, at its peak")
    made.add_argument("--warmup", type=positive_int, default=50, help="steps until the peak; a cosine follows")
    made.add_argument("--weight-decay", type=positive_float, default=1e-5, help="L2, on kernels")
    made.add_argument("--seed", type=int, default=0, help="of weights, order and augmentation")
    made.add_argument("--checkpoint-every", type=positive_int, default=100, help="steps between checkpoints")
    return made


def main(arguments: list[str] | None = None) -> int:
    return supervise(parser().parse_args(arguments))


if __name__ == "__main__":
    run(main)
