"""Videos -> shards: one clock for sound and picture, a verdict for every bad file, the same bytes every time."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

for module in ("tensorflow", "av", "soxr", "PIL", "tqdm", "apache_beam", "google_crc32c"):
    pytest.importorskip(module, reason=f"preparing videos needs {module}, which a device does not have")

import av  # noqa: E402

from l3edge.spec import PRESETS  # noqa: E402
from training import children, manifest, prepare, records, shards  # noqa: E402
from training.cli import TrainingError  # noqa: E402
from training.input import training_clips  # noqa: E402
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


def stored(data: shards.Data, split: str) -> list[Any]:
    """Its serialized records."""
    return list(shards.tf.data.TFRecordDataset([str(shard.path) for shard in data.split(split)]))


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

    path = tmp_path / "a.tfrecord"
    path.write_bytes(records.framed(records.serialize("a", "a", [], segment)))
    shard = shards.Shard(path, 1, path.stat().st_size)
    clips = next(iter(training_clips([shard], SPEC, seed=1, batch=256)))
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


def verdicts(out: Path) -> dict[str, dict[str, str]]:
    """Name -> the row of videos.csv."""
    with (out / "videos.csv").open(encoding="utf-8", newline="") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


def test_every_bad_file_is_skipped_counted_and_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = _bad_videos(tmp_path / "videos")
    statistics = make_shards(tmp_path / "videos", tmp_path / "shards")
    rows = verdicts(tmp_path / "shards")
    assert {name: row["verdict"] for name, row in rows.items()} == expected
    assert all(bool(row["reason"]) == (row["verdict"] != "kept") for row in rows.values())
    assert [name for name, row in rows.items() if row["shard"]] == ["kept.mp4"]
    assert rows["kept.mp4"]["segments kept"] == "1"
    assert float(rows["kept.mp4"]["seconds"]) == pytest.approx(4, abs=0.1)
    assert statistics["videos"] == len(expected)
    assert statistics["verdicts"] == {verdict: list(expected.values()).count(verdict) for verdict in VERDICTS}
    assert sum(len(listed) for listed in statistics["shards"].values()) == 1  # shards of nothing are no files
    table = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["kept", "1", "9.1%"] in table
    assert ["corrupt", "4", "36.4%"] in table


def test_a_file_that_kills_its_decoder_is_corrupt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real child, which the kernel kills each time that it opens b.mp4."""
    killing = """
        import os, signal, sys
        def kill(event, arguments):
            if event == "open" and str(arguments[0]).endswith("b.mp4"):
                os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(kill)
    """
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(textwrap.dedent(killing))
    monkeypatch.syspath_prepend(tmp_path / "site")  # which children are given
    items = [manifest.Item(name, str(write_video(tmp_path / name, 1.5))) for name in ("a.mp4", "b.mp4", "c.mp4")]
    decoders = children.Decoders("test", Settings(), jobs=2, timeout=60)
    try:
        found = list(decoders.decode(items))
    finally:
        decoders.close()
    assert [decoded.verdict for decoded in found] == ["kept", "corrupt", "kept"]
    assert found[1].reason == "it crashes the decoder (SIGKILL)"


def test_a_decoder_that_cannot_start_is_no_fault_of_a_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """As where a library is missing on a worker: an error and no verdict, and once it is mended the run goes on."""
    write_video(tmp_path / "a.mp4", 1.5)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "av.py").write_text('raise ImportError("libavcodec.so: no such file")')
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.syspath_prepend(tmp_path / "site")  # which children are given
        with pytest.raises(
            TrainingError, match=r"a decoding process cannot start \(exit status 1\).*goes on from here"
        ):
            make_shards(tmp_path / "a.mp4", out)
    assert "libavcodec.so: no such file" in capfd.readouterr().err
    assert not (out / "statistics.json").exists()
    assert make_shards(tmp_path / "a.mp4", out)["verdicts"]["kept"] == 1


def test_a_file_that_hangs_its_decoder_is_corrupt(tmp_path: Path) -> None:
    """A FIFO that nobody writes to: opening it has no end. The child that hung is replaced."""
    for name in ("a.mp4", "c.mp4"):
        write_video(tmp_path / name, 1.5)
    os.mkfifo(tmp_path / "b.mp4")
    items = [manifest.Item(path.name, str(path)) for path in sorted(tmp_path.iterdir())]
    decoders = children.Decoders("test", Settings(), jobs=1, timeout=15)
    try:
        found = list(decoders.decode(items))
    finally:
        decoders.close()
    assert [decoded.verdict for decoded in found] == ["kept", "corrupt", "kept"]
    assert found[1].reason == "the decoder did not finish within 15 s"


