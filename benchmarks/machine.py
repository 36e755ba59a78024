"""What a measurement was made on, for the head of every result, and whether it is quiet enough to measure on."""

from __future__ import annotations

import os
import platform
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

import l3edge
from l3edge.engine import cpu_kind

BUSY = 0.5  # of the cores: a load above it takes time from what is measured
SYSTEM = Path("/sys/devices/system/cpu")
ZONES = Path("/sys/class/thermal")
PI_THROTTLED = Path("/sys/devices/platform/soc/soc:firmware/get_throttled")  # flags of a Raspberry Pi's firmware


def describe(engine: Any = None) -> dict[str, Any]:
    """CPU, cores, load, governor, temperature, Python, NumPy, l3edge and, when given, the engine."""
    machine = {
        "cpu": _cpu_model(),
        "kind": cpu_kind(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": load(),
        "governor": _governor(),
        "celsius": _celsius(),
        "throttled": _throttled(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "l3edge": l3edge.__version__,
    }
    return machine if engine is None else {**machine, "engine": f"{engine.name} {engine.version}"}


def headline(machine: dict[str, Any]) -> str:
    """The same in a line, without what cannot be read here."""
    return "Machine: " + ", ".join(f"{key} {value}" for key, value in machine.items() if value is not None)


def after() -> dict[str, Any]:
    """What may have changed while it was measured."""
    return {"load_after": load(), "celsius_after": _celsius(), "throttled_after": _throttled()}


def name(machine: dict[str, Any]) -> str:
    """Of a folder for this machine's results, such as "amd-epyc-x86_64-avx512vnni-2-cores"."""
    words = f"{machine['cpu']} {machine['kind']} {machine['cores']} cores"
    return re.sub(r"[^a-z0-9_]+", "-", words.lower()).strip("-")


def load() -> float | None:
    """Average of the minute before: how many processes wanted a core."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def check_quiet(machine: dict[str, Any], anyway: bool = False) -> None:
    """Error where others take time from what is measured, or a warning."""
    if machine["load"] is None or machine["load"] <= BUSY * machine["cores"]:
        return
    told = f"this machine is busy (load {machine['load']} on {machine['cores']} cores)"
    if not anyway:
        raise l3edge.Error(f"{told}, and what is measured now would be of the others too; wait, or say --busy")
    print(f"warning: {told}: trust the ratios, not the microseconds", file=sys.stderr)


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _numbers(paths: list[Path]) -> list[int]:
    return [int(text) for text in map(_text, paths) if text and re.fullmatch(r"-?\d+", text)]


def _governor() -> str | None:
    kinds = {_text(path) for path in SYSTEM.glob("cpu[0-9]*/cpufreq/scaling_governor")} - {None}
    return ", ".join(sorted(kind for kind in kinds if kind)) or None


def _celsius() -> float | None:
    zones = _numbers(sorted(ZONES.glob("thermal_zone*/temp")))
    return max(zones) / 1000 if zones else None


def _throttled() -> int | None:
    counts = _numbers(sorted(SYSTEM.glob("cpu[0-9]*/thermal_throttle/core_throttle_count")))
    flags = _text(PI_THROTTLED)
    return sum(counts) if counts else int(flags, 16) if flags and re.fullmatch("[0-9a-f]+", flags) else None


def _cpu_model() -> str:
    for line in (_text(Path("/proc/cpuinfo")) or "").splitlines():
        if line.startswith(("model name", "Model")):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
