"""`python -m export.verify` as a user runs it: good files pass, and each check is seen to fail on a file that deserves
it. The files that only TensorFlow can make are skipped without it.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import export
import l3edge
from export import verify
from l3edge import engine, flatbuffer, model_file
from l3edge.layers import Pool
from l3edge.spec import PRESETS

from . import make_stub
from .conftest import ENGINES, HEADED, STUBS, TAGGED

ROOT = Path(__file__).parent.parent
INT8, FLOAT32, EDGETPU, WINDOW = STUBS
BUILT_IN = l3edge.model.find()
MARKS = {"ok": True, "FAIL": False, "-": None}

needs_engine = pytest.mark.skipif(not ENGINES, reason="no engine installed")

Report = dict[str, tuple[bool | None, str]]  # by the check's name: passed, and what is told
Verify = Callable[..., tuple[int, Report]]


def label(name: str) -> str:
    found = engine.find(name)
    return f"{found.name} {found.version}"


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Verify:
    """The command on a file: its status, and its report, of which table and JSON say the same."""

    def run_command(path: Path, *options: object) -> tuple[int, Report]:
        written = tmp_path / "report.json"
        monkeypatch.setattr("sys.argv", ["verify", str(path), "--json", str(written), *map(str, options)])
        capsys.readouterr()
        status = verify.main()
        printed = capsys.readouterr()
        report = json.loads(written.read_text())
        lines = printed.out.splitlines()
        assert len(lines) == len(report["checks"])
        for line, check in zip(lines, report["checks"], strict=True):
            mark, rest = line.split(maxsplit=1)
            assert MARKS[mark] is check["passed"]
            assert rest.split() == f"{check['name']} {check['told']}".split()
        assert report["passed"] == (status == 0)
        failed = [check["name"] for check in report["checks"] if check["passed"] is False]
        assert printed.err.splitlines()[-1] == (
            f"{path}: FAILED: {', '.join(failed)}" if failed else f"{path}: all that could be checked holds"
        )
        return status, {check["name"]: (check["passed"], check["told"]) for check in report["checks"]}

    return run_command


def only(report: Report, *failed: str) -> list[str]:
    """What is told by the named checks, and by no other, to have failed."""
    assert [name for name, (passed, _) in report.items() if passed is False] == list(failed)
    return [report[name][1] for name in failed]


@pytest.mark.parametrize("path", [*STUBS, TAGGED, HEADED, BUILT_IN], ids=lambda path: path.stem)
def test_good_files_pass(path: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "export.verify", str(path), "--json", str(tmp_path / "report.json")]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["passed"]
    names = [check["name"] for check in report["checks"]]
    scored = [key for key in ("tags", "head") if key in l3edge.model_file.read(path).signatures]
    clauses = ("C1", "C2", "C3", "C7", "ears", *scored)
    contract = [f"{clause} on {label(name)}" for name in ENGINES for clause in clauses]
    missing = [name for name in engine.ENGINES if name not in ENGINES]
    between = [] if missing else ["engines", *scored]
    assert names == ["file", "structure", *contract, *missing, *between, "parity"]
    unchecked = {check["name"] for check in report["checks"] if check["passed"] is None}
    without = {name for name in contract if name.startswith("C3") and path in (EDGETPU, WINDOW)}
    assert unchecked == {*missing, *without, "parity"}
    for name in missing:
        assert f"not checked: engine '{name}'" in ran.stdout
    if path == INT8:
        assert "nothing runs in float but the front end\n" in ran.stdout


def test_what_is_no_model(
    verified: Verify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = tmp_path / "damaged.tflite"
    data = bytearray(INT8.read_bytes())
    data[20_000] ^= 4
    damaged.write_bytes(data)
    status, report = verified(damaged)
    assert status == 1
    assert set(report) == {"file"}
    assert "the flatbuffer is not the one that l3edge.json names: the file is damaged" in only(report, "file")[0]
    status, report = verified(ROOT / "README.md")
    assert "not a TFLite model" in only(report, "file")[0]
    monkeypatch.setattr("sys.argv", ["verify", "nowhere.tflite"])
    with pytest.raises(SystemExit) as stopped:
        verify.main()
    assert stopped.value.code == 2
    monkeypatch.setattr("sys.argv", ["verify", str(INT8), "--against", "no-run"])
    with pytest.raises(SystemExit) as stopped:
        verify.main()
    assert stopped.value.code == 2
    assert "no-run: no such file or folder" in capsys.readouterr().err


def rewritten(source: Path, path: Path, flat: bytes | None = None, **metadata: Any) -> Path:
    """A copy with other metadata, or with another flatbuffer."""
    file = model_file.read(source)
    known = {key: file.metadata[key] for key in ("name", "spec", "recipe", "target", "parity", "provenance")}
    model_file.write(path, file.flatbuffer if flat is None else flat, {**known, **metadata})
    return path


def test_a_recipe_that_the_tensors_contradict(verified: Verify, tmp_path: Path) -> None:
    status, report = verified(rewritten(FLOAT32, tmp_path / "m.tflite", recipe="int8_qat"))
    assert status == 1
    assert "the recipe is 'int8_qat', and outputs are float32" in only(report, "structure")[0]
    status, report = verified(rewritten(INT8, tmp_path / "m.tflite", recipe="float32"))
    assert "the recipe is 'float32', and outputs are int8" in only(report, "structure")[0]


def without_weights(graph: flatbuffer.Model) -> flatbuffer.Model:
    """As if the first convolution's weights were not in the file."""
    first, *others = graph.subgraphs
    number = next(op for op in first.operators if op.name == "CONV_2D").inputs[1]
    tensors = [tensor._replace(buffer_bytes=0) if i == number else tensor for i, tensor in enumerate(first.tensors)]
    return graph._replace(subgraphs=(first._replace(tensors=tuple(tensors)), *others))


