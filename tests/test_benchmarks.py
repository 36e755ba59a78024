"""The benchmarks' own arithmetic, and that each command measures what it says, writes its schema and its page.

No times are judged here: on a shared machine a test of speed would fail by chance.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("jsonschema", reason="benchmarks check what they write: pip install l3edge[bench]")
pytest.importorskip("matplotlib", reason="benchmarks draw: pip install l3edge[bench]")

import l3edge
from benchmarks import latency, machine, memory, options, record, throughput, timing
from l3edge import flatbuffer
from tests.conftest import STUBS

ROOT = Path(__file__).resolve().parent.parent
STUB = str(STUBS[0])
MACHINE = {**machine.describe(), "engine": "none"}


def command(*words: str, status: int = 0) -> str:
    """What `python -m benchmarks...` prints; stderr where it fails."""
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == status, done.stderr
    return done.stderr if status else done.stdout


def document(**sections: dict[str, tuple[float, float, float]]) -> dict[str, Any]:
    made = {}
    for name, found in sections.items():
        ratios = record.Ratios()
        for ratio, values in found.items():
            ratios.lower(ratio, timing.Ratio(*values))
        made[name] = record.section(options.command(name), ratios, {})
    return record.document(MACHINE, made)


@given(
    st.lists(st.floats(1, 1000), min_size=3, max_size=30),
    st.floats(0.1, 10),
    st.floats(0.5, 100),
)
def test_a_ratio_is_of_the_same_round(rounds: list[float], factor: float, slower: float) -> None:
    """What slows a whole round down, both stages alike, changes nothing."""
    over = np.array(rounds)[:, None] * np.ones(5)
    times = over * factor
    plain = timing.ratio(times, over)
    slow = np.where(np.arange(len(rounds)) % 2, 1.0, slower)[:, None]
    disturbed = timing.ratio(times * slow, over * slow)
    for found in (plain, disturbed):
        assert found.low <= found.value <= found.high
        assert [found.low, found.value, found.high] == pytest.approx([factor] * 3)


def test_an_interval_is_as_wide_as_the_rounds_differ() -> None:
    rng = np.random.default_rng(1)
    ratios = rng.normal(2, 0.1, 400)
    few, many = timing.of_rounds(ratios[:20]), timing.of_rounds(ratios)
    assert many.high - many.low < few.high - few.low
    # The median's standard error is 1.25 times the mean's.
    assert many.high - many.low == pytest.approx(2 * 1.96 * 1.25 * 0.1 / 20, rel=0.4)
    assert many.low < 2 < many.high


def test_stages_take_turns() -> None:
    called = []
    times = timing.in_turns({name: lambda name=name: called.append(name) for name in "ab"}, 2, turn=3, warm_up=1)
    assert "".join(called) == "aaabbb" * 3
    assert {name: values.shape for name, values in times.items()} == {"a": (2, 3), "b": (2, 3)}


def test_a_document_is_checked_before_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "results" / "today.json"
    record.write(path, document(latency={"a / b": (1.1, 1.0, 1.2)}))
    before = path.read_bytes()
    assert record.read(path)["sections"]["latency"]["ratios"]["a / b"]["value"] == 1.1
    for wrong in (
        {**document(), "format": 2},
        {**document(), "machine": {}},
        document(latency={"a / b": (0.0, 0.0, 0.0)}),
    ):
        with pytest.raises(l3edge.Error, match=r"schema\.json"):
            record.write(path, wrong)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
    path.write_text("{")
    with pytest.raises(l3edge.Error, match="no result of the benchmarks"):
        record.read(path)


def test_two_results_are_compared(tmp_path: Path) -> None:
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    record.write(
        old, document(latency={"w": (1, 0.9, 1.1), "s": (1, 0.9, 1.1), "u": (1, 0.9, 1.6), "b": (2, 1.9, 2.1)})
    )
    now = {"w": (1.5, 1.4, 1.6), "s": (1.1, 1.0, 1.2), "u": (1.5, 1.4, 1.6), "b": (1, 0.9, 1.1), "new": (1, 1, 1)}
    record.write(new, document(latency=now))
    told = command("benchmarks.compare", str(old), str(new))
    assert "4 ratios: 1 worse, 1 unclear, 1 better, 1 the same" in told
    assert re.search(r"latency: w \| 1 \(0.9 to 1.1\) \| 1.5 \(1.4 to 1.6\) \| 1.50 \| worse", told)
    assert "latency: s" not in told
    assert "latency: s" in command("benchmarks.compare", str(old), str(new), "--all")
    command("benchmarks.compare", str(old), str(new), "--fail", status=1)
    assert "0 worse" in command("benchmarks.compare", str(old), str(new), "--fail", "--within", "60")
    assert "0 worse" in command("benchmarks.compare", str(old), str(old), "--fail")
    record.write(new, document(memory={"w": (1, 0.9, 1.1)}))
    assert "no ratio in common" in command("benchmarks.compare", str(old), str(new), status=1)


def test_a_busy_machine_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    busy = {**MACHINE, "load": 1.5, "cores": 2}
    with pytest.raises(l3edge.Error, match=r"load 1\.5 on 2 cores.*--busy"):
        machine.check_quiet(busy)
    machine.check_quiet(busy, anyway=True)
    assert "warning" in capsys.readouterr().err
    machine.check_quiet({**busy, "load": 0.2})
    machine.check_quiet({**busy, "load": None})
    assert not capsys.readouterr().err


def test_a_machine_has_a_name_for_a_folder() -> None:
    told = {**MACHINE, "cpu": "Raspberry Pi 4 Model B Rev 1.4", "kind": "aarch64-asimddp", "cores": 4}
    assert machine.name(told) == "raspberry-pi-4-model-b-rev-1-4-aarch64-asimddp-4-cores"


def test_latency(tmp_path: Path) -> None:
    json_file, page = tmp_path / "l.json", tmp_path / "l.html"
    words = ("--hops", "40", "--paced", "5", "--busy", "--json", str(json_file), "--html", str(page))
    told = command("benchmarks.latency", STUB, "--compare", "edge-s", *words)
    section = record.read(json_file)["sections"]["latency"]
    model = l3edge.load(STUB)
    assert section["command"] == f"python -m benchmarks.latency {STUB} --compare edge-s --hops 40 --paced 5"
    (name, found), *_ = section["figures"]["models"].items()
    assert name == model.name
    assert set(found["fast"]["stages"]) == {"hand over", "resample", "front end", "step", "push", "window"}
    for values in found["fast"]["stages"].values():
        assert 0 < values["p50"] <= values["p90"] <= values["p99"] <= values["max"]
    assert found["paced"]["hops"] == 5
    assert set(found["beginning"]) == {"import numpy", "import l3edge", "load", "first window", "the next hop"}
    assert {f"{name}: push / step", f"edge-s-2 on {model.engine.name} / {name} on {model.engine.name}: push"} <= set(
        section["ratios"]
    )
    assert f"### {name} on {model.engine.name}" in told
    text = page.read_text()
    assert text.count("<svg") == 2
    assert not re.search(r"(?:src|href)=[\"']?(?!#)", text.replace('xlink:href="#', ""))
    assert "http" not in re.sub(r"http://(?:www\.w3\.org|purl\.org|creativecommons\.org|matplotlib)[^\"]*", "", text)


def test_two_models_of_one_name_are_refused(tmp_path: Path) -> None:
    """All figures go by it."""
    (tmp_path / "mine.tflite").write_bytes(Path(STUB).read_bytes())
    told = command("benchmarks.latency", STUB, str(tmp_path / "mine.tflite"), "--busy", status=1)
    assert "one by one" in told


def test_what_is_timed_is_a_hop() -> None:
    """Each stage gives what the SDK gives for the same sound."""
    model = l3edge.load(STUB)
    stages = latency.stages_of(model)
    embeddings, times = stages["push"]()
    assert embeddings.shape == (1, model.spec.embedding_size)
    assert times.shape == (1,)
    assert len(stages["hand over"]()) == 4800
    assert sum(len(stages["resample"]()) for _ in range(10)) == pytest.approx(16_000, abs=400)
    assert stages["window"]().shape == (model.spec.embedding_size,)


def test_memory(tmp_path: Path) -> None:
    file = tmp_path / "m.json"
    told = command("benchmarks.memory", STUB, "--rounds", "1", "--busy", "--json", str(file))
    figures = record.read(file)["sections"]["memory"]["figures"]
    ((name, found),) = figures["models"].items()
    assert f"### {name}" in told
    stages = list(found["stages"].values())
    assert len(stages) == 4
    assert all(row["peak MB"] >= row["resident MB"] > 5 for row in stages)
    assert stages[2]["modules"] > stages[1]["modules"] > 50
    assert found["sizes"]["file kB"] == pytest.approx(Path(STUB).stat().st_size / 1e3, abs=0.1)
    assert figures["installed MB"]["pip install l3edge"] > figures["installed MB"]["l3edge alone"] > 1


def test_the_arena_holds_what_is_needed_at_once() -> None:
    """In a graph of three layers, the two largest neighbours."""

    def tensor(size: int, constant: int = 0) -> flatbuffer.Tensor:
        return flatbuffer.Tensor("", (size,), False, "int8", (), (), 0, constant, 0, False)

    def operator(read: tuple[int, ...], made: int) -> flatbuffer.Operator:
        return flatbuffer.Operator("ADD", False, 1, read, (made,), flatbuffer.Options())

    tensors = (tensor(10), tensor(1000, constant=1000), tensor(50), tensor(30), tensor(5))
    operators = (operator((0, 1), 2), operator((2,), 3), operator((3, -1), 4))
    assert memory.arena(flatbuffer.Subgraph("", tensors, (0,), (4,), operators)) == 80
    # What is an output stays to the end.
    assert memory.arena(flatbuffer.Subgraph("", tensors, (0,), (4, 2), operators)) == 85


def test_throughput(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = l3edge.load(STUB)
    for name, value in {
        "ROUNDS": 1,
        "STREAMS": (1, 2),
        "HOPS": (1, 2),
        "SECONDS": (1, 2),
        "ARCHIVE_SECONDS": 5,
    }.items():
        monkeypatch.setattr(throughput, name, value)
    monkeypatch.setattr(options, "tensorflow", lambda: False)  # what networks cost takes a minute of converting
    arguments = options.parser("throughput", "").parse_args([STUB])
    arguments.rounds = 2
    section = throughput.measure(arguments)
    record.write(tmp_path / "t.json", record.document(MACHINE, {"throughput": section}))
    found = section["figures"]["models"][model.name]
    assert found["per core"]["streams"] <= 2 * found["per core"]["by the cost of one"]
    assert found["archive"]["hours an hour"] > 0
    assert {kind: [row["units"] for row in grown["grown"]] for kind, grown in found["growth"].items()} == {
        "streams": [2],
        "hop": [2],
        "length": [2],
    }
    throughput.draw(section, tmp_path)
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")


def test_all_in_one_run_and_the_page(tmp_path: Path) -> None:
    """The whole command with a small part of the set; then the page of what it found."""
    from benchmarks import page

    out = tmp_path / "out.json"
    told = command("benchmarks", "memory", "--models", STUB, "--busy", "--out", str(out))
    assert "--out" in command("benchmarks", "memory", "--busy", status=1)  # the record of the day stays whole
    assert f"wrote {out}" in told
    found = record.read(out)
    assert list(found["sections"]) == ["memory"]
    docs = tmp_path / "docs"
    docs.mkdir()
    assert page.write(found, docs) == [docs / "benchmarks.md"]
    text = (docs / "benchmarks.md").read_text()
    assert "Not measured in this run: `python -m benchmarks latency`" in text
    assert "| import l3edge, load |" in text
    assert "no benchmark 'speed'" in command("benchmarks", "speed", "--out", str(out), status=1)


def test_the_page_is_that_of_the_newest_result(tmp_path: Path) -> None:
    """docs/benchmarks.md was made from a committed file, and says which."""
    from benchmarks import page

    made = json.loads(page.newest().read_text())
    record.check(made, "the newest result")
    for path in page.write(made, tmp_path):
        if path.suffix == ".md":
            assert path.read_text() == (page.DOCS / path.name).read_text()
