"""The accuracy table: which model judges which fold, what the conditions do to sound, and what is written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not in the device environment")
pytest.importorskip("tensorflow", reason="TensorFlow is not in the device environment")

import soundfile

import l3edge
from benchmarks import accuracy, accuracy_models, accuracy_page, accuracy_plot
from benchmarks.accuracy_models import CLEAN, HEARD, Subject
from benchmarks.conditions import CONDITIONS, PUBLISHED
from l3edge import audio, flatbuffer, model_file
from training import datasets, embedders, operators, peers, rotation, teachers
from training.classifiers import PROTOCOLS
from training.cli import TrainingError
from training.datasets import Clip

RATE = 16_000
STUB = Path(__file__).parent / "data" / "stub-int8.tflite"
TONES = {"high": 3000.0, "low": 500.0, "mid": 1200.0}  # Hz
SECONDS = {1: 1.0, 2: 1.1, 3: 1.2}  # of a fold's clips: by this a stub of a model knows the fold


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tones in noise: three classes in three folds, three clips each."""
    made = tmp_path_factory.mktemp("tones")
    random = np.random.default_rng(0)
    for label, hertz in TONES.items():
        (made / label).mkdir()
        for fold, seconds in SECONDS.items():
            for number in range(3):
                time = np.arange(round(seconds * RATE)) / RATE
                tone = 0.3 * np.sin(2 * np.pi * hertz * random.uniform(0.9, 1.1) * time)
                path = made / label / f"{fold}-{number}{label}-A.wav"
                soundfile.write(path, tone + random.normal(0, 0.003, len(time)), RATE)
    return made


@pytest.fixture
def clips(folder: Path) -> list[Clip]:
    return datasets.read(folder)


class Ear:
    """Embeds a window as the one-hot of the nearest of TONES; of one fold's clips, told by their length, as another."""

    engine = "none 1"
    spec = peers.Heard(RATE, RATE, 3)

    def __init__(self, wrong: int | None = None) -> None:
        self.name, self.wrong = f"wrong on {wrong}", wrong
        self.identity = f"{wrong}"

    def embed(self, samples: np.ndarray, hop: float, rows: np.ndarray | None = None) -> np.ndarray:
        """As `embedders.Embedder.embed`."""
        fold = min(SECONDS, key=lambda fold: abs(SECONDS[fold] * RATE - len(samples)))
        cut = embedders.whole_windows(samples, self.spec, hop)
        made = []
        for window in cut if rows is None else cut[rows]:
            peak = np.abs(np.fft.rfft(window)).argmax() * RATE / len(window)
            nearest = np.abs(np.log(np.array(list(TONES.values())) / peak)).argmin()
            made.append(np.eye(3)[(nearest + (fold == self.wrong)) % 3])
        return np.array(made, np.float32)


def row_of(subject: Subject, clips: list[Clip], *names: str) -> dict[str, Any]:
    return accuracy.measure(subject, clips, accuracy.Listener(), {name: CONDITIONS[name] for name in names})


def test_each_fold_is_judged_by_its_own_model(clips: list[Clip]) -> None:
    """Each model names all clips but those of one fold: given that one it fails on all, given another on none."""
    names = (PUBLISHED, "full scale")
    own = row_of(Subject("a", CLEAN, {fold: Ear(fold) for fold in SECONDS}), clips, *names)
    other = row_of(Subject("b", CLEAN, {1: Ear(), 2: Ear(), 3: Ear()}), clips, *names)
    assert own["clip_accuracy"]["value"] == 0
    assert own["clips_by_fold"] == {"1": 0, "2": 0, "3": 0}
    assert other["clip_accuracy"]["value"] == 1
    for row in (own, other):
        for shares in row["robustness"].values():
            assert shares["clip_accuracy"] == row["clip_accuracy"]
    mixed = row_of(Subject("c", CLEAN, {1: Ear(), 2: Ear(2), 3: Ear()}), clips, *names)
    assert mixed["clips_by_fold"] == {"1": 1, "2": 0, "3": 1}
    assert mixed["robustness"]["full scale"]["clip_accuracy"]["value"] == pytest.approx(2 / 3)


def test_a_model_of_all_folds_is_judged_as_by_the_probe(clips: list[Clip]) -> None:
    model = embedders.load(str(STUB))
    row = row_of(Subject("stub", HEARD, {None: model}), clips, PUBLISHED)
    want, _ = rotation.measure(model, clips, (0,), PROTOCOLS["svm"])
    for name in ("window_accuracy", "clip_accuracy", "by_fold", "clips_by_fold", "chosen", "confusion"):
        assert row[name] == want[name]
    assert row["robustness"] == {}
    assert row["macs_per_second"] == 10 * model.spec.macs_per_hop


