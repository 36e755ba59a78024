"""The command line as its users run it: a process, real files, exit statuses, bytes on both outputs."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import l3edge
from l3edge import cli, doctor, engine, microphone, model, model_file
from l3edge.display import LiveView, Meter, Terminal, clock, fitting, groups
from tests.conftest import STUBS

STUB = STUBS[0]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), "PYTHONWARNINGS": "error"}
COMMAND = [sys.executable, "-m", "l3edge"]


def run(*arguments: object, **options: Any) -> subprocess.CompletedProcess[Any]:
    """Run the command; text unless told otherwise."""
    options = {"capture_output": True, "text": True, "timeout": 60, "env": ENVIRONMENT, **options}
    return subprocess.run([*COMMAND, *map(str, arguments)], check=False, **options)


def stream(*arguments: object, **options: Any) -> subprocess.CompletedProcess[Any]:
    return run("stream", "--model", STUB, *arguments, **options)


def sounds(rate: int, seconds: float) -> np.ndarray:
    """A chirp, noise bursts and tones after each other, float32 [n]."""
    t = np.arange(round(rate * seconds)) / rate
    u = t % 0.5
    noise = np.random.default_rng(5).standard_normal(len(t))
    kinds = [np.sin(2 * np.pi * (300 + 2000 * u) * u), 0.3 * noise * np.exp(-6 * u), np.sign(np.sin(880 * np.pi * u))]
    return (0.3 * np.choose((t / 0.5).astype(int) % 3, kinds)).astype(np.float32)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stereo, 44.1 kHz, 16 bits, 3.37 s: neither the model's rate nor a whole number of hops."""
    path = tmp_path_factory.mktemp("clip") / "clip.wav"
    left = sounds(44_100, 3.37)
    soundfile.write(path, np.stack([left, left[::-1]], axis=1), 44_100, subtype="PCM_16")
    return path


@pytest.fixture(scope="module")
def embedded(clip: Path) -> tuple[np.ndarray, np.ndarray]:
    audio, rate = l3edge.audio.read(clip)
    return l3edge.load(STUB).embed(audio, rate)


