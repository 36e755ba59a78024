"""The scripts behind the built-in models, in their two-minute versions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import l3edge

pytest.importorskip("tensorflow", reason="TensorFlow is not in the device environment")

from training.datasets import ESC10

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(not ESC10.is_dir(), reason="needs ESC-10 and YAMNet, in the folder that L3EDGE_DATA names")
def test_a_distilled_model_is_made_by_its_script(tmp_path: Path) -> None:
    """From sounds to model files that tell what they heard, and what they were not to hear."""
    command = ["bash", "training/runs/edge-s-2.sh", str(tmp_path)]
    environment = {**os.environ, "SMALL": "1", "PYTHON": sys.executable, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    for name, excluded in (("edge-s-2", []), ("edge-s-2-without-3", ["fold-3"])):
        model = l3edge.load(tmp_path / f"{name}.tflite")
        assert model.name == name
        assert model.spec.rows == l3edge.load("edge-s-2").spec.rows
        assert model.metadata["provenance"]["training"]["arguments"]["exclude"] == excluded
        assert model.metadata["parity"]["step_values_differing"] == 0


def test_each_distilled_model_has_its_script() -> None:
    """A script for every built-in model that says it was distilled, and of the very network that is in the file."""
    made = [name for name in l3edge.models() if "teacher" in l3edge.load(name).metadata["provenance"]["training"]]
    assert len(made) >= 3
    road = (ROOT / "training" / "runs" / "distilled.sh").read_text(encoding="utf-8")
    for name in made:
        script = (ROOT / "training" / "runs" / f"{name}.sh").read_text(encoding="utf-8")
        training = l3edge.load(name).metadata["provenance"]["training"]
        said = training["arguments"]
        assert f"\nstudent={said['student']}\n" in script
        assert f'distilled.sh" {name} "$student" ' in script
        assert f"STEPS={said['steps']} " in script or f" steps=${{STEPS:-{said['steps']}}} " in road
        assert f" --keep {said['keep']:g} " in road
        focus = "{}={}".format(*said["focus"]) if said["focus"] else ""
        assert f"--focus {focus}\n" in script or not focus
