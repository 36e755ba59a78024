"""Each example runs as its first lines say, and is short enough to read."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import l3edge

EXAMPLES = Path(__file__).parent.parent / "examples"
SCRIPTS = sorted(path for path in EXAMPLES.glob("*.py") if path.name != "microphone.py")  # that: test_microphone.py


def run(script: Path, *arguments: str, cwd: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLES.parent)}
    command = [sys.executable, str(script), *arguments]
    return subprocess.run(
        command, cwd=cwd, env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=120
    ).stdout


def _need_beam() -> None:
    for module in ("apache_beam", "pyarrow"):
        if importlib.util.find_spec(module) is None:  # not imported: Beam warns of what it does not find
            pytest.skip(f"embedding into Parquet needs {module}, which a device does not have")


@pytest.mark.parametrize("script", SCRIPTS, ids=[path.stem for path in SCRIPTS])
def test_example_runs(script: Path, tmp_path: Path) -> None:
    if script.stem == "bad_videos":
        pytest.importorskip("av", reason="making videos needs PyAV, which a device does not have")
    if script.stem == "embed_parquet":
        _need_beam()
    assert len(script.read_text().splitlines()) < 60
    assert run(script, cwd=tmp_path).strip()


def test_embed_file_writes_what_it_says(tmp_path: Path) -> None:
    run(EXAMPLES / "embed_file.py", str(EXAMPLES / "scene.flac"), "out.npz", cwd=tmp_path)
    with np.load(tmp_path / "out.npz", allow_pickle=False) as saved:
        assert saved["embeddings"].shape == (111, l3edge.load().spec.embedding_size)
        assert saved["times"][0] == 0.5


def test_exact_stream_is_exact(tmp_path: Path) -> None:
    output = run(EXAMPLES / "exact_stream.py", cwd=tmp_path)
    assert output.count("True") == 2
    assert "False" not in output


def test_changes_are_found_where_they_are(tmp_path: Path) -> None:
    output = run(EXAMPLES / "what_changed.py", cwd=tmp_path)
    found = np.array([float(line.split()[0]) for line in output.splitlines()])
    changes = 1.5 * np.arange(1, 8)  # training/scene.py: a new sound every 1.5 s
    heard = [np.abs(found - change).min() < 0.35 for change in changes]
    assert sum(heard) >= 5, found


def test_a_folder_into_parquet(tmp_path: Path) -> None:
    """By two processes: the bits of embed; what cannot be read is counted and named; what is there stays."""
    _need_beam()
    import pyarrow.parquet as pq

    sounds, out = tmp_path / "sounds", tmp_path / "embeddings"
    (sounds / "deep").mkdir(parents=True)
    shutil.copy(EXAMPLES / "scene.flac", sounds / "deep" / "scene.flac")
    scene = (EXAMPLES / "scene.flac").read_bytes()
    (sounds / "half.flac").write_bytes(scene[: len(scene) // 2])
    (sounds / "text.wav").write_text("no sound")
    script, model = EXAMPLES / "embed_parquet.py", l3edge.load()
    processes = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")
    output = run(script, str(sounds), str(out), *processes, cwd=tmp_path)
    assert sorted(output.splitlines()) == ["embedded: 1 files", "unreadable: 2 files"]
    files = {path for path in out.rglob("*") if path.is_file()}
    assert files == {out / "deep" / "scene.flac.parquet", out / "unreadable.txt"}
    half, text = sorted((out / "unreadable.txt").read_text().splitlines())
    assert half.startswith(f"{sounds / 'half.flac'}: unreadable after ")
    assert text.startswith(f"{sounds / 'text.wav'}: not a readable audio file")

    table = pq.read_table(out / "deep" / "scene.flac.parquet")
    embeddings, times = model.embed(*l3edge.audio.read(EXAMPLES / "scene.flac"))
    assert table.schema.metadata == {b"model": model.name.encode(), b"model_sha256": model.identity.encode()}
    assert str(table.schema.field("embedding").type) == f"fixed_size_list<element: float>[{model.spec.embedding_size}]"
    assert set(table["path"].to_pylist()) == {"deep/scene.flac"}
    np.testing.assert_array_equal(table["time"].to_numpy(), times)
    found = table["embedding"].combine_chunks().flatten().to_numpy().reshape(embeddings.shape)
    np.testing.assert_array_equal(found, embeddings)

    page = (EXAMPLES.parent / "docs" / "archives.md").read_text()
    block = re.search(r"<!-- read -->\n```python\n(.*?)```", page, re.DOTALL)
    assert block
    (tmp_path / "read.py").write_text(block[1])
    read = run(tmp_path / "read.py", cwd=tmp_path)
    assert model.identity in read
    assert f"deep/scene.flac {embeddings.shape}" in read

    made = (out / "deep" / "scene.flac.parquet").stat().st_mtime_ns
    shutil.copy(EXAMPLES / "scene.flac", sounds / "half.flac")  # mended
    output = run(script, str(sounds), str(out), cwd=tmp_path)
    assert sorted(output.splitlines()) == ["already there: 1 files", "embedded: 1 files", "unreadable: 1 files"]
    assert (out / "deep" / "scene.flac.parquet").stat().st_mtime_ns == made
    pq.write_table(table.replace_schema_metadata({"model": "another"}), out / "half.flac.parquet")
    output = run(script, str(sounds), str(out), cwd=tmp_path)
    assert sorted(output.splitlines()) == ["already there: 1 files", "embedded: 1 files", "unreadable: 1 files"]


def test_parquet_despite_a_damaged_one_and_a_name_that_is_no_text(tmp_path: Path) -> None:
    """What is damaged is made again; a name that is not UTF-8 is counted and told; all else is embedded."""
    _need_beam()
    import pyarrow.parquet as pq

    sounds, out = tmp_path / "sounds", tmp_path / "embeddings"
    sounds.mkdir()
    out.mkdir()
    (sounds / os.fsdecode(b"\xff.flac")).symlink_to(EXAMPLES / "scene.flac")
    footer = b"\xff" * 8
    damaged = (b"", b"no Parquet at all", b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    for number, data in enumerate(damaged):
        (sounds / f"{number}.flac").symlink_to(EXAMPLES / "scene.flac")
        (out / f"{number}.flac.parquet").write_bytes(data)
    output = run(EXAMPLES / "embed_parquet.py", str(sounds), str(out), cwd=tmp_path)
    assert sorted(output.splitlines()) == ["embedded: 3 files", "unreadable: 1 files"]
    assert [len(pq.read_table(out / f"{number}.flac.parquet")) for number in range(3)] == [111] * 3
    assert (out / "unreadable.txt").read_text() == f"{sounds / '?.flac'}: no such file\n"