def parse(lines: str) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings and times of JSON lines."""
    records = [json.loads(line) for line in lines.splitlines()]
    return np.array([r["embedding"] for r in records], np.float32), np.array([r["time"] for r in records])


def assert_same(found: tuple[np.ndarray, np.ndarray], expected: tuple[np.ndarray, np.ndarray]) -> None:
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


def assert_one_line_error(done: subprocess.CompletedProcess[str], status: int, *words: str) -> None:
    assert done.returncode == status, done.stderr
    assert done.stderr.startswith("l3edge: error: ")
    assert done.stderr.count("\n") == 1
    for word in words:
        assert word in done.stderr


# --- stream -----------------------------------------------------------------------------------------------------------


def test_jsonl_is_embed_bit_for_bit(clip: Path, embedded: tuple[np.ndarray, np.ndarray]) -> None:
    done = stream("--input", clip, "--format", "jsonl")
    assert done.returncode == 0
    assert_same(parse(done.stdout), embedded)
    assert done.stderr.startswith(f"l3edge: {len(embedded[1])} hops, 3.37 s of audio; ")
    assert done.stderr.endswith("lost 0, clipped 0, non-finite 0\n")


def test_csv_is_embed_bit_for_bit(clip: Path, embedded: tuple[np.ndarray, np.ndarray]) -> None:
    header, *rows = csv.reader(stream("--input", clip, "--format", "csv").stdout.splitlines())
    assert header == ["time", *(f"e{i}" for i in range(embedded[0].shape[1]))]
    values = np.array(rows, np.float64)
    assert_same((values[:, 1:].astype(np.float32), values[:, 0]), embedded)


def test_text_is_the_default(clip: Path, embedded: tuple[np.ndarray, np.ndarray]) -> None:
    lines = stream("--input", clip).stdout.splitlines()
    assert len(lines) == len(embedded[1])
    assert lines[0].startswith("     0.50 s  ")
    assert " dBFS  change     -  " in lines[0]
    assert "-" not in lines[12].split("change")[1]


def test_text_in_an_encoding_without_blocks(clip: Path) -> None:
    done = stream("--input", clip, env={**ENVIRONMENT, "PYTHONIOENCODING": "latin-1"}, encoding="latin-1")
    assert done.returncode == 0
    assert done.stdout.isascii()


def test_hop_center_duration(clip: Path) -> None:
    audio, rate = l3edge.audio.read(clip)
    done = stream("--input", clip, "--format", "jsonl", "--hop", 0.3, "--center", "--duration", 2)
    assert_same(parse(done.stdout), l3edge.load(STUB).embed(audio[: 2 * rate], rate, hop=0.3, center=True))


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_standard_input(clip: Path, embedded: tuple[np.ndarray, np.ndarray], dtype: str) -> None:
    raw = soundfile.read(clip, dtype=dtype)[0].tobytes()
    options = ("--input", "-", "--rate", 44_100, "--channels", 2, "--dtype", dtype, "--format", "jsonl")
    done = stream(*options, input=raw, text=False)
    assert done.returncode == 0
    assert_same(parse(done.stdout.decode()), embedded)


def test_standard_input_that_ends_inside_a_frame() -> None:
    done = stream("--input", "-", "--rate", 16_000, input=bytes(32_001), text=False)
    assert done.returncode == 0
    assert b"l3edge: warning: the last 1 byte(s)" in done.stderr


@pytest.mark.parametrize(("channels", "rate"), [(1, 16_000), (2, 16_000), (1, 44_100)])
def test_bytes_of_another_dtype_are_counted_and_nothing_else(channels: int, rate: int) -> None:
    """As float32, infinities and signalling NaNs are among them; every warning would be an error here."""
    raw = np.random.default_rng(1).integers(-32_768, 32_768, 4 * rate * channels).astype("<i2").tobytes()
    options = ("--input", "-", "--rate", rate, "--channels", channels, "--dtype", "float32")
    done = stream(*options, input=raw, text=False)
    assert done.returncode == 0, done.stderr
    assert b"warning" not in done.stderr
    assert b"non-finite 0\n" not in done.stderr
    assert b"  99.9 dBFS" in done.stdout


@pytest.mark.parametrize("stub", STUBS)
def test_the_loudest_floats(stub: Path) -> None:
    raw = np.resize(np.float32([3.4e38, 3.4e38, -3.4e38]), 32_000).tobytes()
    options = ("--input", "-", "--rate", 16_000, "--dtype", "float32")
    done = run("stream", "--model", stub, *options, input=raw, text=False)
    assert (done.returncode, done.stderr.count(b"\n")) == (0, 1), done.stderr


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG"])
def test_standard_input_with_a_header(kind: str) -> None:
    sound = io.BytesIO()
    soundfile.write(sound, sounds(16_000, 1), 16_000, format=kind)
    done = stream("--input", "-", "--rate", 16_000, input=sound.getvalue(), text=False)
    assert done.returncode == 1
    assert done.stdout == b""
    found = done.stderr.decode().upper()
    assert f"STANDARD INPUT LOOKS LIKE A{'N' * (kind == 'OGG')} {kind} FILE, NOT RAW PCM; USE --INPUT FILE" in found


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 6])
def test_standard_input_of_a_few_bytes(size: int) -> None:
    done = stream("--input", "-", "--rate", 16_000, "--format", "jsonl", input=bytes(size), text=False)
    assert done.returncode == 0
    assert done.stdout.count(b"\n") == (size >= 2)


def test_realtime_takes_as_long_as_the_sound(clip: Path) -> None:
    begun = time.monotonic()
    assert stream("--input", clip, "--realtime", "--duration", 1.5).returncode == 0
    assert time.monotonic() - begun > 1.5


def test_output_appears_when_complete(clip: Path, tmp_path: Path, embedded: tuple[np.ndarray, np.ndarray]) -> None:
    output = tmp_path / "results.jsonl"
    done = stream("--input", clip, "--format", "jsonl", "--output", output)
    assert done.stdout == ""
    assert_same(parse(output.read_text()), embedded)
    assert list(tmp_path.iterdir()) == [output]


def test_output_says_its_format(clip: Path, tmp_path: Path, embedded: tuple[np.ndarray, np.ndarray]) -> None:
    for name, start in (("a.jsonl", "{"), ("a.CSV", "time,e0,"), ("a.txt", "     0.50 s")):
        assert stream("--input", clip, "--output", tmp_path / name).returncode == 0
        assert (tmp_path / name).read_text().startswith(start)
    assert_same(parse((tmp_path / "a.jsonl").read_text()), embedded)
    done = stream("--input", clip, "--output", tmp_path / "b.csv", "--format", "jsonl")
    assert_one_line_error(done, 2, "--format jsonl contradicts --output", "b.csv")


def test_output_may_be_standard_output(clip: Path, tmp_path: Path, embedded: tuple[np.ndarray, np.ndarray]) -> None:
    done = stream("--input", clip, "--output", "-", "--format", "jsonl", cwd=tmp_path)
    assert_same(parse(done.stdout), embedded)
    assert stream("--input", clip, "--output", "-", cwd=tmp_path).stdout.startswith("     0.50 s")
    assert list(tmp_path.iterdir()) == []


def test_output_into_no_folder(clip: Path, tmp_path: Path) -> None:
    done = stream("--input", clip, "--output", tmp_path / "no" / "x.jsonl")
    assert_one_line_error(done, 1, f"the folder {tmp_path / 'no'} does not exist")
    assert ".part" not in done.stderr


def test_failure_leaves_the_old_output(clip: Path, tmp_path: Path) -> None:
    whole = clip.with_suffix(".flac")
    soundfile.write(whole, soundfile.read(clip)[0], 44_100)
    broken = tmp_path / "broken.flac"
    broken.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    output = tmp_path / "results"
    output.write_text("old")
    assert_one_line_error(stream("--input", broken, "--output", output), 1, "broken.flac")
    assert output.read_text() == "old"
    assert sorted(tmp_path.iterdir()) == [broken, output]


def test_output_never_replaces_what_is_no_regular_file(clip: Path, tmp_path: Path) -> None:
    """Renaming over /dev/null would take it from the whole machine."""
    pipe, real, link = tmp_path / "pipe", tmp_path / "real", tmp_path / "link"
    os.mkfifo(pipe)
    real.write_text("old")
    link.symlink_to(real)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE, text=True) as reader:
        assert stream("--input", clip, "--output", pipe, "--format", "jsonl").returncode == 0
        lines = reader.communicate(timeout=10)[0]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert stream("--input", clip, "--output", link, "--format", "jsonl").returncode == 0
    assert link.is_symlink()
    assert real.read_text() == lines
    assert_one_line_error(stream("--input", clip, "--output", tmp_path), 1, str(tmp_path))


def test_output_has_the_mode_that_the_umask_leaves(clip: Path, tmp_path: Path) -> None:
    output, umask = tmp_path / "results", os.umask(0o027)
    try:
        assert stream("--input", clip, "--output", output).returncode == 0
    finally:
        os.umask(umask)
    assert stat.S_IMODE(output.stat().st_mode) == 0o640


def test_what_a_killed_run_left_is_not_in_the_way(tmp_path: Path) -> None:
    """In a container every run has the same process id."""
    output = tmp_path / "results"
    with model_file.replacing(output) as left, model_file.replacing(output) as part:
        assert sorted(tmp_path.iterdir()) == sorted([left, part])
        left.write_text("left")
        part.write_text("complete")
    assert list(tmp_path.iterdir()) == [output]


def test_record_keeps_what_was_heard(clip: Path, tmp_path: Path) -> None:
    heard = tmp_path / "heard.wav"
    assert stream("--input", clip, "--record", heard).returncode == 0
    assert soundfile.info(heard).subtype == "FLOAT"
    np.testing.assert_array_equal(soundfile.read(heard, dtype="float32")[0], soundfile.read(clip, dtype="float32")[0])


def test_a_recording_that_is_full_ends_the_stream(clip: Path, tmp_path: Path) -> None:
    """Beyond 4 GiB the sizes in a WAV's header would be wrong; here its end comes after 1.5 s."""
    most = 44_100 * 2 * 4 * 3 // 2  # bytes
    code = f"import sys; from l3edge import cli, results; results.MOST_RECORDED = {most}; sys.exit(cli.main())"
    output, heard = tmp_path / "results.jsonl", tmp_path / "heard.wav"
    options = ["--input", clip, "--format", "jsonl", "--output", output, "--record", heard]
    words = [sys.executable, "-c", code, "stream", "--model", STUB, *options]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, env=ENVIRONMENT, check=False)
    summary, error = done.stderr.splitlines()
    assert done.returncode == 1
    assert ", 1.50 s of audio; " in summary
    assert error.startswith(f"l3edge: error: {heard}: the recording is full")
    audio, rate = l3edge.audio.read(heard)
    assert len(audio) == 1.5 * rate
    assert_same(parse(output.read_text()), l3edge.load(STUB).embed(audio, rate))


