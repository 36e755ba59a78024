"""How many streams a core keeps up with, how much of an archive it embeds in an hour, and how costs grow.

    python -m benchmarks.throughput [MODEL...] [--json F] [--plot DIR]

Streams per core: so many streams of one model in one thread, all with a hop every 0.1 s in real time, at the model's
rate. They keep up while every round of hops ends before the next one begins, but for one round in twenty, which a
shared machine may take away; the number is the largest that kept up, by halving the interval between one that did and
one that did not.

Archive: hours of sound that `Model.embed` embeds in an hour of one core, in one long signal at the model's rate.

Growth: the cost of so many units over that of one, for streams that take turns, the hop, and the length of a signal;
and, where TensorFlow is installed (the extra `train`), for the window and the width of networks with random weights,
int8, the stack of edge-m-1. Beside each is what it would be if cost followed the straight line that is named.
"""

from __future__ import annotations

import argparse
import functools
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import l3edge
from l3edge.model_file import replacing
from l3edge.spec import PRESETS, Spec, l3_stack

from . import bare, options, record, timing
from .latency import HOP, pushes

MISSED = 0.05  # of the rounds
ARCHIVE_SECONDS = 600
STREAMS = (1, 2, 4, 16, 64)
HOPS = (1, 2, 5, 10)  # times 0.1 s
SECONDS = (1, 2, 10, 60, 300)
WINDOWS = (1, 2, 4)  # seconds
WIDTHS = (0.5, 1.0, 2.0)  # of edge-m-1
ROUNDS = 9
TURN_SECONDS = 0.1  # of one of them


