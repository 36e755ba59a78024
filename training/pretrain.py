"""Learn sound embeddings from videos, by audio-visual correspondence.

    python -m training.pretrain --preset edge-m --data SHARDS --run DIR

The task (Arandjelovic & Zisserman 2017, section 2): does this picture belong to this second of sound? Positive
pairs are a frame and the second that contains it, negatives a frame and a second of two different videos; two
classes, softmax cross entropy, Adam, weight decay 1e-5.

The same command again continues a run that was stopped, killed or crashed, and ends with the very weights that
the undisturbed run would have had. Many devices: see `training.devices`.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from l3edge.spec import Spec

from . import artifacts, devices, network, pairs, shards
from .arguments import document, join, number_of_steps, opened, parse_arguments, started
from .artifacts import Run, load_run
from .backend import tf, tf_keras
from .cli import TrainingError, run
from .correspondence import Trainer, learning_rate
from .devices import Devices
from .input import checked, evaluation_clips, training_clips
from .stopping import Stop

__all__ = ["Run", "load_run", "main"]

HELD_OUT = ("validation", "test")


def pretrain(args: argparse.Namespace) -> int:
    spec, source = opened(args)
    if source.statistics["splits"]["train"]["groups"] < 2:
        raise TrainingError(f"{args.data} has fewer than two training videos: no negative pair can be made")
    init = artifacts.locate(args.init)[1] / "weights.npz" if args.init else None
    devices.configure(deterministic=args.deterministic)
    found = devices.find(args.strategy)
    with found.watched():
        return _pretrain(args, spec, source, found, init)


def _pretrain(args: argparse.Namespace, spec: Spec, source: shards.Data, found: Devices, init: Path | None) -> int:
    devices.check_share(args.batch, found, args.streams)
    described = document(args, source, found)
    with started(args.run, spec, described) if found.chief else contextlib.nullcontext():
        found.barrier()
        if not found.chief:
            join(args.run, spec, described, found)
        return _go_on(args, spec, source, found, init)


def _go_on(args: argparse.Namespace, spec: Spec, source: shards.Data, found: Devices, init: Path | None) -> int:
    """From the beginning, or the last checkpoint, to the end, where the run is not there yet."""
    if (args.run / "metrics.json").is_file():
        if found.chief:
            print(f"{args.run} is finished: {_summary(artifacts.read_json(args.run / 'metrics.json'))}")
        found.barrier()
        return 0

    stop = Stop()
    tf_keras.utils.set_random_seed(args.seed)
    trainer = Trainer(
        spec,
        args.negatives,
        args.weight_decay,
        found,
        sync_batch_norm=args.sync_batch_norm,
        freeze_towers=args.freeze_towers,
        xla=args.xla,
    )
    manager = tf.train.CheckpointManager(trainer.checkpoint, str(args.run / "checkpoints"), max_to_keep=2)
    train = source.split("train")
    held_out: dict[str, pairs.Clips] = {}
    if found.chief:
        held_out = {split: evaluation_clips(source.split(split), spec) for split in HELD_OUT}
    steps = number_of_steps(args, sum(shard.records for shard in train))
    if manager.latest_checkpoint:
        trainer.restore(manager.latest_checkpoint)
        if found.chief:
            print(f"continuing at step {trainer.step} of {steps}", file=sys.stderr)
    elif init:
        artifacts.load_weights(init, trainer.model, network.TOWERS)
        trainer.push()
    found.barrier()  # the chief's next checkpoint must not be what another continues from
    status = _train(trainer, train, held_out, steps, args, manager, stop)
    if status is None and found.chief:
        _finish(args.run, trainer, held_out, args.batch)
    found.barrier()  # no worker leaves while the chief is at work: it would take that for a failure
    return status or 0


def _finish(directory: Path, trainer: Trainer, held_out: dict[str, pairs.Clips], batch: int) -> None:
    metrics: dict[str, Any] = {
        "steps": trainer.step,
        "clips": trainer.step * batch,
        "train": trainer.history[-1] if trainer.history else {},
    }
    metrics.update({split: trainer.evaluate(clips) for split, clips in held_out.items()})
    artifacts.save_weights(directory / "weights.npz", trainer.model)
    artifacts.write_history(directory, f"{trainer.spec.name}: audio-visual correspondence", trainer.history)
    artifacts.write_json(directory / "metrics.json", metrics)
    print(f"{directory}: {_summary(metrics)}")


def _train(
    trainer: Trainer,
    train: Sequence[shards.Shard],
    held_out: dict[str, pairs.Clips],
    steps: int,
    args: argparse.Namespace,
    manager: Any,
    stop: Stop,
) -> int | None:
    """Go on to the last step, or save and return an exit status where a signal ended it.

    Every worker does so at the same step: each step tells all whether one of them was given a signal.
    """
    every = args.evaluate_every or max(1, steps // 20)
    first, chief = trainer.step, trainer.devices.chief
    clips = checked(_clips(trainer, train, args), train)
    board = tf.summary.create_file_writer(str(args.run / "tensorboard")) if chief else tf.summary.create_noop_writer()
    bar = tqdm(
        desc=trainer.spec.name,
        initial=first * args.batch,
        total=steps * args.batch,
        unit=" pairs",
        unit_scale=True,
        disable=None if chief else True,
    )
    with bar, board.as_default():
        for done in range(first + 1, steps + 1):
            rate = learning_rate(done - 1, steps, args.learning_rate, args.warmup)
            stops = trainer.train(next(clips), rate, stop.asked())
            bar.update(args.batch)
            if done % every == 0 or done == steps:
                row = trainer.record(rate, held_out.get("validation"))
                for name, value in row.items():
                    if value is not None:
                        tf.summary.scalar(name.replace("_", "/", 1), value, done)
                board.flush()
                if chief:
                    bar.write(_described(row, steps), file=sys.stderr)
            if chief and args.snapshot_every and done * args.batch % args.snapshot_every == 0:
                metrics = {
                    "steps": done,
                    "clips": done * args.batch,
                    "validation": trainer.evaluate(held_out["validation"]),
                }
                artifacts.save_snapshot(args.run, done * args.batch, trainer.model, metrics)
            if chief and (any(stops) or done % args.checkpoint_every == 0 or done == steps):
                trainer.save(manager)
            if any(stops) and done < steps:
                if chief:
                    print(f"stopped at step {done} of {steps}; the same command continues", file=sys.stderr)
                return 130 if stops[0] else 0
    return None


def _clips(trainer: Trainer, train: Sequence[shards.Shard], args: argparse.Namespace) -> Iterable[Any]:
    """This worker's part of each batch, for each of its replicas."""
    found = trainer.devices

    def dataset(context: tf.distribute.InputContext) -> tf.data.Dataset:
        clips = training_clips(
            train,
            trainer.spec,
            args.seed,
            args.batch,
            trainer.step,
            streams=args.streams or found.workers,
            stream=found.worker if found.workers > 1 else None,
            deterministic=args.deterministic,
        )
        return found.shared_out(clips.map(numbered_groups))

    return found.strategy.distribute_datasets_from_function(dataset)


def numbered_groups(clip: dict[str, Any]) -> dict[str, Any]:
    """What a step takes, of clips; strings would go to no GPU, and to no other worker."""
    group = tf.strings.to_hash_bucket_fast(clip["group"], 2**63 - 1)
    return {"image": clip["image"], "audio": clip["audio"], "group": group}


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
            known = result["ceiling"] < 1
            ceiling = f" (who knows the labels and nothing else: {result['ceiling']:.3f})" if known else ""
            parts.append(f"{split} AVC accuracy {result['accuracy']:.3f} on {result['pairs']} pairs{ceiling}")
    return "; ".join(parts) + " (chance 0.5)"


def main(arguments: list[str] | None = None) -> int:
    return pretrain(parse_arguments(arguments))


if __name__ == "__main__":
    run(main)
