"""Each example runs as its first lines say, and is short enough to read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import l3edge

EXAMPLES = Path(__file__).parent.parent / "examples"
SCRIPTS = sorted(path for path in EXAMPLES.glob("*.py") if path.name != "microphone.py")  # that: test_microphone.py


def run(script: Path, *arguments: str, cwd: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLES.parent)}
    command = [sys.executable, str(script), *arguments]
    return subprocess.run(
        command, cwd=cwd, env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=120
    ).stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=[path.stem for path in SCRIPTS])
def test_example_runs(script: Path, tmp_path: Path) -> None:
    if script.stem == "bad_videos":
        pytest.importorskip("av", reason="making videos needs PyAV, which a device does not have")
    assert len(script.read_text().splitlines()) < 60
    assert run(script, cwd=tmp_path).strip()


def test_embed_file_writes_what_it_says(tmp_path: Path) -> None:
    run(EXAMPLES / "embed_file.py", str(EXAMPLES / "scene.flac"), "out.npz", cwd=tmp_path)
    with np.load(tmp_path / "out.npz", allow_pickle=False) as saved:
        assert saved["embeddings"].shape == (111, l3edge.load().spec.embedding_size)
        assert saved["times"][0] == 0.5


def test_exact_stream_is_exact(tmp_path: Path) -> None:
    output = run(EXAMPLES / "exact_stream.py", cwd=tmp_path)
    assert output.count("True") == 2
    assert "False" not in output


def test_changes_are_found_where_they_are(tmp_path: Path) -> None:
    output = run(EXAMPLES / "what_changed.py", cwd=tmp_path)
    found = np.array([float(line.split()[0]) for line in output.splitlines()])
    changes = 1.5 * np.arange(1, 8)  # training/scene.py: a new sound every 1.5 s
    heard = [np.abs(found - change).min() < 0.35 for change in changes]
    assert sum(heard) >= 5, found
