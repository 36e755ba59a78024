"""The tour of docs/training.md, word for word: videos good and bad, prepare, pretrain, probe, report."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

for module in ("tensorflow", "apache_beam", "av"):
    pytest.importorskip(module, reason=f"training needs {module}, which a device does not have")

ROOT = Path(__file__).resolve().parent.parent
BAD = {"corrupt": 3, "no audio": 1, "no video": 1, "silent": 1, "still": 1, "too short": 1}


def test_the_tour_of_training(tmp_path: Path) -> None:
    block = re.search(r"<!-- tour -->\n```sh\n(.*?)```", (ROOT / "docs" / "training.md").read_text(), re.DOTALL)
    assert block
    for package in ("l3edge", "training", "examples"):  # as in a checkout, where nothing else is left behind
        (tmp_path / package).symlink_to(ROOT / package)
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    environment = {**os.environ, "PATH": f"{python.parent}:{os.environ['PATH']}"}
    environment["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block[1]],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=1800,
    )

    with (tmp_path / "shards" / "videos.csv").open(newline="") as file:
        verdicts = Counter(row["verdict"] for row in csv.DictReader(file))
    assert verdicts == {"kept": 200, **BAD}
    for verdict, count in verdicts.items():  # as told to the user, with the share
        assert re.search(rf"^{verdict} +{count} +{count / 208:.1%}$", done.stdout, re.MULTILINE), done.stdout
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    # So few videos are learnt by heart: what is asked of the tour is that it trains, not that it generalises.
    assert metrics["train"]["train_accuracy"] > 0.7
    assert metrics["test"]["pairs"] > 400
    assert metrics["test"]["ceiling"] < 1
    assert re.search(r"^\| run .*%.*\n\| random:run:0 ", done.stdout, re.MULTILINE), done.stdout
    assert "<svg" in (tmp_path / "run" / "report.html").read_text()