def streams_per_core(model: l3edge.Model, rounds: int) -> dict[str, Any]:
    """The largest number that kept up, and the share of rounds that each number tried missed."""
    cost = float(np.median(timing.in_turns({"push": pushes(model, model.spec.sample_rate)}, 20)["push"]))
    bound = max(1, round(1e6 * HOP / cost))  # as many as there would be time for, were nothing else to do
    tried: dict[int, float] = {}
    least, most = 0, 2 * bound
    while most - least > max(1, bound // 32):
        middle = (least + most) // 2 if tried else bound
        tried[middle] = _missed(model, middle, rounds)
        least, most = (middle, most) if tried[middle] <= MISSED else (least, middle)
    return {"streams": least, "by the cost of one": bound, "missed": {str(n): tried[n] for n in sorted(tried)}}


def _missed(model: l3edge.Model, count: int, rounds: int) -> float:
    streams = [model.stream(model.spec.sample_rate) for _ in range(count)]
    hop = bare.noise(round(HOP * model.spec.sample_rate))
    for stream in streams:  # the first round makes what all have
        stream.push(hop)
    missed = 0
    due = time.monotonic()
    for _ in range(rounds):
        for stream in streams:
            stream.push(hop)
        due += HOP
        late = time.monotonic() - due
        missed += late > 0
        if late > HOP:  # hopeless: what is left would be late too
            return 1.0
        time.sleep(max(0.0, -late))
    return missed / rounds


def archive(model: l3edge.Model) -> dict[str, Any]:
    """Hours of sound in an hour of one core; the median of three."""
    signal = bare.noise(ARCHIVE_SECONDS * model.spec.sample_rate)
    took = [timing.timed(lambda: model.embed(signal, model.spec.sample_rate)) / 1e6 for _ in range(3)]
    return {"hours an hour": round(ARCHIVE_SECONDS / float(np.median(took)), 1)}


def growth(calls: Mapping[float, timing.Call], lines: Mapping[float, float], ratios: record.Ratios, name: str) -> Any:
    """Of each number of units the cost over that of the first, with its interval. lines: what a straight line says."""
    named = {str(units): call for units, call in calls.items()}
    turn = timing.affordable(named, TURN_SECONDS)
    # By the processor's clock: others interrupt a long call on a busy machine, and miss the short ones.
    times = timing.in_turns(named, ROUNDS, turn, warm_up=1, clock=time.process_time_ns)
    first, *others = calls
    grown = []
    for units in others:
        ratio = timing.ratio(times[str(units)], times[str(first)])
        ratios.lower(f"{name}: {units:g} / {first:g}", ratio)
        grown.append({"units": units, "ratio": ratio.plain(), "line": round(lines[units] / lines[first], 3)})
    return {"first": first, "microseconds": round(float(np.median(times[str(first)])), 1), "grown": grown}


def many(model: l3edge.Model, count: int) -> timing.Call:
    """A hop of each of so many streams."""
    calls = [pushes(model, model.spec.sample_rate) for _ in range(count)]

    def run() -> None:
        for call in calls:
            call()

    return run


def of_model(model: l3edge.Model, ratios: record.Ratios) -> dict[str, Any]:
    """How its costs grow."""
    rate, name = model.spec.sample_rate, model.name
    minute = bare.noise(60 * rate)
    kinds: dict[str, tuple[Mapping[float, timing.Call], Mapping[float, float]]] = {
        "streams": ({n: many(model, n) for n in STREAMS}, {n: n for n in STREAMS}),
        "hop": (
            {n: functools.partial(model.embed, minute, rate, n * HOP) for n in HOPS},
            dict.fromkeys(HOPS, 1),
        ),
        "length": (
            {n: functools.partial(model.embed, bare.noise(n * rate), rate) for n in SECONDS},
            {n: n for n in SECONDS},
        ),
    }
    return {kind: growth(calls, lines, ratios, f"{name}, {kind}") for kind, (calls, lines) in kinds.items()}


def of_networks(ratios: record.Ratios) -> dict[str, Any]:
    """How the cost of a hop grows with a network's window and width, weights random; needs TensorFlow."""
    from .widths import exported

    base = PRESETS["edge-m"]
    filters = [layer.filters for layer in base.convolutions][::2]
    windows = {n: Spec("", base.layers, base.front_end, window=n * base.sample_rate) for n in WINDOWS}
    widths = {n: Spec("", l3_stack([round(n * count) for count in filters]), base.front_end) for n in WIDTHS}
    made = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind, specs in {"window": windows, "width": widths}.items():
            models = {n: exported(spec, Path(folder) / f"{kind}{n}.tflite") for n, spec in specs.items()}
            calls = {n: pushes(model, base.sample_rate) for n, model in models.items()}
            lines = {n: spec.macs_per_hop for n, spec in specs.items()}
            made[kind] = growth(calls, lines, ratios, kind)
    return made


FLAT = ("hop", "window")  # whose straight line does not rise
LINES = {
    "streams": ("streams of one model in one thread", "as many times the cost of one"),
    "hop": ("hops of 0.1 s between embeddings, of a minute", "the same: every step is made, its state must go on"),
    "length": ("seconds of a signal", "as many times the cost of a second"),
    "window": ("seconds of window, edge-m-1's stack", "by multiply-accumulates of a hop: a window asks for no more"),
    "width": (
        "times the width, edge-m-1's stack",
        "by multiply-accumulates of a hop; the front end does not grow, and wide layers use the machine better",
    ),
}


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures, printed at the end."""
    ratios, figures = record.Ratios(), {}
    for model in options.load(arguments):
        options.progress(f"{model.name}: streams, archive, growth")
        figures[model.name] = {
            "engine": f"{model.engine.name} {model.engine.version}",
            "per core": streams_per_core(model, arguments.rounds),
            "archive": archive(model),
            "growth": of_model(model, ratios),
        }
    found: dict[str, Any] = {"models": figures, "networks": None}
    if options.tensorflow():
        options.progress("growth with window and width")
        found["networks"] = of_networks(ratios)
    section = record.section(options.command("throughput"), ratios, found)
    print(tables(section))
    return section


def tables(section: Mapping[str, Any]) -> str:
    """For people, as Markdown."""
    figures = section["figures"]
    lines = [
        "| model | streams a core keeps up with | by the cost of one | hours of archive a core-hour |",
        "|---|---:|---:|---:|",
    ]
    for name, found in figures["models"].items():
        core = found["per core"]
        lines.append(
            f"| {name} | {core['streams']} | {core['by the cost of one']} | {found['archive']['hours an hour']:.0f} |"
        )
    lines += ["", "| cost of | units | times as much | straight line |", "|---|---:|---:|---:|"]
    for who, kind, grown in _growths(figures):
        row = grown["grown"][-1]  # the others are in the picture
        lines.append(
            f"| {who}{LINES[kind][0]} | {row['units']:g} / {grown['first']:g} | {timing.Ratio(**row['ratio'])} "
            f"| {row['line']:.3g} |"
        )
    lines += ["", *(f"- {what}: a straight line is {line}" for what, line in LINES.values())]
    return "\n".join(lines)


def _growths(figures: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for name, found in figures["models"].items():
        for kind, grown in found["growth"].items():
            yield f"{name}: ", kind, grown
    for kind, grown in (figures["networks"] or {}).items():
        yield "", kind, grown


def draw(section: Mapping[str, Any], folder: Path) -> None:
    """growth.png: how costs grow, against straight lines."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # for who wants pictures
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    figure = Figure(figsize=(9, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    places = dict(zip(LINES, figure.subplots(2, 3).flat, strict=False))
    figure.axes[-1].set_visible(False)
    for who, kind, grown in _growths(section["figures"]):
        axes, rows = places[kind], grown["grown"]
        units = [grown["first"], *(row["units"] for row in rows)]
        axes.plot(
            units,
            [1, *(row["ratio"]["value"] for row in rows)],
            "o-",
            markersize=3,
            label=who.rstrip(": ") or "measured",
        )
        axes.plot(units, [1, *(row["line"] for row in rows)], "--", color="0.6", linewidth=1)
    for kind, axes in places.items():
        axes.set(xscale="log", yscale="log", title=kind, xlabel=LINES[kind][0].partition(",")[0])
        if kind in FLAT:
            axes.set(yscale="linear", ylim=(0, 1.5))
        if axes.lines:
            axes.set_xticks(axes.lines[0].get_xdata())
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(NullFormatter())
        axes.title.set_fontsize(9)
        axes.xaxis.label.set_fontsize(8)
        axes.tick_params(labelsize=7, which="both")
        axes.spines[["top", "right"]].set_visible(False)
        if axes.lines:
            axes.legend(frameon=False, fontsize=7)
    figure.supylabel("times the cost of the first; dashed: straight line", fontsize=8)
    with replacing(folder / "growth.png") as part:
        figure.savefig(part, format="png", dpi=130)


def main() -> None:
    """The command."""
    made = options.parser("throughput", str(__doc__))
    made.add_argument(
        "--rounds", type=options.positive, default=30, help="of each number of streams, 0.1 s (default: %(default)s)"
    )
    options.run("throughput", measure, made, draw=draw)


if __name__ == "__main__":
    main()
