"""`prepare` as a Beam pipeline: the same bytes from every runner, and after kill -9 at any moment."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest

for module in ("tensorflow", "av", "soxr", "PIL", "tqdm", "apache_beam", "google_crc32c"):
    pytest.importorskip(module, reason=f"preparing videos needs {module}, which a device does not have")

from training import journal, pipeline, plan, prepare, shards  # noqa: E402
from training.children import Decoders  # noqa: E402
from training.cli import TrainingError  # noqa: E402
from training.manifest import Item  # noqa: E402
from training.videos import Settings  # noqa: E402

from .test_prepare import stored, write_video  # noqa: E402

# isort: split
from apache_beam.io.filesystem import BeamIOError, FileMetadata, FileSystem  # noqa: E402  # pipeline imports it quietly

ROOT = Path(__file__).resolve().parent.parent
OPTIONS = ("--videos-per-shard", "3", "--frame-rate", "2")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve videos, one of which is no video."""
    folder = tmp_path_factory.mktemp("beam") / "videos"
    folder.mkdir()
    for i in range(11):
        write_video(folder / f"{i:02d}.mp4", 1.2 + i / 10, fps=10)
    (folder / "11.mp4").write_bytes(b"no video")
    return folder


def command(videos: Path, out: Path | str, *options: str) -> list[str]:
    return [sys.executable, "-m", "training.prepare", str(videos), "--out", str(out), *OPTIONS, *options]


def run(videos: Path, out: Path | str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(videos, out, *options), cwd=ROOT, capture_output=True, text=True, check=False)


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


def records(out: Path) -> set[bytes]:
    data = shards.open_data(out)
    found = [record.numpy() for split in data.statistics["splits"] for record in stored(data, split)]
    assert len(set(found)) == len(found) == data.statistics["verdicts"]["kept"]  # 2.2 s at most: one record each
    return set(found)


