"""What importing, loading and streaming cost in memory and time, each in a fresh process; and what an install weighs.

    python -m benchmarks.memory [MODEL...] [--rounds N] [--engine E] [--json F]

Four processes take turns: one that imports NumPy and the engine and nothing else (the baseline), one that imports
l3edge, one that also loads the model, and one that also streams ten seconds of sound. Of each: the time from its start
to its end by the clock, as whoever waits for it has it; what of the processor its own work took, without the start of
Python itself, which is in all of them alike; resident memory at the end and at its peak; and how many modules were
imported. Figures are medians of some rounds, ratios are to the baseline of the same round. Modules are compiled
before, as pip does. Goals: importing and loading take at most 1.4 times as long as the baseline, and 60 MB.

Of each model, besides: its file, what one stream keeps, the arena at least (the values between a step's layers that are
needed at once; an engine may keep more); and what one more stream and one more interpreter made a process grow by.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import math
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import l3edge
from l3edge import flatbuffer as tflite
from l3edge.engine import ENGINES

from . import fresh, options, record, timing

LOAD = "import l3edge; model = l3edge.load(sys.argv[2], engine=sys.argv[3])"
STREAM = """
import numpy
stream = model.stream(model.spec.sample_rate)
for _ in range(100):
    stream.push(numpy.zeros(model.spec.hop, numpy.float32))
"""
STAGES = {
    "numpy and the engine": "import numpy; import {engine}.interpreter",
    "import l3edge": "import l3edge",
    "import l3edge, load": LOAD,
    "and ten seconds of sound": f"{LOAD}\n{STREAM}",
}
BASELINE, _, LOADED, _ = STAGES
MOST_TIMES, MOST_MB = 1.4, 60  # of importing and loading
# What a process grows by, in kB: from the second on, since the first makes what all share.
GROWN = ("a stream more", "an interpreter more")
GROWTH = """
def resident():
    return int(dict(line.split(":", 1) for line in open("/proc/self/status"))["VmRSS"].split()[0])
def growth(make, count):
    kept = [make()]
    before = resident()
    kept += [make() for _ in range(count)]
    return (resident() - before) / count
def one_stream():
    stream = model.stream(model.spec.sample_rate)
    stream.push(numpy.zeros(2 * model.spec.window, numpy.float32))
    return stream
