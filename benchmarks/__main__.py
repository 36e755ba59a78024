"""All benchmarks in one run, and the page of what they found.

    python -m benchmarks [BENCHMARK...] [--models MODEL...] [--out F]

Each runs in a process of its own, one after the other. The results of all go to benchmarks/results/MACHINE/DATE.json,
and docs/benchmarks.md with its pictures is made of them (`python -m benchmarks.page` makes it again from a file); those
of some, of other models or of another engine go where --out says. What cannot run here, for want of TensorFlow or of
data, is left out, and the page says so. Takes some ten minutes on a quiet machine; Ctrl-C leaves everything as it was.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import l3edge
from training import cli
from training.datasets import ESC10

from . import machine, options, page, record

MODELS = ("edge-s", "edge-m", "edge-l")


def _needs_data() -> str:
    """What accuracy lacks here."""
    if not options.tensorflow():
        return "needs TensorFlow: pip install l3edge[train]"
    return "" if ESC10.is_dir() else f"no data at {ESC10}: set L3EDGE_DATA"


# By name: whether it is given the models, its own options, and what it cannot do without.
BENCHMARKS: dict[str, tuple[bool, list[str], Callable[[], str]]] = {
    "latency": (True, [], str),
    "memory": (True, [], str),
    "throughput": (True, [], str),
    "layers": (True, [], str),
    "peers": (False, [], str),
    "accuracy": (False, ["--no-robustness"], _needs_data),
}


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = options.described("python -m benchmarks", str(__doc__))
    made.add_argument("names", nargs="*", metavar="BENCHMARK", help=f"of {', '.join(BENCHMARKS)} (all unless told)")
    made.add_argument(
        "--models", nargs="+", metavar="MODEL", help=f"built-in names or files ({', '.join(MODELS)} unless told)"
    )
    made.add_argument("--engine", default="auto", help="litert or tflite_runtime; auto is the preferred one")
    made.add_argument("--out", type=Path, metavar="F", help="write the results there, and no page")
    made.add_argument("--busy", action="store_true", help="measure although others keep this machine busy")
    return made


def run(name: str, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The section of one benchmark, by a process of its own."""
    takes_models, more, _ = BENCHMARKS[name]
    path = folder / f"{name}.json"
    command = [
        sys.executable,
        "-m",
        f"benchmarks.{name}",
        *((arguments.models or MODELS) if takes_models else []),
        *more,
    ]
    command += ["--engine", arguments.engine, "--json", str(path)]
    if name != "accuracy":
        command.append("--busy")  # the machine was looked at before the first, and what keeps it busy now is us
    done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise cli.TrainingError(f"benchmarks.{name} failed: {done.stderr.strip()[-2000:]}")
    found: dict[str, Any] = json.loads(path.read_text())
    if name == "accuracy":  # has a form of its own, and no times
        return record.section(options.command(name, more), record.Ratios(), found)
    section: dict[str, Any] = found["sections"][name]
    return section


def main() -> int:
    """Run, record, write the page."""
    arguments = parser().parse_args()
    names = list(dict.fromkeys(arguments.names)) or list(BENCHMARKS)
    if unknown := [name for name in names if name not in BENCHMARKS]:
        raise cli.TrainingError(f"no benchmark {unknown[0]!r}: there are {', '.join(BENCHMARKS)}")
    special = arguments.names or arguments.models or arguments.engine != "auto"
    if special and not arguments.out:
        raise cli.TrainingError("a part of the set, or other models or engines, makes no page: say where to with --out")
    head = machine.describe(l3edge.load(engine=arguments.engine).engine)
    machine.check_quiet(head, arguments.busy)
    begin = time.monotonic()
    sections, failed = {}, []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            if missing := BENCHMARKS[name][2]():
                options.progress(f"{name}: left out, {missing}")
                continue
            options.progress(f"{name} ({time.monotonic() - begin:.0f} s)")
            try:
                sections[name] = run(name, arguments, Path(folder))
            except cli.TrainingError as error:  # what the others found is kept
                options.progress(f"error: {error}")
                failed.append(name)
    if not sections:
        raise cli.TrainingError("nothing was measured")
    document = record.document({**head, **machine.after()}, sections)
    path = arguments.out or page.committed(document)
    if failed and not arguments.out:
        path = Path("benchmarks-in-part.json")  # what is there may be whole
    record.write(path, document)
    print(f"wrote {path} after {time.monotonic() - begin:.0f} s")
    if not arguments.out and not failed:
        for made in page.write(document, page.DOCS):
            print(f"wrote {made}")
    if failed:
        print(f"failed, see above: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    cli.run(main)