@pytest.fixture(scope="module")
def reference(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """By DirectRunner with one worker."""
    out = tmp_path_factory.mktemp("reference") / "shards"
    result = run(videos, out, "--jobs", "1")
    assert result.returncode == 0, result.stderr
    # So few videos leave one for validation, which is said; no word of Beam's.
    assert [line for line in result.stderr.splitlines() if not line.startswith("warning: validation has 1 ")] == []
    statistics = shards.open_data(out).statistics
    assert statistics["verdicts"]["kept"] == 11
    assert statistics["verdicts"]["corrupt"] == 1
    assert len(statistics["shards"]["train"]) > 1
    return out


@pytest.fixture(scope="module")
def job_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Beam's own job service, which takes pipelines as those of Flink and Spark do."""
    folder = tmp_path_factory.mktemp("service")
    module = "apache_beam.runners.portability.local_job_service_main"
    with (folder / "log").open("w") as log:
        options = ["--port_file", str(folder / "port"), "--staging_dir", str(folder / "staging")]
        service = subprocess.Popen([sys.executable, "-m", module, *options], stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 60
            while not (folder / "port").exists():
                assert service.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield f"localhost:{(folder / 'port').read_text()}"
        finally:
            service.terminate()
            service.wait()


@pytest.mark.parametrize("how", ["two threads", "two processes", "portable"])
def test_the_runner_changes_nothing(
    how: str, videos: Path, reference: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The same set of records, as the issue asks, and more: the same bytes of every file."""
    options = {
        "two threads": lambda: ["--jobs", "2"],
        "two processes": lambda: ["--jobs", "2", "--direct_running_mode", "multi_processing"],
        "portable": lambda: [
            *("--runner", "PortableRunner", "--environment_type", "LOOPBACK"),
            *("--job_endpoint", request.getfixturevalue("job_service")),
        ],
    }[how]()
    result = run(videos, tmp_path / "out", *options)
    assert result.returncode == 0, result.stderr
    assert records(tmp_path / "out") == records(reference)
    assert contents(tmp_path / "out") == contents(reference)


def test_kill_9_and_the_same_command_again(videos: Path, reference: Path, tmp_path: Path) -> None:
    """Killed again and again, it goes on after the last whole video: those done could not be decoded any more.

    They are replaced by garbage after each kill, torn lines and records are left behind, and the end is the reference.
    """
    copies = tmp_path / "place" / "videos"  # the plan has the paths; what is compared has not
    shutil.copytree(videos, copies)
    out = tmp_path / "out"
    kills = done = 0
    while kills < 4:
        process = subprocess.Popen(command(copies, out, "--jobs", "1"), cwd=ROOT, start_new_session=True)
        while len(_journaled(out)) <= done and process.poll() is None:
            time.sleep(0.002)
        assert process.poll() is None, "it ended before it could be killed"
        children = _children(process.pid)
        assert children
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        kills += 1
        _await_end(children)
        finished = _journaled(out)
        assert done < len(finished) < 12
        done = len(finished)
        for name in finished:
            (copies / name).write_bytes(b"garbage")
        for part in out.glob("journal/*.part"):
            with part.open("ab") as file:
                file.write(b'["torn')
    errors = _on_terminal(command(copies, out, "--jobs", "2"))
    assert " 12/12 " in errors  # the progress bar counts what was done before, too
    assert "kept=11, skipped=1" in errors
    last, first = contents(out), contents(reference)
    for plans in (last, first):
        del plans["items.jsonl"], plans["plan.json"]
    assert last == first
    again = run(copies, out)
    assert again.returncode == 0
    assert "is finished" in again.stdout


def _journaled(out: Path) -> list[str]:
    names = []
    for path in [*out.glob("journal/*.jsonl"), *out.glob("journal/*.jsonl.part")]:
        with contextlib.suppress(FileNotFoundError):  # it has just been renamed
            text = path.read_bytes()
            for line in text[: text.rfind(b"\n") + 1].splitlines():
                if line.startswith(b"["):
                    names.append(line.split(b'"')[1].decode())
    return names


def _children(process: int) -> list[int]:
    tasks = Path(f"/proc/{process}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def _await_end(processes: list[int]) -> None:
    """Of children of a process that was killed; whoever adopts them may be slow to bury them."""
    deadline = time.monotonic() + 20
    for process in processes:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            while Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z":
                assert time.monotonic() < deadline, "a decoder outlived its parent"
                time.sleep(0.05)


def _on_terminal(arguments: list[str]) -> str:
    """Run with a terminal as stderr; returns what it showed."""
    terminal, stderr = pty.openpty()
    fcntl.ioctl(stderr, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    process = subprocess.Popen(arguments, cwd=ROOT, stderr=stderr, stdout=subprocess.DEVNULL)
    os.close(stderr)
    shown = b""
    with contextlib.suppress(OSError):  # EIO is a terminal's end
        while chunk := os.read(terminal, 4096):
            shown += chunk
    os.close(terminal)
    assert process.wait() == 0, shown.decode()
    return shown.decode()


def _decoders(request: pytest.FixtureRequest) -> Decoders:
    decoders = Decoders("test", Settings(frame_rate=2), jobs=1, timeout=60)
    request.addfinalizer(decoders.close)
    return decoders


def test_the_end_of_a_shard_can_be_repeated(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Killed after the records got their place and before the journal did: nothing is decoded again."""
    items = [Item(f"{i:02d}.mp4", str(videos / f"{i:02d}.mp4")) for i in range(3)]
    decoders = _decoders(request)
    for name in ("whole", "torn"):
        (tmp_path / name).mkdir()
    journal.write_shard(str(tmp_path / "whole"), "a", items, decoders.decode)
    replace = Path.replace

    def fail(path: Path, target: Path) -> Path:
        if path.name == "a.jsonl.part":
            raise OSError("power cut")
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        with pytest.raises(TrainingError, match=r"a cannot be written to .*torn: power cut"):
            journal.write_shard(str(tmp_path / "torn"), "a", items, decoders.decode)

    def nothing(left: Any) -> Iterator[Any]:
        assert not left
        return iter(())

    journal.write_shard(str(tmp_path / "torn"), "a", items, nothing)
    for file in ("a.tfrecord", "journal/a.jsonl"):
        assert (tmp_path / "torn" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_two_processes_do_not_write_one_shard(videos: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """As when a runner gives a shard to another worker and the first still lives."""
    (tmp_path / "journal").mkdir()
    decoders = _decoders(request)
    items = [Item("00.mp4", str(videos / "00.mp4"))]
    with (tmp_path / "journal" / "a.jsonl.part").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(TrainingError, match="another process is writing a"):
            journal.write_shard(str(tmp_path), "a", items, decoders.decode)
    journal.write_shard(str(tmp_path), "a", items, decoders.decode)
    assert [entry.verdict for entry in journal.read(str(tmp_path), "a").entries] == ["kept"]


def test_errors_of_workers_are_said_in_a_line(videos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    items = [Item("00.mp4", str(videos / "00.mp4"), group="00.mp4", split="train")]
    planned = plan.make(items, Settings(), 64)
    out.mkdir()
    plan.write(planned, str(out))
    (out / "journal" / "train-00000-of-00001.tfrecord.part").mkdir(parents=True)  # where a file is to be
    with pytest.raises(TrainingError, match=r"train-00000-of-00001 cannot be written .* Is a directory.*goes on"):
        pipeline.run(str(out), planned.shards, Settings(), jobs=1, timeout=60)
    assert capfd.readouterr().err == ""


def test_decoding_processes_import_neither_tensorflow_nor_beam() -> None:
    code = "import sys, training.children, training.records; print({'tensorflow', 'apache_beam'} & {*sys.modules})"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"


class Bucket(FileSystem):
    """An object store, bucket://ROOT/..., that is a folder: names with slashes, no folders, no appending."""

    root = Path()

    @classmethod
    def scheme(cls) -> str:
        return "bucket"

    def _file(self, path: str) -> Path:
        return self.root / path.removeprefix("bucket://store/").replace("/", "\u2215")

    def join(self, basepath: str, *paths: str) -> str:
        return "/".join((basepath, *paths))

    def split(self, path: str) -> tuple[str, str]:
        head, _, tail = path.rpartition("/")
        return head, tail

    def mkdirs(self, path: str) -> None:
        pass

    def has_dirs(self) -> bool:
        return False

    def _list(self, dir_or_prefix: str) -> Iterator[FileMetadata]:
        for file in self.root.iterdir():
            path = "bucket://store/" + file.name.replace("\u2215", "/")
            if path.startswith(dir_or_prefix):
                yield FileMetadata(path, file.stat().st_size)

    def create(self, path: str, mime_type: str = "", compression_type: str = "") -> BinaryIO:
        return self._file(path).open("xb")

    def open(self, path: str, mime_type: str = "", compression_type: str = "") -> BinaryIO:
        return self._file(path).open("rb")

    def copy(self, source_file_names: list[str], destination_file_names: list[str]) -> None:
        raise NotImplementedError

    def rename(self, source_file_names: list[str], destination_file_names: list[str]) -> None:
        for source, target in zip(source_file_names, destination_file_names, strict=True):
            if self.exists(target):  # as HDFS does it
                raise BeamIOError(f"{target} exists")
            self._file(source).rename(self._file(target))

    def exists(self, path: str) -> bool:
        return self._file(path).exists()

    def size(self, path: str) -> int:
        return self._file(path).stat().st_size

    def last_updated(self, path: str) -> float:
        return self._file(path).stat().st_mtime

    def checksum(self, path: str) -> str:
        raise NotImplementedError

    def metadata(self, path: str) -> FileMetadata:
        return FileMetadata(path, self.size(path))

    def delete(self, paths: list[str]) -> None:
        for path in paths:
            self._file(path).unlink()


def test_videos_and_shards_at_urls(videos: Path, reference: Path, tmp_path: Path) -> None:
    Bucket.root = tmp_path
    out = "bucket://store/data/shards"
    assert prepare.main([str(videos), "--out", out, *OPTIONS, "--jobs", "2"]) == 0
    prefix = "data\u2215shards\u2215"
    assert {name.removeprefix(prefix): content for name, content in contents(tmp_path).items()} == contents(reference)
    with pytest.raises(TrainingError, match="--frame-size 110 there, 64 here"):
        prepare.main([str(videos), "--out", out, *OPTIONS, "--frame-size", "64"])

    names = ("00.mp4", "01.mp4", "02.mp4")
    for name in names:
        shutil.copy(videos / name, tmp_path / name)
    assert prepare.main([*(f"bucket://store/{name}" for name in names), "--out", out, *OPTIONS, "--overwrite"]) == 0
    files = sorted(tmp_path.glob(f"{prefix}*.tfrecord"))
    here = {f"bucket://store/{name}": content for name, content in _contents(reference.glob("*.tfrecord")).items()}
    assert _contents(files) == {name: here[name] for name in (f"bucket://store/{name}" for name in names)}
    with pytest.raises(TrainingError, match="nowhere://a"):
        prepare.main([str(videos), "--out", "nowhere://a"])


def _contents(files: Iterable[Path]) -> dict[str, tuple[bytes, ...]]:
    """Name -> sound and pictures, of data sets of one record a video."""
    parsed = [shards.parse(record) for file in files for record in shards.tf.data.TFRecordDataset(str(file))]
    return {
        fields["name"].numpy().decode(): (fields["audio"].numpy().tobytes(), *fields["frames"].numpy())
        for fields in parsed
    }