def test_weights_that_are_not_in_the_file() -> None:
    file = model_file.read(INT8)
    told = verify.structure(file._replace(graph=without_weights(file.graph)))
    assert told.passed is False
    assert "CONV_2D, computes its weights" in told.told


def test_a_custom_operator() -> None:
    file = model_file.read(INT8)
    first = file.graph.subgraphs[0]
    operators = (first.operators[0]._replace(custom=True, name="FlexErf"), *first.operators[1:])
    graph = file.graph._replace(subgraphs=(first._replace(operators=operators),))
    told = verify.structure(file._replace(graph=graph))
    assert told.passed is False
    assert "custom operators ['FlexErf'], which no engine here has" in told.told


@needs_engine
def test_a_compiled_file_is_not_run(verified: Verify, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "COMPILED", "CONV_2D")  # as if the Edge TPU's compiler had made these
    status, report = verified(EDGETPU)
    assert status == 0
    assert report[ENGINES[0]] == (None, "not checked: compiled for the Edge TPU; check the file that was compiled")


@needs_engine
def test_an_engine_that_refuses_is_a_line(verified: Verify, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise l3edge.ModelFileError("m.tflite: the engine refuses it")

    monkeypatch.setattr(l3edge, "load", refuse)
    status, report = verified(INT8)
    assert status == 1
    assert report[f"contract on {ENGINES[0]}"] == (False, "broke off: m.tflite: the engine refuses it")


@needs_engine
def test_threads_that_give_other_bits(verified: Verify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the engine's kernels differed between thread counts: with three, another file answers."""
    load = l3edge.load
    monkeypatch.setattr(
        l3edge, "load", lambda path, engine, threads: load(INT8 if threads < 3 else FLOAT32, engine, threads)
    )
    status, report = verified(INT8)
    assert status == 1
    (told,) = only(report, *(f"C7 on {label(name)}" for name in ENGINES))
    assert told.startswith("C7: 3 threads: ")


@needs_engine
def test_engines_that_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    load = l3edge.load
    clip = export.contract.sounds(1, 24_000)
    models = {"one": INT8, "other": INT8, "strange": FLOAT32}
    monkeypatch.setattr(l3edge, "load", lambda path, engine: load(models[engine]))
    assert verify.engines_agree(INT8, ["one", "other"], clip)[1:] == (
        True,
        "0.00% of 48 values differ, at most by 0 int8 step(s)",
    )
    assert verify.engines_agree(INT8, ["one", "strange"], clip).passed is False


# ---------------------------------------------------------------------------------- files that only TensorFlow can make


@pytest.fixture
def tensorflow() -> Any:
    pytest.importorskip("tensorflow", reason="TensorFlow is not in the device environment")
    from training.backend import tf

    return tf


def networks(count: int = 2) -> list[Any]:
    """Networks of the stub's spec that differ in their weights."""
    from export import graph

    spec = make_stub.SPECS["int8"]
    ranges = [(0.0, 4.0)] * len(spec.convolutions)
    return [graph.Network(spec, graph.random_weights(spec.layers, seed), ranges) for seed in range(count)]


def test_a_step_that_is_another_network_than_the_window(
    tensorflow: Any, verified: Verify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from export import convert, graph

    one, other = networks()
    good = rewritten(INT8, tmp_path / "good.tflite", convert.convert(one))
    assert verified(good)[1][f"C3 on {label(ENGINES[0])}"][0] is True
    monkeypatch.setattr(convert, "window_function", lambda network: graph.window_function(other))
    bad = rewritten(INT8, tmp_path / "bad.tflite", convert.convert(one))
    status, report = verified(bad)
    assert status == 1
    assert "C3: step and window graph" in only(report, *(f"C3 on {label(name)}" for name in ENGINES))[0]


def test_a_longer_step_that_is_another_network(
    tensorflow: Any, verified: Verify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which step computes a window depends on how much sound a push brings: C1."""
    from export import convert, graph

    one, other = networks()
    monkeypatch.setattr(convert, "step_function", lambda n, hops=1: graph.step_function(one if hops == 1 else n, hops))
    for hops in (3, 20):
        status, report = verified(rewritten(INT8, tmp_path / "m.tflite", convert.convert(other, hops=[hops])))
        assert status == 1
        assert report[f"C1 on {label(ENGINES[0])}"][0] is False


def test_a_state_that_never_forgets(
    tensorflow: Any, verified: Verify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was heard once is heard for ever after: C2, and C3 with it."""
    from export import convert, streaming

    tf, step = tensorflow, streaming.step

    def recurrent(x: Any, states: Any, operations: Any) -> Any:
        made, after = step(x, states, operations)
        return made, [operations[0].restore(tf.maximum(states[0], after[0])), *after[1:]]

    monkeypatch.setattr(streaming, "step", recurrent)
    status, report = verified(rewritten(INT8, tmp_path / "m.tflite", convert.convert(networks()[0])))
    assert status == 1
    assert report[f"C2 on {label(ENGINES[0])}"][0] is False
    assert report[f"C3 on {label(ENGINES[0])}"][0] is False


def test_a_float_operator_inside(
    tensorflow: Any, verified: Verify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TFLite has no int8 SIN: the converter puts a DEQUANTIZE before it, and a QUANTIZE after."""
    from export import convert, graph

    tf, pool = tensorflow, graph.pool

    def wavy(x: Any, layer: Pool) -> Any:
        x = pool(x, layer)  # between layers; the maximum over columns would not commute with it
        return tf.quantization.fake_quant_with_min_max_args(6 * tf.sin(x), 0, 6) if layer == Pool() else x

    monkeypatch.setattr(graph, "pool", wavy)
    status, report = verified(rewritten(INT8, tmp_path / "m.tflite", convert.convert(networks()[0])))
    assert status == 1
    passed, told = report["structure"]
    assert passed is False
    assert "DEQUANTIZE" in told
    assert "SIN" in told


# -------------------------------------------------------------------------------------------------------------- parity


def test_a_network_that_hears_nothing(tensorflow: Any, verified: Verify, tmp_path: Path) -> None:
    from export import convert

    one, _ = networks()
    deaf = dataclasses.replace(one, weights=[(0 * kernel, bias) for kernel, bias in one.weights])
    status, report = verified(rewritten(INT8, tmp_path / "m.tflite", convert.convert(deaf)))
    assert status == 1
    assert "have the same embedding" in only(report, *(f"ears on {label(name)}" for name in ENGINES))[0]


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from export import __main__ as command

    output = tmp_path_factory.mktemp("exported") / "m.tflite"
    command.export(command.parser().parse_args([str(run), "--output", str(output), "--recipe", "int8_ptq"]))
    return output


def test_parity_is_reproduced(verified: Verify, run: Path, exported: Path) -> None:
    status, report = verified(exported, "--against", run)
    assert status == 0, report
    assert report["parity"][0] is True
    assert report["stored"] == (True, "the figures in the file are the measured ones")


def test_figures_that_are_not_the_measured_ones(verified: Verify, run: Path, exported: Path, tmp_path: Path) -> None:
    parity = model_file.read(exported).metadata["parity"]
    boast = {**parity, "cosine_mean": 1.0, "max_error": 0.0}
    status, report = verified(rewritten(exported, tmp_path / "m.tflite", parity=boast), "--against", run)
    assert status == 1
    (told,) = only(report, "stored")
    assert f"cosine_mean is 1.0 in the file and {parity['cosine_mean']} here" in told
    assert "max_error is 0.0 in the file" in told
    more = parity["clips"] + 1
    for other, why in (({**parity, "clips": more}, f"clips {more} (here "), ({}, "the file has no figures")):
        status, report = verified(rewritten(exported, tmp_path / "m.tflite", parity=other), "--against", run)
        assert status == 0
        assert report["stored"][0] is None
        assert why in report["stored"][1]


def test_a_file_of_other_weights_has_no_parity(verified: Verify, run: Path, tmp_path: Path) -> None:
    from export import convert, graph

    spec = PRESETS["edge-s"]
    made = convert.convert(graph.Network(spec, graph.random_weights(spec.layers, 1)))
    metadata = {"name": "m", "spec": spec.to_json(), "recipe": "float32", "parity": {}, "provenance": {}}
    model_file.write(tmp_path / "m.tflite", made, metadata)
    status, report = verified(tmp_path / "m.tflite", "--against", run)
    assert status == 1
    (told,) = only(report, "parity")
    assert "mean cosine is 0." in told
    assert "the limit is 0.999999" in told
    model_file.write(tmp_path / "m.tflite", made, {**metadata, "recipe": "mine"})
    status, report = verified(tmp_path / "m.tflite", "--against", run)
    assert status == 0
    assert report["parity"][0] is None
    assert report["parity"][1].endswith("not judged: there is no tolerance for recipe 'mine'")


def test_runs_that_do_not_fit(verified: Verify, run: Path, tmp_path: Path) -> None:
    status, report = verified(INT8, "--against", run)
    assert status == 1
    assert f"could not be measured: {run} is edge-s, and " in only(report, "parity")[0]
    status, report = verified(INT8, "--against", tmp_path)
    assert status == 1
    assert "could not be measured: " in only(report, "parity")[0]


def test_the_edge_tpus_file_wants_its_twin(verified: Verify, run: Path, exported: Path, tmp_path: Path) -> None:
    from export import __main__ as command

    output = tmp_path / "tpu.tflite"
    options = [str(run), "--output", str(output), "--recipe", "int8_ptq", "--target", "edgetpu"]
    command.export(command.parser().parse_args(options))
    status, report = verified(output, "--against", run)
    assert status == 0
    assert report["parity"][0] is None
    assert "name the CPU's with --twin" in report["parity"][1]
    status, report = verified(output, "--against", run, "--twin", exported)
    assert status == 0, report
    assert report["parity"][0] is report["stored"][0] is True


def test_parity_without_tensorflow(verified: Verify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(export, "against", raising=False)
    monkeypatch.setitem(sys.modules, "export.against", None)
    status, report = verified(INT8, "--against", tmp_path)
    assert status == 1
    assert "could not be measured: --against needs TensorFlow" in only(report, "parity")[0]
