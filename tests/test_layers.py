"""Where a hop's time goes: what is counted in the file, and graphs cut short, which compute what the whole one does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import l3edge
from benchmarks import layer_rows, layers, record
from benchmarks.truncated import outputs, truncated
from l3edge import engine, flatbuffer
from training import operators

from .conftest import DATA, ENGINES

STUBS = sorted(DATA.glob("stub-*.tflite"))
ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", [*l3edge.models(), *STUBS], ids=str)
def test_convolutions_multiply_as_often_as_the_spec_says(name: str | Path, engine_name: str) -> None:
    model = l3edge.load(name, engine=engine_name)
    assert operators.convolution_macs(model.flatbuffer) == model.spec.macs_per_hop > 0


@pytest.mark.parametrize("path", STUBS, ids=lambda path: path.stem)
def test_the_graph_of_a_hop_is_a_files_first_so_that_engines_run_it_by_the_bare_call(path: Path) -> None:
    graph = flatbuffer.parse(path.read_bytes())
    assert graph.signatures["stream" if "stream" in graph.signatures else "window"].subgraph == 0


def test_of_a_fully_connected_operator_the_output_counts_once_for_each_input() -> None:
    graph = flatbuffer.parse((DATA / "stub-int8.tflite").read_bytes()).subgraphs[0]
    (mel,) = (operator for operator in graph.operators if operator.name == "FULLY_CONNECTED")
    assert operators.macs(graph, mel) == 8 * 257 * 8  # frames, bins, bands
    assert operators.macs(graph, graph.operators[0]) == 0


def run(module: Any, content: bytes, tensors: list[int] | None = None) -> list[Any]:
    """Values of these tensors, or of the outputs, for inputs that are always the same; operators as XNNPACK has them
    only where no tensor between them is asked for."""
    options: dict[str, Any] = {}
    if tensors is not None:
        resolver = module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        options = {"experimental_preserve_all_tensors": True, "experimental_op_resolver_type": resolver}
    interpreter = module.Interpreter(model_content=content, num_threads=1, **options)
    interpreter.allocate_tensors()
    rng = np.random.default_rng(2)
    for details in interpreter.get_input_details():
        noise = rng.normal(0, 40 if details["dtype"] == np.int8 else 0.1, details["shape"])
        interpreter.set_tensor(details["index"], noise.astype(details["dtype"]))
    interpreter.invoke()
    wanted = tensors or [details["index"] for details in interpreter.get_output_details()]
    return [interpreter.get_tensor(index) for index in wanted]


@pytest.mark.skipif("litert" not in ENGINES, reason="tflite-runtime preserves no tensor that it multiplies in place")
@pytest.mark.parametrize("path", STUBS, ids=lambda path: path.stem)
def test_a_graph_cut_short_gives_what_the_whole_one_has_there(path: Path) -> None:
    module = engine.find("litert").interpreter
    content = path.read_bytes()
    graph = flatbuffer.parse(content).subgraphs[0]
    for count in range(1, len(graph.operators) + 1):
        cut, kept = truncated(content, count), outputs(graph, count)
        parsed = flatbuffer.parse(cut)
        assert [len(parsed.subgraphs), len(parsed.subgraphs[0].operators)] == [1, count]
        assert set(graph.operators[count - 1].outputs) <= set(kept) == set(parsed.subgraphs[0].outputs)
        for ours, theirs in zip(run(module, cut, kept), run(module, content, kept), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_any_graph_of_a_file_can_be_the_one_that_is_cut(engine_name: str) -> None:
    module, content = engine.find(engine_name).interpreter, (DATA / "stub-int8.tflite").read_bytes()
    file = flatbuffer.parse(content)
    number = file.signatures["window"].subgraph
    (made,) = run(module, truncated(content, len(file.subgraphs[number].operators), number))
    samples = np.random.default_rng(2).normal(0, 0.1, 16_000).astype(np.float32)
    model = l3edge.load(DATA / "stub-int8.tflite", engine=engine_name)
    np.testing.assert_array_equal(made[0], model.network.window(samples))


@pytest.mark.parametrize("path", STUBS, ids=lambda path: path.stem)
def test_cut_after_its_last_operator_a_graph_is_the_whole_one_with_the_engines_own_kernels(
    path: Path, engine_name: str
) -> None:
    module, content = engine.find(engine_name).interpreter, path.read_bytes()
    graph = flatbuffer.parse(content).subgraphs[0]
    cut = truncated(content, len(graph.operators))
    assert flatbuffer.parse(cut).subgraphs[0].outputs == graph.outputs
    for ours, theirs in zip(run(module, cut), run(module, content), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_rows_are_all_operators_once_and_a_pad_goes_with_its_convolution() -> None:
    model = l3edge.load(DATA / "stub-int8.tflite")
    graph = flatbuffer.parse(model.flatbuffer).subgraphs[0]
    signature = flatbuffer.parse(model.flatbuffer).signatures["stream"]
    states = {index for name, index in signature.inputs.items() if name.startswith("state_")}
    rows = layer_rows.rows_of(graph, states)
    numbers = [number for row in rows for number in range(row.first, row.last + 1)]
    assert numbers == list(range(len(graph.operators)))
    padded = [row for row in rows if row.first < row.last]
    assert padded
    assert all(row.title.startswith("PAD + ") and row.part == "convolutions" for row in padded)
    parts = [row.part for row in rows]
    assert parts[0] == "front end"
    assert "front end" not in parts[parts.index("convolutions") :]
    assert {row.title.split()[0] for row in rows if row.part == "front end"} >= {"RFFT2D", "COMPLEX_ABS", "QUANTIZE"}
    first = next(row for row in rows if row.part == "convolutions")
    assert first.title == "PAD + CONV_2D 3x3, 1 to 4"
    time, bins = 10, 8  # the hop's eight frames and two of state
    assert first.macs == 8 * 8 * 4 * 9
    # int8 in, kernel and out; int32 bias, and the PAD's own eight numbers
    assert first.bytes == time * bins + 36 + 8 * 8 * 4 + 4 * 4 + 8 * 4


def test_the_ceilings_are_large_convolutions_of_their_kind() -> None:
    for dtype, path in layers.CEILINGS.items():
        content = path.read_bytes()
        graph = flatbuffer.parse(content).subgraphs[0]
        assert [operator.name for operator in graph.operators] == ["CONV_2D"]
        assert graph.tensors[graph.operators[0].inputs[1]].dtype == dtype
        assert operators.convolution_macs(content) > 30e6


@pytest.mark.parametrize("dtype", layers.CEILINGS)
def test_the_script_makes_the_ceilings_that_are_here(dtype: str) -> None:
    pytest.importorskip("tensorflow", reason="TensorFlow is not in the device environment")
    from benchmarks import make_ceilings

    assert make_ceilings.make(dtype) == layers.CEILINGS[dtype].read_bytes()


def test_the_command_tells_of_each_operator_and_draws(tmp_path: Path, engine_name: str) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not in the device environment")
    stub = str(DATA / "stub-int8.tflite")
    words = [stub, str(DATA / "stub-window.tflite"), "--rounds", "3", "--engine", engine_name, "--busy"]
    words += ["--json", str(tmp_path / "found.json"), "--plot", str(tmp_path / "pictures")]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.layers", *words], capture_output=True, text=True, cwd=ROOT, timeout=300
    )
    assert done.returncode == 0, done.stderr
    document = record.read(tmp_path / "found.json")  # as the schema says
    section = document["sections"]["layers"]
    models = section["figures"]["models"]
    assert len(models) == 2
    for name, found in models.items():
        assert name in done.stdout
        hop = found["microseconds"]["value"]
        assert sum(part["share"]["value"] for part in found["parts"].values()) == pytest.approx(1, abs=0.5)
        assert hop > 0
        assert f"{name}: front end, share of the hop" in section["ratios"]
        assert (tmp_path / "pictures" / f"layers-{name}.png").read_bytes().startswith(b"\x89PNG")
    assert "RFFT2D" in layers.tables(section)


def test_what_it_cannot_do_it_says_in_a_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.layers", "--rounds", "0"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 2
    assert "of at least 1" in done.stderr
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.layers", "nothing", "--busy"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 1
    assert "nothing" in done.stderr
    assert "Traceback" not in done.stderr
