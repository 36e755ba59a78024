"""Videos -> shards: one clock for sound and picture, a verdict for every bad file, the same bytes every time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

for module in ("tensorflow", "av", "soxr", "PIL", "tqdm"):
    pytest.importorskip(module, reason=f"preparing videos needs {module}, which a device does not have")

import av  # noqa: E402

from l3edge.spec import PRESETS  # noqa: E402
from training import pairs, prepare, shards  # noqa: E402
from training.cli import TrainingError  # noqa: E402
from training.videos import SAMPLE_RATE, VERDICTS, Settings, read_video  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
SPEC = PRESETS["edge-s"]
RATE = 48_000
EVENTS = ((1.0, 1.3), (2.2, 2.5), (3.1, 3.4))  # s: when the picture is white and the tone sounds

Signal = Callable[[np.ndarray], np.ndarray]


def during_events(t: np.ndarray) -> np.ndarray:
    return np.any([(t >= begin) & (t < end) for begin, end in EVENTS], axis=0)


def tone(t: np.ndarray) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * 1000 * t)


def moving(t: float) -> np.ndarray:
    """A bar that moves through the picture."""
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:, int(t * 16) % 60 :][:, :4] = 255
    return picture


def write_video(
    path: Path,
    seconds: float = 4.0,
    sound: Signal | None = tone,
    picture: Callable[[float], np.ndarray] | None = moving,
    sound_from: float = 0.0,
    picture_from: float = 0.0,
    fps: int = 20,
    options: dict[str, str] | None = None,
) -> Path:
    """A file whose streams cover [their start, seconds) of one clock, on which `sound` and `picture` are defined."""
    with av.open(str(path), "w", options=options or {}) as container:
        if picture:
            video = container.add_stream("libx264", rate=fps, options={"preset": "ultrafast", "crf": "18"})
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        if sound:
            audio = container.add_stream("aac", rate=RATE, layout="mono")
        if picture:
            for i in range(round(picture_from * fps), round(seconds * fps)):
                frame = av.VideoFrame.from_ndarray(picture(i / fps), format="rgb24")
                frame.pts, frame.time_base = i, Fraction(1, fps)
                container.mux(video.encode(frame))
            container.mux(video.encode())
        if sound:
            first = round(sound_from * RATE)
            samples = sound(np.arange(first, round(seconds * RATE)) / RATE).astype(np.float32)
            for i in range(0, len(samples), 1024):
                block = av.AudioFrame.from_ndarray(samples[None, i : i + 1024], format="fltp", layout="mono")
                block.sample_rate, block.pts, block.time_base = RATE, first + i, Fraction(1, RATE)
                container.mux(audio.encode(block))
            container.mux(audio.encode())
    return path


def make_shards(videos: Path, out: Path, *options: str) -> dict[str, Any]:
    assert prepare.main([str(videos), "--out", str(out), "--jobs", "1", *options]) == 0
    return json.loads((out / "statistics.json").read_text())


def white(t: float) -> np.ndarray:
    return np.full((48, 64, 3), 230 if during_events(np.array(t)) else 20, np.uint8)


@pytest.mark.parametrize("container", ["mp4", "mkv"])
@pytest.mark.parametrize(("sound_from", "picture_from"), [(0, 0), (0.7, 0), (0, 0.8), (1.1, 0.35)])
def test_picture_and_sound_are_on_one_clock(
    tmp_path: Path, container: str, sound_from: float, picture_from: float
) -> None:
    """White if and only if it sounds, in every frame of the record and in every training clip cut from it."""
    path = tmp_path / f"a.{container}"
    write_video(path, 4, lambda t: tone(t) * during_events(t), white, sound_from, picture_from)
    video = read_video(path, Settings(frame_rate=20))
    assert video.verdict == "kept", video
    (segment,) = video.kept
    assert segment.frame_times[0] / 1e6 >= max(picture_from, sound_from) - 0.05
    assert segment.audio_start / 1e6 >= sound_from - 0.03

    record = shards.serialize("a", "", segment)
    records = shards.tf.constant([record])
    clips = next(iter(pairs.training_clips(records, SPEC, seed=1, batch=256)))
    begin, heard = clips["begin"].numpy(), clips["heard"].numpy()
    assert (begin <= heard).all()
    assert (heard < begin + SPEC.window).all()
    assert (begin >= 0).all()
    assert (begin + SPEC.window <= len(segment.audio)).all()
    checked = {False: 0, True: 0}
    for image, audio, at in zip(clips["image"].numpy(), clips["audio"].numpy(), heard - begin, strict=True):
        around = np.abs(audio[max(0, at - 400) : at + 400])
        silent, sounds = around.max() < 0.05, around.min() < 0.2 < around.max() and around[-80:].max() > 0.2
        if silent or (sounds and around[:80].max() > 0.2):  # not within 25 ms of a beginning or end
            assert (image.mean() > 0) == sounds
            checked[bool(sounds)] += 1
    assert min(checked.values()) > 30


def test_a_hole_in_the_sound_does_not_shift_what_follows(tmp_path: Path) -> None:
    path = tmp_path / "hole.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=20, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for i in range(80):
            container.mux(video.encode(av.VideoFrame.from_ndarray(moving(i / 20), format="rgb24")))
        container.mux(video.encode())
        for i in range(0, 4 * RATE, 4800):
            t = (i + np.arange(4800)) / RATE
            if 1.2 <= t[0] < 1.9:
                continue
            samples = (32767 * tone(t) * (t >= 3)).astype(np.int16)[None]
            block = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            block.sample_rate, block.pts, block.time_base = RATE, i, Fraction(1, RATE)
            container.mux(audio.encode(block))
        container.mux(audio.encode())
    (segment,) = read_video(path, Settings()).kept
    loud = np.flatnonzero(np.abs(segment.audio) > 3000)
    assert len(segment.audio) == 4 * SAMPLE_RATE
    assert loud[0] / SAMPLE_RATE + segment.audio_start / 1e6 == pytest.approx(3.0, abs=0.002)


def _bad_videos(folder: Path) -> dict[str, str]:
    """One file for each verdict, and a few more; name -> verdict."""
    folder.mkdir()
    good = write_video(folder / "kept.mp4").read_bytes()
    grey = np.tile(np.arange(64, dtype=np.uint8)[None, :, None], (48, 1, 3))
    write_video(folder / "still.mp4", picture=lambda t: grey)
    write_video(folder / "silent.mp4", sound=lambda t: 0 * t)
    write_video(folder / "mute.mp4", sound=None)
    write_video(folder / "blind.mp4", picture=None)
    write_video(folder / "short.mp4", seconds=0.6)
    write_video(folder / "apart.mp4", picture=moving, sound_from=3.5)
    (folder / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(50_000))
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "headless.mp4").write_bytes(good[: len(good) // 2])  # the index was at the end
    whole = write_video(folder / "cut.mp4", options={"movflags": "faststart"})
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])  # the index is there, half the rest is not
    (folder / "notes.txt").write_text("not a video, not looked at")
    (folder / ".hidden.mp4").write_bytes(b"")
    return {
        "kept.mp4": "kept",
        "still.mp4": "still",
        "silent.mp4": "silent",
        "mute.mp4": "no audio",
        "blind.mp4": "no video",
        "short.mp4": "too short",
        "apart.mp4": "too short",
        "noise.mp4": "corrupt",
        "empty.mp4": "corrupt",
        "headless.mp4": "corrupt",
        "cut.mp4": "corrupt",
    }


def test_every_bad_file_is_skipped_counted_and_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = _bad_videos(tmp_path / "videos")
    statistics = make_shards(tmp_path / "videos", tmp_path / "shards")
    found = {entry["video"]: entry["verdict"] for entry in statistics["skipped"]}
    assert found | {"kept.mp4": "kept"} == expected
    assert all(entry["reason"] for entry in statistics["skipped"])
    assert statistics["videos"] == len(expected)
    assert statistics["verdicts"] == {verdict: list(expected.values()).count(verdict) for verdict in VERDICTS}
    output = capsys.readouterr().out
    assert "1 kept" in output
    assert "4 corrupt" in output


def test_a_file_that_kills_its_decoder_is_corrupt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        write_video(tmp_path / name, 1.5)
    monkeypatch.setattr(prepare, "read_video", _crash_on_b)
    videos = prepare.read_videos(sorted(tmp_path.iterdir()), Settings(), jobs=2)
    assert [video.verdict for video in videos] == ["kept", "corrupt", "kept"]


def _crash_on_b(path: Path, settings: Settings) -> Any:
    if path.name == "b.mp4":
        os.kill(os.getpid(), signal.SIGKILL)
    return read_video(path, settings)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve videos, one of them 25 s long, in two folders with an index."""
    folder = tmp_path_factory.mktemp("many") / "videos"
    (folder / "deep").mkdir(parents=True)
    for i in range(11):
        write_video(folder / f"{i:02d}-tone.mp4", 1.5, fps=10)
    write_video(folder / "deep" / "long.mkv", 25, fps=10)
    rows = ["file,kind", *(f"{i:02d}-tone.mp4,{'even' if i % 2 == 0 else 'odd'}" for i in range(11))]
    (folder / "index.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_shards(folder: Path, tmp_path: Path) -> None:
    statistics = make_shards(folder, tmp_path / "shards", "--shard-size", "0.1")
    splits = statistics["splits"]
    assert {split: len(names) for split, names in splits.items()} == {"test": 1, "validation": 1, "train": 10}
    assert statistics["kinds"]["02-tone.mp4"] == "even"
    seen: dict[str, list[int]] = {}
    samples = 0
    for split, names in splits.items():
        assert sorted(p.name for p in (tmp_path / "shards").glob(f"{split}-*")) == statistics["files"][split]
        for record in shards.load(tmp_path / "shards", split):
            fields = shards.parse(record)
            name = fields["video"].numpy().decode()
            assert name in names
            assert fields["kind"].numpy().decode() == statistics["kinds"].get(name, "")
            assert SPEC.window <= len(fields["audio"]) <= 10 * SAMPLE_RATE
            assert len(fields["frames"]) == len(fields["frame_times"]) >= 5
            image = shards.tf.image.decode_jpeg(fields["frames"][0])
            assert image.shape == (48, 64, 3)
            seen.setdefault(name, []).append(int(fields["audio_start"]))
            samples += len(fields["audio"])
    assert set(seen) == {name for names in splits.values() for name in names}
    assert len(seen["deep/long.mkv"]) == 3
    assert statistics["hours"] == pytest.approx(samples / SAMPLE_RATE / 3600, abs=1e-6)
    assert len(statistics["files"]["train"]) > 1


def test_output_does_not_depend_on_jobs(folder: Path, tmp_path: Path) -> None:
    make_shards(folder, tmp_path / "one")
    make_shards(folder, tmp_path / "two", "--jobs", "2")
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two


def test_large_pictures_are_scaled_down(folder: Path) -> None:
    (segment,) = read_video(folder / "00-tone.mp4", Settings(frame_size=24)).kept
    assert shards.tf.image.decode_jpeg(segment.frames[0]).shape == (24, 32, 3)


def test_evaluation_clips_are_fixed_and_negatives_are_of_other_videos(folder: Path, tmp_path: Path) -> None:
    make_shards(folder, tmp_path / "shards")
    records = shards.load(tmp_path / "shards", "train")
    clips = pairs.evaluation_clips(records, SPEC, 40)
    again = pairs.evaluation_clips(records, SPEC, 40)
    assert len(clips.other) >= 40
    for one, two in zip(clips, again, strict=True):
        np.testing.assert_array_equal(one, two)
    videos = np.array(["a", "a", "b", "c", "c"])
    other, same_kind = pairs._negatives(videos, np.array([b"x", b"x", b"x", b"", b""]), 0)
    assert (videos[other] != videos).all()
    assert not same_kind[3:].any()
    assert pairs.evaluation_clips(records[:1], SPEC).other.size == 0


def test_evaluation_clips_are_bounded(folder: Path, tmp_path: Path) -> None:
    """More records than clips wanted: so many, one of each, evenly spread."""
    make_shards(folder, tmp_path / "shards")
    records = shards.load(tmp_path / "shards", "train")
    assert len(records) >= 10
    some = pairs.evaluation_clips(records, SPEC, 4)
    count = len(records)
    chosen = shards.tf.gather(records, [(2 * k + 1) * count // 8 for k in range(4)])
    for one, two in zip(some, pairs.evaluation_clips(chosen, SPEC, 4), strict=True):
        np.testing.assert_array_equal(one, two)
    assert len(some.images) == 4
    assert len(pairs.evaluation_clips(records, SPEC, count).images) == count


def test_shards_larger_than_half_the_memory_are_refused(tmp_path: Path) -> None:
    for name, size in (("train-00000-of-00001", 3_000), ("test-00000-of-00001", 1_000)):
        (tmp_path / f"{name}.tfrecord").write_bytes(bytes(size))
    shards.check_memory(tmp_path)
    shards.check_memory(tmp_path, 8_000)
    with pytest.raises(TrainingError, match=r"fewer videos.*--frame-rate or --frame-size"):
        shards.check_memory(tmp_path, 7_999)


def test_refusals(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, empty, foreign = tmp_path / "out", tmp_path / "empty", tmp_path / "foreign"
    empty.mkdir()
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("precious")
    with pytest.raises(TrainingError, match="no such file or folder"):
        prepare.main([str(tmp_path / "nowhere"), "--out", str(out)])
    with pytest.raises(TrainingError, match="no video files"):
        prepare.main([str(empty), "--out", str(out)])
    with pytest.raises(TrainingError, match=r"none of 1 videos is usable: index\.csv"):
        prepare.main([str(folder / "index.csv"), "--out", str(out), "--jobs", "1"])
    assert not out.exists()
    with pytest.raises(TrainingError, match="not empty"):
        prepare.main([str(folder), "--out", str(foreign)])
    with pytest.raises(TrainingError, match="not written by prepare"):
        prepare.main([str(folder), "--out", str(foreign), "--overwrite"])
    assert (foreign / "thesis.tex").exists()
    with pytest.raises(SystemExit, match="2"):
        prepare.main([str(folder), "--out", str(out), "--jobs", "0"])
    assert "whole number" in capsys.readouterr().err
    make_shards(folder / "00-tone.mp4", out)
    make_shards(folder / "01-tone.mp4", out, "--overwrite")
    assert json.loads((out / "statistics.json").read_text())["splits"]["train"] == ["01-tone.mp4"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "foreign", "out"]


def test_names_and_an_index_that_are_no_utf8(folder: Path, tmp_path: Path) -> None:
    """The name's bytes are what is hashed and recorded, and nothing that is printed or written fails on them."""
    videos = tmp_path / "videos"
    videos.mkdir()
    names = [b"\xff.mp4", b"caf\xe9.mp4", b"tone.mp4"]
    for name in names:
        (videos / os.fsdecode(name)).symlink_to(folder / "00-tone.mp4")
    (videos / os.fsdecode(b"bad\xff.mp4")).write_bytes(b"")  # is listed as skipped on stdout
    (videos / "index.csv").write_bytes(b"\xef\xbb\xbffile,kind\ntone.mp4,bell\ncaf\xe9.mp4,caf\xe9\n")
    command = [sys.executable, "-m", "training.prepare", videos, "--out", tmp_path / "out", "--jobs", "1"]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    assert "index.csv is not UTF-8" in result.stderr
    assert r"bad\udcff.mp4" in result.stdout
    statistics, _ = shards.statistics(tmp_path / "out")
    splits = statistics["splits"]
    assert {os.fsencode(name) for listed in splits.values() for name in listed} == set(names)
    assert statistics["kinds"] == {"tone.mp4": "bell"}
    records = [shards.parse(record) for split in splits for record in shards.load(tmp_path / "out", split)]
    assert {fields["video"].numpy() for fields in records} == set(names)


def test_an_index_that_is_no_csv_is_ignored_with_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "index.csv").write_text("file,kind\na.mp4,bell\nb.mp4," + "x" * 200_000 + "\n")  # csv: too long
    assert prepare.read_kinds({"a.mp4": tmp_path / "a.mp4"}) == {"a.mp4": ""}
    assert "index.csv is ignored, no kinds known: field larger" in capsys.readouterr().err


def test_overwrite_never_loses_the_old_data_set(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, old = tmp_path / "out", tmp_path / ".out.old"
    make_shards(folder / "00-tone.mp4", out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    again = [str(folder / "01-tone.mp4"), "--out", str(out), "--jobs", "1"]

    def unharmed() -> bool:
        return [path.name for path in tmp_path.iterdir()] == ["out"] and before == {
            path.name: path.read_bytes() for path in out.iterdir()
        }

    replace = Path.replace

    def fail(path: Path, target: Path) -> Path:
        if path.name == ".out.partial":
            assert not out.exists()
            if number:
                signal.raise_signal(number)
            raise OSError("disk on fire")
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        number = None
        with pytest.raises(OSError, match="on fire"):
            prepare.main([*again, "--overwrite"])
        assert unharmed()
        number = signal.SIGTERM
        with pytest.raises(SystemExit, match="143"):
            prepare.main([*again, "--overwrite"])
        assert unharmed()

    out.replace(old)  # as SIGKILL leaves it
    with pytest.raises(TrainingError, match="not empty"):
        prepare.main(again)
    assert unharmed()
    out.replace(old)
    assert prepare.main([*again, "--overwrite"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert shards.statistics(out)[0]["splits"]["train"] == ["01-tone.mp4"]


def test_interrupt_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    for i in range(400):
        (tmp_path / "many").mkdir(exist_ok=True)
        (tmp_path / "many" / f"{i}.mkv").symlink_to(folder / "deep" / "long.mkv")
    command = [sys.executable, "-m", "training.prepare", tmp_path / "many", "--out", tmp_path / "out", "--jobs", "1"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 60
    spool = tmp_path / ".out.partial" / "spool"
    while not (spool.exists() and spool.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert sorted(p.name for p in tmp_path.iterdir()) == ["many"]
