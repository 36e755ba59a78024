"""The Edge TPU checker where there is no TensorFlow: files for the CPU, damaged files, the table of rules."""

from __future__ import annotations

import contextlib
import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import l3edge
from export import edgetpu_report, edgetpu_rules
from l3edge import flatbuffer, model_file

from .conftest import STUBS

ROOT = Path(__file__).parent.parent
STUB = STUBS[0].read_bytes()


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "export.edgetpu", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


@pytest.mark.parametrize("path", STUBS[:2], ids=lambda path: path.stem)
def test_no_to_a_model_for_the_cpu(path: Path, tmp_path: Path) -> None:
    """Several subgraphs, a waveform in float32, an FFT: status 1, each with its reason."""
    ran = run("check", path, "--json", tmp_path / "report.json")
    assert ran.returncode == 1, ran.stderr
    signatures = sorted(model_file.read(path).signatures)
    told = f"refused, subgraphs: {len(signatures)} subgraphs (signatures: {', '.join(signatures)}), not one"
    assert told in ran.stdout
    assert "not mapped, operator: RFFT2D is not among the operators of the Edge TPU" in ran.stdout
    assert "change: compute the spectrum on the host: export with `--target edgetpu`" in ran.stdout
    assert ran.stdout.endswith("Fully mapped: no.\n")
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["fully_mapped"], report["refused"], report["cut"]) == (False, True, None)
    assert {row["runs_on"] for row in report["operators"]} == {"CPU"}
    log = next(row for row in report["operators"] if row["operator"] == "LOG")
    assert [finding["rule"] for finding in log["findings"]] == ["operator"]


def test_a_file_that_is_no_model() -> None:
    ran = run("check", __file__)
    assert ran.returncode == 1
    assert ran.stderr == f"error: {__file__}: not a TFLite model (a .tflite flatbuffer has TFL3 in bytes 4 to 8)\n"
    assert run("check").returncode == 2


def test_needs_no_tensorflow() -> None:
    code = "import sys, export.edgetpu; sys.exit('tensorflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_every_rule_names_its_source() -> None:
    assert len({rule.name for rule in edgetpu_rules.RULES}) == len(edgetpu_rules.RULES)
    for rule in edgetpu_rules.RULES:
        assert rule.certainty in ("documented", "reported", "inferred")
        assert "https://" in rule.source, rule.name
        assert rule.advice
        assert rule.verdict in edgetpu_rules.SEVERITY[1:]
        assert set(rule.operators) <= set(edgetpu_rules.OPERATORS), rule.name
    assert set(edgetpu_rules.OPERATORS) <= set(flatbuffer.OPERATORS)
    assert set(edgetpu_rules.INSTEAD) <= set(flatbuffer.OPERATORS) - set(edgetpu_rules.OPERATORS)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, len(STUB) // 4 - 1), st.sampled_from([0, 1, -1, 2, 7, 1 << 16, (1 << 31) - 1])),
        min_size=1,
        max_size=4,
    )
)
def test_damaged_files(changes: list[tuple[int, int]]) -> None:
    """A report or ModelFileError, never another exception."""
    data = bytearray(STUB)
    for word, value in changes:
        struct.pack_into("<i", data, 4 * word, value)
    with contextlib.suppress(l3edge.ModelFileError):
        report = edgetpu_report.check(flatbuffer.parse(bytes(data)), "damaged")
        assert edgetpu_report.describe(report)
        assert json.dumps(report.to_json())
