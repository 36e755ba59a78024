"""What a measurement was made on, for the head of every result."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import numpy as np

import l3edge
from l3edge.engine import cpu_kind


def describe(engine: Any = None) -> dict[str, Any]:
    """CPU, cores, load, Python, NumPy, l3edge and, when given, the engine."""
    machine = {
        "cpu": _cpu_model(),
        "kind": cpu_kind(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "l3edge": l3edge.__version__,
    }
    return machine if engine is None else {**machine, "engine": f"{engine.name} {engine.version}"}


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("model name", "Model")):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
