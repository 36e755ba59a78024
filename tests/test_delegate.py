"""An external delegate loads, is given its options, and is shown the graph: what an Edge TPU's library would see.

No Edge TPU exists here. Its library is an external delegate, and one compiled from tests/delegate.c stands in for it:
`engine="edgetpu"` loads it on the engine that the environment has, LiteRT in one and tflite-runtime in the other.
"""

from __future__ import annotations

import ctypes.util
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import l3edge
from l3edge import flatbuffer, model_file

from .conftest import DATA
from .delegates import LOG, Node, compile_delegate, seen

EDGE_TPU, CPU = DATA / "stub-edgetpu.tflite", DATA / "stub-int8.tflite"
OPTIONS = {"device": "usb:0", "odd": 'a "quoted" \\ value'}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_delegate(tmp_path_factory.mktemp("delegate"))


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "log"
    monkeypatch.setenv(LOG, str(path))
    return path


@pytest.fixture(scope="module")
def sound() -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(0, 0.2, 40_000).astype(np.float32)


def assert_same_graph(nodes: list[Node], subgraph: flatbuffer.Subgraph) -> None:
    """What the delegate was shown is what the file holds."""
    assert [(node.operator, node.version) for node in nodes] == [(op.name, op.version) for op in subgraph.operators]
    for node, operator in zip(nodes, subgraph.operators, strict=True):
        for tensors, indices in ((node.inputs, operator.inputs), (node.outputs, operator.outputs)):
            assert [tensor.index if tensor else -1 for tensor in tensors] == list(indices)
            for tensor in filter(None, tensors):
                kept = subgraph.tensors[tensor.index]
                assert (tensor.name, tensor.type, tensor.shape) == (kept.name, kept.dtype, kept.shape)
                assert tensor.constant == (kept.buffer_bytes > 0)
                if len(kept.scales) <= 1:  # the engine has one pair: nothing in it for a scale a channel
                    expected = (kept.scales or (0.0,), kept.zero_points or (0,))
                    assert ((np.float32(tensor.scale),), (tensor.zero_point,)) == expected


def test_edge_tpu_engine_shows_the_library_its_options_and_the_network(library: Path, log: Path) -> None:
    model = l3edge.load(EDGE_TPU, engine="edgetpu", delegate=str(library), delegate_options=OPTIONS)
    told = seen(log)
    assert told.options == [OPTIONS]
    (nodes,) = told.graphs
    (subgraph,) = model_file.read(EDGE_TPU).graph.subgraphs
    assert_same_graph(nodes, subgraph)
    # The network alone, as the Edge TPU's compiler takes it: int8 from end to end, no front end.
    assert {node.operator for node in nodes} == {
        "CONCATENATION",
        "PAD",
        "CONV_2D",
        "MAX_POOL_2D",
        "STRIDED_SLICE",
        "RESHAPE",
    }
    assert [node.operator for node in nodes].count("CONV_2D") == len(model.spec.convolutions)
    moving = {t for node in nodes for t in (*node.inputs, *node.outputs) if t and not t.constant}
    assert {tensor.type for tensor in moving} == {"int8"}
    made = {t.index for node in nodes for t in node.outputs if t}
    entering = sorted(tensor.shape for tensor in moving if tensor.index not in made)
    spec = model.spec
    assert entering == sorted([(1, spec.frames_per_hop, spec.front_end.bins, 1), *spec.state_shapes])
    del model
    assert seen(log).destroyed == 1


def test_edge_tpu_engine_gives_the_bits_of_the_same_file_on_the_cpu(
    library: Path, log: Path, engine_name: str, sound: NDArray[np.float32]
) -> None:
    model = l3edge.load(EDGE_TPU, engine="edgetpu", delegate=str(library))
    embeddings, times = model.embed(sound, 16_000)
    plain, centres = l3edge.load(EDGE_TPU, engine=engine_name).embed(sound, 16_000)
    np.testing.assert_array_equal(embeddings, plain)
    np.testing.assert_array_equal(times, centres)
    assert len(np.unique(plain, axis=0)) > 1
    assert len(seen(log).graphs) == 1  # only the first was asked for with a delegate


def test_any_engine_takes_a_delegate_and_shows_it_every_graph(
    library: Path, log: Path, engine_name: str, sound: NDArray[np.float32]
) -> None:
    model = l3edge.load(CPU, engine=engine_name, delegate=str(library), delegate_options=OPTIONS)
    told, subgraphs = seen(log), model_file.read(CPU).graph.subgraphs
    assert told.options == [OPTIONS]
    assert len(told.graphs) == len(subgraphs) == 2
    for nodes, subgraph in zip(told.graphs, subgraphs, strict=True):
        assert_same_graph(nodes, subgraph)
    plain, _ = l3edge.load(CPU, engine=engine_name).embed(sound, 16_000)
    np.testing.assert_array_equal(model.embed(sound, 16_000)[0], plain)


@pytest.mark.parametrize("report", ["", "the device is in use"])
def test_library_without_a_device_is_an_error_that_names_both(report: str, tmp_path: Path, log: Path) -> None:
    """libedgetpu's `tflite_plugin_create_delegate` returns NULL and reports nothing when no device opens
    (google-coral/libedgetpu, edgetpu_delegate_for_custom_op_tflite_plugin.cc); others may say why.
    """
    library = compile_delegate(tmp_path, no_device=report)
    with pytest.raises(l3edge.EngineError, match=rf"(?s){library.name}.*an Edge TPU that is plugged in") as caught:
        l3edge.load(EDGE_TPU, engine="edgetpu", delegate=str(library))
    assert report in str(caught.value)
    assert seen(log).options == [{}]
    assert seen(log).graphs == []


@pytest.mark.parametrize("delegate", ["absent.so", None])
def test_missing_library_is_an_error_that_names_both(delegate: str | None, tmp_path: Path) -> None:
    if delegate is None and ctypes.util.find_library("edgetpu"):
        pytest.skip("libedgetpu is installed here")
    path = str(tmp_path / delegate) if delegate else None
    expected = delegate or "libedgetpu.so.1"
    with pytest.raises(l3edge.EngineError, match=rf"(?s){expected}.*an Edge TPU that is plugged in"):
        l3edge.load(EDGE_TPU, engine="edgetpu", delegate=path)


def test_delegate_without_a_device_names_the_engine(tmp_path: Path, log: Path, engine_name: str) -> None:
    library = compile_delegate(tmp_path, no_device="")
    with pytest.raises(l3edge.EngineError, match=rf"{library.name}.* does not load in {engine_name}"):
        l3edge.load(CPU, engine=engine_name, delegate=str(library))
    assert seen(log).graphs == []
