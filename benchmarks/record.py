"""What benchmarks write down: a section for each, all ratios with their intervals, and the machine beside them.

The form is in schema.json, and everything that is written was checked against it. A document:

    {"format": 1, "date": "2026-11-28", "commit": "...", "machine": {...}, "sections": {"latency": {...}, ...}}

A section has the `command` that made it, `ratios` (by name: value, low, high, and which way is `better`) which
`python -m benchmarks.compare` compares, and `figures`, as each benchmark has them.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from l3edge.errors import Error
from l3edge.model_file import replacing

from .timing import Ratio

FORMAT = 1
SCHEMA = Path(__file__).with_name("schema.json")
RESULTS = Path(__file__).with_name("results")
ROOT = Path(__file__).parent.parent


class Ratios(dict[str, dict[str, Any]]):
    """The ratios of a section, by name."""

    def lower(self, name: str, ratio: Ratio) -> None:
        """Note one of which less is better."""
        self[name] = {**ratio.plain(), "better": "lower"}

    def higher(self, name: str, ratio: Ratio) -> None:
        """Note one of which more is better."""
        self[name] = {**ratio.plain(), "better": "higher"}


def section(command: str, ratios: Ratios, figures: Any) -> dict[str, Any]:
    """What one benchmark found."""
    return {"command": command, "ratios": dict(ratios), "figures": figures}


def document(machine: Mapping[str, Any], sections: Mapping[str, Any]) -> dict[str, Any]:
    """What was found on this machine today."""
    return {
        "format": FORMAT,
        "date": date.today().isoformat(),
        "commit": _commit(),
        "machine": dict(machine),
        "sections": dict(sections),
    }


def _commit() -> str:
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def write(path: Path, made: Mapping[str, Any]) -> None:
    """Check the document, and write it whole or not at all."""
    check(made, "the document")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        part.write_text(json.dumps(made, indent=1) + "\n")


def read(path: Path) -> dict[str, Any]:
    """A document; Error where the file is none."""
    try:
        made = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise Error(f"{path}: no result of the benchmarks: {error}") from error
    check(made, str(path))
    return dict(made)


def check(made: Any, name: str) -> None:
    """Error where it is not as schema.json says."""
    import jsonschema

    try:
        jsonschema.validate(made, json.loads(SCHEMA.read_text()))
    except jsonschema.ValidationError as error:
        raise Error(f"{name}: not as {SCHEMA.name} says at {error.json_path}: {error.message}") from error
