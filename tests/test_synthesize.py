"""Synthetic videos: real MP4 files, reproducible and balanced; kinds are told by ear, and not by colour."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

for module in ("av", "scipy", "PIL", "tqdm"):
    pytest.importorskip(module, reason=f"making videos needs {module}, which a device does not have")

import av  # noqa: E402

from training import synthesize  # noqa: E402
from training.synthesize import KINDS, Settings, kind_of, synthesize_audio, write_video  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
SMALL = Settings(seconds=1.0, size=32)


def decode(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Pictures uint8 [frames, height, width, 3] and samples float32 [n] of a file."""
    with av.open(str(path)) as container:
        pictures = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    with av.open(str(path)) as container:
        samples = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    return pictures, samples


def hear(kind: str, take: int, seconds: float = 4.0, rate: int = 48_000) -> np.ndarray:
    return synthesize_audio(kind, np.random.default_rng([7, take, KINDS.index(kind)]), seconds, rate)


def nearest_centroid_accuracy(features: np.ndarray) -> float:
    """Share of takes nearest to their kind's mean over the other half; `features` [kinds, takes, d]."""
    scaled = (features - features.mean((0, 1))) / (features.std((0, 1)) + 1e-9)
    half = features.shape[1] // 2
    centroids = scaled[:, :half].mean(1)
    distances = np.linalg.norm(scaled[:, half:, None] - centroids, axis=-1)  # [kinds, takes, kinds]
    return float(np.mean(distances.argmin(-1) == np.arange(len(features))[:, None]))


def run(*arguments: str, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "training.synthesize", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, **options)


