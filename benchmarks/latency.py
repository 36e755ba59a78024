"""What one hop costs, by stage, against recomputing the whole window with the same weights.

    python -m benchmarks.latency [MODEL...] [--hops N] [--engine E] [--json F]

Timed on the same sound: the whole window by the file's own `window` graph, a bare `invoke()` of the step graph (front
end and network), the same hop through `Stream.push` at the model's rate (so with the SDK's work around it), and the
resampling of the hop from 48 kHz. A model that cannot stream computes a window every hop: there the two are the same.
The stages take turns, some calls each, so what disturbs the machine disturbs all of them; the ratios are of medians.
"Cold" is the first call of each turn: the others have just filled the caches with their own weights, as whatever else
a device does between two hops may. One thread.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import l3edge
from l3edge import audio

from .machine import describe

SOURCE_RATE = 48_000
TURN = 20  # calls of a stage before the next one's turn
WARM_UP = 2  # turns that are not counted


def timed(function: Callable[[], Any]) -> float:
    """Microseconds of one call."""
    begin = time.perf_counter_ns()
    function()
    return (time.perf_counter_ns() - begin) / 1000


def in_turns(stages: dict[str, Callable[[], Any]], hops: int) -> dict[str, list[float]]:
    """Microseconds of at least so many calls of each stage; the first of every TURN is a cold one."""
    times: dict[str, list[float]] = {name: [] for name in stages}
    for turn in range(WARM_UP + -(-hops // TURN)):
        for name, stage in stages.items():
            microseconds = [timed(stage) for _ in range(TURN)]
            if turn >= WARM_UP:
                times[name] += microseconds
    return times


def bare_step(model: l3edge.Model, samples: NDArray[np.float32]) -> Callable[[], Any]:
    """`invoke()` of the step graph on an interpreter of its own, inputs set once."""
    interpreter = model.engine.interpreter.Interpreter(model_content=model.flatbuffer, num_threads=1)
    interpreter.allocate_tensors()
    for details in interpreter.get_input_details():
        if tuple(details["shape"]) == samples.shape:
            interpreter.set_tensor(details["index"], samples)
    invoke: Callable[[], Any] = interpreter.invoke
    return invoke


def measure(model: l3edge.Model, hops: int) -> dict[str, Any]:
    """Percentiles in microseconds for each stage, and the ratios."""
    spec = model.spec
    rng = np.random.default_rng(0)
    sound = rng.normal(0, 0.1, spec.window + spec.hop).astype(np.float32)
    source = rng.normal(0, 0.1, SOURCE_RATE // 10).astype(np.float32)
    bare = bare_step(model, sound[: spec.step_samples if spec.streaming else spec.window])
    stream = model.stream(spec.sample_rate)
    stream.push(sound[: spec.window - spec.hop])
    resampler = audio.Resampler(SOURCE_RATE, spec.sample_rate)
    stages: dict[str, Callable[[], Any]] = {
        "window": lambda: model.network.window(sound[: spec.window]),
        "step": bare,
        "push": lambda: stream.push(sound[: spec.hop]),
        "resample": lambda: resampler.push(source),
    }
    times = in_turns(stages, hops)
    result: dict[str, Any] = {
        name: {
            **{f"p{p}": round(float(np.percentile(values, p)), 1) for p in (50, 90, 99)},
            "cold": round(float(np.median(values[::TURN])), 1),
        }
        for name, values in times.items()
    }
    window, step, push = (result[name]["p50"] for name in ("window", "step", "push"))
    cold_window, cold_step, cold_push = (result[name]["cold"] for name in ("window", "step", "push"))
    return {
        "model": model.name,
        "path": str(model.path.name),
        "macs_per_hop": spec.macs_per_hop,
        "macs_per_window": spec.macs_per_window,
        "hops": len(times["step"]),
        "threads": 1,
        "microseconds": result,
        "sdk_overhead_microseconds": round(push - step, 1),
        "sdk_overhead": round((push - step) / step, 3),
        "sdk_overhead_cold": round((cold_push - cold_step) / cold_step, 3),
        "window_to_step": round(window / step, 2),
        "window_to_step_cold": round(cold_window / cold_step, 2),
        "window_to_push": round(window / push, 2),
        "share_of_a_core": round(push / (1e6 * spec.hop / spec.sample_rate), 5),
    }


ROWS = (
    ("resample 48 kHz to the model's rate", "resample"),
    ("front end + network: one step, bare invoke()", "step"),
    ("the same hop through Stream.push", "push"),
    ("the whole window recomputed, same weights", "window"),
)


def show(result: dict[str, Any], engine: str) -> None:
    """A table for people."""
    print(f"\n### {result['model']} on {engine}, 1 thread, {result['hops']} hops\n")
    print("| stage of one hop | p50 µs | p90 | p99 | cold |\n|---|---:|---:|---:|---:|")
    for title, name in ROWS:
        values = result["microseconds"][name]
        print(f"| {title} | {values['p50']:.1f} | {values['p90']:.1f} | {values['p99']:.1f} | {values['cold']:.1f} |")
    fewer = result["macs_per_window"] / result["macs_per_hop"]
    print(
        f"\n- step against window: **{result['window_to_step']:.2f}x** cheaper ({fewer:.2f}x fewer "
        f"multiply-accumulates; cold {result['window_to_step_cold']:.2f}x); with the SDK's work counted against us "
        f"{result['window_to_push']:.2f}x"
        f"\n- SDK overhead: {result['sdk_overhead_microseconds']:.1f} µs a hop, {100 * result['sdk_overhead']:.1f} % "
        f"of the bare call (cold {100 * result['sdk_overhead_cold']:.1f} %)"
        f"\n- share of a core in real time: {100 * result['share_of_a_core']:.2f} %"
    )


def main() -> None:
    """Measure, print, and write JSON if asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=str(__doc__).split("\n")[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help="built-in names or files (default: all built-in)")
    parser.add_argument("--hops", type=int, default=1000, help="rounds to time (default: %(default)s)")
    parser.add_argument("--engine", default="auto", help="litert or tflite_runtime (default: the preferred one)")
    parser.add_argument("--json", type=Path, metavar="F", help="write the figures here as well")
    arguments = parser.parse_args()
    if arguments.hops < 1:
        parser.error("--hops must be at least 1")
    try:
        models = [l3edge.load(name, engine=arguments.engine) for name in arguments.models or l3edge.models()]
    except l3edge.Error as error:
        parser.exit(1, f"error: {error}\n")
    machine = describe(models[0].engine)
    print("Machine: " + ", ".join(f"{key} {value}" for key, value in machine.items()))
    if machine["load"] is not None and machine["load"] > 0.5 * machine["cores"]:
        print("warning: this machine is busy; trust the ratios, not the microseconds")
    results = []
    for model in models:
        results.append(measure(model, arguments.hops))
        show(results[-1], machine["engine"])
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