def test_a_gap_is_recorded_as_silence(tmp_path: Path) -> None:
    code = """
import sys
import numpy as np
from l3edge.microphone import Block
from l3edge.results import Recorder, RecordingError

recorder, ones = Recorder(sys.argv[1], 16_000, 2), np.ones((100, 2), np.float32)
recorder.write(Block(ones))
recorder.write(Block(ones, 50_000))
try:
    recorder.write(Block(ones, 1 << 40))
except RecordingError as error:
    print(error)
recorder.close()
"""
    heard = tmp_path / "heard.wav"
    words = [sys.executable, "-c", code, heard]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, env=ENVIRONMENT, check=True)
    assert done.stdout.startswith(f"{heard}: the recording is full")
    expected = np.repeat(np.float32([1, 0, 1]), [100, 50_000, 100])
    np.testing.assert_array_equal(soundfile.read(heard, dtype="float32")[0], np.stack([expected, expected], axis=1))


def test_reader_that_has_enough(tmp_path: Path) -> None:
    long = tmp_path / "long.wav"
    soundfile.write(long, sounds(16_000, 120), 16_000)
    command = f"{sys.executable} -m l3edge stream --model {STUB} --input {long} --format jsonl | head -2"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=60, env=ENVIRONMENT
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(parse(done.stdout)[1]) == 2


