"""Figures that tests of faults measured, kept for `python -m benchmarks.reliability`: it writes docs/reliability.md."""

from __future__ import annotations

import json
import os
from pathlib import Path


def record(fault: str, figures: dict[str, object]) -> None:
    """Keep the figures of a fault, where L3EDGE_RELIABILITY names a folder for them."""
    if folder := os.environ.get("L3EDGE_RELIABILITY"):
        path = Path(folder) / f"{fault}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(figures, indent=1) + "\n")
