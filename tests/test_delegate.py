"""An external delegate loads, is given its options, and is shown the graph: what an Edge TPU's library would see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import l3edge
from l3edge import engine

from .conftest import DATA
from .delegates import LOG, compile_delegate, seen

STUB = DATA / "stub-int8.tflite"
OPTIONS = {"device": "usb:0", "odd": 'a "quoted" \\ value'}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_delegate(tmp_path_factory.mktemp("delegate"))


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "log"
    monkeypatch.setenv(LOG, str(path))
    return path


def test_delegate_sees_options_and_the_graph_as_the_engine_has_it(library: Path, log: Path, engine_name: str) -> None:
    module = engine.find(engine_name).interpreter
    delegate = module.load_delegate(str(library), OPTIONS)
    interpreter = module.Interpreter(str(STUB), experimental_delegates=[delegate])
    interpreter.allocate_tensors()
    told = seen(log)
    assert told.options == [OPTIONS]
    assert len(told.graphs) == len(interpreter.get_signature_list())
    nodes = told.graphs[0]
    operators = interpreter._get_ops_details()[: len(nodes)]  # after them, what XNNPACK has put in their place
    assert [node.operator for node in nodes] == [operator["op_name"] for operator in operators]
    details = {tensor["index"]: tensor for tensor in interpreter.get_tensor_details()}
    for node, operator in zip(nodes, operators, strict=True):
        for tensors, indices in ((node.inputs, operator["inputs"]), (node.outputs, operator["outputs"])):
            assert [t.index if t else -1 for t in tensors] == list(indices)
            for tensor in tensors:
                if tensor is None:
                    continue
                known = details[tensor.index]
                assert tensor.name == known["name"]
                assert tensor.type == np.dtype(known["dtype"]).name
                assert tensor.shape == tuple(known["shape"])
                assert (tensor.scale, tensor.zero_point) == pytest.approx(known["quantization"], rel=1e-6)
    assert any(t.constant for node in nodes for t in node.inputs if t)
    assert not any(t.constant for node in nodes for t in node.outputs if t)
    assert {d["index"] for d in interpreter.get_input_details()} <= {
        t.index for node in nodes for t in node.inputs if t and not t.constant
    }
    del interpreter, delegate
    assert seen(log).destroyed == 1


def test_delegate_that_claims_no_node_changes_no_bit(library: Path, log: Path, engine_name: str) -> None:
    sound = np.random.default_rng(0).normal(0, 0.2, 40_000).astype(np.float32)
    plain, _ = l3edge.load(STUB, engine=engine_name).embed(sound, 16_000)
    model = l3edge.load(STUB, engine=engine_name, delegate=str(library))
    np.testing.assert_array_equal(model.embed(sound, 16_000)[0], plain)
    assert len(np.unique(plain, axis=0)) > 1
    assert seen(log).graphs


@pytest.mark.parametrize("report", ["", "no Edge TPU found"])
def test_delegate_without_a_device_is_an_error_that_names_it(
    report: str, tmp_path: Path, log: Path, engine_name: str
) -> None:
    """libedgetpu's `tflite_plugin_create_delegate` returns NULL and reports nothing when no device opens
    (google-coral/libedgetpu, edgetpu_delegate_for_custom_op_tflite_plugin.cc); others may say why.
    """
    library = compile_delegate(tmp_path, no_device=report)
    with pytest.raises(l3edge.EngineError, match=library.name) as caught:
        l3edge.load(STUB, engine=engine_name, delegate=str(library))
    assert report in str(caught.value)
    assert seen(log).options == [{}]
    assert seen(log).graphs == []


def test_missing_library_is_an_error_that_names_it(tmp_path: Path, engine_name: str) -> None:
    with pytest.raises(l3edge.EngineError, match=r"absent\.so"):
        l3edge.load(STUB, engine=engine_name, delegate=str(tmp_path / "absent.so"))
