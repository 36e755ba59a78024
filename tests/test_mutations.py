"""Ten thousand mutants of a valid model file, and some of the others: an error, or the right answer.

Each is read and, where it is accepted, loaded and run, in a process whose return code tells a crash
(`tests.mutations` says what is done to the files and what counts as right).
"""

from __future__ import annotations

import collections
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import l3edge
from l3edge import engine, model_file

from . import mutations
from .conftest import HEADED, STUBS, TAGGED

ROOT = Path(__file__).parent.parent
INT8 = STUBS[0]
BUILT_IN = l3edge.model.find()


def start(path: Path, count: int, seed: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.mutations", str(path), str(count), str(seed)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def total(processes: list[subprocess.Popen[str]], mutants: int) -> dict[str, collections.Counter[str]]:
    """Counts by kind and outcome of all processes, which must have ended well."""
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for process in processes:
        told, complaints = process.communicate()
        assert process.returncode == 0, f"status {process.returncode}\n{told}\n{complaints[-5000:]}"
        for kind, outcomes in json.loads(told).items():
            counts[kind].update(outcomes)
    for kind, outcomes in counts.items():
        print(f"{kind:28} {dict(outcomes)}")
    assert sum(outcomes.total() for outcomes in counts.values()) == mutants
    return counts


def test_ten_thousand_mutants() -> None:
    counts = total([start(INT8, 5000, seed) for seed in (1, 2)], 10_000)
    assert set(counts) == {mutation.__name__ for mutation in mutations.CARELESS + mutations.CONSISTENT}
    outcomes = sum(counts.values(), collections.Counter())
    assert set(outcomes) <= {"refused", "same bits", "right shape", "whole"}
    # What was changed beside the flatbuffer and its label is often accepted; else the judge would never have judged.
    assert outcomes["refused"] > 5000
    assert outcomes["same bits"] > 500
    assert counts["edit_flatbuffer_and_digests"]["whole"] > 50


@pytest.mark.parametrize("path", [*STUBS[1:], TAGGED, HEADED, BUILT_IN], ids=lambda path: path.stem)
def test_mutants_of_the_other_files(path: Path) -> None:
    total([start(path, 400, 3)], 400)


@pytest.fixture
def judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> mutations.Judge:
    monkeypatch.setattr(engine.Network, "_open", engine.Network._open)  # put back what the judge puts in its place
    return mutations.Judge(mutations.Original(INT8), tmp_path)


def test_the_judge_sees_other_bits(judge: mutations.Judge) -> None:
    """A mutant that is accepted and embeds otherwise is told apart: here the judge is given another file's bits."""
    assert judge(mutations.insert, INT8.read_bytes()) == "same bits"
    judge.want = bytes(len(judge.want))
    with pytest.raises(mutations.BrokenError, match="other bits"):
        judge(mutations.insert, INT8.read_bytes())
    assert judge(mutations.edit_metadata_and_digest, INT8.read_bytes()) == "right shape"


def test_the_judge_shows_no_changed_flatbuffer_to_an_interpreter(judge: mutations.Judge) -> None:
    with pytest.raises(mutations.BrokenError, match="about to see a changed flatbuffer"):
        judge(mutations.insert, STUBS[1].read_bytes())


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compression_is_refused(tmp_path: Path, method: int) -> None:
    """What `zipfile` could read besides, some of it with errors of its own, no model file has."""
    original = mutations.Original(INT8)
    path = tmp_path / "m.tflite"
    path.write_bytes(original.flatbuffer)
    with zipfile.ZipFile(path, "a", method) as archive:
        archive.writestr(model_file.MEMBER, original.text)
        archive.writestr(model_file.DIGEST, mutations.right_digest(original.text))
    with pytest.raises(l3edge.ModelFileError, match="neither stored nor deflated"):
        model_file.read(path)
    # Deflated as before, and said to be in this method: its decoder would meet bytes that it never made.
    data = bytearray(original.data)
    entry = data.index(b"PK\1\2", len(original.flatbuffer))
    data[entry + 10 : entry + 12] = method.to_bytes(2, "little")
    path.write_bytes(data)
    with pytest.raises(l3edge.ModelFileError, match="neither stored nor deflated"):
        model_file.read(path)