def one_interpreter():
    interpreter = model.engine.interpreter.Interpreter(model_content=model.flatbuffer, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.invoke()
    return interpreter
figures = {"a stream more": growth(one_stream, 500), "an interpreter more": growth(one_interpreter, 20)}
"""


def measure_stages(model: str, engine: str, rounds: int) -> dict[str, Any]:
    """Medians of each stage; and over the baseline of the same round, whole, of the processor, and in memory."""
    taken: dict[str, list[dict[str, float]]] = {stage: [] for stage in STAGES}
    with tempfile.TemporaryDirectory() as compiled:
        for _ in range(rounds + 1):  # the first round compiles the modules, and fills the system's caches
            for stage, code in STAGES.items():
                code = fresh.BEGIN + code.replace("{engine}", ENGINES[engine][0]) + fresh.END
                taken[stage].append(fresh.run(code, [model, engine], compiled))
    made: dict[str, Any] = {}
    for stage, (_, *values) in taken.items():
        medians = {name: statistics.median(one[name] for one in values) for name in values[0]}
        pairs = list(zip(values, taken[BASELINE][1:], strict=True))
        over = {
            name: timing.of_rounds(np.array([one[name] / base[name] for one, base in pairs])).plain()
            for name in ("whole seconds", "CPU seconds", "resident MB")
        }
        made[stage] = {**{name: round(median, 3) for name, median in medians.items()}, "over the baseline": over}
    return made


def sizes(model: l3edge.Model) -> dict[str, float]:
    """Kilobytes of the file, of what one stream keeps, and of the values between a step's layers."""
    spec, network = model.spec, model.network
    kept = sum(state.nbytes for state in network.zero_states())
    if spec.streaming:
        kept += spec.results * spec.embedding_size * network.dtype.itemsize
    kept += 4 * (spec.step_samples if spec.streaming else spec.window)  # samples that wait
    flatbuffer = tflite.parse(model.flatbuffer)
    key = "stream" if spec.streaming else "window"
    signature = flatbuffer.signatures.get(key)
    graph = flatbuffer.subgraphs[signature.subgraph if signature else 0]
    told = {"file": model.path.stat().st_size, "a stream keeps": kept, "arena at least": arena(graph)}
    return {f"{name} kB": round(size / 1e3, 1) for name, size in told.items()}


def arena(graph: tflite.Subgraph) -> int:
    """Bytes of the values that are needed at once, at the most: what no plan of their places can do without."""
    last = {tensor: at for at, operator in enumerate(graph.operators) for tensor in operator.inputs}
    last |= dict.fromkeys(graph.outputs, len(graph.operators))
    live = {tensor for tensor in graph.inputs if not graph.tensors[tensor].buffer_bytes}
    most = 0
    for at, operator in enumerate(graph.operators):
        live |= set(operator.outputs)
        most = max(most, sum(_bytes(graph.tensors[tensor]) for tensor in live))
        live = {tensor for tensor in live if last.get(tensor, at) > at}
    return most


def _bytes(tensor: tflite.Tensor) -> int:
    return math.prod(tensor.shape) * np.dtype(tensor.dtype).itemsize


def installed() -> dict[str, float | None]:
    """MB on disk of l3edge, of what it needs, and of what each extra adds; None where that is not all here."""
    own = [path for path in Path(l3edge.__file__).parent.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    alone = round(sum(path.stat().st_size for path in own) / 1e6, 1)
    made: dict[str, float | None] = {"l3edge alone": alone}
    try:
        extras = importlib.metadata.metadata("l3edge").get_all("Provides-Extra") or []
    except importlib.metadata.PackageNotFoundError:  # run from a checkout that was never installed
        return made
    base, _ = _needed("l3edge")
    # Of a checkout, the installed package would be a link and no more.
    made["pip install l3edge"] = round(alone + _megabytes(base - {"l3edge"}), 1)
    for extra in extras:
        brought, missing = _needed("l3edge", extra)
        made[f"[{extra}] adds"] = None if missing else _megabytes(brought - base)
    return made


def _needed(package: str, extra: str = "") -> tuple[set[str], set[str]]:
    """Names of all packages that an install brings, by the requirements of those that are here; and of absent ones."""
    found: set[str] = set()
    missing: set[str] = set()
    done: set[tuple[str, str]] = set()
    waiting = [(canonicalize_name(package), extra)]
    while waiting:
        name, wanted = waiting.pop()
        if (name, wanted) in done:
            continue
        done.add((name, wanted))
        try:
            requirements = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            missing.add(name)
            continue
        found.add(name)
        for requirement in map(Requirement, requirements):
            if requirement.marker is None or requirement.marker.evaluate({"extra": wanted}):
                waiting += [(canonicalize_name(requirement.name), each) for each in ("", *requirement.extras)]
    return found, missing


def _megabytes(packages: set[str]) -> float:
    files = [file.locate() for name in packages for file in importlib.metadata.files(name) or []]
    return round(sum(Path(str(file)).stat().st_size for file in set(files) if Path(str(file)).is_file()) / 1e6, 1)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures of all models, printed as they come."""
    if arguments.engine == "edgetpu":
        raise l3edge.OptionError("memory is measured on litert or tflite_runtime; the Edge TPU's own is on its device")
    models = options.load(arguments)
    ratios, figures = record.Ratios(), {}
    for model in models:
        engine = model.engine.name
        stages = measure_stages(str(model.path), engine, arguments.rounds)
        with tempfile.TemporaryDirectory() as compiled:
            code = f"import sys; sys.path.insert(0, sys.argv[1])\n{LOAD}\nimport numpy\n{GROWTH}"
            grown = fresh.run(code, [str(model.path), engine], compiled)
        kilobytes = sizes(model) | {f"{name} kB": round(grown[name], 1) for name in GROWN}
        figures[model.name] = {"engine": engine, "stages": stages, "sizes": kilobytes}
        for what, ratio in stages[LOADED]["over the baseline"].items():
            ratios.lower(f"{model.name}: import and load / numpy and the engine, {what}", timing.Ratio(**ratio))
        print(_table(model.name, figures[model.name]))
    found = {"models": figures, "installed MB": installed()}
    print(_installed(found))
    return record.section(options.command("memory"), ratios, found)


def tables(section: dict[str, Any]) -> str:
    """All of it, for a page."""
    figures = section["figures"]
    parts = [_table(name, found) for name, found in figures["models"].items()]
    return "\n".join([*parts, _installed(figures)])


def _table(name: str, found: dict[str, Any]) -> str:
    rows = []
    for stage, row in found["stages"].items():
        whole, own, _ = (timing.Ratio(**ratio) for ratio in row["over the baseline"].values())
        rows.append(
            f"| {stage} | {whole} | {row['whole seconds']:.3f} | {own} | {row['resident MB']:.1f} "
            f"| {row['peak MB']:.1f} | {row['modules']:.0f} |"
        )
    told = ", ".join(f"{name.removesuffix(' kB')} {size:g} kB" for name, size in found["sizes"].items())
    head = "| a fresh process | times the first | s | CPU, without Python's start, times the first | resident MB "
    head += "| peak MB | modules |\n|---|---:|---:|---:|---:|---:|---:|"
    loaded = found["stages"][LOADED]
    times = loaded["over the baseline"]["whole seconds"]["value"]
    goals = f"Import and load: {_kept(times <= MOST_TIMES)} {MOST_TIMES} times as long, "
    goals += f"{_kept(loaded['resident MB'] <= MOST_MB)} {MOST_MB} MB."
    return "\n".join([f"\n### {name} on {found['engine']}\n", head, *rows, f"\n{told}\n\n{goals}"])


def _kept(kept: bool) -> str:
    return "within the goal of" if kept else "beyond the goal of"


def _installed(figures: dict[str, Any]) -> str:
    rows = [
        f"| {name} | {'not installed here' if size is None else size} |"
        for name, size in figures["installed MB"].items()
    ]
    return "\n".join(["\n| installed | MB |\n|---|---:|", *rows])


def main() -> None:
    """The command."""
    made = options.parser("memory", str(__doc__))
    made.add_argument(
        "--rounds", type=options.positive, default=7, help="fresh processes of each kind (default: %(default)s)"
    )
    options.run("memory", measure, made)


if __name__ == "__main__":
    main()
