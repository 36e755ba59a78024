"""What one hop costs, by stage, as fast as possible and in real time; and what it costs to begin.

    python -m benchmarks.latency [MODEL...] [--compare MODEL_OR_ENGINE] [--json F] [--html F]

As fast as possible: the stages take turns, some calls each, so what disturbs the machine disturbs all of them; ratios
are of medians of the same round, with their 95 % interval over the rounds of this run. Stages of one hop of 0.1 s:

    hand over     a block of sound at 48 kHz through the pipe from the process that captures, both sides
    resample      from 48 kHz to the model's rate
    front end     a bare `invoke()` of the step graph as far as its log-mel
    step          a bare `invoke()` of the whole step graph: front end and network
    push          the same hop through `Stream.push`, at the model's rate: with the SDK's work around the step
    window        the whole window by the file's own `window` graph, which is what a hop costs without streaming

A model that cannot stream computes a window every hop: there step and window are the same. "Cold" is the first call of
each turn: the others have just filled the caches with their own weights, as may whatever a device does between hops.

In real time: all models listen at once to the same sound at 48 kHz, a hop every 0.1 s, a little apart. Between hops the
process sleeps, as a device does. Latency is from the moment at which a hop's last sample is there to its result; it
misses its deadline if that is longer than a hop. Without soxr the sound is at the model's rate.

Beginning: import, load and first hop in fresh processes, modules compiled as pip does it. One thread unless told
otherwise. On a busy machine it refuses.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import l3edge
from l3edge import audio, capture_child
from l3edge.engine import ENGINES
from l3edge.model_file import replacing

from . import bare, fresh, options, record, timing
from .layers import front_end

SOURCE_RATE = 48_000
HOP = 0.1  # seconds
QUANTILES = (*range(0, 100, 2), 99, 99.5, 99.9, 100)  # of the curves in the page
BEGINNINGS = 5  # fresh processes
COLD = """
import sys, time; sys.path.insert(0, sys.argv[1])
begun = time.perf_counter()
import numpy
first = time.perf_counter()
import l3edge
imported = time.perf_counter()
model = l3edge.load(sys.argv[2], engine=sys.argv[3], threads=int(sys.argv[4]), delegate=sys.argv[5] or None)
loaded = time.perf_counter()
stream = model.stream(model.spec.sample_rate)
stream.push(numpy.zeros(model.spec.window, numpy.float32))
heard = time.perf_counter()
stream.push(numpy.zeros(model.spec.hop, numpy.float32))
again = time.perf_counter()
figures = {"import numpy": first - begun, "import l3edge": imported - first, "load": loaded - imported,
           "first window": heard - loaded, "the next hop": again - heard}