def test_records_are_those_of_tensorflow(tmp_path: Path) -> None:
    """`records` writes without TensorFlow what TensorFlow would."""
    (segment,) = read_video(write_video(tmp_path / "a.mp4", 1.5), Settings()).kept
    record = records.serialize("name", "group", ["one", "two"], segment)
    example = shards.tf.train.Example.FromString(record)
    assert example.SerializeToString(deterministic=True) == record
    assert list(example.features.feature["labels"].bytes_list.value) == [b"one", b"two"]
    with shards.tf.io.TFRecordWriter(str(tmp_path / "a.tfrecord")) as writer:
        writer.write(record)
    assert (tmp_path / "a.tfrecord").read_bytes() == records.framed(record)


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
    statistics = make_shards(folder, tmp_path / "shards", "--videos-per-shard", "4")
    data = shards.open_data(tmp_path / "shards")
    rows = verdicts(tmp_path / "shards")
    seen: dict[str, list[int]] = {}
    samples = 0
    for split, sizes in statistics["splits"].items():
        listed = statistics["shards"][split]
        files = sorted(p for p in (tmp_path / "shards").glob(f"{split}-*"))
        assert [p.name for p in files] == [shard["file"] for shard in listed]
        assert [p.stat().st_size for p in files] == [shard["bytes"] for shard in listed]
        assert [hashlib.sha256(p.read_bytes()).hexdigest() for p in files] == [shard["sha256"] for shard in listed]
        serialized = stored(data, split)
        assert len(serialized) == sum(shard["records"] for shard in listed) == sizes["records"]
        for record in serialized:
            fields = shards.parse(record)
            name = fields["name"].numpy().decode()
            assert rows[name]["split"] == split
            assert fields["group"].numpy().decode() == rows[name]["group"] == name
            assert ";".join(label.decode() for label in fields["labels"].numpy()) == rows[name]["labels"]
            assert SPEC.window <= len(fields["audio"]) <= 10 * SAMPLE_RATE
            assert len(fields["frames"]) == len(fields["frame_times"]) >= 5
            image = shards.tf.image.decode_jpeg(fields["frames"][0])
            assert image.shape == (48, 64, 3)
            seen.setdefault(name, []).append(int(fields["audio_start"]))
            samples += len(fields["audio"])
    assert set(seen) == set(rows)
    assert sum(sizes["videos"] for sizes in statistics["splits"].values()) == 12
    assert len(seen["deep/long.mkv"]) == 3
    assert rows["02-tone.mp4"]["labels"] == "even"
    assert statistics["labels"] == {"even": 6, "odd": 5}
    assert statistics["hours"] == pytest.approx(samples / SAMPLE_RATE / 3600, abs=1e-6)
    assert len(statistics["shards"]["train"]) > 1


def test_output_does_not_depend_on_jobs(folder: Path, tmp_path: Path) -> None:
    make_shards(folder, tmp_path / "one")
    make_shards(folder, tmp_path / "two", "--jobs", "2")
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two


def test_large_pictures_are_scaled_down(folder: Path) -> None:
    (segment,) = read_video(folder / "00-tone.mp4", Settings(frame_size=24)).kept
    assert shards.tf.image.decode_jpeg(segment.frames[0]).shape == (24, 32, 3)