def _heeding_interrupts() -> None:
    """A shell that runs us in the background has SIGINT ignored, and what it starts inherits that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_flushes_what_was_heard(clip: Path, tmp_path: Path, number: int, status: int) -> None:
    output, heard, long = tmp_path / "results.jsonl", tmp_path / "heard.wav", tmp_path / "long.wav"
    samples, rate = soundfile.read(clip, dtype="int16")
    soundfile.write(long, np.tile(samples, (4, 1)), rate)  # a busy machine must not come to its end before the signal
    options = ["--input", long, "--realtime", "--format", "jsonl", "--output", output, "--record", heard]
    process = subprocess.Popen(
        [*COMMAND, "stream", "--model", str(STUB), *map(str, options)],
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        preexec_fn=_heeding_interrupts,
    )
    deadline = time.monotonic() + 120
    while not (heard.exists() and heard.stat().st_size > 300_000):  # about 0.85 s
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == status
    assert errors.startswith("l3edge: ")
    audio, rate = l3edge.audio.read(heard)
    assert 0.5 < len(audio) / rate < 13
    assert_same(parse(output.read_text()), l3edge.load(STUB).embed(audio, rate))


# --- embed ------------------------------------------------------------------------------------------------------------


def test_embed_takes_the_longest_step_that_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The float32 stub has steps of ten hops: of 30 s most are taken so, at the model's rate and from another."""
    taken: list[int] = []
    step = engine.Network.step

    def counting(self: engine.Network, samples: np.ndarray, states: list[np.ndarray], hops: int = 1) -> np.ndarray:
        taken.append(hops)
        return step(self, samples, states, hops)

    monkeypatch.setattr(engine.Network, "step", counting)
    for rate in (16_000, 44_100):
        path = tmp_path / f"{rate}.wav"
        soundfile.write(path, sounds(rate, 30.0), rate, subtype="FLOAT")
        taken.clear()
        assert cli.main(["embed", str(path), "--model", str(STUBS[1])]) == 0
        assert taken.count(10) >= 20
        assert sum(taken) in (300, 301)
        with np.load(tmp_path / f"{rate}.npz", allow_pickle=False) as found:
            model = l3edge.load(STUBS[1])
            assert_same((found["embeddings"], found["times"]), model.embed(*l3edge.audio.read(path)))