def test_what_int8_changes_is_a_difference_on_the_same_windows(clips: list[Clip]) -> None:
    subject = Subject("a", CLEAN, dict.fromkeys(SECONDS, Ear()), {1: Ear(), 2: Ear(2), 3: Ear()})
    row = row_of(subject, clips, PUBLISHED)
    assert row["float32"]["window_accuracy"]["value"] < 1
    missing = 1 - row["float32"]["window_accuracy"]["value"]
    assert row["int8_minus_float32"]["window_accuracy"]["value"] == pytest.approx(missing)
    assert row["int8_minus_float32"]["clip_accuracy"]["value"] == pytest.approx(1 / 3)


def test_some_folds_can_be_judged_alone(clips: list[Clip]) -> None:
    """The same figures for those folds as when all are judged, and nothing of the others, which are fitted on."""
    subject = Subject("a", CLEAN, {1: Ear(), 2: Ear(2), 3: Ear()})
    listener, judged = accuracy.Listener(), {PUBLISHED: CONDITIONS[PUBLISHED]}
    every = accuracy.measure(subject, clips, listener, judged)
    some = accuracy.measure(subject, clips, listener, judged, [2])
    assert some["by_fold"] == {"2": every["by_fold"]["2"]}
    assert some["clips"] == sum(clip.fold == 2 for clip in clips)
    assert some["clip_accuracy"]["value"] == every["clips_by_fold"]["2"] < 1


def copies(
    folder: Path,
    name: str,
    folds: tuple[int, ...],
    arguments: dict[str, Any] | None = None,
    representative: tuple[str, ...] = (),
) -> Path:
    """Model files that say of themselves what they are called, the stub's network in all."""
    folder.mkdir(exist_ok=True)
    stub = l3edge.load(STUB)
    for stem in [name, *(f"{name}-without-{fold}" for fold in folds)]:
        metadata = {key: stub.metadata[key] for key in ("name", "spec", "recipe", "target", "parity")}
        provenance = {"training": {"arguments": arguments or {}}, "representative": representative}
        metadata |= {"name": stem, "provenance": provenance}
        model_file.write(folder / f"{stem}.tflite", stub.flatbuffer, metadata)
    return folder / f"{name}.tflite"


def test_rotations_are_found_beside_a_model(tmp_path: Path) -> None:
    path = copies(tmp_path, "mine-1", (1, 2, 3))
    clean, heard = accuracy_models.subjects(str(path), [1, 2, 3], tmp_path, None)
    assert (clean.name, clean.hearing, heard.name, heard.hearing) == ("mine-1", CLEAN, "mine-1", HEARD)
    assert [clean.of(fold).name for fold in (1, 2, 3)] == [f"mine-1-without-{fold}" for fold in (1, 2, 3)]
    assert {heard.of(fold).name for fold in (1, 2, 3)} == {"mine-1"}
    (alone,) = accuracy_models.subjects(str(path), [1, 2, 3], None, None)
    assert alone.hearing == accuracy_models.UNKNOWN
    copies(tmp_path, "all-1", (), {"exclude": ["fold-1", "fold-2", "fold-3"]})
    copies(tmp_path, "two-1", (), {"exclude": ["fold-1"]})
    for name, hearing in (("all-1", CLEAN), ("two-1", HEARD)):
        (alone,) = accuracy_models.subjects(str(tmp_path / f"{name}.tflite"), [1, 2, 3], None, None)
        assert alone.hearing == hearing
    (default,) = accuracy_models.subjects("edge-m-1", [1, 2, 3], tmp_path, None)
    assert default.hearing == CLEAN  # of synthesised video alone
    path.unlink()
    (clean,) = accuracy_models.subjects("mine-1", [1, 2, 3], tmp_path, None)
    assert (clean.name, clean.hearing, clean.of(3).name) == ("mine-1", CLEAN, "mine-1-without-3")
    (tmp_path / "mine-1-without-2.tflite").unlink()
    with pytest.raises(TrainingError, match=r"mine-1-without-2\.tflite is missing"):
        accuracy_models.subjects("mine-1", [1, 2, 3], tmp_path, None)


