"""`l3edge embed` on many files: processes, their order, going on, and what ends them."""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import l3edge
from l3edge import children, cli, embed_command
from tests.conftest import HEADED, STUBS, TAGGED

STUB = STUBS[0]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), "PYTHONWARNINGS": "error"}
HANG = 120  # s, after which what should have happened will not


def command(*arguments: object, model: Path = STUB) -> list[str]:
    return [sys.executable, "-m", "l3edge", "embed", "--model", *map(str, (model, *arguments))]


def run(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    words = command(*arguments, **options)
    return subprocess.run(words, capture_output=True, text=True, timeout=HANG, env=ENVIRONMENT, check=False)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def until(condition: Callable[[], Any]) -> Any:
    """What the condition gives as soon as it is true."""
    deadline = time.monotonic() + HANG
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return found


def workers_of(process: int) -> list[int]:
    """Processes that a process has started."""
    listed = (children for task in Path(f"/proc/{process}/task").iterdir() for children in [task / "children"])
    return [int(number) for children in listed for number in children.read_text().split()]


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def has_open(process: int, path: Path) -> bool:
    try:
        return any(each.readlink() == path for each in Path(f"/proc/{process}/fd").iterdir())
    except OSError:
        return False


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine files in three folders, of three rates, the first the longest; and two that are no sound."""
    folder = tmp_path_factory.mktemp("archive")
    random = np.random.default_rng(7)
    for number in range(9):
        rate = (16_000, 44_100, 48_000)[number % 3]
        path = folder / ("", "a", "a/b")[number % 3] / f"{number}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, 0.1 * random.standard_normal((20 if number == 0 else 2) * rate + number), rate)
    (folder / "a" / "4b.flac").write_text("no sound")
    (folder / "empty.wav").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def hour(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An hour, which takes seconds to embed."""
    path = tmp_path_factory.mktemp("hour") / "hour.flac"
    with soundfile.SoundFile(path, "w", 16_000, 1) as file:
        for _ in range(60):
            file.write(np.zeros(60 * 16_000, np.int16))
    return path


# --- many at a time ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [STUB, TAGGED, HEADED], ids=lambda path: path.stem)
def test_jobs_change_no_byte_and_no_line(archive: Path, tmp_path: Path, model: Path) -> None:
    options = ("--tags",) if model == TAGGED else ()
    done = [run(archive, "--output", tmp_path / n, "--jobs", n, *options, model=model) for n in ("1", "2", "5")]
    assert [each.returncode for each in done] == [1, 1, 1]
    assert len(contents(tmp_path / "1")) == 9
    assert contents(tmp_path / "1") == contents(tmp_path / "2") == contents(tmp_path / "5")
    names = [Path(line.split("  ")[0]).relative_to(tmp_path / "1") for line in done[0].stdout.splitlines()]
    assert names == [Path(name) for name in ("0.npz", "3.npz", "6.npz", *(f"a/{n}.npz" for n in (1, 4, 7)), *B)]
    for n, each in zip(("2", "5"), done[1:], strict=True):
        assert each.stdout.replace(f"{tmp_path / n}/", f"{tmp_path / '1'}/") == done[0].stdout
        assert each.stderr == done[0].stderr
    first, second = done[0].stderr.splitlines()
    assert first.startswith(f"l3edge: error: {archive / 'empty.wav'}: ")
    assert second.startswith(f"l3edge: error: {archive / 'a' / '4b.flac'}: ")


B = [f"a/b/{n}.npz" for n in (2, 5, 8)]


def test_what_is_written_is_what_embed_gives(archive: Path, tmp_path: Path) -> None:
    files = [archive / "0.wav", archive / "a" / "1.wav"]
    assert run(*files, "--output", tmp_path, "--jobs", 2, "--hop", 0.2, "--center").returncode == 0
    for path in files:
        embeddings, times = l3edge.load(STUB).embed(*l3edge.audio.read(path), hop=0.2, center=True)
        with np.load(tmp_path / f"{path.stem}.npz", allow_pickle=False) as found:
            np.testing.assert_array_equal(found["embeddings"], embeddings)
            np.testing.assert_array_equal(found["times"], times)


def test_a_process_for_each_core(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    start = children.start

    def counted(*arguments: Any) -> subprocess.Popen[bytes]:
        started.append(start(*arguments))
        return started[-1]

    monkeypatch.setattr(children, "start", counted)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2, 5})
    cli.main(["embed", str(archive), "--output", str(tmp_path), "--model", str(STUB)])
    assert len(started) == 3
    assert [process.returncode is None for process in started] == [False] * 3
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    cli.main(["embed", str(archive), "--output", str(tmp_path), "--model", str(STUB)])
    assert len(started) == 3  # one core needs no other process


