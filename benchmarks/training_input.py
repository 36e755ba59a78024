"""Does the input hold up training? Clips a second of the input alone, of the training step alone, and of both.

    python -m benchmarks.training_input SHARDS [--preset NAME] [--small] [--batch N] [--xla] [--accelerator [MS ...]]

    input      batches of training clips are taken and dropped
    step       training steps on one batch that stays, of random pictures and sounds
    together   training as it is: each step on the next batch

The stages take turns, so what disturbs the machine disturbs all of them; a stage's figure is the median of its turns.
"Together" is held against the slower of the two alone.

On a CPU the two share the cores, and together cannot reach the slower one. What can be said there is whether the time
is lost in waiting or spent in computing: input and step each need so many CPU seconds a clip, and a machine whose cores
are all this program's has done all it could when their sum, times clips a second, is the number of cores.
--model-threads and --input-threads give each cores of its own.

--accelerator makes the step one that takes so many milliseconds a batch off the CPU, as on a GPU: it sleeps. It is a
stand-in and computes nothing; it shows that the next batch is made meanwhile. Without numbers: half the input's own
time for a batch, that time, and twice that.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from l3edge.spec import PRESETS, Spec
from training import shards
from training.backend import tf
from training.cli import HelpFormatter, TrainingError, positive_float, positive_int, run
from training.correspondence import Trainer
from training.input import checked, training_clips
from training.pretrain import numbered_groups
from training.small import small

from .machine import describe

WARM_UP = 4  # steps at the beginning of a turn that are not counted: more than is prepared ahead
SETTLE = 0.2  # seconds between turns, for the buffers of the stage before to fill
WITHIN = 0.9  # of the slower one is within 10 %


class Turn(NamedTuple):
    """What one turn of a stage gave."""

    rate: float  # clips/s
    cpu: float  # CPU seconds a clip, of all threads


def turn(stage: Callable[[], Any], steps: int, batch: int) -> Turn:
    """Some steps of a stage."""
    for _ in range(WARM_UP):
        stage()
    begin, cpu = time.perf_counter(), time.process_time()
    for _ in range(steps):
        stage()
    clips = steps * batch
    return Turn(clips / (time.perf_counter() - begin), (time.process_time() - cpu) / clips)


def in_turns(stages: dict[str, Callable[[], Any]], turns: int, steps: int, batch: int) -> dict[str, Turn]:
    """The median of each stage's turns; one more turn of each, the first, is not counted."""
    found: dict[str, list[Turn]] = {name: [] for name in stages}
    for number in range(1 + turns):
        for name, stage in stages.items():
            result = turn(stage, steps, batch)
            time.sleep(SETTLE)
            if number:
                found[name].append(result)
    return {name: Turn(*np.median(results, axis=0).tolist()) for name, results in found.items()}


def clips_of(arguments: argparse.Namespace, spec: Spec) -> Callable[[], Any]:
    """A function: the next batch."""
    files = shards.open_data(arguments.shards).split("train")
    clips = training_clips(files, spec, 0, arguments.batch, memory=0 if arguments.uncached else None)
    options = tf.data.Options()
    if arguments.input_threads:
        options.threading.private_threadpool_size = arguments.input_threads
    batches = checked(clips.with_options(options), files)
    return lambda: next(batches)


def step_of(spec: Spec, *, xla: bool = False) -> Callable[[Any], None]:
    """A function: one training step on a batch, done when it returns."""
    trainer = Trainer(spec, negatives=63, weight_decay=1e-5, xla=xla)

    def step(clip: Any) -> None:
        trainer.train(numbered_groups(clip), 1e-3)

    return step


def synthetic(spec: Spec, batch: int) -> dict[str, Any]:
    random = np.random.default_rng(0)
    size = spec.image.size
    return {
        "image": tf.constant(random.uniform(-1, 1, (batch, size, size, 3)), tf.float32),
        "audio": tf.constant(random.normal(0, 0.1, (batch, spec.window)), tf.float32),
        "group": tf.constant([str(number) for number in range(batch)]),
    }


def with_model(arguments: argparse.Namespace, spec: Spec) -> dict[str, Any]:
    """The three stages, with the step on this machine's CPU or GPU."""
    fresh, train, kept = clips_of(arguments, spec), step_of(spec), synthetic(spec, arguments.batch)
    following = clips_of(arguments, spec)
    stages = {"input": fresh, "step": lambda: train(kept), "together": lambda: train(following())}
    if arguments.xla:
        compiled = step_of(spec, xla=True)
        stages["step, XLA"] = lambda: compiled(kept)
    found = in_turns(stages, arguments.turns, arguments.steps, arguments.batch)
    slower = min(found["input"].rate, found["step"].rate)
    cpu = found["input"].cpu + found["step"].cpu
    return {
        "stages": {name: result._asdict() for name, result in found.items()},
        "to_slower": found["together"].rate / slower,
        "to_in_turn": found["together"].rate * (1 / found["input"].rate + 1 / found["step"].rate),
        "cores_busy_together": found["together"].cpu * found["together"].rate,
        "cores_needed_together": cpu * found["together"].rate,
    }


