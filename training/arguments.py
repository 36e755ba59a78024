"""The arguments of a run: what they are, and that a run which is continued is given the same."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from l3edge.spec import PRESETS, Spec

from . import artifacts, devices, shards, students
from .cli import HelpFormatter, TrainingError, positive_float, positive_int
from .devices import Devices
from .locks import LOCK, locked
from .small import small

# What may differ when a run is continued: it says where and how often, not what.
_FREE = ("run", "data", "videos", "cache", "checkpoint_every")

STEPS = 2000  # where neither --steps nor --epochs is given


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Checked arguments, of which either `steps` or `epochs` is None."""
    parser = argparse.ArgumentParser(
        prog="python -m training.pretrain",
        description="Learn sound embeddings from videos, by audio-visual correspondence. "
        "The same command again continues a run that was stopped.",
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "--preset",
        type=_network,
        default="edge-m",
        help=f"the model: {', '.join(PRESETS)}, or a tower such as strided:32-64-128-256, as for training.distill",
    )
    parser.add_argument("--small", action="store_true", help="its small version: narrow towers, small pictures")
    parser.add_argument("--data", type=Path, required=True, metavar="SHARDS", help="folder written by prepare")
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="folder for everything it makes")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=positive_int, help=f"batches to train on (default: {STEPS})")
    length.add_argument("--epochs", type=positive_int, help="passes over the data, instead of --steps")
    parser.add_argument(
        "--batch",
        type=positive_int,
        default=64,
        help="clips in a step, each of the next record of a shuffled pass; those of one video are not paired",
    )
    parser.add_argument("--negatives", type=positive_int, default=63, help="negative pairs of each clip, at most")
    parser.add_argument("--learning-rate", type=positive_float, default=3e-3, help="of Adam, at its peak")
    parser.add_argument("--warmup", type=positive_int, default=50, help="steps until the peak; a cosine follows")
    parser.add_argument("--weight-decay", type=float, default=1e-5, help="L2, on kernels")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and augmentation")
    parser.add_argument(
        "--evaluate-every", type=positive_int, help="steps between evaluations (default: a 20th of all)"
    )
    parser.add_argument("--checkpoint-every", type=positive_int, default=100, help="steps between checkpoints")
    parser.add_argument(
        "--snapshot-every",
        type=positive_int,
        metavar="CLIPS",
        help="keep the model after each so many training clips, as RUN@CLIPS for probe, report and export",
    )
    parser.add_argument("--init", metavar="RUN", help="begin with the towers of another run, or of RUN@CLIPS")
    parser.add_argument(
        "--freeze-towers", action="store_true", help="train only what joins the towers; they stay as in inference"
    )
    many = parser.add_argument_group(
        "devices",
        "All arithmetic is float32; TensorFloat-32 is switched off. The result does not depend on the number of "
        "replicas, but for rounding, if batch statistics are synchronised.",
    )
    many.add_argument(
        "--strategy",
        choices=devices.STRATEGIES,
        default="one",
        help="one: one device; mirrored: all GPUs of this machine; multi_worker: all GPUs of many machines, as "
        "TF_CONFIG says (`python -m training.launch --help`)",
    )
    many.add_argument(
        "--sync-batch-norm",
        action="store_true",
        help="normalise by the statistics of the whole batch; else each replica by those of its part of it",
    )
    many.add_argument(
        "--streams",
        type=positive_int,
        metavar="N",
        help="take the batches that N workers would (default: as many as there are)",
    )
    many.add_argument("--xla", action="store_true", help="compile the towers with XLA; needs --no-deterministic")
    many.add_argument(
        "--no-deterministic",
        dest="deterministic",
        action="store_false",
        help="allow faster operations that give other bits on each run",
    )
    args = parser.parse_args(arguments)
    if args.xla and args.deterministic:
        parser.error("--xla needs --no-deterministic: XLA has no deterministic gradient of a max pool")
    if args.xla and args.sync_batch_norm and args.strategy != "one":
        parser.error("--xla compiles the towers of a replica by themselves; it cannot be had with --sync-batch-norm")
    if args.snapshot_every and args.snapshot_every % args.batch:
        parser.error(f"--snapshot-every must be a multiple of --batch, {args.batch}; got {args.snapshot_every}")
    if args.batch < 2:
        parser.error("--batch must be at least 2: negatives are made within a batch")
    if not 0 <= args.weight_decay < math.inf:
        parser.error(f"--weight-decay must be a number of at least 0, got {args.weight_decay}")
    if args.steps is None and args.epochs is None:
        args.steps = STEPS  # here and not as argparse's default, which would stand beside --epochs too
    return args


