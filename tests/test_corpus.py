"""Corpora of sound from made-up recordings, ESC-10's where they are, and the programs that render speech and music."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

for module in ("av", "scipy", "tqdm", "soundfile", "soxr", "google_crc32c"):
    pytest.importorskip(module, reason=f"making a corpus needs {module}, which a device does not have")

import soundfile  # noqa: E402

from training import corpus, records, rendered  # noqa: E402
from training.cli import TrainingError  # noqa: E402
from training.datasets import ESC10  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
RATE = 16_000
SECONDS = 2
FOLDS = {"fold-1": 300.0, "fold-2": 900.0, "fold-3": 2700.0}  # Hz: each fold has a tone, three times another's
OTHERS = 6000.0  # Hz, of what is of no fold


def tone(hz: float, seconds: float, rate: int = RATE) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)


def write(path: Path, sound: np.ndarray, rate: int = RATE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound, rate)


def make_data(folder: Path) -> Path:
    """What L3EDGE_DATA has, of tones; and `own`, with files that cannot be used."""
    data, own = folder / "data", folder / "own"
    for fold, hz in FOLDS.items():
        for label in ("bark", "rain"):
            for number in range(6):
                name = f"{fold[-1]}-{100 * ord(label[0]) + number}-A.wav"
                write(data / "esc10" / label / name, tone(hz, 1 + number / 2))
    for number in range(4):
        write(data / "librosa" / f"music-{number}.ogg", tone(OTHERS, 7, 44_100), 44_100)
        (data / "librosa" / f"music-{number}.txt").write_text("by somebody\nCC BY 4.0\n")
    write(data / "librosa" / "unsaid.ogg", tone(OTHERS, 7))
    write(data / "librosa" / "unfree.hq.ogg", tone(OTHERS, 7))
    (data / "librosa" / "unfree.txt").write_text("by somebody\nCC BY-NC 3.0: https://creativecommons.org/...\n")
    for speaker in ("ann", "bob"):
        for take in range(15):
            for digit in range(3):
                write(data / "fsdd" / f"{digit}_{speaker}_{take}.wav", tone(500, 0.3, 8000), 8000)
    for number in range(5):
        write(own / "whistle" / f"{number}.flac", tone(OTHERS, 3, 22_050), 22_050)
    write(own / "quiet.wav", np.zeros(RATE))
    write(own / "short.wav", tone(OTHERS, 0.2))
    (own / "broken.wav").write_bytes(b"RIFF of nothing")
    (own / "broken.m4a").write_bytes(b"nor is this anything")
    (own / "notes.txt").write_text("no audio")
    return folder


def none_but(*names: str) -> list[str]:
    """Options that leave out all other sources that are built in."""
    return [word for name in corpus.recordings.BUILT_IN if name not in names for word in ("--share", f"{name}=0")]


def command(folder: Path, out: Path, *more: str, clips: int = 80) -> list[str]:
    """Without the programs that render, which other tests run."""
    shares = ("--share", "espeak=0", "--share", "fluidsynth=0", "--share", "synthesiser=0.05")
    where = (str(folder / "own"), "--data", str(folder / "data"), "--out", str(out))
    size = ("--clips", str(clips), "--seconds", str(SECONDS), "--held-out", "0.2", "--clips-per-shard", "16")
    return [*where, *size, *shares, *more]


def table(out: Path) -> list[dict[str, str]]:
    with (out / "clips.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def parts(row: dict[str, str]) -> list[str]:
    return [part.split(" (")[0] for part in row["recordings"].split(" + ") if part]


def digests(out: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(out.iterdir())}


def clips(out: Path) -> Iterator[tuple[str, str, list[str], np.ndarray]]:
    """Split, name, labels and samples int16 [n] of each record; a record of pictures fails."""
    statistics = json.loads((out / "statistics.json").read_text())
    for split, files in statistics["shards"].items():
        for file in files:
            content = (out / file["file"]).read_bytes()
            assert hashlib.sha256(content).hexdigest() == file["sha256"]
            for record in records.read(out / file["file"], range(file["records"])):
                feature = records._Example.FromString(record).features.feature
                assert not feature["frames"].bytes_list.value
                assert not feature["frame_times"].int64_list.value
                name, audio = (feature[key].bytes_list.value[0] for key in ("name", "audio"))
                labels = [label.decode() for label in feature["labels"].bytes_list.value]
                yield split, name.decode(), labels, np.frombuffer(audio, "<i2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("sounds"))


@pytest.fixture(scope="module")
def made(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "corpus"
    assert corpus.main(command(folder, out, "--jobs", "1")) == 0
    return out


def test_every_clip_is_listed_and_of_the_same_length(made: Path) -> None:
    rows = {row["name"]: row for row in table(made)}
    heard = list(clips(made))
    assert len(rows) == len(heard) == 80
    for split, name, labels, samples in heard:
        assert len(samples) == SECONDS * RATE
        assert (rows[name]["split"], rows[name]["labels"]) == (split, ";".join(labels))
    statistics = json.loads((made / "statistics.json").read_text())
    assert statistics["sample_rate"] == RATE
    assert statistics["hours"] == pytest.approx(80 * SECONDS / 3600, abs=1e-6)
    assert {split: found["records"] for split, found in statistics["splits"].items()} == {
        split: sum(one == split for one, *_ in heard) for split in ("train", "validation", "test")
    }


def test_no_recording_is_in_two_splits(made: Path, folder: Path) -> None:
    where: dict[str, set[str]] = {}
    for row in table(made):
        for part in parts(row):
            group = part.split("/")[-1].rsplit("-", 1)[0] if part.startswith("esc10/") else part
            where.setdefault(group, set()).add(row["split"])
    assert {split for splits in where.values() for split in splits} == {"train", "validation", "test"}
    assert all(len(splits) == 1 for splits in where.values())


def test_a_folds_sound_is_in_clips_with_its_label_alone(made: Path) -> None:
    rows = {row["name"]: row for row in table(made)}
    seen = {False: 0, True: 0}
    for _, name, labels, samples in clips(made):
        of = {f"fold-{part.split('/')[-1][0]}" for part in parts(rows[name]) if part.startswith("esc10/")}
        assert of == {label for label in labels if label.startswith("fold-")}
        assert len(of) < 2
        if not rows[name]["done"].startswith("level") or "synthesiser" in rows[name]["recordings"]:
            continue
        power = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2  # clean: what is in it can be seen
        hz = np.fft.rfftfreq(len(samples), 1 / RATE)
        for fold, pitch in FOLDS.items():
            share = power[(hz > 0.79 * pitch) & (hz < 1.26 * pitch)].sum() / power.sum()
            assert (share > 1e-3) == (fold in of), (rows[name], fold, share)
            seen[fold in of] += 1
    assert min(seen.values()) > 5


def test_labels_and_mixing(made: Path) -> None:
    rows = table(made)
    for row in rows:
        labels = row["labels"].split(";")
        if labels != ["silence"]:
            assert labels[0] == parts(row)[0].split("/")[0]
        if labels[0] == "esc10":
            assert labels[2] == parts(row)[0].split("/")[1]
    assert {row["labels"] for row in rows} >= {"own;whistle", "own"}
    counts = [len(parts(row)) for row in rows]
    assert {1, 2, 3} <= set(counts)
    sources = json.loads((made / "sources.json").read_text())["sources"]
    assert {name: found["clips"] for name, found in sources.items()} == {
        name: sum(parts(row)[:1] != [] and parts(row)[0].startswith(f"{name}/") for row in rows) for name in sources
    }
    weights = {"esc10": 0.4, "synthesiser": 0.05, "fsdd": 0.05, "librosa": 0.1, "own": 0.2}
    for name, weight in weights.items():
        assert sources[name]["clips"] == pytest.approx(80 * weight / 0.8, abs=2)


def test_levels_span_40_db(made: Path) -> None:
    loud = [np.abs(sound.astype(int)).max() for _, _, labels, sound in clips(made) if labels != ["silence"]]
    levels = 20 * np.log10(np.array(loud) / 32767)
    assert levels.min() < -36
    assert levels.max() > -4
    assert np.quantile(levels, 0.5) == pytest.approx(-20, abs=6)


def test_what_cannot_be_used_is_said(made: Path) -> None:
    own = json.loads((made / "sources.json").read_text())["sources"]["own"]
    assert own["recordings"] == 9
    assert own["clips"] > 0
    reasons = own["skipped"]
    assert set(reasons) == {"own/quiet.wav", "own/broken.wav", "own/broken.m4a"}
    assert "silent" in reasons["own/quiet.wav"]
    assert "broken.wav" in reasons["own/broken.wav"]


def test_what_may_not_be_used_commercially_is_left_out(made: Path) -> None:
    assert json.loads((made / "sources.json").read_text())["sources"]["librosa"]["recordings"] == 4
    used = {part for row in table(made) for part in parts(row) if part.startswith("librosa/")}
    assert used == {f"librosa/music-{number}" for number in range(4)}


def test_same_bytes_whatever_the_processes(made: Path, folder: Path, tmp_path: Path) -> None:
    assert corpus.main(command(folder, tmp_path / "corpus", "--jobs", "2")) == 0
    assert digests(tmp_path / "corpus") == digests(made)


def test_again_and_by_another_command(
    made: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = digests(made)
    assert corpus.main(command(folder, made)) == 0
    assert "is finished" in capsys.readouterr().out
    with pytest.raises(TrainingError, match="--seed 0 there, 7 here"):
        corpus.main(command(folder, made, "--seed", "7"))
    with pytest.raises(TrainingError, match=r"--share .* there, .* here"):
        corpus.main(command(folder, made, "--share", "fsdd=0.4"))
    assert digests(made) == before


def test_another_seed_is_another_corpus_and_overwrites(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "corpus"
    few = ("--share", "esc10=0", "--share", "fsdd=0", "--jobs", "1")
    assert corpus.main(command(folder, out, *few, clips=20)) == 0
    before = digests(out)
    assert corpus.main(command(folder, out, *few, "--seed", "1", "--overwrite", clips=20)) == 0
    after = digests(out)
    assert not set(before.values()) & {after[name] for name in after if name.endswith(".tfrecord")}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus"]


# The command, which stops at its fifth clip and waits there for what ends it, however busy the machine is.
WAITING = """
import time
from training import cli, corpus, mixing
make, clips = mixing.make, []
def waiting(clip, *args):
    clips.append(clip)
    if len(clips) == 5:
        time.sleep(240)
    return make(clip, *args)
