"""What importing, loading and streaming cost in memory and time, each in a fresh process; and what an install weighs.

    python -m benchmarks.memory [MODEL...] [--rounds N] [--engine E] [--json F]

Four processes take turns: one that imports NumPy and the engine and nothing else (the baseline), one that imports
l3edge, one that also loads the model, and one that also streams ten seconds of sound. Of each: resident memory at the
end and at its peak, the time from the start of Python's own work to the end (the interpreter's start is in all of them
alike), and how many modules were imported. Figures are medians of some rounds. Ratios are of the processor's time,
which others on the machine change least, to the baseline of the same round. Modules are compiled before, as pip does.

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
# What a process grows by, in kB: from the second on, since the first makes what all share.
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


def measure_stages(model: str, engine: str, rounds: int) -> tuple[dict[str, Any], timing.Ratio, timing.Ratio]:
    """Medians of each stage; import and load over the baseline of the same round, in time and in resident memory."""
    taken: dict[str, list[dict[str, float]]] = {stage: [] for stage in STAGES}
    with tempfile.TemporaryDirectory() as compiled:
        for _ in range(rounds + 1):  # the first round compiles the modules, and fills the system's caches
            for stage, code in STAGES.items():
                code = fresh.BEGIN + code.replace("{engine}", ENGINES[engine][0]) + fresh.END
                taken[stage].append(fresh.run(code, [model, engine], compiled))
    counted = {stage: values[1:] for stage, values in taken.items()}
    made: dict[str, Any] = {}
    for stage, values in counted.items():
        medians = {name: statistics.median(one[name] for one in values) for name in values[0]}
        made[stage] = {name: round(median, 3) for name, median in medians.items()}
        made[stage]["times the baseline"] = _over(counted, stage, "CPU seconds").plain()
    return made, _over(counted, LOADED, "CPU seconds"), _over(counted, LOADED, "resident MB")


def _over(counted: dict[str, list[dict[str, float]]], stage: str, figure: str) -> timing.Ratio:
    pairs = zip(counted[stage], counted[BASELINE], strict=True)
    return timing.of_rounds(np.array([one[figure] / base[figure] for one, base in pairs]))


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
    """MB on disk of `pip install l3edge`, and what each extra adds to that; None where it is not installed here."""
    base = _needed("l3edge")
    own = [path for path in Path(l3edge.__file__).parent.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    alone = round(sum(path.stat().st_size for path in own) / 1e6, 1)
    brought = _megabytes(base - {"l3edge"})  # of a checkout, the installed package would be a link and no more
    made: dict[str, float | None] = {"l3edge alone": alone, "pip install l3edge": round(alone + brought, 1)}
    for extra in importlib.metadata.metadata("l3edge").get_all("Provides-Extra") or []:
        try:
            made[f"[{extra}] adds"] = _megabytes(_needed("l3edge", extra) - base)
        except importlib.metadata.PackageNotFoundError:
            made[f"[{extra}] adds"] = None
    return made


def _needed(package: str, extra: str = "") -> set[str]:
    """Names of all packages that an install brings, by the requirements of those that are here."""
    found, waiting = set(), [(canonicalize_name(package), extra)]
    done = set()
    while waiting:
        name, wanted = waiting.pop()
        if (name, wanted) in done:
            continue
        done.add((name, wanted))
        found.add(name)
        for text in importlib.metadata.requires(name) or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": wanted}):
                waiting += [(canonicalize_name(requirement.name), each) for each in ("", *requirement.extras)]
    return found


def _megabytes(packages: set[str]) -> float:
    files = [file.locate() for name in packages for file in importlib.metadata.files(name) or []]
    return round(sum(Path(str(file)).stat().st_size for file in set(files) if Path(str(file)).is_file()) / 1e6, 1)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures of all models, printed as they come."""
    models = options.load(arguments)
    ratios, figures = record.Ratios(), {}
    for model in models:
        engine = model.engine.name
        stages, seconds, resident = measure_stages(str(model.path), engine, arguments.rounds)
        with tempfile.TemporaryDirectory() as compiled:
            code = f"import sys; sys.path.insert(0, sys.argv[1])\n{LOAD}\nimport numpy\n{GROWTH}"
            grown = fresh.run(code, [str(model.path), engine], compiled)
        kilobytes = sizes(model) | {f"{name} kB": round(grew, 1) for name, grew in grown.items()}
        figures[model.name] = {"engine": engine, "stages": stages, "sizes": kilobytes}
        ratios.lower(f"{model.name}: import and load / numpy and the engine, time", seconds)
        ratios.lower(f"{model.name}: import and load / numpy and the engine, resident", resident)
        print(_table(model.name, figures[model.name]))
    found = {"models": figures, "installed MB": installed()}
    print(_installed(found))
    return record.section(options.command("memory", arguments.models), ratios, found)


def tables(section: dict[str, Any]) -> str:
    """All of it, for a page."""
    figures = section["figures"]
    parts = [_table(name, found) for name, found in figures["models"].items()]
    return "\n".join([*parts, _installed(figures)])


def _table(name: str, found: dict[str, Any]) -> str:
    rows = [
        f"| {stage} | {timing.Ratio(**row['times the baseline'])} | {row['seconds']:.3f} | {row['resident MB']:.1f} "
        f"| {row['peak MB']:.1f} | {row['modules']:.0f} |"
        for stage, row in found["stages"].items()
    ]
    told = ", ".join(f"{name.removesuffix(' kB')} {size:g} kB" for name, size in found["sizes"].items())
    head = "| a fresh process | times the first | s | resident MB | peak MB | modules |\n|---|---:|---:|---:|---:|---:|"
    return "\n".join([f"\n### {name} on {found['engine']}\n", head, *rows, f"\n{told}"])


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
