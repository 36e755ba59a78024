"""Learn sound embeddings from videos, by audio-visual correspondence.

    python -m training.pretrain --preset edge-m --data SHARDS --run DIR

The task (Arandjelovic & Zisserman 2017, section 2): does this picture belong to this second of sound? Positive
pairs are a frame and the second that contains it, negatives a frame and a second of two different videos; two
classes, softmax cross entropy, Adam, weight decay 1e-5.

The same command again continues a run that was stopped, killed or crashed, and ends with the very weights that
the undisturbed run would have had.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from l3edge.spec import PRESETS, Spec

from . import artifacts, pairs, shards
from .artifacts import Run, load_run
from .backend import tf, tf_keras
from .cli import HelpFormatter, TrainingError, positive_float, positive_int, run
from .correspondence import Trainer, learning_rate
from .input import checked, evaluation_clips, training_clips

__all__ = ["Run", "load_run", "main"]

# What may differ when a run is continued: it says where and how often, not what.
_FREE = ("run", "data", "checkpoint_every")

STEPS = 2000  # where neither --steps nor --epochs is given


class _Stop:
    """SIGINT and SIGTERM, remembered until the step is done; a second Ctrl-C is not waited for."""

    def __init__(self) -> None:
        self.signal = 0
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: object) -> None:
        self.signal = number
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _start(directory: Path, spec: Spec, arguments: dict[str, Any]) -> None:
    """Create the run directory, or check that it belongs to the same arguments and data."""
    path = directory / "arguments.json"
    if not path.is_file():
        if directory.exists() and any(directory.iterdir()):
            raise TrainingError(f"{directory} is not empty and not a run directory; give another --run")
        directory.mkdir(parents=True, exist_ok=True)
        artifacts.write_json(directory / "spec.json", spec.to_json())
        artifacts.write_json(path, arguments)
        return
    before = artifacts.read_json(path)
    old, new = before["arguments"], arguments["arguments"]
    differing = [
        f"--{name.replace('_', '-')} was {old.get(name)}, now {new.get(name)}"
        for name in sorted(set(old) | set(new))
        if name not in _FREE and old.get(name) != new.get(name)
    ]
    if before["data"]["sha256"] != arguments["data"]["sha256"]:
        differing.append(f"--data {old['data']} had other content than {new['data']} has")
    if artifacts.read_json(directory / "spec.json") != json.loads(json.dumps(spec.to_json())):
        differing.append(f"the preset {spec.name} has changed")
    if differing:
        raise TrainingError(
            f"the run in {directory} was started differently: {'; '.join(differing)}. Give the same arguments to "
            "continue it, or another --run to begin anew"
        )


def number_of_steps(args: argparse.Namespace, records: int) -> int:
    """All steps of a run: --steps, or --epochs passes over so many records, in whole batches."""
    return args.steps or math.ceil(args.epochs * records / args.batch)


def pretrain(args: argparse.Namespace) -> int:
    spec = PRESETS[args.preset]
    source = shards.open_data(args.data)
    statistics = source.statistics
    if statistics["sample_rate"] != spec.sample_rate:
        raise TrainingError(
            f"{args.data} is at {statistics['sample_rate']} Hz, {spec.name} hears {spec.sample_rate} Hz: prepare the "
            f"videos with --sample-rate {spec.sample_rate}"
        )
    if statistics["splits"]["train"]["groups"] < 2:
        raise TrainingError(f"{args.data} has fewer than two training videos: no negative pair can be made")
    data = {"path": str(args.data.resolve()), "sha256": source.digest, "videos": statistics["verdicts"]["kept"]}
    arguments = {name: str(v) if isinstance(v, Path) else v for name, v in sorted(vars(args).items())}
    _start(args.run, spec, {"arguments": arguments, "data": data, **artifacts.environment()})
    if (args.run / "metrics.json").is_file():
        print(f"{args.run} is finished: {_summary(artifacts.read_json(args.run / 'metrics.json'))}")
        return 0

    stop = _Stop()
    tf_keras.utils.set_random_seed(args.seed)
    tf.config.experimental.enable_op_determinism()
    trainer = Trainer(spec, args.negatives, args.weight_decay)
    manager = tf.train.CheckpointManager(trainer.checkpoint, str(args.run / "checkpoints"), max_to_keep=2)
    train = source.split("train")
    held_out = {split: evaluation_clips(source.split(split), spec) for split in ("validation", "test")}
    steps = number_of_steps(args, sum(shard.records for shard in train))
    if manager.latest_checkpoint:
        trainer.checkpoint.restore(manager.latest_checkpoint).assert_consumed()
        print(f"continuing at step {int(trainer.step)} of {steps}", file=sys.stderr)
    status = _train(trainer, train, held_out["validation"], steps, args, manager, stop)
    if status is not None:
        return status

    history = json.loads(trainer.history.numpy())
    metrics: dict[str, Any] = {
        "steps": steps,
        "clips": steps * args.batch,
        "train": history[-1] if history else {},
    }
    metrics.update({split: trainer.evaluate(clips) for split, clips in held_out.items()})
    artifacts.save_weights(args.run / "weights.npz", trainer.model)
    artifacts.write_history(args.run, f"{spec.name}: audio-visual correspondence", history)
    artifacts.write_json(args.run / "metrics.json", metrics)
    print(f"{args.run}: {_summary(metrics)}")
    return 0


def _train(
    trainer: Trainer,
    train: Sequence[shards.Shard],
    validation: pairs.Clips,
    steps: int,
    args: argparse.Namespace,
    manager: Any,
    stop: _Stop,
) -> int | None:
    """Go on to the last step, or save and return an exit status where a signal ended it."""
    every = args.evaluate_every or max(1, steps // 20)
    first = int(trainer.step)
    clips = checked(training_clips(train, trainer.spec, args.seed, args.batch, first), train)
    board = tf.summary.create_file_writer(str(args.run / "tensorboard"))
    bar = tqdm(
        desc=trainer.spec.name,
        initial=first * args.batch,
        total=steps * args.batch,
        unit=" pairs",
        unit_scale=True,
        disable=None,
    )
    with bar, board.as_default():
        for done in range(first, steps):
            if stop.signal:
                manager.save(checkpoint_number=done)
                print(f"stopped at step {done} of {steps}; the same command continues", file=sys.stderr)
                return 0 if stop.signal == signal.SIGTERM else 130
            clip = next(clips)
            rate = learning_rate(done, steps, args.learning_rate, args.warmup)
            trainer.train(clip["image"], clip["audio"], clip["group"], tf.constant(rate, tf.float32))
            bar.update(args.batch)
            if (done + 1) % every == 0 or done + 1 == steps:
                row = trainer.record(validation, rate)
                for name, value in row.items():
                    if value is not None:
                        tf.summary.scalar(name.replace("_", "/", 1), value, done + 1)
                board.flush()
                bar.write(_described(row, steps), file=sys.stderr)
            if (done + 1) % args.checkpoint_every == 0 or done + 1 == steps:
                manager.save(checkpoint_number=done + 1)
    return None


def _described(row: dict[str, float | None], steps: int) -> str:
    values = [f"{name.replace('_', ' ')} {value:.3f}" for name, value in row.items() if name[-4:] in ("loss", "racy")
              and value is not None]  # fmt: skip
    return f"step {row['step']}/{steps}: {', '.join(values)}"


def _summary(metrics: dict[str, Any]) -> str:
    parts = []
    for split in ("validation", "test"):
        result = metrics[split]
        if result["accuracy"] is None:
            parts.append(f"{split}: fewer than two videos, no accuracy")
        else:
            parts.append(f"{split} AVC accuracy {result['accuracy']:.3f} on {result['pairs']} pairs")
    return "; ".join(parts) + " (chance 0.5)"


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Checked arguments, of which either `steps` or `epochs` is None."""
    parser = argparse.ArgumentParser(
        prog="python -m training.pretrain",
        description="Learn sound embeddings from videos, by audio-visual correspondence. "
        "The same command again continues a run that was stopped.",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--preset", choices=list(PRESETS), default="edge-m", help="the model")
    parser.add_argument("--data", type=Path, required=True, metavar="SHARDS", help="folder written by prepare")
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="folder for everything it makes")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=positive_int, help=f"batches to train on (default: {STEPS})")
    length.add_argument("--epochs", type=positive_int, help="passes over the data, instead of --steps")
    parser.add_argument("--batch", type=positive_int, default=64, help="clips in a step, each of another video")
    parser.add_argument("--negatives", type=positive_int, default=63, help="negative pairs of each clip, at most")
    parser.add_argument("--learning-rate", type=positive_float, default=3e-3, help="of Adam, at its peak")
    parser.add_argument("--warmup", type=positive_int, default=50, help="steps until the peak; a cosine follows")
    parser.add_argument("--weight-decay", type=float, default=1e-5, help="L2, on kernels")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and augmentation")
    parser.add_argument(
        "--evaluate-every", type=positive_int, help="steps between evaluations (default: a 20th of all)"
    )
    parser.add_argument("--checkpoint-every", type=positive_int, default=100, help="steps between checkpoints")
    args = parser.parse_args(arguments)
    if args.batch < 2:
        parser.error("--batch must be at least 2: negatives are made within a batch")
    if not 0 <= args.weight_decay < math.inf:
        parser.error(f"--weight-decay must be a number of at least 0, got {args.weight_decay}")
    if args.steps is None and args.epochs is None:
        args.steps = STEPS  # here and not as argparse's default, which would stand beside --epochs too
    return args


def main(arguments: list[str] | None = None) -> int:
    return pretrain(parse_arguments(arguments))


if __name__ == "__main__":
    run(main)