def test_a_device_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    for options, jobs in (({}, 8), ({"threads": 4}, 2), ({"delegate": "x.so"}, 1), ({"engine": "edgetpu"}, 1)):
        given = {"threads": 1, "delegate": None, "engine": "auto", **options}
        assert embed_command._default_jobs(argparse.Namespace(**given)) == jobs


def test_jobs_that_are_none(archive: Path) -> None:
    for jobs in ("0", "-1", "x", "1.5", "100000"):
        done = run(archive, "--jobs", jobs)
        assert done.returncode == 2
        assert f"must be a whole number from 1 to 1024, got '{jobs}'" in done.stderr


def test_a_folder_without_sound(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("none")
    done = run(tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert f"no audio file in {tmp_path}" in done.stderr


def test_a_bar_for_all(archive: Path, hour: Path, tmp_path: Path) -> None:
    """On a terminal, of the first file that is not done, with lines above it."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    words = command(hour, archive / "0.wav", "--output", tmp_path, "--jobs", 2)
    with subprocess.Popen(words, stdout=theirs, stderr=theirs, env={**ENVIRONMENT, "TERM": "xterm"}) as process:
        os.close(theirs)
        seen = b""
        while select.select([ours], [], [], HANG)[0]:
            try:
                seen += os.read(ours, 1 << 16)
            except OSError:  # EIO: the other side is closed
                break
    os.close(ours)
    assert process.returncode == 0
    assert b"[1/2] hour.flac" in seen
    assert b"x real time" in seen
    lines = [line for line in seen.decode().splitlines() if "embeddings" in line]
    assert [Path(line.split("  ")[0].split("\x1b[?25h")[-1]).stem for line in lines] == ["hour", "0"]


@pytest.mark.parametrize("jobs", [1, 2])
def test_names_that_no_encoding_has(archive: Path, tmp_path: Path, jobs: int) -> None:
    """They are shown as far as can be, a line each, and their files are embedded."""
    sounds = tmp_path / "sounds"
    sounds.mkdir()
    for name in (b"\xff.wav", b"a\nb.wav", "é.wav".encode()):
        shutil.copy(archive / "3.wav", sounds / os.fsdecode(name))
    (sounds / os.fsdecode(b"\xfe.wav")).write_text("no sound")
    words = command(sounds, "--output", tmp_path / "out", "--jobs", jobs)
    environment = {**ENVIRONMENT, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(words, capture_output=True, text=True, timeout=HANG, env=environment, check=False)
    assert [line.split("/")[-1] for line in done.stdout.splitlines()] == [
        f"{name}.npz  12 embeddings" for name in ("a?b", "?", "?")
    ]
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith(f"l3edge: error: {sounds}/?.wav: not a readable audio file (Format not recognised")
    written = {os.fsencode(path.name) for path in (tmp_path / "out").iterdir()}
    assert written == {b"\xff.npz", b"a\nb.npz", "é.npz".encode()}


# --- going on ---------------------------------------------------------------------------------------------------------


def test_what_is_embedded_is_left_as_it_is(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Until the sound, or how it is embedded, is another; or the .npz is not one of these."""
    sound, target = tmp_path / "sound.wav", tmp_path / "out" / "sound.npz"
    shutil.copy(archive / "3.wav", sound)

    def embed(*options: object) -> bool:
        """Whether it was embedded."""
        words = ["embed", str(sound), "--output", str(target.parent), "--model", str(STUB), *map(str, options)]
        assert cli.main(words) == 0
        told = capsys.readouterr().out
        assert told.removeprefix(f"{target}  ") in ("12 embeddings\n", "7 embeddings\n", "already embedded\n")
        return "already" not in told

    assert embed()
    first, made = target.read_bytes(), target.stat().st_mtime_ns
    assert not embed()
    assert target.stat().st_mtime_ns == made
    assert embed("--overwrite")
    assert target.read_bytes() == first
    for options in (("--hop", 0.2), ("--model", STUBS[1]), ("--model", TAGGED), ("--model", TAGGED, "--tags")):
        assert embed(*options)
        assert not embed(*options)
    assert embed()
    status = sound.stat()
    os.utime(sound, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert embed()
    shutil.copy(archive / "6.wav", sound)  # of another length
    os.utime(sound, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert embed()
    for damaged in (
        b"",
        b"no archive",
        target.read_bytes()[:-100],
        target.read_bytes().replace(b"made_from", b"made_of__"),
    ):
        target.write_bytes(damaged)
        assert embed()
        assert not embed()
    np.savez(target, embeddings=np.zeros(3))  # of another program
    assert embed()


def test_interrupted_and_begun_again(archive: Path, hour: Path, tmp_path: Path) -> None:
    """Ctrl-C in a terminal, which every process of the group gets: what is done is whole, and nothing else is left."""
    files = [archive / "0.wav", hour, archive / "3.wav", archive / "6.wav"]
    words = command(*files, "--output", tmp_path / "out", "--jobs", 2)
    told = tmp_path / "told"
    with told.open("w") as stdout:
        process = subprocess.Popen(
            words, stdout=stdout, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, start_new_session=True
        )
    until(lambda: (tmp_path / "out" / "6.npz").exists() and told.read_text().endswith("\n"))
    workers = workers_of(process.pid)
    assert len(workers) == 2
    os.killpg(process.pid, signal.SIGINT)
    errors = process.communicate(timeout=HANG)[1]
    assert process.returncode == 130, errors
    assert errors == ("l3edge: interrupted; what is embedded is whole, and the same command goes on from there\n")
    assert (
        told.read_text() == f"{tmp_path / 'out' / '0.npz'}  191 embeddings\n"
    )  # nothing after the hour, which is not done
    assert not any(map(alive, workers))
    kept = contents(tmp_path / "out")
    assert set(kept) == {"0.npz", "3.npz", "6.npz"}  # no part of the hour's
    again = run(*files, "--output", tmp_path / "out", "--jobs", 2)
    assert again.returncode == 0
    assert [line.split("  ")[1] for line in again.stdout.splitlines()] == [
        "already embedded", "35991 embeddings", "already embedded", "already embedded",
    ]  # fmt: skip
    assert run(*files, "--output", tmp_path / "whole", "--jobs", 1).returncode == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert kept.items() <= contents(tmp_path / "whole").items()


# --- what ends processes ----------------------------------------------------------------------------------------------


def test_a_process_that_is_killed(archive: Path, hour: Path, tmp_path: Path) -> None:
    """As for want of memory: an error of its file, and the others are embedded."""
    files = [archive / "0.wav", hour, archive / "3.wav"]
    words = command(*files, "--output", tmp_path, "--jobs", 2)
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    (busy,) = until(lambda: [worker for worker in workers_of(process.pid) if has_open(worker, hour)])
    os.kill(busy, signal.SIGKILL)
    told, errors = process.communicate(timeout=HANG)
    assert process.returncode == 1
    told_of = f"l3edge: error: {hour}: the process that embedded it ended (SIGKILL); the others go on; "
    assert errors == told_of + "where memory is short, use fewer --jobs\n"
    assert [Path(line.split("  ")[0]).name for line in told.splitlines()] == ["0.npz", "3.npz"]


def test_every_process_is_killed(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file has its error, and there is an end."""

    def start(module: str, options: str, stderr: Any = None) -> subprocess.Popen[bytes]:
        words = ["sh", "-c", "kill -9 $$"]
        return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, bufsize=0)

    monkeypatch.setattr(children, "start", start)
    assert cli.main(["embed", str(archive), "--output", str(tmp_path), "--model", str(STUB), "--jobs", "3"]) == 1
    assert contents(tmp_path) == {}


def test_the_command_is_killed(archive: Path, hour: Path, tmp_path: Path) -> None:
    """Its processes do not outlive it by more than the file that they have."""
    words = command(hour, archive / "0.wav", "--output", tmp_path, "--jobs", 2)
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT)
    until(lambda: [worker for worker in workers_of(process.pid) if has_open(worker, hour)])
    workers = workers_of(process.pid)
    process.kill()
    process.wait()
    until(lambda: not any(map(alive, workers)))
    assert len(workers) == 2
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".npz"]


def test_a_reader_that_has_enough(archive: Path, tmp_path: Path) -> None:
    line = " ".join(command(archive, "--output", tmp_path, "--jobs", 2))
    words = ["bash", "-o", "pipefail", "-c", f"{line} 2>/dev/null | head -1"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=HANG, env=ENVIRONMENT, check=False)
    assert (done.returncode, done.stdout.count("\n")) in ((0, 1), (1, 1))  # 1 where all was written before it closed