def test_embed(clip: Path, tmp_path: Path, embedded: tuple[np.ndarray, np.ndarray]) -> None:
    done = run("embed", clip, "--model", STUB, "--output", tmp_path / "new" / "folder")
    assert (done.returncode, done.stderr) == (0, "")
    with np.load(tmp_path / "new" / "folder" / "clip.npz", allow_pickle=False) as found:
        assert_same((found["embeddings"], found["times"]), embedded)
        assert found["embeddings"].dtype == np.float32
        assert found["model_sha256"] == l3edge.load(STUB).identity
        assert l3edge.Spec.from_json(json.loads(str(found["spec"]))) == l3edge.load(STUB).spec
        assert (found["hop"], found["sample_rate"], bool(found["center"])) == (0.1, 44_100, False)


def test_embed_reports_what_was_altered(clip: Path, tmp_path: Path) -> None:
    """In total: not of the first block that had any."""
    sound = sounds(16_000, 3)
    sound[[100, 40_000]] = np.nan
    sound[200] = 2
    soundfile.write(tmp_path / "nan.wav", sound, 16_000, subtype="FLOAT")
    done = run("embed", tmp_path / "nan.wav", clip, "--model", STUB, "--output", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"{tmp_path / 'nan.npz'}  21 embeddings; clipped 1, non-finite 2",
        f"{tmp_path / 'clip.npz'}  25 embeddings",
    ]
    with np.load(tmp_path / "nan.npz", allow_pickle=False) as found:
        counts = found["counts"]
        assert [counts[name] for name in ("samples", "clipped", "non_finite")] == [48_000, 1, 2]


def test_embed_goes_on_after_a_bad_file(clip: Path, tmp_path: Path) -> None:
    text, empty = tmp_path / "text.wav", tmp_path / "empty.wav"
    text.write_text("not sound")
    soundfile.write(empty, np.zeros(0), 16_000)
    done = run("embed", text, tmp_path / "missing.wav", empty, clip, "--model", STUB, "--output", tmp_path)
    assert done.returncode == 1
    assert [line.startswith("l3edge: error: ") for line in done.stderr.splitlines()] == [True, True]
    assert "text.wav" in done.stderr.splitlines()[0]
    assert "missing.wav" in done.stderr.splitlines()[1]
    assert sorted(path.name for path in tmp_path.glob("*.npz")) == ["clip.npz", "empty.npz"]
    assert np.load(tmp_path / "empty.npz")["embeddings"].shape == (0, 8)


def test_embed_refuses_two_files_of_one_name(clip: Path, tmp_path: Path) -> None:
    other = tmp_path / "clip.flac"
    done = run("embed", clip, other, "--model", STUB, "--output", tmp_path)
    assert_one_line_error(done, 2, str(clip), str(other), "clip.npz")
    assert list(tmp_path.iterdir()) == []


def test_embed_into_a_file(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "h.jsonl").write_text("old")
    done = run("embed", clip, "--model", STUB, "--output", tmp_path / "h.jsonl")
    assert_one_line_error(done, 2, "h.jsonl is a file; --output wants a folder")