def with_accelerator(arguments: argparse.Namespace, spec: Spec) -> list[dict[str, Any]]:
    """The input alone, and together with steps that take so long off the CPU."""
    fresh = clips_of(arguments, spec)
    if not arguments.accelerator:
        own = 1000 * arguments.batch / in_turns({"input": fresh}, 1, arguments.steps, arguments.batch)["input"].rate
        arguments.accelerator = [own / 2, own, 2 * own]
    following = {milliseconds: clips_of(arguments, spec) for milliseconds in arguments.accelerator}

    def together(milliseconds: float) -> Callable[[], None]:
        def step() -> None:
            following[milliseconds]()
            time.sleep(milliseconds / 1000)

        return step

    stages: dict[str, Callable[[], Any]] = {"input": fresh}
    stages |= {f"together {ms}": together(ms) for ms in arguments.accelerator}
    found = in_turns(stages, arguments.turns, arguments.steps, arguments.batch)
    rows = []
    for ms in arguments.accelerator:
        alone, rate = 1000 * arguments.batch / ms, found[f"together {ms}"].rate
        slower = min(alone, found["input"].rate)
        rows.append(
            {
                "milliseconds": ms,
                "input": found["input"].rate,
                "step": alone,
                "together": rate,
                "to_slower": rate / slower,
            }
        )
    return rows


def verdict(ratio: float) -> str:
    return f"{ratio:.2f} of the slower one: {'' if ratio >= WITHIN else 'not '}within 10 %"


def show_model(result: dict[str, Any], cores: int) -> None:
    """A table for people."""
    print("| stage | clips/s | CPU ms a clip |\n|---|---:|---:|")
    for name, values in result["stages"].items():
        print(f"| {name} | {values['rate']:.1f} | {1000 * values['cpu']:.2f} |")
    print(
        f"\n- together: {verdict(result['to_slower'])}; {result['to_in_turn']:.2f} of what taking turns would give"
        f"\n- together keeps {result['cores_busy_together']:.2f} of {cores} cores busy; at its rate the CPU time of "
        f"input and step, each alone, makes {result['cores_needed_together']:.2f}"
    )


def show_accelerator(rows: list[dict[str, Any]]) -> None:
    print("| a step off the CPU, ms | clips/s: input | step | together | |\n|---:|---:|---:|---:|---|")
    for row in rows:
        rates = " | ".join(f"{row[name]:.1f}" for name in ("input", "step", "together"))
        print(f"| {row['milliseconds']:.1f} | {rates} | {verdict(row['to_slower'])} |")


def main() -> int:
    """Measure, print, and write JSON if asked."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training_input",
        description=str(__doc__).split("\n")[0],
        formatter_class=HelpFormatter,
    )
    parser.add_argument("shards", type=Path, metavar="SHARDS", help="folder written by prepare")
    parser.add_argument("--preset", choices=list(PRESETS), default="edge-s", help="the model")
    parser.add_argument("--small", action="store_true", help="its narrow version, as pretrain's --small")
    parser.add_argument("--batch", type=positive_int, default=64, help="clips in a step")
    parser.add_argument("--steps", type=positive_int, default=10, help="counted steps in a turn")
    parser.add_argument("--turns", type=positive_int, default=5, help="counted turns of each stage")
    parser.add_argument("--uncached", action="store_true", help="read the shards anew in each pass, though they fit")
    parser.add_argument(
        "--model-threads", type=positive_int, metavar="N", help="threads of the step (default: all cores)"
    )
    parser.add_argument(
        "--input-threads", type=positive_int, metavar="N", help="threads of the input (default: shared)"
    )
    parser.add_argument(
        "--accelerator", type=positive_float, nargs="*", metavar="MS", help="steps that take so long off the CPU"
    )
    parser.add_argument("--xla", action="store_true", help="the step with its towers compiled by XLA as well")
    parser.add_argument("--json", type=Path, metavar="F", help="write the figures here as well")
    arguments = parser.parse_args()
    spec = PRESETS[arguments.preset]
    if arguments.small:
        spec = small(spec)
    data = shards.open_data(arguments.shards)
    if data.statistics["sample_rate"] != spec.sample_rate:
        raise TrainingError(f"{arguments.shards} is not at the {spec.sample_rate} Hz of {spec.name}")
    if arguments.model_threads:
        tf.config.threading.set_intra_op_parallelism_threads(arguments.model_threads)
        tf.config.threading.set_inter_op_parallelism_threads(arguments.model_threads)
    machine = describe()
    print("Machine: " + ", ".join(f"{key} {value}" for key, value in machine.items()))
    if machine["load"] is not None and machine["load"] > 0.5 * machine["cores"]:
        print("warning: this machine is busy; trust the ratios, not the clips a second")
    print(f"\n### {spec.name}, batches of {arguments.batch}, {arguments.turns} turns of {arguments.steps} steps\n")
    result: Any
    if arguments.accelerator is None:
        result = with_model(arguments, spec)
        show_model(result, machine["cores"])
    else:
        result = with_accelerator(arguments, spec)
        show_accelerator(result)
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"machine": machine, "spec": spec.name, "result": result}, indent=1) + "\n"
        )
    return 0


if __name__ == "__main__":
    run(main)
