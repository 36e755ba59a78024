"""Model files: what they say, and that whatever is wrong with one is found before an interpreter sees it."""

from __future__ import annotations

import hashlib
import io
import json
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest

import l3edge
from export.contract import sounds
from l3edge import cli, engine, model_file, tensors

from .conftest import DATA, STUBS

INT8 = DATA / "stub-int8.tflite"


@pytest.fixture(autouse=True)
def no_interpreter(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What interpreters were made of; tests of damaged files want none."""
    made: list[object] = []
    opened = engine.Network._open

    def opening(self: engine.Network) -> Any:
        made.append(self)
        return opened(self)

    monkeypatch.setattr(engine.Network, "_open", opening)
    return made


def archived(path: Path, flatbuffer: bytes, members: dict[str, bytes]) -> Path:
    """A file put together by hand."""
    content = io.BytesIO()
    content.write(flatbuffer)
    with zipfile.ZipFile(content, "a", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    path.write_bytes(content.getvalue())
    return path


def changed(tmp_path: Path, change: dict[str, object] | bytes, flatbuffer: bytes | None = None) -> Path:
    """A copy of the stub with other metadata, digests right: as somebody would who means it."""
    stub = model_file.read(INT8)
    data = stub.flatbuffer if flatbuffer is None else flatbuffer
    facts = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    document = stub.metadata | {"flatbuffer": facts}
    text = change if isinstance(change, bytes) else json.dumps({**document, **change}).encode()
    digest = f"{hashlib.sha256(text).hexdigest()}  {model_file.MEMBER}\n".encode()
    return archived(tmp_path / "model.tflite", data, {model_file.MEMBER: text, model_file.DIGEST: digest})


@pytest.mark.parametrize("path", [*STUBS, *(l3edge.model.find(name) for name in l3edge.models())])
def test_a_file_says_all_of_itself(path: Path) -> None:
    file = model_file.read(path)
    content = path.read_bytes()
    assert file.sha256 == hashlib.sha256(content).hexdigest()
    assert content.startswith(file.flatbuffer)
    assert file.metadata["format"] == model_file.FORMAT
    for key, table in file.signatures.items():
        states = len(file.spec.state_shapes) if key.startswith("stream") else 0
        sound = "embedding" if key == "tags" else "log_mel" if file.target == "edgetpu" else "samples"
        assert sorted(row["role"] for row in table["inputs"]) == [sound] + ["state"] * states
    assert file.metadata["numbers"] == model_file.numbers(file.spec)
    with zipfile.ZipFile(path) as archive:  # as anybody would check it, with unzip and sha256sum
        digest, name = archive.read(model_file.DIGEST).decode().split()
        assert hashlib.sha256(archive.read(name)).hexdigest() == digest


def test_metadata_round_trips(tmp_path: Path) -> None:
    labels = [f"value {i}" for i in range(8)]
    path = changed(tmp_path, {"name": "other", "labels": labels})
    assert l3edge.load(path).name == "other"
    assert l3edge.load(path).labels == labels
    assert l3edge.load(INT8).labels == []


STUB = model_file.read(INT8)


def _other_tensor(**change: object) -> dict[str, object]:
    table = json.loads(json.dumps(STUB.signatures))
    table["stream"]["outputs"][0] |= change
    return {"signatures": table}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (b"not json", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not a JSON object"),
        (b" " * (model_file.MOST_METADATA + 1), "larger than"),
        ({"format": model_file.FORMAT + 1}, "upgrade l3edge"),
        ({"format": 1}, "export it again"),
        ({"format": "1"}, "no format version"),
        ({"spec": None}, "needs 'spec'"),
        ({"name": 3}, "needs 'name'"),
        ({"target": "toaster"}, "target 'toaster' is unknown"),
        ({"target": "edgetpu"}, r"has signatures \['stream', 'window'\], expected \['stream'\]"),
        ({"labels": "cat"}, "labels must be"),
        ({"labels": ["cat", "dog"]}, "2 labels for the 8 values"),
        ({"flatbuffer": {}}, "flatbuffer.bytes is None"),
        ({"flatbuffer": {"bytes": 10**12, "sha256": ""}}, "flatbuffer.bytes is 1000000000000"),
        ({"flatbuffer": {"bytes": 100, "sha256": "0" * 64}}, "not the one that l3edge.json names"),
        ({"numbers": {}}, r"numbers in l3edge.json are {}, its spec says"),
        ({"signatures": {}}, r"tensors contradict its l3edge.json: signature\(s\) 'stream', 'window'"),
        (_other_tensor(scale=0.5), r"tensors contradict its l3edge.json: signature\(s\) 'stream'"),
        (_other_tensor(shape=[1, 1, 9]), "tensors contradict"),
        (_other_tensor(role="samples"), "tensors contradict"),
    ],
)
def test_damaged_metadata(
    tmp_path: Path, change: dict[str, object] | bytes, message: str, no_interpreter: list[object]
) -> None:
    with pytest.raises(l3edge.ModelFileError, match=message):
        l3edge.load(changed(tmp_path, change))
    assert not no_interpreter


def test_a_spec_that_the_tensors_contradict(tmp_path: Path, no_interpreter: list[object]) -> None:
    spec = json.loads(json.dumps(STUB.metadata["spec"]))
    spec["layers"][6]["filters"] = 7
    with pytest.raises(
        l3edge.ModelFileError, match=r"'stream' contradicts the file's spec: state_5 is \(1, 2, 2, 6\), spec says"
    ):
        l3edge.load(changed(tmp_path, {"spec": spec}))
    assert not no_interpreter


@pytest.mark.parametrize(
    "change",
    [
        {"window": 2**31},
        {"front_end": {**STUB.metadata["spec"]["front_end"], "low": 10**400}},
        {"window": -1},
        {"hop": 0},
        {"fusion": 10**9},
        {"embedding": "sum"},
        {"front_end": {**STUB.metadata["spec"]["front_end"], "fft_length": 1 << 30}},
        {"front_end": {**STUB.metadata["spec"]["front_end"], "kind": "fourier"}},
        {"front_end": {**STUB.metadata["spec"]["front_end"], "sample_rate": 0}},
        {"layers": [{"kind": "conv"}]},
        {"layers": [{"kind": "dense"}]},
        {"layers": []},
        {"layers": STUB.metadata["spec"]["layers"] * 100},
        {"image": {"size": 10**9, "filters": [1]}},
    ],
)
def test_an_absurd_spec_costs_nothing(tmp_path: Path, change: dict[str, object], no_interpreter: list[object]) -> None:
    with pytest.raises(l3edge.ModelFileError, match="spec"):
        l3edge.load(changed(tmp_path, {"spec": {**STUB.metadata["spec"], **change}}))
    assert not no_interpreter


def test_a_signature_names_all_that_goes_in_and_out() -> None:
    """As when a subgraph has an output that no signature names: an interpreter would give more than is asked for."""
    graph = STUB.graph
    (first, *rest) = graph.subgraphs
    for more in ({"outputs": (*first.outputs, 0)}, {"inputs": (*first.inputs, 0)}, {"outputs": first.outputs[1:]}):
        changed_graph = graph._replace(subgraphs=(first._replace(**more), *rest))
        with pytest.raises(l3edge.ModelFileError, match="does not name each of the"):
            tensors.signatures(changed_graph)


@pytest.mark.parametrize(("key", "hops"), [("stream", 1), ("stream_10", 10), ("window", None), ("stream_010", None)])
def test_names_of_steps(key: str, hops: int | None) -> None:
    assert tensors.step_hops(key) == hops


def test_a_files_strings_do_not_move_the_cursor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil = "\x1b[31mred"
    path = changed(tmp_path, {"name": evil, "provenance": {evil: evil}})
    assert cli.main(["info", str(path)]) == 0
    assert "\x1b" not in capsys.readouterr().out
    with pytest.raises(l3edge.ModelFileError) as caught:
        l3edge.load(changed(tmp_path, {"signatures": {evil: {}}}))
    assert "\x1b" not in str(caught.value)


COMPILED = model_file.read(DATA / "stub-edgetpu.tflite")


@pytest.mark.parametrize(
    "table",
    [
        5,
        {},
        {"inputs": 5, "outputs": 5},
        {"inputs": [5] * 9, "outputs": [5] * 9},
        {"inputs": [{}] * 9, "outputs": [{}] * 9},
        {"inputs": [{"name": "a"}] * 8, "outputs": [{"name": "a"}] * 9},
        {"inputs": [{"name": "a"}] * 9, "outputs": [{"name": "a"}] * 9},
    ],
)
def test_names_for_a_graph_without_signatures(tmp_path: Path, table: object, no_interpreter: list[object]) -> None:
    """What a compiler may leave: the metadata names its tensors, and is not believed."""
    without = COMPILED.graph._replace(signatures={})
    with pytest.raises(l3edge.ModelFileError):
        tensors.check_tensors(tensors.signatures(without, {"stream": table}), COMPILED.spec, "edgetpu")  # type: ignore[dict-item]
    assert tensors.signatures(without, COMPILED.signatures) == COMPILED.signatures
    assert not no_interpreter


def test_wrong_digests(tmp_path: Path, no_interpreter: list[object]) -> None:
    text = zipfile.ZipFile(INT8).read(model_file.MEMBER)
    path = tmp_path / "m.tflite"
    members = {model_file.MEMBER: text, model_file.DIGEST: b"0" * 64 + b"  l3edge.json\n"}
    with pytest.raises(l3edge.ModelFileError, match=r"not what l3edge.json.sha256 says: the file is damaged"):
        l3edge.load(archived(path, STUB.flatbuffer, members))
    with pytest.raises(l3edge.ModelFileError, match=r"no l3edge.json.sha256 inside"):
        l3edge.load(archived(path, STUB.flatbuffer, {model_file.MEMBER: text}))
    flipped = bytearray(STUB.flatbuffer)
    flipped[len(flipped) // 2] ^= 1
    members[model_file.DIGEST] = zipfile.ZipFile(INT8).read(model_file.DIGEST)
    with pytest.raises(l3edge.ModelFileError, match="the file is damaged; copy it again"):
        l3edge.load(archived(path, bytes(flipped), members))
    assert not no_interpreter


def test_reading_takes_room_for_what_there_is() -> None:
    """A board with half a gigabyte, and a process of 32 bits, have none for the largest file there may be."""
    tracemalloc.start()
    model_file.read(INT8)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000


def test_a_zip_bomb(tmp_path: Path, no_interpreter: list[object]) -> None:
    """A member of 1 GB of zeros in a file of a MB: not inflated."""
    path = tmp_path / "m.tflite"
    with path.open("wb") as file:
        file.write(STUB.flatbuffer)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive, archive.open(model_file.MEMBER, "w") as member:
        for _ in range(1000):
            member.write(bytes(1 << 20))
    with pytest.raises(l3edge.ModelFileError, match="larger than 1048576 bytes"):
        l3edge.load(path)
    assert not no_interpreter


def test_a_flatbuffer_that_is_none(tmp_path: Path, no_interpreter: list[object]) -> None:
    """Digests right, and yet nothing that an interpreter should see."""
    for flatbuffer in (
        STUB.flatbuffer[:64],
        STUB.flatbuffer[:8] + bytes(1000),
        b"\xff\xff\xff\xffTFL3" + b"\xff" * 999,
    ):
        with pytest.raises(l3edge.ModelFileError):
            l3edge.load(changed(tmp_path, {}, flatbuffer))
    assert not no_interpreter


def test_a_plain_tflite_is_not_a_model(tmp_path: Path) -> None:
    (tmp_path / "plain.tflite").write_bytes(STUB.flatbuffer)
    with pytest.raises(l3edge.ModelFileError, match=r"no l3edge.json inside"):
        l3edge.load(tmp_path / "plain.tflite")


def test_truncated_and_foreign_files(tmp_path: Path) -> None:
    content = INT8.read_bytes()
    for name, data, message in [
        ("truncated", content[: len(content) // 2], r"no l3edge.json inside"),
        ("empty", b"", "not a TFLite model"),
        ("text", b"once upon a time there was a model", "not a TFLite model"),
    ]:
        path = tmp_path / f"{name}.tflite"
        path.write_bytes(data)
        with pytest.raises(l3edge.ModelFileError, match=message):
            l3edge.load(path)


def test_writing_a_model_is_all_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(b"before")
    good = {key: STUB.metadata[key] for key in ("name", "spec", "recipe", "parity", "provenance")}
    with pytest.raises(TypeError):
        model_file.write(path, STUB.flatbuffer, {**good, "name": object()})
    with pytest.raises(l3edge.ModelFileError, match="spec must be a JSON object"):
        model_file.write(path, STUB.flatbuffer, {**good, "spec": None})
    assert [p.name for p in tmp_path.iterdir()] == ["m.tflite"]
    assert path.read_bytes() == b"before"
    model_file.write(path, STUB.flatbuffer, good)
    assert path.read_bytes() == INT8.read_bytes()


def test_the_file_may_change_after_it_was_loaded(tmp_path: Path) -> None:
    """What runs is what was checked, whatever becomes of the file."""
    path = tmp_path / "m.tflite"
    path.write_bytes(INT8.read_bytes())
    model = l3edge.load(path)
    path.write_bytes(b"something else")
    x = sounds(3, 20_000)
    want = l3edge.load(INT8)
    assert model.embed(x, 16_000)[0].tobytes() == want.embed(x, 16_000)[0].tobytes()
    assert model.network.window(x[:16_000]).tobytes() == want.network.window(x[:16_000]).tobytes()