@pytest.fixture(scope="module")
def take(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("take") / "take.mp4"
    write_video(path, 3, 5)
    return path


def test_a_file_is_what_it_claims(take):
    with av.open(str(take)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, video.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (video.width, video.height, video.average_rate) == (128, 128, Fraction(25, 2))
        assert (audio.codec_context.name, audio.rate, audio.channels) == ("aac", 48_000, 1)
        assert container.duration / av.time_base == pytest.approx(4.0, abs=0.05)
        assert f"kind={kind_of(3, 5)} seed=5 take=3" in container.metadata["comment"]
    pictures, samples = decode(take)
    assert len(pictures) == 50
    assert len(samples) == pytest.approx(4 * 48_000, abs=2048)  # whole AAC frames, and the encoder's delay
    assert 0.01 < np.abs(samples).max() < 1
    assert np.abs(np.diff(pictures.astype(float), axis=0)).max((1, 2, 3)).mean() > 20  # something moves


def test_sound_survives_in_time(take):
    """What is heard at a time in the file is what was made for that time."""
    made = synthesize_audio(kind_of(3, 5), np.random.default_rng([5, 3]))
    with av.open(str(take)) as container:
        heard = np.zeros(5 * 48_000)
        for frame in container.decode(audio=0):
            start = round(float(frame.pts * frame.time_base) * 48_000)
            block = frame.to_ndarray()[0][max(0, -start) :]
            heard[max(0, start) : max(0, start) + len(block)] = block
    middle = slice(48_000, 144_000)
    assert np.corrcoef(made[middle], heard[middle])[0, 1] > 0.9


def test_same_take_same_bytes_other_take_other_scene(tmp_path):
    paths = [tmp_path / name for name in ("a.mp4", "b.mp4", "c.mp4")]
    one_kind = Settings(seconds=1.0, size=64, kinds=("bell",))
    for path, number in zip(paths, (0, 0, 1), strict=True):
        assert write_video(path, number, 1, one_kind) == "bell"
    assert paths[0].read_bytes() == paths[1].read_bytes()
    (picture, sound), (other_picture, other_sound) = decode(paths[0]), decode(paths[2])
    assert np.abs(picture[0].astype(float) - other_picture[0]).mean() > 10
    n = min(len(sound), len(other_sound))
    assert abs(np.corrcoef(sound[:n], other_sound[:n])[0, 1]) < 0.5


def test_bytes_do_not_depend_on_what_memory_held_before(tmp_path):
    """x264 with its macroblock tree gave up to seven different files in eight encodings of these takes."""
    settings, rng = Settings(seconds=2.0, size=160, kinds=("frog",)), np.random.default_rng(0)
    for seed in (1, 2):
        made = set()
        for _ in range(8):
            sizes = rng.integers(200, 100_000, 300)  # small enough that the allocator hands them out again
            dirt = [np.full(size, rng.integers(1, 256), np.uint8) for size in sizes]
            del dirt
            write_video(tmp_path / "frog.mp4", 0, seed, settings)
            made.add((tmp_path / "frog.mp4").read_bytes())
        assert len(made) == 1


def test_kinds_are_balanced_and_orders_differ():
    assert len(set(KINDS)) == len(KINDS) >= 24
    for seed in (0, 1):
        takes = [kind_of(take, seed) for take in range(3 * len(KINDS))]
        assert set(Counter(takes).values()) == {3}
        assert takes[: len(KINDS)] != takes[len(KINDS) : 2 * len(KINDS)]
    assert [kind_of(t, 0) for t in range(9)] != [kind_of(t, 1) for t in range(9)]


@pytest.mark.parametrize("kind", KINDS)
def test_sound_is_never_silent_nor_clipped(kind):
    for number in range(3):
        sound = hear(kind, number)
        assert sound.dtype == np.float32
        assert sound.shape == (4 * 48_000,)
        assert np.isfinite(sound).all()
        peak = float(np.abs(sound).max())
        assert 10 ** (-31 / 20) < peak <= 0.9
        windows = np.lib.stride_tricks.sliding_window_view(sound, 48_000)[::4800]
        assert np.sqrt((windows.astype(float) ** 2).mean(1)).min() > 3e-3 * peak


def test_levels_vary():
    peaks = [20 * np.log10(np.abs(hear("drum", take, 1.0)).max()) for take in range(20)]
    assert max(peaks) - min(peaks) > 12


def test_sound_at_another_rate_and_length():
    assert hear("siren", 0, 1.5, 16_000).shape == (24_000,)
    with pytest.raises(ValueError, match="kazoo"):
        synthesize_audio("kazoo", np.random.default_rng(0))


def test_kinds_differ_by_ear():
    takes, features = 12, []
    for kind in KINDS:
        for number in range(takes):
            frames = hear(kind, number, 2.0, 16_000).reshape(-1, 400) * np.hanning(400)
            power = np.abs(np.fft.rfft(frames, 512))[:, 1:] ** 2
            bands = np.log(np.stack([b.mean(1) for b in np.array_split(power, 32, axis=1)], 1) + 1e-9)
            bands -= bands.mean()  # level says nothing
            features.append(np.concatenate([bands.mean(0), bands.std(0)]))
    accuracy = nearest_centroid_accuracy(np.reshape(features, (len(KINDS), takes, -1)))
    assert accuracy > 8 / len(KINDS)


def test_colour_does_not_tell_the_kind():
    takes, features = 12, []
    for kind in KINDS:
        for number in range(takes):
            rng = np.random.default_rng([11, number, KINDS.index(kind)])
            picture = synthesize.make_scene(kind, rng, SMALL)[1].frame(0.5)
            features.append(np.concatenate([picture.mean((0, 1)), picture.std((0, 1))]))
    accuracy = nearest_centroid_accuracy(np.reshape(features, (len(KINDS), takes, -1)))
    assert accuracy < 4 / len(KINDS)


def test_count_and_processes_do_not_matter(tmp_path):
    settings = ("--seconds", "1", "--size", "32", "--seed", "9")
    assert run("--out", str(tmp_path / "a"), "--count", "3", "--jobs", "1", *settings).returncode == 0
    assert run("--out", str(tmp_path / "b"), "--count", "5", "--jobs", "2", *settings).returncode == 0
    made = sorted(path.name for path in (tmp_path / "a").glob("*.mp4"))
    assert made == sorted(f"{take:04d}-{kind_of(take, 9)}.mp4" for take in range(3))
    for name in made:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    with (tmp_path / "b" / "index.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == sorted(path.name for path in (tmp_path / "b").glob("*.mp4"))
    assert rows[0] == {"file": made[0], "kind": kind_of(0, 9), "seed": "9", "take": "0", "duration": "1"}
    assert not list((tmp_path / "b").glob(".*"))  # no temporary files


def test_whole_files_are_kept(tmp_path):
    assert synthesize.synthesize(tmp_path, 2, 0, SMALL) == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.mp4")}
    assert synthesize.synthesize(tmp_path, 3, 0, SMALL) == 2
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())
    other = Settings(seconds=1.0, size=64)
    with pytest.raises(synthesize.TrainingError, match="--overwrite"):
        synthesize.synthesize(tmp_path, 3, 0, other)
    assert synthesize.synthesize(tmp_path, 3, 0, other, overwrite=True) == 0
    assert decode(next(tmp_path.glob("*.mp4")))[0].shape[1:3] == (64, 64)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "--out"),
        (["--out", "{file}"], "not a directory"),
        (["--out", "{new}", "--count", "0"], "count"),
        (["--out", "{new}", "--count", "some"], "count"),
        (["--out", "{new}", "--seed", "-1"], "seed"),
        (["--out", "{new}", "--jobs", "0"], "jobs"),
        (["--out", "{new}", "--fps", "1/0"], "fps"),
        (["--out", "{new}", "--fps", "0"], "fps"),
        (["--out", "{new}", "--seconds", "nan"], "seconds"),
        (["--out", "{new}", "--size", "63"], "size"),
        (["--out", "{new}", "--kinds", "bell,kazoo"], "kazoo"),
        (["--out", "{new}", "--kinds", "bell,bell"], "once"),
    ],
)
def test_bad_usage_is_one_line_and_status_2(tmp_path, capsys, arguments, says):
    (tmp_path / "file").touch()
    names = {"file": tmp_path / "file", "new": tmp_path / "new"}
    with pytest.raises(SystemExit) as stop:
        synthesize.main([argument.format(**names) for argument in arguments])
    assert stop.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert says in lines[0]
    assert not (tmp_path / "new").exists()


def test_failure_is_one_line_and_status_1(tmp_path):
    (tmp_path / "file").touch()
    done = run("--out", str(tmp_path / "file" / "below"), "--count", "1")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1


def test_list_kinds(capsys):
    assert synthesize.main(["--list-kinds"]) == 0
    assert tuple(capsys.readouterr().out.split()) == KINDS


@pytest.mark.skipif(os.name != "posix", reason="sends Ctrl-C to a process group")
def test_ctrl_c_leaves_whole_files(tmp_path):
    command = [
        sys.executable,
        "-m",
        "training.synthesize",
        "--out",
        str(tmp_path),
        "--count",
        "5000",
        "--jobs",
        "2",
    ]
    started = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        deadline = time.monotonic() + 30
        while not list(tmp_path.glob("*.mp4")) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(started.pid, signal.SIGINT)
        _, errors = started.communicate(timeout=30)
    finally:
        started.kill()
    assert started.returncode == 130
    assert "Traceback" not in errors
    files = sorted(path.name for path in tmp_path.glob("*.mp4"))
    assert files
    assert all(len(decode(tmp_path / name)[0]) == 50 for name in files)
    assert sorted(path.name for path in tmp_path.iterdir()) == [*files, "index.csv"]
