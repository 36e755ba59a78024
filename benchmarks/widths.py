"""What a width and a frame step cost: the measurements behind the presets.

    python -m benchmarks.widths [--hops N]

Each candidate is exported int8 with random weights (weights change neither time nor size) and timed as in
`benchmarks.latency`, in one run: candidates take turns within a round, so what disturbs the machine disturbs them
all. Needs the `train` extra, for the converter.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

import l3edge
from export import convert, graph
from l3edge import model_file
from l3edge.spec import PRESETS, LogMel, Spec, l3_stack

from . import bare
from .machine import describe, headline
from .timing import timed

HALVES = ((12, 24, 48, 96), (16, 32, 64, 128), (20, 40, 80, 160), (24, 48, 96, 192), (32, 64, 128, 256))
CANDIDATES = (
    *((filters, 200) for filters in (*HALVES, (40, 80, 160, 320), (48, 96, 192, 384), (64, 128, 256, 512))),
    *((filters, 100) for filters in HALVES),
)


def random_network(spec: Spec) -> graph.Network:
    """Random weights; every activation range 6."""
    ranges = [(0.0 if layer.relu else -6.0, 6.0) for layer in spec.convolutions]
    return graph.Network(spec, graph.random_weights(spec.layers, 0), ranges)


def exported(spec: Spec, path: Path) -> l3edge.Model:
    """A model of that spec, int8, with random weights."""
    metadata = {"name": "", "spec": spec.to_json(), "recipe": "int8_ptq", "parity": {}, "provenance": {}}
    model_file.write(path, convert.convert(random_network(spec)), metadata)
    return l3edge.load(path)


def main() -> None:
    """Export the candidates, time them, print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.widths", description=str(__doc__).split("\n")[0])
    parser.add_argument("--hops", type=int, default=300, help="rounds to time (default: %(default)s)")
    arguments = parser.parse_args()
    presets = {(spec.layers, spec.front_end): name for name, spec in PRESETS.items()}
    specs = [Spec("", l3_stack(filters), LogMel(frame_step=frame_step)) for filters, frame_step in CANDIDATES]
    models, stages = [], []
    with tempfile.TemporaryDirectory() as folder:
        for i, spec in enumerate(specs):
            path = Path(folder) / f"{i}.tflite"
            model = exported(spec, path)
            sound = np.random.default_rng(1).normal(0, 0.1, spec.window).astype(np.float32)
            step = bare.invoking(model.engine.interpreter, model.flatbuffer)
            stages.append((step, lambda m=model, x=sound: m.network.window(x)))
            models.append((model, path.stat().st_size))
        times = np.array([[[timed(f) for f in pair] for pair in stages] for _ in range(arguments.hops)])
    step, window = np.median(times[len(times) // 10 :], axis=0).T
    base = step[[spec.layers for spec in specs].index(PRESETS["edge-m"].layers)]
    print(headline(describe(models[0][0].engine)), "\n")
    print("| filters | frame step | MMAC a hop | step, edge-m = 1 | step µs | window / step | GMAC/s | kB | preset |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---|")
    for (model, size), (filters, _), a, b in zip(models, CANDIDATES, step, window, strict=True):
        spec = model.spec
        print(
            f"| {'-'.join(map(str, filters))} | {1000 * spec.front_end.frame_step / spec.sample_rate:g} ms "
            f"| {spec.macs_per_hop / 1e6:.1f} | {a / base:.2f} | {a:.0f} | {b / a:.1f} "
            f"| {spec.macs_per_hop / a / 1000:.0f} | {size / 1000:.0f} "
            f"| {presets.get((spec.layers, spec.front_end), '')} |"
        )


if __name__ == "__main__":
    main()
