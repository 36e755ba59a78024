"""What tests/arm/run.sh found, as one file: benchmarks/results/arm/ARCHITECTURE.json, of which docs/boards.md is made.

python -m tests.arm.record ARCHITECTURE FOLDER COMMIT EMULATOR
"""

from __future__ import annotations

import datetime
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import l3edge
from benchmarks import fresh, record
from l3edge import model_file

from .hops import MARKS

RESULTS = record.RESULTS / "arm"
STREAMS = 4
# On x86-64, since a process under QEMU holds QEMU and what it translated as well.
FOUR = f"""
import l3edge, numpy
model = l3edge.load(sys.argv[2], engine=sys.argv[3])
streams = [model.stream(model.spec.sample_rate) for _ in range({STREAMS})]
for stream in streams:
    stream.push(numpy.zeros(3 * model.spec.window, numpy.float32))
"""


def instructions(regions: Path, marks: Path) -> dict[str, dict[str, int]]:
    """Instructions of one call, by model and stage: the 2 N calls of a region less the N, by N."""
    ran = json.loads(regions.read_text())
    counts = [int(line.split()[1]) for line in marks.read_text().splitlines() if line.startswith("instructions ")]
    counts = counts[-MARKS * len(ran["regions"]) :]  # whatever ran before the first region may have made marks too
    assert len(counts) == MARKS * len(ran["regions"]), "a region without its marks"
    made: dict[str, dict[str, int]] = {}
    for number, (model, stage) in enumerate(ran["regions"]):
        begin, middle, end = counts[MARKS * number : MARKS * (number + 1)]
        made.setdefault(model, {})[stage] = round((end - middle - (middle - begin)) / ran["hops"])
    return made


def core(folder: Path, name: str) -> dict[str, Any]:
    """All that was found on one kind of core."""
    compared = json.loads((folder / f"{name}.json").read_text())
    arm, other = compared["machines"]
    return {
        "machine": arm,
        "against": other,
        "between machines": compared["between machines"],
        "instructions": instructions(folder / f"{name}.regions", folder / f"{name}.marks"),
    }


def resident(engine: str) -> dict[str, float]:
    """Megabytes of a process with four streams of a model, by model."""
    code = f"{fresh.BEGIN}{FOUR}{fresh.END}"
    with tempfile.TemporaryDirectory() as compiled:
        return {name: round(fresh.run(code, [name, engine], compiled)["resident MB"]) for name in l3edge.models()}


def main() -> None:
    """Put the pieces together."""
    architecture, folder, commit, emulator = sys.argv[1], Path(sys.argv[2]), *sys.argv[3:]
    cores = {path.stem: core(folder, path.stem) for path in sorted(folder.glob("cortex-*.json"))}
    engine = next(iter(cores.values()))["machine"]["engine"].split()[0]
    document = {
        "architecture": architecture,
        "date": datetime.date.today().isoformat(),
        "commit": commit,
        "emulator": emulator,
        "tests": (folder / "tests.txt").read_text().strip().splitlines()[-1],
        "cores": cores,
        f"resident MB with {STREAMS} streams": resident(engine),
    }
    path = RESULTS / f"{architecture}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    with model_file.replacing(path) as part:
        part.write_text(json.dumps(document, indent=1) + "\n")
    print(path)


if __name__ == "__main__":
    main()