"""


def pushes(model: l3edge.Model, sample_rate: int) -> timing.Call:
    """A hop of noise through a stream that has heard a window."""
    noise = bare.noise(2 * sample_rate)
    stream = model.stream(sample_rate)
    stream.push(noise)
    hop = noise[: round(HOP * sample_rate)]
    return lambda: stream.push(hop)


def hand_over() -> timing.Call:
    """A block of a hop through a pipe as `l3edge.capture` has it: packed, written, read, unpacked."""
    samples = bare.noise(round(HOP * SOURCE_RATE)).astype("<f4", copy=False)
    reader, writer = os.pipe()
    buffer = bytearray()

    def run() -> NDArray[np.float32]:
        os.write(writer, capture_child.packed(capture_child.Message(capture_child.BLOCK, samples.tobytes())))
        while (message := capture_child.unpacked(buffer)) is None:
            buffer.extend(os.read(reader, 1 << 18))
        return np.frombuffer(message.data, "<f4")

    return run


def source_rate(model: l3edge.Model) -> int:
    """Hz, of the sound in real time: a microphone's, or the model's where nothing resamples, as on 32-bit ARM."""
    return SOURCE_RATE if importlib.util.find_spec("soxr") else model.spec.sample_rate


def stages_of(model: l3edge.Model, threads: int = 1, delegate: str | None = None) -> dict[str, timing.Call]:
    """What is timed, by name: those that the machine and the file have."""
    spec, module = model.spec, model.engine.interpreter
    noise = bare.noise(spec.window)
    made = {"hand over": hand_over()}
    if source_rate(model) != spec.sample_rate:
        source = bare.noise(round(HOP * SOURCE_RATE))
        resampler = audio.Resampler(SOURCE_RATE, spec.sample_rate)
        made["resample"] = lambda: resampler.push(source)
    if hearing := front_end(model):
        made["front end"] = bare.invoking(module, hearing, threads, delegate)
    elif model.metadata["target"] == "edgetpu":
        step = noise[: spec.step_samples]
        made["front end"] = lambda: model.network.hear(step)
    made["step"] = bare.invoking(module, model.flatbuffer, threads, delegate)
    made["push"] = pushes(model, spec.sample_rate)
    if "window" in model.metadata["signatures"]:
        made["window"] = lambda: model.network.window(noise)
    return made


def fast(model: l3edge.Model, arguments: argparse.Namespace, ratios: record.Ratios) -> dict[str, Any]:
    """As fast as possible: percentiles of each stage, and the ratios."""
    stages = stages_of(model, arguments.threads, arguments.delegate)
    times = timing.in_turns(stages, -(-arguments.hops // timing.TURN))
    first = {stage: values[:, :1] for stage, values in times.items()}
    step, push, hearing = times["step"], times["push"], times.get("front end")
    # The graph for an Edge TPU begins with log-mel, and its front end is not in the step.
    apart = model.metadata["target"] == "edgetpu"
    ratios.lower(f"{model.name}: push / step", timing.ratio(push, step))
    if "window" in times:
        ratios.higher(f"{model.name}: window / push", timing.ratio(times["window"], push))
        ratios.higher(f"{model.name}: window / step", timing.ratio(times["window"], step))
    return {
        "hops": step.size,
        "stages": {
            stage: {**timing.spread(values), "cold": round(float(np.median(first[stage])), 1)}
            for stage, values in times.items()
        },
        # What a stage takes beyond others of the same round, microseconds.
        "beyond": {
            "network: step less front end": _beyond(step, None if apart else hearing),
            "the SDK's own work: push less step": _beyond(push, step, hearing if apart else None),
        },
        "curve": _curve(push),
    }


def paced(models: Sequence[l3edge.Model], hops: int) -> dict[str, dict[str, Any]]:
    """In real time, all models at once, by name; hops: of each."""
    rates = {model.name: source_rate(model) for model in models}
    calls = {model.name: pushes(model, rates[model.name]) for model in models}
    latencies: dict[str, list[float]] = {name: [] for name in calls}
    used = dict.fromkeys(calls, 0)
    begin = time.monotonic() + HOP
    for count in range(hops):
        for place, (name, push) in enumerate(calls.items()):
            due = begin + HOP * (count + place / len(calls))
            while (left := due - time.monotonic()) > 0:
                time.sleep(left)
            before = time.process_time_ns()  # of all threads that the engine may have
            push()
            used[name] += time.process_time_ns() - before
            latencies[name].append(1e6 * (time.monotonic() - due))
    made = {}
    for name, values in latencies.items():
        times = np.array(values)
        made[name] = {
            "hops": hops,
            "sample_rate": rates[name],
            **timing.spread(times),
            "misses": int((times > 1e6 * HOP).sum()),
            "processor seconds an hour": round(used[name] / hops / HOP * 3600 / 1e9, 1),
            "curve": _curve(times),
        }
    return made


def _beyond(times: timing.Times, *others: timing.Times | None) -> float:
    less = sum(np.median(other, axis=1) for other in others if other is not None)
    return round(float(np.median(np.median(times, axis=1) - less)), 1)


def _curve(times: timing.Times) -> list[float]:
    return [round(float(value), 1) for value in np.percentile(times, QUANTILES)]


def beginning(model: l3edge.Model, threads: int = 1, delegate: str | None = None) -> dict[str, float]:
    """Milliseconds of each part, medians of fresh processes."""
    words = [str(model.path), model.engine.name, str(threads), delegate or ""]
    with tempfile.TemporaryDirectory() as compiled:
        runs = [fresh.run(COLD, words, compiled) for _ in range(BEGINNINGS + 1)]
    del runs[0]
    return {part: round(1e3 * statistics.median(run[part] for run in runs), 2) for part in runs[0] if part in COLD}


def compare(model: l3edge.Model, other: l3edge.Model, hops: int) -> timing.Ratio:
    """What a hop of the other costs, in hops of this one."""
    calls = {str(i): pushes(each, each.spec.sample_rate) for i, each in enumerate((model, other))}
    times = timing.in_turns(calls, -(-hops // timing.TURN))
    return timing.ratio(times["1"], times["0"])


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures of all models, printed as they come."""
    models = options.load(arguments, threads=arguments.threads, delegate=arguments.delegate)
    ratios, figures = record.Ratios(), {}
    for model in models:
        found = {
            "engine": f"{model.engine.name} {model.engine.version}",
            "delegate": arguments.delegate,
            "threads": arguments.threads,
            "macs_per_hop": model.spec.macs_per_hop,
            "macs_per_window": model.spec.macs_per_window,
            "fast": fast(model, arguments, ratios),
            "beginning": beginning(model, arguments.threads, arguments.delegate),
        }
        figures[model.name] = found
        if arguments.compare:
            is_engine = arguments.compare in ENGINES
            name, engine = (model.path, arguments.compare) if is_engine else (arguments.compare, arguments.engine)
            other = l3edge.load(name, engine=engine, threads=arguments.threads, delegate=arguments.delegate)
            said = f"{other.name} on {other.engine.name} / {model.name} on {model.engine.name}: push"
            ratios.lower(said, compare(model, other, arguments.hops))
    if arguments.paced:
        options.progress(f"in real time: {arguments.paced * HOP:.0f} s")
        for name, found in paced(models, arguments.paced).items():
            figures[name]["paced"] = found
    made = record.section(options.command("latency"), ratios, {"quantiles": QUANTILES, "models": figures})
    print(tables(made))
    return made


