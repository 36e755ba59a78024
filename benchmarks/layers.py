"""How close to the machine: where a hop's time goes, operator by operator, and what the engine could do at most.

    python -m benchmarks.layers [MODEL...] [--plot DIR] [--json F]

Timed on one thread, in turns: the step graph cut short after each of its operators (`benchmarks.truncated`), and two
large convolutions, int8 and float32 (`benchmarks.make_ceilings`), which are the ceilings. An operator's time is what
the graph takes more with it than without, round by round; the times add up to the hop's by construction. A PAD is
counted with the convolution that reads it, as XNNPACK computes both at once. Multiply-accumulates are counted from the
shapes in the file, bytes are those of inputs, weights and outputs, each once.

A dense convolution's ceiling is none that a depthwise one can reach: it uses each value it loads nine times at most.
What runs after an operator in the whole graph may find other things in the caches than what runs after it here; times
below half a microsecond are nothing to rely on.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import l3edge
from l3edge.flatbuffer import parse
from training import operators

from . import bare, options, record, timing
from .layer_rows import CONVOLVING, FRONT_END, PARTS, Row, rows_of
from .layers_page import tables
from .truncated import truncated

CEILINGS = {dtype: Path(__file__).with_name("ceilings") / f"{dtype}.tflite" for dtype in ("int8", "float32")}
COPIES = {"cache": 1 << 18, "memory": 1 << 26}  # bytes of the arrays that are copied, for want of a better ceiling


def copying(size: int, rounds: int) -> float:
    """GB/s, read and written, of copies of so many bytes."""
    source = np.ones(size, np.uint8)
    target = np.zeros_like(source)
    times = timing.in_turns({"copy": lambda: np.copyto(target, source)}, rounds, turn=1)["copy"]
    return float(2 * size / np.median(times) / 1000)


def layers(model: l3edge.Model, rounds: int) -> tuple[dict[str, Any], dict[str, timing.Ratio]]:
    """The figures of a model, and its ratios."""
    number, rows = step_rows(model)
    stages = {str(row.last): _until(model, row, number) for row in rows}
    ceilings = {dtype: path.read_bytes() for dtype, path in CEILINGS.items()}
    stages |= {dtype: bare.invoking(model.engine.interpreter, content) for dtype, content in ceilings.items()}
    times = {name: np.median(turns, axis=1) for name, turns in timing.in_turns(stages, rounds).items()}  # [rounds]
    rates = {dtype: operators.convolution_macs(content) / times[dtype] for dtype, content in ceilings.items()}
    until = np.array([times[str(row.last)] for row in rows])  # [rows, rounds], microseconds; MAC/us so far
    taken, hop = np.diff(until, axis=0, prepend=0), until[-1]
    return _figures(model, rows, taken, hop, rates)


def step_rows(model: l3edge.Model) -> tuple[int, list[Row]]:
    """Of the graph that is run each hop: its number in the file, and its operators."""
    file, main = parse(model.flatbuffer), _main(model)
    number = file.signatures[main].subgraph if main in file.signatures else 0
    graph = file.subgraphs[number]
    entries = zip(graph.inputs, model.metadata["signatures"][main]["inputs"], strict=True)
    return number, rows_of(graph, {index for index, entry in entries if entry["role"] == "state"})


def front_end(model: l3edge.Model) -> bytes | None:
    """That graph as far as its front end goes; None where it has none, as for the Edge TPU."""
    number, rows = step_rows(model)
    last = [row.last for row in rows if row.part == FRONT_END][-1:]
    return truncated(model.flatbuffer, last[0] + 1, number) if last else None


def _main(model: l3edge.Model) -> str:
    return "stream" if model.spec.streaming else "window"


def _until(model: l3edge.Model, row: Row, number: int) -> timing.Call:
    return bare.invoking(model.engine.interpreter, truncated(model.flatbuffer, row.last + 1, number))


def _figures(
    model: l3edge.Model,
    rows: Sequence[Row],
    taken: NDArray[np.float64],
    hop: NDArray[np.float64],
    rates: Mapping[str, NDArray[np.float64]],
) -> tuple[dict[str, Any], dict[str, timing.Ratio]]:
    """taken: microseconds [rows, rounds]; hop: [rounds]; rates: multiply-accumulates a microsecond, [rounds]."""
    multiply = [i for i, row in enumerate(rows) if row.macs]
    convolve = [i for i, row in enumerate(rows) if row.part == CONVOLVING]
    least = {i: rows[i].macs / rates[rows[i].dtype] for i in multiply}  # microseconds at the ceiling, [rounds]
    at_ceiling = hop - sum(taken[i] - least[i] for i in multiply)
    ratios = {
        f"{model.name}: front end, share of the hop": timing.of_rounds(_of(rows, taken, FRONT_END) / hop),
        f"{model.name}: hop, against one that multiplies at the ceiling": timing.of_rounds(hop / at_ceiling),
        f"{model.name}: convolutions, times what they take at the ceiling": timing.of_rounds(
            sum(taken[i] for i in convolve) / sum(least[i] for i in convolve)
        ),
    }
    figures = {
        "engine": f"{model.engine.name} {model.engine.version}",
        "graph": _main(model),
        "rounds": len(hop),
        "microseconds": timing.of_rounds(hop).plain(),
        "microseconds_at_the_ceiling": timing.of_rounds(at_ceiling).plain(),
        "macs": sum(rows[i].macs for i in convolve),
        "ceiling_gmacs": {dtype: timing.of_rounds(rate / 1000).plain() for dtype, rate in rates.items()},
        "parts": {
            part: {
                "microseconds": timing.of_rounds(_of(rows, taken, part)).plain(),
                "share": timing.of_rounds(_of(rows, taken, part) / hop).plain(),
            }
            for part in PARTS
        },
        "rows": [_found(row, taken[i], hop, rates.get(row.dtype)) for i, row in enumerate(rows)],
    }
    return figures, {name: ratio for name, ratio in ratios.items() if ratio.low > 0}  # a file may have no front end


def _of(rows: Sequence[Row], taken: NDArray[np.float64], part: str) -> NDArray[np.float64]:
    made: NDArray[np.float64] = taken[[i for i, row in enumerate(rows) if row.part == part]].sum(axis=0)
    return made


def _found(
    row: Row, taken: NDArray[np.float64], hop: NDArray[np.float64], rate: NDArray[np.float64] | None
) -> dict[str, Any]:
    microseconds = timing.of_rounds(taken)
    speaks = row.macs and rate is not None and microseconds.low > 0
    return {
        "operators": [row.first, row.last],
        "title": row.title,
        "part": row.part,
        "dtype": row.dtype,
        "output": list(row.output),
        "macs": row.macs,
        "bytes": row.bytes,
        "microseconds": microseconds.plain(),
        "share": round(float(np.median(taken / hop)), 4),
        "gmacs": round(row.macs / microseconds.value / 1000, 1) if speaks else None,
        "of_the_ceiling": round(float(np.median(row.macs / taken / rate)), 3) if speaks else None,
        "gb_a_second": round(row.bytes / microseconds.value / 1000, 1) if microseconds.low > 0 else None,
    }


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Time and print; the section."""
    ratios, found = record.Ratios(), {}
    for model in options.load(arguments):
        found[model.name], these = layers(model, arguments.rounds)
        for name, ratio in these.items():
            ratios.lower(name, ratio)
    copies = {name: round(copying(size, arguments.rounds), 1) for name, size in COPIES.items()}
    section = record.section(options.command("layers"), ratios, {"copying_gb_a_second": copies, "models": found})
    print("\n" + tables(section))
    return section


def _draw(section: Mapping[str, Any], folder: Path) -> None:
    from .layers_plot import draw  # matplotlib, for who wants pictures

    draw(section, folder)


def main() -> None:
    """The command."""
    made = options.parser("layers", str(__doc__))
    made.add_argument(
        "--rounds", type=options.positive, default=100, help="in each of which all take turns (default: %(default)s)"
    )
    options.run("layers", measure, made, draw=_draw)


if __name__ == "__main__":
    main()