def test_embed_reports_a_wrong_hop_once(clip: Path) -> None:
    assert_one_line_error(run("embed", clip, clip.with_name("b.wav"), "--model", STUB, "--hop", 0.07), 2, "0.07", "0.1")


# --- errors -----------------------------------------------------------------------------------------------------------


def test_bad_usage(clip: Path) -> None:
    for options, word in (
        (("--input", clip, "--hop", "0.15"), "0.1"),
        (("--input", clip, "--hop", "nan"), "hop"),
        (("--input", clip, "--threads", "0"), "threads"),
        (("--input", "-"), "--rate"),
        (("--input", clip, "--device", "x"), "--device"),
        (("--input", clip, "--rate", "8000"), "--rate"),
        (("--input", clip, "--dtype", "int16"), "--dtype"),
        (("--input", clip, "--record", clip), "--record would overwrite --input"),
        (("--input", clip, "--output", clip.parent / "." / clip.name), "--output would overwrite --input"),
        (("--input", clip, "--output", "x", "--record", "./x"), "--record would overwrite --output"),
        (("--input", clip, "--record", "heard.flac"), "--record writes WAV"),
        (("--realtime",), "--realtime"),
    ):
        assert_one_line_error(stream(*options, stdin=subprocess.PIPE), 2, word)
    for options in (
        ("--duration", "-1"),
        ("--duration", "x"),
        ("--duration", "1e305"),
        ("--format", "xml"),
        ("--engine", "gpu"),
    ):
        done = stream("--input", clip, *options)
        assert done.returncode == 2
        assert options[0] in done.stderr
    assert run("nonsense").returncode == 2


def test_arguments_that_nothing_takes() -> None:
    for words, usage, message in (
        (("stream", "t.wav"), "stream", "unrecognized arguments: t.wav; did you mean --input t.wav?"),
        (("stream", "--input", "t.wav", "u.wav"), "stream", "unrecognized arguments: u.wav"),
        (("stream", "--loud"), "stream", "unrecognized arguments: --loud"),
        (("models", "x"), "models", "unrecognized arguments: x"),
    ):
        done = run(*words)
        assert done.returncode == 2
        assert done.stderr.startswith(f"usage: l3edge {usage} ")
        assert done.stderr.endswith(f"l3edge {usage}: error: {message}\n")
    assert run("--loud").stderr.endswith("l3edge: error: unrecognized arguments: --loud\n")


