"""The table of peers: the published networks are what they are said to be, and a row is measured or says why not."""

from __future__ import annotations

import copy
import functools
import itertools
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import l3edge
from benchmarks import bare, peer_files, peer_models, peers, record, timing
from l3edge import engine, flatbuffer
from l3edge.spec import PRESETS
from training import operators, teachers

from .conftest import ENGINES

PAPER = 10.2e9  # multiply-accumulates of a window of OpenL3's mel256
QUICK = ["edge-m", "edge-s", "edge-s-window"]


def both(*names: str) -> set[str]:
    """The names of these ratios in both measurements."""
    return {*names, *(name + ", in real time" for name in names)}


def measured(*words: str) -> dict[str, Any]:
    return peers.measure(peers.parser().parse_args([*words, "--rounds", "3", "--hops", "3", "--engine", ENGINES[0]]))


@pytest.fixture(scope="module")
def quick() -> dict[str, Any]:
    return measured(*QUICK)


def test_rows_are_measured_and_printed_once_each(quick: dict[str, Any]) -> None:
    rows = {row["name"]: row for row in quick["figures"]["rows"]}
    assert list(rows) == QUICK
    table = peers.tables(quick)
    for name, row in rows.items():
        assert table.count(f"| {peer_models.ROWS[name].title} |") == 1
        model = l3edge.load(name.removesuffix("-window"))
        macs = model.spec.macs_per_window if name.endswith("window") else model.spec.macs_per_hop
        assert (row["model"], row["macs_a_second"]) == (model.name, 10 * macs)
        assert row["embedding_size"] == model.spec.embedding_size
        assert row["file_mb"] == round(model.path.stat().st_size / 1e6, 2)
        assert row["ms_a_second"] == pytest.approx(row["microseconds"]["p50"] / 100, rel=1e-2)
        assert set(row["real_time"]) == {"ms_a_second", "times_default"}
        assert row["real_time"]["ms_a_second"] > 0
        # A process that holds the file holds more than one that does not; the SDK's holds the SDK as well.
        assert quick["figures"]["engine_mb"] < row["resident_mb"] <= row["peak_mb"]
        assert ("sdk_resident_mb" in row) == (row["kind"] == peer_models.OURS)
    assert rows["edge-m"]["sdk_resident_mb"] > rows["edge-m"]["resident_mb"]
    assert rows["edge-m"]["times_default"]["value"] == rows["edge-m"]["real_time"]["times_default"]["value"] == 1
    assert set(quick["ratios"]) == both("edge-s / default", "edge-s per window / edge-s")
    for name, ratio in quick["ratios"].items():
        assert ratio["better"] == quick["ratios"][name.removesuffix(peers.REAL_TIME)]["better"]
    real = rows["edge-s"]["real_time"]["times_default"]
    assert quick["ratios"]["edge-s / default, in real time"] == {**real, "better": "lower"}


def test_in_real_time_every_call_comes_after_a_sleep() -> None:
    calls: list[tuple[str, float]] = []
    stages = {name: functools.partial(lambda name: calls.append((name, time.monotonic())), name) for name in "ab"}
    begin = time.monotonic()
    times = peers.in_real_time(stages, 3, pause=0.01)
    assert [name for name, _ in calls] == list("ababab")
    moments = [begin, *(moment for _, moment in calls)]
    assert all(later - earlier >= 0.01 for earlier, later in itertools.pairwise(moments))
    assert {name: found.shape for name, found in times.items()} == {"a": (3, 1), "b": (3, 1)}


def test_a_promise_is_judged_in_both_measurements(quick: dict[str, Any]) -> None:
    section = copy.deepcopy(quick)
    found, real = ({"value": value, "low": value - 1, "high": value + 1} for value in (400.0, 200.0))
    section["figures"]["targets"] = [{"what": "this / that", "least": 300, "found": found, "real_time": real}]
    default = section["figures"]["rows"][0]
    default["real_time"]["ms_a_second"] = 2 * default["ms_a_second"]
    *_, line, empty, why = peers.tables(section).splitlines()
    assert line == "| this / that | at least 300 | **400 (399 to 401)** | kept | **200 (199 to 201)** | not kept |"
    assert empty == ""
    assert "edge-m (default) takes 2 times as much as back to back" in why