mixing.make = waiting
cli.run(corpus.main)
"""


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGINT])
def test_goes_on_after(by: signal.Signals, made: Path, folder: Path, tmp_path: Path) -> None:
    """Ended when some clips are made, it has no statistics.json; the same command makes what was missing."""
    out = tmp_path / "corpus"
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING, *command(folder, out, "--jobs", "1")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    journal = out / "journal"
    deadline = time.monotonic() + 120
    while sum(path.read_bytes().count(b"\n") for path in journal.glob("*.jsonl.part")) < 4:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, by) if by == signal.SIGINT else process.kill()
    _, said = process.communicate(timeout=120)
    assert not (out / "statistics.json").exists()
    if by == signal.SIGINT:
        assert process.returncode == 130
        assert "Traceback" not in said
        assert "stopped; the same command goes on where it was\ninterrupted\n" in said
    else:
        assert process.returncode == -signal.SIGKILL
    assert list(journal.glob("*.npy"))  # recordings are not decoded again
    assert corpus.main(command(folder, out, "--jobs", "1")) == 0
    assert digests(out) == digests(made)


def test_export_reads_it_for_calibration(made: Path) -> None:
    pytest.importorskip("tensorflow", reason="TensorFlow is not in the device environment")
    from export import representative

    heard = representative.clips(made, "train")
    assert [clip.shape for clip in heard] == [(SECONDS * RATE,)] * sum(split == "train" for split, *_ in clips(made))
    assert {clip.dtype for clip in heard} == {np.dtype(np.float32)}


def test_listen_writes_files_that_sound(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorflow", reason="TensorFlow is not in the device environment")
    out = tmp_path / "corpus"
    few = ("--share", "esc10=0", "--share", "fsdd=0", "--jobs", "1", "--listen", str(tmp_path / "heard"))
    assert corpus.main(command(folder, out, *few, clips=20)) == 0
    stored = {name: samples for _, name, _, samples in clips(out)}
    files = list((tmp_path / "heard").iterdir())
    assert len(files) == sum(split == "train" for split, *_ in clips(out))
    for file in files:
        samples, rate = soundfile.read(file, dtype="int16")
        assert rate == RATE
        assert np.array_equal(samples, stored[file.name[:6]])


def test_without_programs_it_says_what_to_install(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    only = [*none_but("espeak", "fluidsynth", "librosa"), "--share", "own=0", "--jobs", "1"]
    rendered_alone = ["--share", "librosa=0", "--share", "espeak=1", "--share", "fluidsynth=1"]
    as_well = ["--share", "librosa=1", "--share", "espeak=1", "--share", "fluidsynth=1"]
    with pytest.raises(TrainingError, match=r"there is no sound to make clips of: .*apt install espeak-ng"):
        corpus.main([*command(folder, tmp_path / "none", clips=20), *only, *rendered_alone])
    assert not (tmp_path / "none").exists()
    assert corpus.main([*command(folder, tmp_path / "some", clips=20), *only, *as_well]) == 0
    assert "left out: the program fluidsynth is not there: on Debian, apt install" in capsys.readouterr().err
    document = json.loads((tmp_path / "some" / "sources.json").read_text())
    assert "espeak-ng" in document["sources"]["espeak"]["missing"]
    assert (
        document["sources"]["librosa"]["clips"] + sum(r["labels"] == "silence" for r in table(tmp_path / "some")) == 20
    )


def test_without_data_it_says_where_to_put_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shares = none_but("esc10", "synthesiser")
    where = ["--data", str(tmp_path / "nothing"), "--out", str(tmp_path / "corpus")]
    assert corpus.main([*where, *shares, "--clips", "8", "--seconds", "1", "--jobs", "1"]) == 0
    assert "esc10: left out: nothing in" in (said := capsys.readouterr().err)
    assert "set L3EDGE_DATA" in said


def test_folds_4_and_5_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "mine" / "5-1234-A-12.wav", tone(440, 1))
    with pytest.raises(TrainingError, match="folds 4 and 5, which this project's development holds out"):
        corpus.main([str(tmp_path / "mine"), "--out", str(tmp_path / "corpus")])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--share", "esc11=1"], "there is no such source, only esc10,"),
        (["nowhere"], "nowhere: no such file or folder"),
        ([".", "--share", "esc10=0"], "holds no audio"),
        (
            [part for name in corpus.recordings.BUILT_IN for part in ("--share", f"{name}=0")],
            "every source has the share 0",
        ),
    ],
)
def test_what_is_wrong_is_said(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TrainingError, match=message):
        corpus.main([*arguments, "--out", "corpus"])
    assert not list(tmp_path.iterdir())


def test_two_sources_of_one_name_are_refused(tmp_path: Path) -> None:
    for parent in ("a", "b"):
        write(tmp_path / parent / "birds" / "1.wav", tone(440, 1))
    with pytest.raises(TrainingError, match="another source is called birds too"):
        corpus.main([str(tmp_path / "a/birds"), str(tmp_path / "b/birds"), "--out", str(tmp_path / "corpus")])


@pytest.mark.parametrize("arguments", [["--seconds", "0.5"], ["--seed", "-1"], ["--held-out", "0.6"], ["--share", "x"]])
def test_bad_usage(arguments: list[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as end:
        corpus.main([*arguments, "--out", str(tmp_path / "corpus")])
    assert end.value.code == 2


# --- real recordings and programs -------------------------------------------------------------------------------------


def test_esc10(tmp_path: Path) -> None:
    if not ESC10.is_dir():
        pytest.skip(f"no ESC-10 in {ESC10}; set L3EDGE_DATA")
    size = ["--clips", "60", "--seconds", "2", "--jobs", "1"]
    assert corpus.main(["--out", str(tmp_path / "corpus"), *size, *none_but("esc10")]) == 0
    rows = table(tmp_path / "corpus")
    folds = [{part.split("/")[-1][0] for part in parts(row)} for row in rows]
    assert {fold for found in folds for fold in found} == {"1", "2", "3"}
    assert all(
        len(found) == 1 and f"fold-{min(found)}" in row["labels"]
        for found, row in zip(folds, rows, strict=True)
        if found
    )


def needs(program: str) -> None:
    if reason := rendered.missing(program):
        if os.environ.get("CI"):
            pytest.fail(f"{reason}; CI must have it")
        pytest.skip(reason)


def test_speech() -> None:
    needs(rendered.SPEAKER)
    for number in range(6):
        sound = rendered.speech(3, number, RATE)
        assert len(sound) > RATE
        power = np.abs(np.fft.rfft(sound)) ** 2
        hz = np.fft.rfftfreq(len(sound), 1 / RATE)
        assert power[(hz > 80) & (hz < 5000)].sum() > 0.8 * power.sum()
    assert np.array_equal(sound, rendered.speech(3, number, RATE))


def test_music() -> None:
    needs(rendered.PLAYER)
    for number in range(4):
        sound = rendered.music(3, number, RATE)
        assert 12 < len(sound) / RATE < 40
        assert 0.005 < np.abs(sound).max() < 1
    assert np.array_equal(sound, rendered.music(3, number, RATE))


def test_notes_sound_at_their_pitch() -> None:
    """A file of one note, 440 Hz on a flute: what is written is what General MIDI reads."""
    needs(rendered.PLAYER)
    notes = rendered._Notes(np.random.default_rng(0), 4.0)
    notes._add(0, 0xC0, 73)
    notes._note(0, 0.5, 2.0, 69, 100)
    font = str(rendered.font())
    player = [rendered.PLAYER, "-q", "-n", "-i", "-R", "0", "-C", "0", "-r", "32000", "-T", "wav", "-F", "{out}", font]
    sound = rendered._rendered([*player, "{midi}"], RATE, notes.file())
    assert np.abs(sound[: round(0.45 * RATE)]).max() < 1e-3
    middle = sound[RATE : 2 * RATE]
    assert np.abs(np.fft.rfft(middle)).argmax() == pytest.approx(440, abs=3)
    assert np.abs(sound[round(3.5 * RATE) :]).max() < 0.05 * np.abs(middle).max()


def test_solos_play_every_instrument() -> None:
    def programs(number: int) -> list[int]:
        notes: list[Any] = []
        original = rendered._Notes.part
        try:
            rendered._Notes.part = lambda self, channel, program, *args, **kw: notes.append(program)  # type: ignore
            rendered.compose(0, number)
        finally:
            rendered._Notes.part = original  # type: ignore
        return notes

    solos = {programs(number)[0] for number in range(256) if rendered.style(number) == "solo"}
    assert solos == set(range(120))
    effects = {programs(number)[0] for number in range(256) if rendered.style(number) == "effects"}
    assert effects == set(range(120, 128))


def test_speech_and_music_in_a_corpus(tmp_path: Path) -> None:
    needs(rendered.SPEAKER)
    needs(rendered.PLAYER)
    shares = none_but("espeak", "fluidsynth")
    size = ["--clips", "16", "--seconds", "2", "--jobs", "1"]
    assert corpus.main(["--out", str(tmp_path / "corpus"), *size, *shares]) == 0
    sources = json.loads((tmp_path / "corpus" / "sources.json").read_text())
    assert {name: found["skipped"] for name, found in sources["sources"].items()} == {"espeak": {}, "fluidsynth": {}}
    assert {"espeak-ng", "fluidsynth"} <= set(sources["versions"])
    assert {row["labels"].split(";")[0] for row in table(tmp_path / "corpus")} >= {"espeak", "fluidsynth"}


def test_a_failing_program_is_a_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An espeak-ng that fails on some sentences."""
    fake = tmp_path / "espeak-ng"
    tone_file = tmp_path / "tone.wav"
    write(tone_file, tone(440, 3))
    fake.write_text(
        f"""#!/bin/sh
        for word; do last=$word; done
        case $last in a*|b*|c*|d*|e*|f*|g*|h*) echo no such word >&2; exit 3;; esac
        while [ "$1" != -w ]; do shift; done
        cp {tone_file} "$2"
        """
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    out = tmp_path / "corpus"
    assert corpus.main(["--out", str(out), "--clips", "16", "--seconds", "2", "--jobs", "1", *none_but("espeak")]) == 0
    espeak = json.loads((out / "sources.json").read_text())["sources"]["espeak"]
    assert 0 < len(espeak["skipped"]) < espeak["recordings"]
    assert set(espeak["skipped"].values()) == {"espeak-ng failed with status 3: no such word"}