def test_a_rotation_that_heard_its_fold_is_refused(tmp_path: Path) -> None:
    path = copies(tmp_path, "mine-1", (1, 2, 3), {"exclude": ["fold-1"]})
    with pytest.raises(TrainingError, match=r"without-2.*judged on fold 2.*says that fold-1 was left out"):
        accuracy_models.subjects(str(path), [1, 2, 3], tmp_path, None)
    copies(tmp_path, "mine-1", (1, 2, 3), {"exclude": ["fold-1", "fold-2", "fold-3"]}, ("3-118059-A.ogg",))
    with pytest.raises(TrainingError, match=r"without-3.*judged on fold 3.*quantised on 3-118059-A\.ogg"):
        accuracy_models.subjects(str(path), [1, 2, 3], tmp_path, None)
    shutil.copy(l3edge.model.find("edge-m-1"), tmp_path / "stub-int8-without-1.tflite")
    for fold in (2, 3):
        shutil.copy(STUB, tmp_path / f"stub-int8-without-{fold}.tflite")
    with pytest.raises(TrainingError, match=r"without-1.*is no rotation of stub-int8"):
        accuracy_models.subjects(str(STUB), [1, 2, 3], tmp_path, None)


def band(samples: np.ndarray, rate: int, low: float, high: float) -> float:
    """Power between two frequencies, dB."""
    spectrum = np.abs(np.fft.rfft(samples.astype(np.float64))) ** 2
    hertz = np.fft.rfftfreq(len(samples), 1 / rate)
    return float(10 * np.log10(spectrum[(hertz >= low) & (hertz < high)].sum()))


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(1).normal(0, 0.05, 3 * 44_100).astype(np.float32)


def test_levels(noise: np.ndarray) -> None:
    for level in (-10, -20, -30, -40):
        made, rate = CONDITIONS[f"{level} dB"].apply(noise, 44_100)
        assert rate == 44_100
        assert 20 * np.log10(made.std() / noise.std()) == pytest.approx(level, abs=0.01)
        np.testing.assert_array_equal(made * 32768, np.rint(made * 32768))
    loud, _ = CONDITIONS["full scale"].apply(noise, 44_100)
    assert np.abs(loud).max() == 1
    np.testing.assert_allclose(loud / loud.std(), noise / noise.std(), rtol=1e-5, atol=1e-6)
    same, _ = CONDITIONS[PUBLISHED].apply(noise, 44_100)
    np.testing.assert_array_equal(same, noise)


def test_the_band_limit_keeps_its_band_and_no_more(noise: np.ndarray) -> None:
    made, rate = CONDITIONS["300-3400 Hz"].apply(noise, 44_100)

    def change(low: float, high: float) -> float:
        return band(made, rate, low, high) - band(noise, rate, low, high)

    assert change(400, 3000) == pytest.approx(0, abs=0.3)
    assert change(20, 150) < -34
    assert change(6800, 20_000) < -34


@pytest.mark.parametrize(("name", "an_octave"), [("white noise", 3.0), ("pink noise", 0.0)])
def test_noise_is_ten_decibels_below_and_of_its_colour(name: str, an_octave: float) -> None:
    tone = 0.2 * np.sin(2 * np.pi * 997 * np.arange(4 * RATE) / RATE).astype(np.float32)
    made, rate = CONDITIONS[name].apply(tone, RATE)
    added = made - tone
    assert rate == RATE
    assert 20 * np.log10(tone.std() / added.std()) == pytest.approx(10, abs=0.01)
    slope = band(added, rate, 2000, 4000) - band(added, rate, 250, 500)
    assert slope == pytest.approx(3 * an_octave, abs=0.5)
    np.testing.assert_array_equal(made, CONDITIONS[name].apply(tone, RATE)[0])


def test_rates_leave_out_what_they_cannot_carry(noise: np.ndarray) -> None:
    for rate in (48_000, 32_000, 22_050, 11_025, 8_000):
        made, given = CONDITIONS[f"{rate / 1000:g} kHz"].apply(noise, 44_100)
        assert (given, len(made)) == (rate, 3 * rate)
        heard = audio.resample(made, given, RATE)
        direct = audio.resample(noise, 44_100, RATE)
        top = min(rate, RATE) / 2
        assert band(heard, RATE, 100, 0.85 * top) == pytest.approx(band(direct, RATE, 100, 0.85 * top), abs=0.05)
        if rate < RATE:
            assert band(heard, RATE, 1.05 * top, 8000) < band(direct, RATE, 1.05 * top, 8000) - 40