def test_accuracy_is_that_of_clips_that_were_not_heard(quick: dict[str, Any]) -> None:
    judged = {row["name"]: row["accuracy"] for row in quick["figures"]["rows"]}
    assert {each["hearing"] for each in judged.values()} == {"clean"}
    assert judged["edge-s"] == judged["edge-s-window"] != judged["edge-m"]


def test_the_section_is_as_the_schema_says(quick: dict[str, Any]) -> None:
    pytest.importorskip("jsonschema", reason="jsonschema is not in the device environment")
    from benchmarks import machine

    document = record.document(machine.describe(), {"peers": quick})
    record.check(document, "the section")
    wrong = copy.deepcopy(document)
    wrong["sections"]["peers"]["ratios"]["edge-s / default"]["better"] = "either"
    with pytest.raises(l3edge.Error, match="edge-s / default"):
        record.check(wrong, "the section")


def test_the_picture_has_a_bar_for_what_was_measured(quick: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not in the device environment")
    from benchmarks import peers_plot

    section = copy.deepcopy(quick)
    section["figures"]["rows"][1] = {"name": "edge-s", "title": "edge-s", "missing": "why not"}
    (axes,) = peers_plot.bars(section).axes
    titles = [label.get_text() for label in axes.get_yticklabels()]
    assert titles == ["edge-m (default)", "edge-s per window"]
    dots = [section["figures"]["rows"][i]["real_time"]["ms_a_second"] for i in (0, 2)]
    assert list(axes.lines[0].get_xdata()) == dots
    assert [bar.get_width() for bar in axes.patches] == [section["figures"]["rows"][i]["ms_a_second"] for i in (0, 2)]
    peers_plot.draw(section, tmp_path)
    assert (tmp_path / "peers.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_missing_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teachers, "YAMNET", tmp_path / "yamnet.tflite")
    monkeypatch.setattr(peer_files, "CACHE", tmp_path)
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # as where it is not installed
    section = measured("yamnet", "mel256-int8")
    rows = {row["name"]: row for row in section["figures"]["rows"]}
    assert list(rows) == ["edge-m", "mel256-int8", "yamnet"]
    assert f"no {tmp_path / 'yamnet.tflite'}: set L3EDGE_DATA" in rows["yamnet"]["missing"]
    assert "TensorFlow, which is not installed" in rows["mel256-int8"]["missing"]
    table = peers.tables(section)
    assert table.count("| YAMNet at 0.48 s | missing: no ") == table.count("| missing: it is made with") == 1
    assert section["ratios"] == {}
    assert section["figures"]["targets"] == []


def test_the_command(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "benchmarks.peers",
        "--busy",
        "--engine",
        ENGINES[0],
        "--rounds",
        "2",
        "--hops",
        "2",
    ]
    done = subprocess.run([*command, "edge-l"], cwd=record.ROOT, capture_output=True, text=True, check=True)
    assert [line.split(" |")[0] for line in done.stdout.splitlines() if line.startswith("| edge")] == [
        "| edge-m (default)",
        "| edge-l",
    ]
    refused = subprocess.run([*command, "edge-x"], cwd=record.ROOT, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "error: no row 'edge-x': the rows are edge-m, " in refused.stderr


@pytest.mark.skipif(not teachers.YAMNET.is_file(), reason=f"no {teachers.YAMNET}: set L3EDGE_DATA")
def test_yamnet_at_its_own_hop_costs_less_than_at_ours() -> None:
    section = measured("yamnet", "yamnet-10hz")
    _, own, ours = section["figures"]["rows"]
    assert (own["a_second"], ours["a_second"]) == (2.08, 10)
    assert ours["macs_a_second"] == 10 * own["macs"] == 10 * ours["macs"]
    assert own["macs_a_second"] == round(own["macs"] / 0.48)
    assert own["accuracy"] == ours["accuracy"]
    assert own["accuracy"]["hearing"] == "unknown"
    assert [target["what"] for target in section["figures"]["targets"]] == ["YAMNet at 10 Hz / edge-m (default)"]
    assert set(section["ratios"]) == both("YAMNet at 0.48 s / default", "YAMNet at 10 Hz / default")
    (line,) = (line for line in peers.tables(section).splitlines() if line.startswith("| YAMNet at 10 Hz / "))
    assert line.count("kept") + line.count("undecided") == 2


def test_a_slow_stage_has_fewer_calls_and_no_fewer_than_a_median_needs() -> None:
    stages = {"slow": lambda: time.sleep(0.02), "fast": lambda: None}
    turns = timing.affordable(stages, 0.03)
    assert turns == {"slow": timing.LEAST, "fast": timing.TURN}
    ticks = itertools.count(0, 7000)
    times = timing.in_turns(stages, 2, turns, warm_up=0, clock=lambda: next(ticks))
    assert {name: found.shape for name, found in times.items()} == {"slow": (2, 3), "fast": (2, 20)}
    assert {microseconds for found in times.values() for microseconds in found.ravel()} == {7.0}


def test_figures_are_shown_without_powers_of_ten() -> None:
    assert [timing.shown(number) for number in (0.12345, 1.4, 12.34, 999.6, 1318.0)] == [
        "0.123",
        "1.4",
        "12.3",
        "1,000",
        "1,320",
    ]


def test_the_sound_is_the_same_at_all_rates() -> None:
    whole, third = peer_models.sound(48_000), peer_models.sound(16_000)
    assert len(whole) == 3 * len(third)
    assert np.allclose(third, (whole[::3] + whole[1::3] + whole[2::3]) / 3, atol=1e-6)
    windows = peer_models.pieces(16_000, 16_000)
    assert np.array_equal(next(windows)[1600:], next(windows)[:-1600])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the smallest network that is published, in int8."""
    pytest.importorskip("tensorflow", reason="TensorFlow is not in the device environment")
    folder = tmp_path_factory.mktemp("peers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(peer_files, "CACHE", folder)
        path = peer_files.find("openl3-mel128", "int8_ptq")
        before = path.stat().st_mtime_ns
        assert peer_files.find("openl3-mel128", "int8_ptq") == path
        assert path.stat().st_mtime_ns == before
    assert list(folder.iterdir()) == [path]
    return folder


def test_a_file_that_was_made_needs_no_tensorflow(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_files, "CACHE", made)
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    rows = {row["name"]: row for row in measured("mel128-int8", "mel128-float32")["figures"]["rows"]}
    assert "not installed" in rows["mel128-float32"]["missing"]
    int8 = rows["mel128-int8"]
    assert int8["macs_a_second"] == 10 * PRESETS["openl3-mel128"].macs_per_window
    assert int8["accuracy"] is None
    assert "seeded" in int8["model"]


def test_int8_is_int8_and_the_network_that_float32_is(made: Path) -> None:
    from export.recipes import kernels

    int8, float32 = next(made.iterdir()).read_bytes(), peer_files.make("openl3-mel128", "float32")
    assert [kernel.dtype for kernel in kernels(int8)] == 8 * [np.int8]
    assert [kernel.dtype for kernel in kernels(float32)] == 8 * [np.float32]
    graph = flatbuffer.parse(int8).subgraphs[0]
    convolutions = [operator for operator in graph.operators if operator.name == "CONV_2D"]
    assert {graph.tensors[each.inputs[0]].dtype for each in convolutions} == {"int8"}
    assert {graph.tensors[each.outputs[0]].dtype for each in convolutions} == {"int8"}
    window = next(peer_models.pieces(48_000, 48_000))
    embeddings = []
    for name, content in (("int8", int8), ("float32", float32)):
        path = made.parent / f"{name}.tflite"
        path.write_bytes(content)
        embeddings.append(bare.embedder(engine.find(ENGINES[0]).interpreter, path)(window).ravel().astype(np.float64))
    assert np.corrcoef(*embeddings)[0, 1] > 0.98
    assert np.ptp(embeddings[0]) > 20  # steps of int8: a constant correlates with nothing


def test_the_published_network_is_as_large_as_the_paper_has_it() -> None:
    pytest.importorskip("tensorflow", reason="TensorFlow is not in the device environment")
    content = peer_files.make("openl3-mel256", "float32")
    macs = operators.convolution_macs(content)
    assert macs == PRESETS["openl3-mel256"].macs_per_window == pytest.approx(PAPER, rel=1e-3)
