"""Runs hops of each built-in model between marks that a counter of instructions sees (tests/arm/count.c).

    python -m tests.arm.hops [--hops N] [--engine E]

Of each stage N calls are made between the first two marks and 2 N between the last two, so that whatever a mark costs
is the same in both and their difference is N calls. A mark is the system call getppid, which nothing else here makes.
To standard output, JSON: {"hops": N, "engine": ..., "kind": ..., "regions": [[model, stage], ...]}, three marks each.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import l3edge
from l3edge import audio, engine

MARKS = 3
WARM_UP = 3  # calls: the first ones allocate, and Python specialises what it runs
SOURCE_RATE = 48_000


def stages(model: l3edge.Model) -> Iterator[tuple[str, Callable[[], Any]]]:
    """One hop: by the bare interpreter, through the SDK, from 48 kHz too; and one window recomputed."""
    spec = model.spec
    noise = np.random.default_rng(0).normal(0, 0.1, spec.window).astype(np.float32)
    bare = model.engine.interpreter.Interpreter(model_content=model.flatbuffer, num_threads=1)
    bare.allocate_tensors()
    for details in bare.get_input_details():
        if tuple(details["shape"]) == (spec.step_samples,):
            bare.set_tensor(details["index"], noise[: spec.step_samples])
    yield "step", bare.invoke

    stream = model.stream(spec.sample_rate)
    stream.push(noise)
    yield "push", lambda: stream.push(noise[: spec.hop])
    yield "window", lambda: model.network.window(noise)
    if importlib.util.find_spec("soxr"):
        resampler = audio.Resampler(SOURCE_RATE, spec.sample_rate)
        source = np.tile(noise, 3)[: SOURCE_RATE * spec.hop // spec.sample_rate]
        resampler.push(source)
        yield "resample", lambda: resampler.push(source)


def repeat(call: Callable[[], Any], times: int) -> None:
    """As many calls."""
    for _ in range(times):
        call()


def main() -> None:
    """Run all regions, and say which they were."""
    parser = argparse.ArgumentParser(prog="python -m tests.arm.hops", description=str(__doc__).split("\n")[0])
    parser.add_argument("--hops", type=int, default=10, help="N (default: %(default)s)")
    parser.add_argument("--engine", default="auto", help="litert or tflite_runtime (default: the preferred one)")
    arguments = parser.parse_args()
    regions = []
    for name in l3edge.models():
        model = l3edge.load(name, engine=arguments.engine)
        for stage, call in stages(model):
            repeat(call, WARM_UP)
            os.getppid()
            repeat(call, arguments.hops)
            os.getppid()
            repeat(call, 2 * arguments.hops)
            os.getppid()
            regions.append([name, stage])
    runtime = f"{model.engine.name} {model.engine.version}"
    print(json.dumps({"hops": arguments.hops, "engine": runtime, "kind": engine.cpu_kind(), "regions": regions}))


if __name__ == "__main__":
    main()