def test_failures(clip: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("not sound")
    assert_one_line_error(stream("--input", tmp_path / "none.wav"), 1, "none.wav")
    assert_one_line_error(stream("--input", text), 1, "text.txt")
    assert_one_line_error(stream("--input", tmp_path), 1, str(tmp_path))
    assert_one_line_error(run("stream", "--input", clip, "--model", "edge-x"), 1, "edge-x", "edge-m-1")
    assert_one_line_error(run("stream", "--input", clip, "--model", text), 1, "text.txt")
    assert_one_line_error(run("info", text), 1, "text.txt")
    assert_one_line_error(stream("--input", clip, "--output", tmp_path / "no" / "such"), 1, "such")
    for name in ("edgetpu", *(set(engine.ENGINES) - set(engine.installed()))):
        assert_one_line_error(stream("--input", clip, "--engine", name), 1, name)


def test_full_disk(clip: Path) -> None:
    with Path("/dev/full").open("w") as full:
        assert_one_line_error(
            stream("--input", clip, stdout=full, capture_output=False, stderr=subprocess.PIPE), 1, "space"
        )


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_standard_streams_may_be_closed(
    clip: Path, tmp_path: Path, embedded: tuple[np.ndarray, np.ndarray], closed: str
) -> None:
    def run_closed(*arguments: object) -> subprocess.CompletedProcess[str]:
        words = [*COMMAND, *map(str, arguments)]
        return subprocess.run(
            ["bash", "-c", f'"$@" {closed}', "bash", *words],
            capture_output=True,
            text=True,
            timeout=60,
            env=ENVIRONMENT,
        )

    output = tmp_path / "results.jsonl"
    done = run_closed("stream", "--model", STUB, "--input", clip, "--format", "jsonl", "--output", output)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    assert_same(parse(output.read_text()), embedded)
    done = run_closed("stream", "--model", STUB, "--input", clip)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    done = run_closed("embed", clip, tmp_path / "none.wav", "--model", STUB, "--output", tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    np.testing.assert_array_equal(np.load(tmp_path / "clip.npz")["embeddings"], embedded[0])
    if "<" in closed:
        done = run_closed("stream", "--model", STUB, "--input", "-", "--rate", 16_000)
        assert (done.returncode, "Traceback" in done.stderr) == (0, False)


def test_what_is_altered_is_reported_in_total(tmp_path: Path) -> None:
    broken = sounds(16_000, 1)
    broken[100:103] = np.nan
    broken[200] = 2
    soundfile.write(tmp_path / "nan.wav", broken, 16_000, subtype="FLOAT")
    done = stream("--input", tmp_path / "nan.wav")
    (summary,) = done.stderr.splitlines()
    assert summary.endswith("lost 0, clipped 1, non-finite 3")


# --- telling ----------------------------------------------------------------------------------------------------------


def test_help_and_version() -> None:
    assert run("--version").stdout == f"l3edge {l3edge.__version__}\n"
    alone = run()
    assert alone.returncode == 0
    for command in ("stream", "embed", "models", "info", "devices", "doctor"):
        assert command in alone.stdout
        assert run(command, "--help").returncode == 0


def test_info() -> None:
    done = run("info", STUB, "--json")
    facts, spec = json.loads(done.stdout), l3edge.load(STUB).spec
    assert facts["sha256"] == l3edge.load(STUB).identity
    assert facts["macs_per_hop"] == spec.macs_per_hop
    assert l3edge.Spec.from_json(facts["spec"]) == spec
    text = run("info", STUB).stdout
    assert facts["sha256"] in text
    assert not re.search(r"\.\d{10}", text.replace(facts["sha256"], ""))
    assert f"{spec.samples_seen:,} samples of a window" in text


def test_doctor() -> None:
    """It must answer whatever is installed; here an engine is, and the model unless this is a bare checkout."""
    done = run("doctor", "--json")
    report = json.loads(done.stdout)
    assert report["works"] is model.find().is_file()
    assert done.returncode == (0 if report["works"] else 1)
    names = [finding["what"] for finding in report["findings"]]
    assert {"python", "numpy", *engine.ENGINES, "soxr", "soundfile", "sounddevice", "edge tpu"} <= set(names)
    assert run("doctor").stdout.count("\n") == len(names)


def test_doctor_tells_of_paho_mqtt(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Installed, missing, and older than what the sink needs."""

    def finding() -> dict[str, str]:
        doctor.run(as_json=True)
        (found,) = (f for f in json.loads(capsys.readouterr().out)["findings"] if f["what"] == "paho-mqtt")
        return dict(found)

    monkeypatch.setattr(doctor, "ENGINES", {})  # whose children take seconds
    client = pytest.importorskip("paho.mqtt.client")
    assert finding()["state"] == "ok"
    with monkeypatch.context() as patch:
        patch.delattr(client, "CallbackAPIVersion")
        assert finding()["state"] == "failed"
        assert "needs paho-mqtt 2 or later" in finding()["detail"]
    monkeypatch.setitem(sys.modules, "paho", None)
    missing = {"detail": "not installed, needed for --sink mqtt", "mend": "pip install paho-mqtt"}
    assert finding() == {"what": "paho-mqtt", "state": "missing", **missing}


def test_doctor_does_not_import_what_crashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """tflite-runtime beside NumPy 2 takes the process down, even if it is only the child."""
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(np, "__version__", "2.4.6")
    monkeypatch.setattr(doctor, "_child", lambda probe, name: (found := getattr(doctor, probe)(name), found["error"]))
    finding = doctor._engine("tflite_runtime")
    assert finding.state == "failed"
    assert "needs NumPy < 2, found 2.4.6: pip install 'numpy<2'" in finding.detail
    assert finding.mend == ""


def test_version_of_a_package_without_metadata() -> None:
    assert engine.package_version("numpy") == np.__version__
    assert engine.package_version("no-such-package") == "unknown"


def test_importing_the_command_is_light() -> None:
    code = (
        "import sys, l3edge.cli; print([m for m in ('sounddevice', 'soundfile', 'soxr', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT, check=True)
    assert done.stdout == "[]\n"


# --- display ----------------------------------------------------------------------------------------------------------


def test_meter() -> None:
    meter = Meter(hops_per_window=2)
    meter.heard(np.full((100, 2), 0.1, np.float32))
    assert meter.level == pytest.approx(-20)
    meter.heard(np.array([[np.nan], [np.inf]], np.float32))
    first, second = np.array([1, 0], np.float32), np.array([0, 1], np.float32)
    for embedding, change in ((first, None), (second, None), (second, 1.0), (second, 0.0)):
        meter.result(embedding)
        assert meter.change == change
    meter.heard(np.zeros((10, 1), np.float32))
    assert meter.level == pytest.approx(-99.9)


def test_devices_with_none(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for module in (cli, microphone):
        monkeypatch.setattr(module, "device_list", list)
    assert cli.main(["devices"]) == 1
    assert "there is no input device; connect a microphone" in capsys.readouterr().err


def test_live_view_drops_what_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    view = LiveView(Terminal(out), "edge-m-1 on litert | a.wav, 16000 Hz, resampler delay 12 ms | Ctrl-C ends", None)
    monkeypatch.setattr(Terminal, "width", 52)
    view.show(Meter(2), 1.0, "lost 0, clipped 0, non-finite 0")
    lines = [line.removeprefix("\x1b[K") for line in out.getvalue().splitlines()]
    assert lines[0].endswith("edge-m-1 on litert | a.wav, 16000 Hz")
    assert lines[-3:-1] == ["0:01.0 | 0 hops | compute 0.00 ms a hop, p99 0.00", "lost 0, clipped 0, non-finite 0"]
    assert fitting("0:01.0 | 0 hops, 3 | 4", 20) == "0:01.0 | 0 hops, 3"
    assert fitting("one very long item", 8) == "one very"


def test_terminal_that_is_none() -> None:
    terminal = Terminal(io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert (terminal.moves, terminal.piped) == (False, False)
    assert terminal.paint("x", 31) == "x"
    assert terminal.sparkline([0, 1], 0, 1) == "_#"
    assert terminal.bar(0.5, 4) == "##.."
    assert [len(row) for row in terminal.heat([np.arange(8.0, dtype=np.float32)] * 3)] == [3] * 4


def test_small_helpers() -> None:
    assert clock(62.34) == "1:02.3"
    assert clock(3723.0) == "1:02:03.0"
    assert groups(np.arange(6, dtype=np.float32), 3).tolist() == [0.5, 2.5, 4.5]


@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_a_minute_streams_as_it_embeds(rate: int, tmp_path: Path, engine_name: str) -> None:
    """The main job, with the embedded default: one embedding every 0.1 s, those of `embed` bit for bit."""
    path = tmp_path / "minute.wav"
    scene, _ = soundfile.read(Path(__file__).parent.parent / "examples" / "scene.flac", dtype="float32")
    soundfile.write(path, np.tile(scene, 5 * rate // 16_000), rate)
    streamed = run("stream", "--engine", engine_name, "--input", path, "--format", "jsonl")
    assert streamed.returncode == 0, streamed.stderr
    assert run("embed", "--engine", engine_name, path, "--output", tmp_path).returncode == 0
    with np.load(tmp_path / "minute.npz", allow_pickle=False) as saved:
        assert saved["embeddings"].shape == (591, l3edge.load().spec.embedding_size)
        assert_same(parse(streamed.stdout), (saved["embeddings"], saved["times"]))
