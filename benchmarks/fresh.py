"""Measurements in a fresh Python process: what importing, loading and beginning cost.

Modules are compiled before, as pip does at install, into a folder that all processes of a measurement share.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from l3edge.errors import Error

ROOT = Path(__file__).parent.parent
BEGIN = """
import sys, time; sys.path.insert(0, sys.argv[1])
begun, used = time.perf_counter(), time.process_time()
"""
# Seconds from the start of Python's own work, by the clock and of the processor; megabytes that are resident and were
# at most; and modules.
END = """
took, used = time.perf_counter() - begun, time.process_time() - used
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
resident, peak = (int(status[key].split()[0]) / 1000 for key in ("VmRSS", "VmHWM"))
figures = {"seconds": took, "CPU seconds": used, "resident MB": resident, "peak MB": peak, "modules": len(sys.modules)}
"""


def run(code: str, arguments: Sequence[str], compiled: str) -> dict[str, Any]:
    """What `code` leaves in `figures`, and `whole seconds`, from the process's start to its end; its own arguments are
    sys.argv[2:]. Error where it fails.

    compiled: folder for compiled modules.
    """
    command = [sys.executable, "-c", f"{code}\nimport json; print(json.dumps(figures))", str(ROOT), *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = compiled
    begun = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    took = time.perf_counter() - begun
    if done.returncode:
        raise Error(f"a fresh process failed: {done.stderr.strip()[-1000:]}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {"whole seconds": took, **figures}