def test_refusals(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, empty, foreign = tmp_path / "out", tmp_path / "empty", tmp_path / "foreign"
    empty.mkdir()
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("precious")
    with pytest.raises(TrainingError, match="no such file or folder"):
        prepare.main([str(tmp_path / "nowhere"), "--out", str(out)])
    with pytest.raises(TrainingError, match="no video files"):
        prepare.main([str(empty), "--out", str(out)])
    with pytest.raises(TrainingError, match=r"none of 1 videos is usable: thesis\.tex"):
        prepare.main([str(foreign / "thesis.tex"), "--out", str(out), "--jobs", "1"])
    assert not out.exists()
    with pytest.raises(TrainingError, match="is not empty"):
        prepare.main([str(folder), "--out", str(foreign)])
    with pytest.raises(TrainingError, match="not written by prepare"):
        prepare.main([str(folder), "--out", str(foreign), "--overwrite"])
    assert (foreign / "thesis.tex").exists()
    with pytest.raises(SystemExit, match="2"):
        prepare.main([str(folder), "--out", str(out), "--jobs", "0"])
    assert "whole number" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        prepare.main([str(folder), "--out", str(out), "--frame-sise", "64"])  # not handed to Beam, which would take it
    assert "unrecognized arguments: --frame-sise 64" in capsys.readouterr().err
    make_shards(folder / "00-tone.mp4", out)
    with pytest.raises(TrainingError, match=r"1 videos there, 1 here; 00-tone\.mp4 is there alone\..*--overwrite"):
        make_shards(folder / "01-tone.mp4", out)
    with pytest.raises(TrainingError, match=r"--frame-rate 5\.0 there, 4\.0 here\..*--overwrite"):
        make_shards(folder / "00-tone.mp4", out, "--frame-rate", "4")
    make_shards(folder / "01-tone.mp4", out, "--overwrite")
    assert list(verdicts(out)) == ["01-tone.mp4"]
    capsys.readouterr()
    make_shards(folder / "01-tone.mp4", out)
    assert "is finished" in capsys.readouterr().out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "foreign", "out"]