def tables(section: dict[str, Any]) -> str:
    """For people, as Markdown."""
    return "\n".join(_table(name, found, section["ratios"]) for name, found in section["figures"]["models"].items())


def _table(name: str, found: dict[str, Any], ratios: dict[str, Any]) -> str:
    threads = f"{found['threads']} thread{'s' * (found['threads'] > 1)}"
    rows = [(stage, values, f"{values['cold']:.1f}") for stage, values in found["fast"]["stages"].items()]
    if "paced" in found:
        rows.append((f"in real time: {found['paced']['sample_rate'] / 1000:g} kHz to result", found["paced"], ""))
    lines = [
        f"\n### {name} on {found['engine']}, {threads}, {found['fast']['hops']} hops\n",
        "| one hop, µs | p50 | p90 | p99 | max | cold |\n|---|---:|---:|---:|---:|---:|",
        *(
            f"| {stage} | {row['p50']:.1f} | {row['p90']:.1f} | {row['p99']:.1f} | {row['max']:.1f} | {cold} |"
            for stage, row, cold in rows
        ),
        "",
    ]
    own = {key.removeprefix(f"{name}: "): value for key, value in ratios.items() if key.startswith(f"{name}: ")}
    for key, value in own.items():
        lines.append(f"- {key}: **{timing.Ratio(value['value'], value['low'], value['high'])}**")
    for key, value in ratios.items():
        if f"/ {name} on" in key:
            lines.append(f"- {key}: **{timing.Ratio(value['value'], value['low'], value['high'])}**")
    lines += [f"- {what}: {microseconds:.1f} µs a hop" for what, microseconds in found["fast"]["beyond"].items()]
    if "paced" in found:
        real = found["paced"]
        lines.append(
            f"- in real time: {real['misses']} of {real['hops']} hops missed their deadline; "
            f"{real['processor seconds an hour']:.1f} s of processor an hour of sound"
        )
    parts = ", ".join(f"{part} {milliseconds:.1f} ms" for part, milliseconds in found["beginning"].items())
    return "\n".join([*lines, f"- beginning: {parts}"])


def _page(arguments: argparse.Namespace, document: Mapping[str, Any]) -> None:
    if arguments.html:
        from .latency_page import page  # for which matplotlib is needed, and nowhere else

        with replacing(arguments.html) as part:
            part.write_text(page(document))
        options.progress(f"wrote {arguments.html}")


def _count(text: str) -> int:
    return 0 if text == "0" else options.positive(text)


def main() -> None:
    """The command."""
    made = options.parser("latency", str(__doc__))
    made.add_argument(
        "--hops", type=options.positive, default=2000, help="of each stage, as fast as possible (default: %(default)s)"
    )
    made.add_argument(
        "--paced",
        type=_count,
        default=1000,
        metavar="HOPS",
        help="of each model in real time, ten a second; 0: none (default: %(default)s)",
    )
    made.add_argument("--threads", type=options.positive, default=1, help="of the engine (default: %(default)s)")
    made.add_argument("--delegate", metavar="LIBRARY", help="a TFLite external delegate")
    made.add_argument(
        "--compare", metavar="MODEL_OR_ENGINE", help="what a hop of this costs, in hops of each model, in turns"
    )
    made.add_argument("--html", type=Path, metavar="F", help="write a page with pictures, complete in itself")
    options.run("latency", measure, made, _page)


if __name__ == "__main__":
    main()