def _network(name: str) -> str:
    """argparse type: the name of a network."""
    try:
        students.student(name)
    except TrainingError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return name


def opened(args: argparse.Namespace) -> tuple[Spec, shards.Data]:
    """The network and the data of a run. Raises TrainingError where they are of different sample rates."""
    spec = students.student(args.preset)
    spec = small(spec) if args.small else spec
    data = shards.open_data(args.data)
    rate = data.statistics["sample_rate"]
    if rate != spec.sample_rate:
        raise TrainingError(
            f"{args.data} is at {rate} Hz, {spec.name} hears {spec.sample_rate} Hz: prepare the videos with "
            f"--sample-rate {spec.sample_rate}"
        )
    return spec, data


def document(args: argparse.Namespace, data: shards.Data, found: Devices) -> dict[str, Any]:
    """What a run keeps as arguments.json."""
    return {
        # As JSON gives them back: tuples as lists, paths as text.
        "arguments": json.loads(json.dumps(dict(sorted(vars(args).items())), default=str)),
        "data": {
            "path": str(args.data.resolve()),
            "sha256": data.digest,
            "videos": data.statistics["verdicts"]["kept"],
        },
        "devices": found.described(),
        **artifacts.environment(),
    }


def number_of_steps(args: argparse.Namespace, records: int) -> int:
    """All steps of a run: --steps, or --epochs passes over so many records, in whole batches."""
    return args.steps or math.ceil(args.epochs * records / args.batch)


@contextlib.contextmanager
def started(directory: Path, spec: Spec, arguments: dict[str, Any]) -> Iterator[None]:
    """Create the run directory, or check that it belongs to the same arguments and data; then keep others off it."""
    path = directory / "arguments.json"
    if directory.exists() and not path.is_file() and any(entry.name != LOCK for entry in directory.iterdir()):
        raise TrainingError(f"{directory} is not empty and not a run directory; give another --run")
    directory.mkdir(parents=True, exist_ok=True)
    with locked(directory):
        if path.is_file():
            _compare(directory, spec, arguments)
        else:
            artifacts.write_json(directory / "spec.json", spec.to_json())
            artifacts.write_json(path, arguments)
        yield


def join(directory: Path, spec: Spec, arguments: dict[str, Any], found: Devices) -> None:
    """Check that this worker sees the run that the chief has started, and was told the same."""
    if not (directory / "arguments.json").is_file():
        raise TrainingError(
            f"worker {found.worker} does not see {directory}, which worker 0 writes: --run must be a folder that "
            "all workers share"
        )
    _compare(directory, spec, arguments)


def _compare(directory: Path, spec: Spec, arguments: dict[str, Any]) -> None:
    before = artifacts.read_json(directory / "arguments.json")
    old, new = before["arguments"], arguments["arguments"]
    differing = [
        f"--{name.replace('_', '-')} was {old.get(name)}, now {new.get(name)}"
        for name in sorted(set(old) | set(new))
        if name not in _FREE and old.get(name) != new.get(name)
    ]
    if before["data"]["sha256"] != arguments["data"]["sha256"]:
        differing.append(f"--data {old['data']} had other content than {new['data']} has")
    # Without --streams there is one for each worker, so another number of them would take the clips in another order.
    was, now = (_layout(document) for document in (before, arguments))
    if was != now:
        differing.append(f"there were {was}, now {now}")
    if artifacts.read_json(directory / "spec.json") != json.loads(json.dumps(spec.to_json())):
        differing.append(f"the preset {spec.name} has changed")
    if differing:
        raise TrainingError(
            f"the run in {directory} was started differently: {'; '.join(differing)}. Give the same arguments to "
            "continue it, or another --run to begin anew"
        )


def _layout(arguments: dict[str, Any]) -> str:
    found = arguments.get("devices", {})
    return f"{found.get('replicas', 1)} replicas on {found.get('workers', 1)} workers"