def _everything(folder: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


@pytest.mark.parametrize("name", ["plan.json", "statistics.json"])
@pytest.mark.parametrize("content", ['{"todo": 1}', '{"format": "PDF"}', "[2]", "no JSON", "[" * 100_000])
def test_overwrite_removes_nothing_of_others(folder: Path, tmp_path: Path, name: str, content: str) -> None:
    """A stranger's folder may have files of the names that ours have."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "thesis.txt").write_text("precious")
    (tmp_path / "thesis.txt").write_text("precious")
    (tmp_path / name).write_text(content)
    before = _everything(tmp_path)
    video = [str(folder / "00-tone.mp4"), "--out", str(tmp_path)]
    with pytest.raises(TrainingError, match="was not written by prepare or corpus, so --overwrite will not replace it"):
        prepare.main([*video, "--overwrite"])
    with pytest.raises(TrainingError, match="is not empty, and not by prepare or corpus"):
        prepare.main(video)
    assert _everything(tmp_path) == before


@pytest.mark.parametrize(("place", "finished"), [(".", True), ("sub", True), ("journal", False)])
def test_overwrite_spares_a_data_set_with_something_else_in_it(
    folder: Path, tmp_path: Path, place: str, finished: bool
) -> None:
    out = tmp_path / "out"
    make_shards(folder / "00-tone.mp4", out)
    if not finished:
        (out / "statistics.json").unlink()
    (out / place).mkdir(exist_ok=True)
    (out / place / "notes.txt").write_text("precious")
    before = _everything(tmp_path)
    again = [str(folder / "01-tone.mp4"), "--out", str(out), "--jobs", "1", "--overwrite"]
    with pytest.raises(TrainingError, match="also holds what prepare or corpus did not write, so it is not replaced: "):
        prepare.main(again)
    assert _everything(tmp_path) == before
    (out / place / "notes.txt").unlink()
    if place == "sub":
        (out / place).rmdir()
    assert prepare.main(again) == 0
    assert list(verdicts(out)) == ["01-tone.mp4"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_is_put_there_meanwhile_is_spared_too(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new data set is not made in vain: it waits beside the old one."""
    out = tmp_path / "out"
    make_shards(folder / "00-tone.mp4", out)
    again = [str(folder / "01-tone.mp4"), "--out", str(out), "--jobs", "1", "--overwrite"]
    write = prepare.verdicts.write

    def meanwhile(*arguments: Any) -> None:
        (out / "notes.txt").write_text("precious")
        write(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(prepare.verdicts, "write", meanwhile)
        with pytest.raises(TrainingError, match=r"so it is not replaced: notes\.txt"):
            prepare.main(again)
    assert (out / "notes.txt").read_text() == "precious"
    assert list(verdicts(out)) == ["00-tone.mp4"]
    (out / "notes.txt").unlink()
    monkeypatch.setattr(children.Decoders, "decode", lambda *_: pytest.fail("it was decoded already"))
    assert prepare.main(again) == 0
    assert list(verdicts(out)) == ["01-tone.mp4"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_finished_data_set_stays_until_it_is_overwritten(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Though a video was repaired since; it says so, and what to do."""
    videos = tmp_path / "videos"
    videos.mkdir()
    (videos / "a.mp4").hardlink_to(folder / "00-tone.mp4")
    (videos / "b.mp4").write_bytes(b"torn")
    make_shards(videos, tmp_path / "out")
    (videos / "b.mp4").unlink()
    (videos / "b.mp4").hardlink_to(folder / "01-tone.mp4")
    capsys.readouterr()
    assert make_shards(videos, tmp_path / "out")["verdicts"]["corrupt"] == 1
    assert "is finished; --overwrite makes it anew, as after a video was replaced" in capsys.readouterr().out
    assert make_shards(videos, tmp_path / "out", "--overwrite")["verdicts"]["corrupt"] == 0


def test_killed_within_the_plan(folder: Path, tmp_path: Path) -> None:
    """After items.jsonl and before plan.json: the same command goes on, another one removes nothing."""
    out = tmp_path / "out"
    make_shards(folder / "00-tone.mp4", out)
    for path in out.iterdir():
        if path.name != "items.jsonl":
            path.unlink()
    with pytest.raises(TrainingError, match="is not empty"):
        make_shards(folder / "01-tone.mp4", out)
    make_shards(folder / "00-tone.mp4", out)
    assert list(verdicts(out)) == ["00-tone.mp4"]


def test_names_and_an_index_that_are_no_utf8(folder: Path, tmp_path: Path) -> None:
    """The name's bytes are what is hashed and recorded, and nothing that is printed or written fails on them."""
    videos = tmp_path / "videos"
    videos.mkdir()
    names = [b"\xff.mp4", b"caf\xe9.mp4", b"tone.mp4"]
    for name in names:
        (videos / os.fsdecode(name)).hardlink_to(folder / "00-tone.mp4")
    (videos / os.fsdecode(b"bad\xff.mp4")).write_bytes(b"")  # is listed as skipped on stdout
    (videos / "index.csv").write_bytes(b"\xef\xbb\xbffile,kind\ntone.mp4,bell\ncaf\xe9.mp4,caf\xe9\n")
    command = [sys.executable, "-m", "training.prepare", videos, "--out", tmp_path / "out", "--jobs", "1"]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 0, result.stderr
    lines = result.stderr.splitlines()  # so few videos leave too few to measure on, and nothing else is wrong
    assert len(lines) == 2
    assert all("source video" in line for line in lines)
    assert r"bad\udcff.mp4" in result.stdout
    data = shards.open_data(tmp_path / "out")
    parsed = [shards.parse(record) for split in data.statistics["splits"] for record in stored(data, split)]
    labels = {fields["name"].numpy(): list(fields["labels"].numpy()) for fields in parsed}
    assert labels == {b"\xff.mp4": [], b"caf\xe9.mp4": [b"caf\xe9"], b"tone.mp4": [b"bell"]}
    assert set(verdicts(tmp_path / "out")) == {r"\udcff.mp4", r"caf\udce9.mp4", "tone.mp4", r"bad\udcff.mp4"}


def test_overwrite_never_loses_the_old_data_set(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, old = tmp_path / "out", tmp_path / ".out.old"
    make_shards(folder / "00-tone.mp4", out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    again = [str(folder / "01-tone.mp4"), "--out", str(out), "--jobs", "1"]

    def unharmed() -> bool:
        return before == {path.name: path.read_bytes() for path in out.iterdir()}

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
    with pytest.raises(TrainingError, match="was begun by another command"):
        prepare.main(again)
    assert unharmed()
    out.replace(old)
    assert prepare.main([*again, "--overwrite"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert list(verdicts(out)) == ["01-tone.mp4"]


def test_interrupt_leaves_a_folder_to_go_on_with(folder: Path, tmp_path: Path) -> None:
    """After Ctrl-C no process is left, and training takes the folder for what it is."""
    for i in range(400):
        (tmp_path / "many").mkdir(exist_ok=True)
        (tmp_path / "many" / f"{i}.mkv").hardlink_to(folder / "deep" / "long.mkv")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "training.prepare", tmp_path / "many", "--out", out, "--jobs", "1"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size for path in out.glob("journal/*.jsonl.part")) and time.monotonic() < deadline:
        time.sleep(0.05)
    with pytest.raises(TrainingError, match="another command is writing"):
        prepare.main([str(tmp_path / "many"), "--out", str(out)])
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors == "stopped; the same command goes on where it was\ninterrupted\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["many", "out"]
    with pytest.raises(TrainingError, match="is unfinished: repeat the"):
        shards.open_data(out)