def test_a_bad_microphone_clips(noise: np.ndarray) -> None:
    made, rate = CONDITIONS["bad microphone"].apply(noise, 44_100)
    peak = np.abs(made).max()
    assert rate == RATE
    assert np.mean(np.abs(made) == peak) > 0.1


@pytest.mark.parametrize("name", CONDITIONS)
def test_silence_is_heard_under_every_condition(name: str) -> None:
    made, rate = CONDITIONS[name].apply(np.zeros(44_100, np.float32), 44_100)
    assert made.dtype == np.float32
    assert len(made) == rate
    assert not made.any()


def test_the_table_the_pictures_and_the_page(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = copies(tmp_path / "models", "mine-1", (1, 2, 3))
    figures, docs = tmp_path / "figures.json", tmp_path / "docs"
    docs.mkdir()
    options = [str(path), "log-mel", "--data", str(folder), "--rotations", str(path.parent), "--no-cache"]
    monkeypatch.setattr(accuracy, "CONDITIONS", {name: CONDITIONS[name] for name in (PUBLISHED, "-40 dB", "8 kHz")})
    assert accuracy.main([*options, "--json", str(figures), "--plot", str(docs)]) == 0
    printed = capsys.readouterr().out
    document = json.loads(figures.read_text())
    assert [(row["model"], row["hearing"]) for row in document["rows"]] == [
        ("mine-1", CLEAN),
        ("mine-1", HEARD),
        ("log-mel", CLEAN),
    ]
    assert document["folds"] == [1, 2, 3]
    assert document["clips"] == 27
    clean, heard, mel = document["rows"]
    assert list(clean["robustness"]) == list(mel["robustness"]) == [PUBLISHED, "-40 dB", "8 kHz"]
    assert heard["robustness"] == {}
    assert clean["clip_accuracy"] == heard["clip_accuracy"]  # of the same network
    assert mel["clip_accuracy"]["value"] > 0.9
    assert (mel["macs_per_second"], mel["bytes"], mel["embedding_size"]) == (0, None, 128)
    for row in document["rows"]:
        assert f"| `{row['model']}` | {row['hearing']} | {accuracy_page.interval(row['clip_accuracy'])} |" in printed
        assert sum(map(sum, row["confusion"])) == 27
    assert "| -40 dB |" in printed
    for name in ("accuracy-cost.png", "confusion.png"):
        assert (docs / name).read_bytes().startswith(b"\x89PNG")

    with pytest.raises(TrainingError, match="has not the two lines"):
        accuracy_page.write(document, docs)
    page = docs / "models.md"
    page.write_text(f"# Before\n\n{accuracy_page.MARKERS.begin}\nof last year\n{accuracy_page.MARKERS.end}\n\nafter\n")
    for _ in range(2):
        accuracy_page.write(document, docs)
    text = page.read_text()
    assert text.startswith("# Before\n")
    assert text.endswith("\nafter\n")
    assert "of last year" not in text
    assert text.count("### Robustness") == 1


def test_what_int8_changes_is_kept_for_the_very_files_whose_runs_are_gone() -> None:
    shares = {share: {"value": 0.9, "low": 0.8, "high": 1.0} for share in ("window_accuracy", "clip_accuracy")}
    row = {"model": "mine-1", "hearing": CLEAN, "sha256": {"1": "a"}, "engine": "e", "clips": 9, "windows": 90} | shares
    compared = row | {"float32": shares, "int8_minus_float32": shares}
    page = {"date": "2026-01-01", "commit": "c" * 40, "rows": [row, compared]}
    kept = row | accuracy_page.compared_before(row, page)
    assert kept == compared | {"compared": {"date": "2026-01-01", "commit": "c" * 40}}
    later = page | {"date": "2026-02-02", "rows": [kept]}
    assert row | accuracy_page.compared_before(row, later) == kept
    for other in ({"sha256": {"1": "b"}}, {"engine": "f"}, {"clips": 8}):
        assert accuracy_page.compared_before(row | other, page) == {}
    costs = {"macs_per_second": 0, "bytes": 0, "embedding_size": 3, "embeddings_per_second": 0, "robustness": {}}
    folds = {"clips_by_fold": {"1": 0.9}, "fold_mean": 0.9, "fold_sd": 0.0}
    told = accuracy_page.tables({"rows": [kept | costs | folds]})
    assert "`mine-1`: the same files, compared on 2026-01-01, commit cccccccccccc." in told


def test_labels_of_the_front_do_not_overlap() -> None:
    """Points that lie close together, as those of models of one size do."""

    def row(name: str, macs: float, value: float, peer: bool) -> dict[str, Any]:
        accuracy_of = {"value": value, "low": value - 0.04, "high": value + 0.03}
        return {
            "model": name, "macs_per_second": macs, "bytes": 10**6, "peer": peer, "clip_accuracy": accuracy_of,
        }  # fmt: skip

    rows = [row("edge-m-1", 3e8, 0.93, False), row("edge-m-3", 3.1e8, 0.94, False), row("edge-l-2", 9e8, 0.95, False)]
    rows += [row("yamnet", 7e8, 0.97, True), row("random:edge-m", 3e8, 0.8, True)]
    figure = accuracy_plot.front(rows, "tones")
    figure.draw_without_rendering()
    renderer = accuracy_plot.FigureCanvasAgg(figure).get_renderer()
    boxes = [text.get_window_extent(renderer) for text in figure.axes[0].texts]
    assert len(boxes) == 5
    assert not [1 for i, one in enumerate(boxes) for other in boxes[:i] if one.overlaps(other)]
    inside = figure.bbox
    assert all(inside.x0 <= box.x0 and box.x1 <= inside.x1 for box in boxes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["edge-m", "--write"], "leave out what narrows it"),
        (["edge-m", "--json", "nowhere/f.json"], "no such directory"),
        (["edge-m", "--rotations", "nowhere"], "no such directory of rotations"),
        (["nothing"], "no model and no dataset"),
    ],
)
def test_the_command_refuses(folder: Path, options: list[str], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        accuracy.main([*options, "--data", str(folder), "--no-cache"])


def test_log_mel_statistics_are_those_of_each_window_alone() -> None:
    samples = np.random.default_rng(2).normal(0, 0.1, 30_000).astype(np.float32)
    ear = peers.LogMel()
    every = ear.embed(samples, 0.1)
    assert every.shape == (9, 128)
    for k in (0, 5, 8):
        alone = ear.embed(samples[1600 * k : 1600 * k + 16_000], 0.1)
        np.testing.assert_allclose(every[k], alone[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(ear.embed(samples, 0.1, np.array([2, 5])), every[[2, 5]])


def test_chosen_windows_are_the_same_as_of_all() -> None:
    samples = np.random.default_rng(2).normal(0, 0.1, 30_000).astype(np.float32)
    rows = np.array([0, 3, 8])
    for name in ("stub-int8", "stub-window"):
        model = embedders.load(str(STUB.with_name(f"{name}.tflite")))
        np.testing.assert_array_equal(model.embed(samples, 0.1, rows), model.embed(samples, 0.1)[rows])


@pytest.mark.skipif(
    not teachers.YAMNET.is_file(),
    reason=f"no {teachers.YAMNET}: set L3EDGE_DATA to a folder that holds yamnet/yamnet.tflite",
)
def test_yamnets_embedding_makes_its_scores() -> None:
    """The tensor that is read is the one that the file's own classifier reads: the scores follow from it."""
    ear = peers.YamNet()
    content = ear.path.read_bytes()
    model = flatbuffer.parse(content)
    graph = model.subgraphs[0]
    dense = next(op for op in reversed(graph.operators) if op.name == "FULLY_CONNECTED")
    kernel, bias = (graph.tensors[i] for i in dense.inputs[1:3])
    values = [np.asarray(model.constant(tensor), np.float64) for tensor in (kernel, bias)]
    samples = np.random.default_rng(3).normal(0, 0.1, 16_000).astype(np.float32)
    (embedding,) = ear.embed(samples, 0.1)
    scale = np.array(kernel.scales)[:, None]
    logits = (values[0] * scale) @ embedding + values[1] * np.array(bias.scales)
    interpreter = l3edge.engine.find().interpreter.Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], samples[:15_600])
    interpreter.invoke()
    scores = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]
    assert embedding.shape == (1024,)
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), scores, atol=0.02)
    assert 68e6 < operators.convolution_macs(content) < 70e6


def test_peers_that_are_not_there_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"no YAMNet at .* set L3EDGE_DATA"):
        peers.YamNet(tmp_path / "yamnet.tflite")
    with pytest.raises(TrainingError, match=r"YAMNet|tensor 115|one window"):
        peers.YamNet(STUB)
    with pytest.raises(TrainingError, match="set L3EDGE_DATA"):
        accuracy_models.sea(weights=tmp_path / "sea.h5.gz")
