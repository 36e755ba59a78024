"""What importing, loading and streaming cost in memory and time, each in a fresh process; and what an install weighs.

    python -m benchmarks.memory [MODEL...] [--rounds N] [--engine E] [--json F]

Four processes take turns: one that imports NumPy and the engine and nothing else (the baseline), one that imports
l3edge, one that also loads the model, and one that also streams ten seconds of sound. Of each: resident memory at the
end and at its peak, the time from the start of Python's own work to the end (the interpreter's start is in all of them
alike), and how many modules were imported. Figures are medians of some rounds; ratios are to the baseline of the same
round. Modules are compiled before, as pip does at install.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import l3edge
from l3edge.engine import ENGINES

from .machine import describe

ROOT = Path(__file__).parent.parent
BEGIN = "import sys, time; sys.path.insert(0, sys.argv[1]); begun = time.perf_counter()\n"
END = """
took = time.perf_counter() - begun
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
resident, peak = (int(status[key].split()[0]) / 1000 for key in ("VmRSS", "VmHWM"))
print(took, resident, peak, len(sys.modules))
"""
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
BASELINE = next(iter(STAGES))
# What `pip install l3edge` brings on this platform, and what the extra `mqtt` adds.
PACKAGES = ("l3edge", "numpy", "ai-edge-litert", "tflite-runtime", "soxr", "soundfile", "sounddevice", "paho-mqtt")


def run(stage: str, model: str, engine: str, compiled: str) -> list[float]:
    """Seconds, resident MB, peak MB, and modules, of a fresh process."""
    package = ENGINES[engine][0]
    code = BEGIN + STAGES[stage].replace("{engine}", package) + END
    command = [sys.executable, "-c", code, str(ROOT), model, engine]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = compiled
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return [float(word) for word in done.stdout.split()]


def measure(model: str, engine: str, rounds: int) -> dict[str, Any]:
    """Medians of each stage, and the ratio of times to the baseline of the same round."""
    taken: dict[str, list[list[float]]] = {stage: [] for stage in STAGES}
    with tempfile.TemporaryDirectory() as compiled:
        for _ in range(rounds + 1):  # the first round compiles the modules, and fills the system's caches
            for stage in STAGES:
                taken[stage].append(run(stage, model, engine, compiled))
    made: dict[str, Any] = {}
    for stage, values in taken.items():
        seconds, resident, peak, modules = (statistics.median(column) for column in zip(*values[1:], strict=True))
        ratios = [one[0] / base[0] for one, base in zip(values[1:], taken[BASELINE][1:], strict=True)]
        made[stage] = {
            "seconds": round(seconds, 3),
            "times the baseline": round(statistics.median(ratios), 2),
            "resident MB": round(resident, 1),
            "peak MB": round(peak, 1),
            "modules": int(modules),
        }
    return made


def installed() -> dict[str, float]:
    """MB on disk of the packages that are here."""
    sizes = {}
    for name in PACKAGES:
        try:
            files = importlib.metadata.files(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        paths = [Path(str(file.locate())) for file in files]
        sizes[name] = round(sum(path.stat().st_size for path in paths if path.is_file()) / 1e6, 1)
    return sizes


def main() -> None:
    """Measure, print, and write JSON if asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=str(__doc__).split("\n")[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help="built-in names or files (default: all built-in)")
    parser.add_argument("--rounds", type=int, default=7, help="fresh processes of each kind (default: %(default)s)")
    parser.add_argument("--engine", default="auto", help="litert or tflite_runtime (default: the preferred one)")
    parser.add_argument("--json", type=Path, metavar="F", help="write the figures here as well")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    try:
        models = [l3edge.load(name, engine=arguments.engine) for name in arguments.models or l3edge.models()]
    except l3edge.Error as error:
        parser.exit(1, f"error: {error}\n")
    engine = models[0].engine
    machine = describe(engine)
    print("Machine: " + ", ".join(f"{key} {value}" for key, value in machine.items()))
    results = {}
    for model in models:
        results[model.name] = measure(str(model.path), engine.name, arguments.rounds)
        print(f"\n### {model.name}, file {model.path.stat().st_size / 1e6:.2f} MB, on {engine.name}\n")
        print("| a fresh process | s | times the baseline | resident MB | peak MB | modules |")
        print("|---|---:|---:|---:|---:|---:|")
        for stage, row in results[model.name].items():
            print(f"| {stage} | " + " | ".join(str(value) for value in row.values()) + " |")
    sizes = installed()
    print("\n| installed | MB |\n|---|---:|\n" + "\n".join(f"| {name} | {size} |" for name, size in sizes.items()))
    if arguments.json:
        document = {"machine": machine, "results": results, "installed": sizes}
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
