"""Labelled sets as they are laid out by others, and what is refused of them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile

from training import datasets
from training.cli import TrainingError

LABELS = ("cat", "dog", "hen")


def sound(path: Path, value: float = 0.1, rate: int = 16_000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(1_000, value), rate)
    return path


def class_folders(folder: Path, folds: tuple[int, ...], name: str) -> Path:
    for label in LABELS:
        for fold in folds:
            for n in range(2):
                sound(folder / label / name.format(fold=fold, n=n))
    return folder


def table(path: Path, rows: list[dict[str, object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_class_folders(tmp_path: Path) -> None:
    for name in ("1-211527-A.ogg", "1-211527-C-12.ogg", "2-22694-A.ogg"):
        sound(tmp_path / "dog" / name)
        sound(tmp_path / "cat" / name)
    found = datasets.read(tmp_path)
    assert [clip.name for clip in found[:2]] == ["cat/1-211527-A.ogg", "cat/1-211527-C-12.ogg"]
    assert [clip.group for clip in found[3:]] == ["1-211527", "1-211527", "2-22694"]
    assert {(clip.label, clip.fold) for clip in found} == {("cat", 1), ("cat", 2), ("dog", 1), ("dog", 2)}


def test_esc50_as_published(tmp_path: Path) -> None:
    rows = [
        {"filename": f"{f}-10{n}-A-{i}.wav", "fold": f, "target": i, "category": label, "src_file": f"10{n}"}
        for f in (1, 2, 3)
        for i, label in enumerate(LABELS)
        for n in range(2)
    ]
    for row in rows:
        sound(tmp_path / "audio" / str(row["filename"]))
    made = table(tmp_path / "meta" / "esc50.csv", rows)
    found = datasets.read(tmp_path)
    assert found == datasets.read(made)
    assert found[0] == ("1-100-A-0.wav", tmp_path / "audio" / "1-100-A-0.wav", "cat", 1, "100")
    assert len(found) == 18


def test_urbansound8k_as_published(tmp_path: Path) -> None:
    rows = [
        {"slice_file_name": f"{n}-{i}-0-{f}.wav", "fsID": n, "fold": f, "classID": i, "class": label}
        for f in (1, 2)
        for i, label in enumerate(LABELS)
        for n in (100, 200)
    ]
    for row in rows:
        sound(tmp_path / "audio" / f"fold{row['fold']}" / str(row["slice_file_name"]))
    table(tmp_path / "metadata" / "UrbanSound8K.csv", rows)
    found = datasets.read(tmp_path)
    assert {(clip.fold, clip.path.parent.name) for clip in found} == {(1, "fold1"), (2, "fold2")}
    assert {(clip.label, clip.group) for clip in found} == {(label, n) for label in LABELS for n in ("100", "200")}


def own(folder: Path, groups: int, **more: object) -> Path:
    """A CSV without folds: so many groups of two files each, for each class."""
    rows = [
        {"path": str(sound(folder / f"{label}-{g}-{n}.wav").name), "label": label, "group": f"{label}{g}", **more}
        for label in LABELS
        for g in range(groups)
        for n in range(2)
    ]
    return table(folder / "own.csv", rows)


def test_folds_are_dealt_by_group(tmp_path: Path) -> None:
    found = datasets.read(own(tmp_path, 11))
    fold = {clip.group: clip.fold for clip in found}
    assert all(fold[clip.group] == clip.fold for clip in found)
    for label in LABELS:  # eleven groups over five folds
        assert sorted(np.bincount([f for group, f in fold.items() if group.startswith(label)])[1:]) == [2, 2, 2, 2, 3]
    elsewhere = tmp_path / "elsewhere"
    assert {clip.group: clip.fold for clip in datasets.read(own(elsewhere, 11))} == fold
    assert {clip.fold for clip in datasets.read(own(tmp_path, 3))} == {1, 2, 3}  # a class has three groups


def test_only_some_folds(tmp_path: Path) -> None:
    folder = class_folders(tmp_path, (1, 2, 3, 4), "{fold}-{n}-A.wav")
    for path in folder.glob("*/4-*"):
        path.write_bytes(b"never opened")
    assert {clip.fold for clip in datasets.read(folder, [1, 3])} == {1, 3}


@pytest.mark.parametrize(
    ("folds", "name", "message"),
    [
        ((1, 2, 4), "{fold}-{n}-A.wav", "4-0-A.wav, 6 in all.*holds them out"),
        ((1, 5), "{fold}-{n}-A-40.wav", "folds 4 and 5.*--folds 1 2 3 4 5"),
        ((1,), "{fold}-{n}.wav", "two folds and two classes"),
        ((), "", "holds no <class>/<fold>"),
    ],
)
def test_refusals(tmp_path: Path, folds: tuple[int, ...], name: str, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        datasets.read(class_folders(tmp_path, folds, name))


def test_class_folders_without_folds(tmp_path: Path) -> None:
    folder = class_folders(tmp_path, (1, 2), "take-{fold}-{n}.wav")
    found = datasets.read(folder)
    assert [clip.name for clip in found[:2]] == ["cat/take-1-0.wav", "cat/take-1-1.wav"]
    assert {(clip.label, clip.fold) for clip in found} == {(label, fold) for label in LABELS for fold in (1, 2, 3, 4)}
    assert found == datasets.read(folder)
    sound(folder / "dog" / "1-0.wav")
    with pytest.raises(TrainingError, match=r"take-.*must begin with the number of its fold and a hyphen, as others"):
        datasets.read(folder)


def test_held_out_folds_must_be_named(tmp_path: Path) -> None:
    folder = class_folders(tmp_path, (1, 2, 3, 4, 5), "{fold}-{n}-A-7.wav")
    every = datasets.read(folder, [1, 2, 3, 4, 5])
    assert {clip.fold for clip in every} == {1, 2, 3, 4, 5}
    assert {clip.fold for clip in datasets.held_out(every)} == {4, 5}
    assert not datasets.held_out(datasets.read(folder, [1, 2, 3]))
    rows = [{"path": clip.path, "label": clip.label, "fold": 1 + i % 2} for i, clip in enumerate(every)]
    with pytest.raises(TrainingError, match=r"4-0-A-7\.wav, 12 in all"):  # whatever a table of one's own calls them
        datasets.read(table(tmp_path / "own.csv", rows), [1, 2])


def test_folds_of_other_sets_may_have_any_number(tmp_path: Path) -> None:
    assert len(datasets.read(class_folders(tmp_path, (4, 5), "{fold}-{n}.wav"))) == 12


def test_a_class_must_be_in_each_fold(tmp_path: Path) -> None:
    folder = class_folders(tmp_path, (1, 2, 3), "{fold}-{n}.wav")
    for path in (folder / "hen").glob("2-*"):
        path.unlink()
    with pytest.raises(TrainingError, match="no hen in fold 2"):
        datasets.read(folder)


def test_a_class_of_one_recording_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"{label}{i}.wav,{label}" for label in ("cat", "dog") for i in range(2)] + ["owl.wav,owl"]
    for row in rows:
        sound(tmp_path / row.split(",")[0])
    (tmp_path / "x.csv").write_text("\n".join(["file,label", *rows]) + "\n")
    assert {clip.label for clip in datasets.read(tmp_path / "x.csv")} == {"cat", "dog"}
    assert "left out, of one recording each: owl" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,label\n", "no column for the file.*found no rows"),
        ("file,colour\na.wav,red\n", "no column for the class: expected label, kind.*found file, colour"),
        ("file,label\na.wav,cat\na.wav,dog\n", "names a.wav 2 times"),
        ("file,label\nb.wav,cat\n", "line 2: there is no file b.wav"),
        ("file,label\n,cat\n", "line 2: file and label must not be empty"),
        ("file,label\na.wav\n", "line 2: file and label must not be empty"),
        ("file,label,fold\na.wav,cat,one\n", "line 2: fold must be a whole number, got 'one'"),
        ("file,label\na.wav,cat\nc.wav,dog\n", "of its 2 classes 0 have two recordings"),
        ("file,label\na.wav,cat\nc.wav,cat\n", "of its 1 classes 1 have two recordings"),
        ("\udcff", "cannot be read as a CSV file"),
    ],
)
def test_tables_that_are_refused(tmp_path: Path, content: str, message: str) -> None:
    sound(tmp_path / "a.wav")
    sound(tmp_path / "c.wav")
    (tmp_path / "x.csv").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(TrainingError, match=message):
        datasets.read(tmp_path / "x.csv")


def test_sound_is_mono_at_the_rate_asked_for(tmp_path: Path) -> None:
    stereo = np.stack([np.full(4_800, 0.5), np.full(4_800, 0.1)], axis=1)
    soundfile.write(tmp_path / "a.wav", stereo, 48_000, subtype="FLOAT")
    made = datasets.load(datasets.Clip("a", tmp_path / "a.wav", "cat", 1, "a"), 16_000)
    assert (made.dtype, made.shape) == (np.float32, (1_600,))
    np.testing.assert_allclose(made[400:1200], 0.3, atol=1e-3)


def test_videos_are_sound_too(tmp_path: Path) -> None:
    """The same sound in a container that libsndfile does not know, at another rate and with two channels."""
    av = pytest.importorskip("av", reason="PyAV is not in the device environment")
    pytest.importorskip("soxr")
    tone = (0.3 * np.sin(2 * np.pi * 440 * np.arange(96_000) / 48_000)).astype(np.float32)
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=48_000, layout="stereo")
        frame = av.AudioFrame.from_ndarray(np.stack([tone, 0.5 * tone]), format="fltp", layout="stereo")
        frame.sample_rate = 48_000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    made = datasets.load(datasets.Clip("a", tmp_path / "a.mp4", "cat", 1, "a"), 16_000)
    assert abs(len(made) - 32_000) < 1_500  # AAC adds a frame or two
    middle = made[8_000:24_000]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert np.argmax(spectrum) == 440
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.75 * 0.3 / np.sqrt(2), rel=0.03)
    (tmp_path / "b.mp4").write_bytes((tmp_path / "a.mp4").read_bytes()[:3_000])
    with pytest.raises(TrainingError, match=r"b\.mp4 cannot be decoded"):
        datasets.load(datasets.Clip("b", tmp_path / "b.mp4", "cat", 1, "b"), 16_000)


@pytest.mark.parametrize("channels", [6, 8])
@pytest.mark.parametrize("kind", ["WAV", "FLAC"])
def test_surround_sound_is_the_mean_of_its_channels(tmp_path: Path, kind: str, channels: int) -> None:
    """5.1 and 7.1, each channel with a tone of its own: all are heard, as loud as each other, and nothing else."""
    pytest.importorskip("av", reason="PyAV is not in the device environment")
    pytest.importorskip("PIL", reason="Pillow is not in the device environment")
    hertz = 400 * np.arange(1, channels + 1)
    tones = 0.4 * np.sin(2 * np.pi * hertz[:, None] * np.arange(32_000) / 16_000)
    path = tmp_path / "a.media"  # by this name PyAV reads it
    soundfile.write(path, tones.T, 16_000, format=kind, subtype="PCM_16")
    heard = datasets.load(datasets.Clip("a", path, "cat", 1, "a"), 16_000)
    np.testing.assert_allclose(heard, tones.mean(0), atol=1e-4)
