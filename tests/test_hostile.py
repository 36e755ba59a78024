"""A thousand hostile inputs to each parser of outside sound and configuration: our own errors, no crash, no hang."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.reliability import record
from tests.test_cli import ENVIRONMENT

COUNT = 1000
LONGEST = 600  # s, for all; a single case has its own limit


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "raw", "config"])
def test_hostile(kind: str, tmp_path: Path) -> None:
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-m", "tests.hostile", kind, str(COUNT), "1", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=LONGEST,
        cwd=root,
        env={**ENVIRONMENT, "PYTHONWARNINGS": "default"},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    outcomes = json.loads(done.stdout.splitlines()[-1])
    assert sum(outcomes.values()) == COUNT
    assert outcomes["refused"] >= 50  # the mutations are not all harmless
    assert outcomes.get("taken", 0) >= COUNT // 100  # nor is all refused without having been read
    record(f"hostile-{kind}", outcomes)
