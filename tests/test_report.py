"""The report on a run, opened in Chromium; and what it counts, against counting by hand."""

from __future__ import annotations

import dataclasses
import http.server
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

for module in ("tensorflow", "tf_keras", "av", "soxr", "soundfile", "scipy", "sklearn", "PIL", "tqdm", "matplotlib"):
    pytest.importorskip(module, reason=f"training needs {module}, which a device does not have")

from sklearn.metrics import roc_auc_score  # noqa: E402

from l3edge.layers import Conv  # noqa: E402
from l3edge.spec import PRESETS, ImageTower, Spec  # noqa: E402
from training import artifacts, network, prepare, report, shards  # noqa: E402
from training.backend import tf  # noqa: E402
from training.cli import TrainingError  # noqa: E402
from training.report import charts, clusters, embedded, held_out, inside  # noqa: E402

HOSTILE = """</style></svg><script>document.title='owned'</script><img src=x onerror="alert(1)">&amp;'$title 鐘"""
QUICK = ("--clips", "8", "--units", "2", "--examples", "2")

# --- Chromium ---------------------------------------------------------------------------------------------------------

PROBE = """<!DOCTYPE html><link rel="icon" href="data:,"><iframe style="width:WIDTHpx;height:900px"></iframe><script>
const frame = document.querySelector("iframe");
frame.onload = async () => {
  const page = frame.contentDocument, all = (selector) => [...page.querySelectorAll(selector)];
  const heard = all("audio").map((sound) => new Promise((done) => {
    sound.onloadeddata = sound.onerror = () => done(sound.error ? null : sound.duration);
    sound.preload = "auto";
    sound.load();
  }));
  const result = {
    title: page.title,
    text: page.body.textContent,
    images: all("img").map((image) => image.complete && image.naturalWidth),
    sounds: await Promise.all(heard),
    scripts: page.scripts.length,
    told: all("svg title").map((title) => title.textContent),
    charts: all("svg").map((chart) => chart.getBoundingClientRect().width),
    headings: all("h2").map((heading) => heading.textContent),
    lost: all("a").map((link) => link.getAttribute("href")).filter((href) => !page.querySelector(href)),
    wider: page.documentElement.scrollWidth - page.documentElement.clientWidth,
    loaded: frame.contentWindow.performance.getEntriesByType("resource").map((entry) => entry.name)
      .filter((name) => !name.startsWith("data:")),
  };
  fetch("/result", {method: "POST", body: JSON.stringify(result)});
};
frame.src = "/page.html";
</script>"""


def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not found:
        reason = "opening a page needs Debian's chromium"
        if os.environ.get("CI"):
            pytest.fail(f"{reason}; CI must have it")
        pytest.skip(reason)
    return found


def browse(page: Path, folder: Path, width: int = 1200) -> dict[str, Any]:
    """What Chromium makes of a page: the probe's result, and `asked`, every path that it asked the server for.

    The page lies in a frame of another page, which looks at it from outside: nothing is put into it.
    """
    asked: list[str] = []
    pages = {"/": PROBE.replace("WIDTH", str(width)).encode(), "/page.html": page.read_bytes()}
    result: dict[str, Any] = {}
    arrived = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            content = pages.get(self.path)
            self.send_response(200 if content else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(content or b"")

        def do_POST(self) -> None:
            result.update(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()
            arrived.set()

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    log = folder / "chromium.log"
    try:
        with log.open("w") as errors:
            browser = subprocess.Popen(
                [
                    *(chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
                    *(f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr", "--window-size=1400,1000"),
                    *("--no-first-run", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"),
                    f"http://127.0.0.1:{server.server_port}/",
                    "--remote-debugging-port=0",  # stays until it is ended
                ],
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
            try:
                assert arrived.wait(90), log.read_text()
            finally:
                browser.terminate()
                browser.wait(30)
    finally:
        server.shutdown()
        server.server_close()
        serving.join()
    said = [line for line in log.read_text(errors="replace").splitlines() if "CONSOLE" in line]
    assert not said, said
    return {**result, "asked": asked}


@pytest.fixture(scope="module")
def page(run: Path) -> Path:
    assert report.main([str(run)]) == 0
    return run / "report.html"


@pytest.mark.parametrize("width", [390, 1200])
def test_opens_in_a_browser_and_loads_nothing(page: Path, tmp_path: Path, width: int) -> None:
    seen = browse(page, tmp_path, width)
    assert seen["asked"] == ["/", "/page.html"]
    assert seen["loaded"] == []
    assert seen["scripts"] == 0
    assert len(seen["images"]) >= 100
    assert min(seen["images"]) > 0
    assert len(seen["sounds"]) >= 40
    assert all(duration == pytest.approx(1.0, abs=0.01) for duration in seen["sounds"])
    assert min(seen["charts"]) > 0
    assert len(seen["headings"]) == 6
    assert seen["lost"] == []
    assert seen["wider"] <= 0, "it scrolls sideways"


def test_page_holds_what_the_run_directory_says(run: Path, page: Path) -> None:
    content = page.read_text(encoding="utf-8")
    metrics, arguments = (artifacts.read_json(run / f"{name}.json") for name in ("metrics", "arguments"))
    for split in ("validation", "test"):
        assert f"<b>{100 * metrics[split]['accuracy']:.1f} %</b>" in content
        assert f"{split} pairs judged right, of {metrics[split]['pairs']}" in content
    assert arguments["commit"] in content
    assert arguments["data"]["sha256"] in content
    assert "Other data than in training" not in content
    assert re.search(r"python -m training\.pretrain .*--preset edge-s", content)
    assert re.search(r"--steps 4\b", content)
    model = artifacts.load_run(run).model
    for tower in ("audio", "image", "fusion"):
        assert f"{model.get_layer(tower).count_params():,} parameters" in content
    assert not re.search(r"""(src|href|url)\s*[=(]\s*["']?(?!data:|#)[a-z/]""", content), "it refers to another file"
    assert len(content) < 6e6


def test_same_run_gives_the_same_page(run: Path, tmp_path: Path) -> None:
    pages = [tmp_path / "one.html", tmp_path / "two.html"]
    for page in pages:
        assert report.main([str(run), "--out", str(page), *QUICK]) == 0
    assert pages[0].read_bytes() == pages[1].read_bytes()


# --- Other data, other networks ---------------------------------------------------------------------------------------

Change = Callable[[str, int, Any], bool]  # (split, number, tf.train.Example to change) -> whether to keep it


def rewritten(source: Path, target: Path, change: Change) -> Path:
    """A data set with changed records."""
    target.mkdir()
    statistics = json.loads((source / "statistics.json").read_text())
    labels: dict[str, int] = {}
    for split, files in statistics["shards"].items():
        number = 0
        for file in files:
            with tf.io.TFRecordWriter(str(target / file["file"])) as writer:
                file["records"] = 0
                for record in tf.data.TFRecordDataset(str(source / file["file"])):
                    example = tf.train.Example.FromString(record.numpy())
                    if change(split, number, example):
                        writer.write(example.SerializeToString())
                        file["records"] += 1
                        for label in example.features.feature["labels"].bytes_list.value:
                            labels[label.decode(errors="replace")] = 1 + labels.get(label.decode(errors="replace"), 0)
                    number += 1
            file["bytes"] = (target / file["file"]).stat().st_size
    statistics["labels"] = labels
    (target / "statistics.json").write_text(json.dumps(statistics))
    return target


def shards_of(run: Path) -> Path:
    return Path(artifacts.read_json(run / "arguments.json")["data"]["path"])


def test_hostile_names_and_labels_are_text(run: Path, tmp_path: Path) -> None:
    def hostile(split: str, number: int, example: Any) -> bool:
        feature = example.features.feature
        feature["name"].bytes_list.value[:] = [f"{number} {HOSTILE}".encode() + b"\xff.mp4"]
        labels = {"validation": [HOSTILE.encode(), b"\xfe<b>"], "test": [b"plain $5 & <", HOSTILE[:9].encode()]}
        feature["labels"].bytes_list.value[:] = labels.get(split, [])
        return True

    data = rewritten(shards_of(run), tmp_path / "shards", hostile)
    out = tmp_path / "page.html"
    assert report.main([str(run), "--data", str(data), "--out", str(out), "--clips", "40", "--units", "2"]) == 0
    assert "Other data than in training" in out.read_text(encoding="utf-8")
    seen = browse(out, tmp_path)
    assert seen["title"].startswith("edge-s")
    assert seen["scripts"] == 0
    assert seen["text"].count(HOSTILE) >= 20  # names and labels, in tables, in charts and under pictures
    assert {HOSTILE, "plain $5 & <"} <= set(seen["told"])
    assert seen["asked"] == ["/", "/page.html"]
    assert min(seen["images"]) > 0


def test_unlabelled_clips_of_two_videos(run: Path, tmp_path: Path) -> None:
    def bare(split: str, number: int, example: Any) -> bool:
        del example.features.feature["labels"].bytes_list.value[:]
        return number == 0

    data = rewritten(shards_of(run), tmp_path / "shards", bare)
    out = tmp_path / "page.html"
    assert report.main([str(run), "--data", str(data), "--out", str(out), "--clips", "2"]) == 0
    content = out.read_text(encoding="utf-8")
    for said in ("The data carry no labels, so there is no accuracy by label", "too few held-out clips", "hence no NMI",
                 "units are those with the largest variance"):  # fmt: skip
        assert said in content
    assert "AUC 0" not in content
    assert "nan" not in re.sub(r"base64,[^\"]*", "", content).lower().replace("nance", "")


def test_clips_of_one_video(run: Path, tmp_path: Path) -> None:
    data = rewritten(shards_of(run), tmp_path / "shards", lambda split, n, e: split == "test" and n == 0)
    out = tmp_path / "page.html"
    assert report.main([str(run), "--data", str(data), "--out", str(out), *QUICK]) == 0
    assert "All held-out clips are of one video" in out.read_text(encoding="utf-8")


def narrow(preset: str) -> Spec:
    spec = PRESETS[preset]
    layers = tuple(row._replace(filters=8) if isinstance(row, Conv) else row for row in spec.layers)
    return dataclasses.replace(spec, layers=layers, image=ImageTower(32, (4, 4, 4, 8)), fusion=8)


def untrained_run(directory: Path, spec: Spec, data: Path) -> Path:
    directory.mkdir()
    artifacts.write_json(directory / "spec.json", spec.to_json())
    artifacts.save_weights(directory / "weights.npz", network.avc_model(spec))
    opened = shards.open_data(data)
    recorded = {"path": str(data), "sha256": opened.digest, "videos": opened.statistics["verdicts"]["kept"]}
    arguments = {"preset": spec.name, "steps": 0}
    artifacts.write_json(
        directory / "arguments.json", {"arguments": arguments, "data": recorded, **artifacts.environment()}
    )
    artifacts.write_json(directory / "metrics.json", {"steps": 0, "clips": 0})
    return directory


@pytest.fixture(scope="module")
def at_48_khz(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "shards"
    assert prepare.main([str(run.parent / "videos"), "--out", str(folder), "--sample-rate", "48000"]) == 0
    return folder


@pytest.mark.parametrize("preset", ["l3-net", "openl3-linear"])
def test_networks_of_the_papers(preset: str, at_48_khz: Path, tmp_path: Path) -> None:
    run = untrained_run(tmp_path / "run", narrow(preset), at_48_khz)
    assert report.main([str(run), *QUICK]) == 0
    content = (run / "report.html").read_text(encoding="utf-8")
    assert "no history.csv" in content
    assert "48,000 Hz" in content
    assert content.count("data:audio/flac") > 8


def test_refusals(run: Path, at_48_khz: Path, tmp_path: Path) -> None:
    empty = rewritten(shards_of(run), tmp_path / "empty", lambda split, number, example: False)
    moved = tmp_path / "moved"
    shutil.copytree(run, moved)
    arguments = artifacts.read_json(moved / "arguments.json")
    arguments["data"]["path"] = str(tmp_path / "gone")
    artifacts.write_json(moved / "arguments.json", arguments)
    for command, message in (
        ([moved], r"no longer at .*gone: say where they are with --data"),
        ([tmp_path], "not a run directory"),
        ([run, "--data", tmp_path], r"holds no statistics\.json"),
        ([run, "--data", empty], "no record outside its training split"),
        ([run, "--data", at_48_khz], "is at 48000 Hz, edge-s hears 16000 Hz"),
        ([run, "--audio-units", "1,128"], "--audio-units 128: the audio tower has units 0 to 127"),
    ):
        with pytest.raises(TrainingError, match=message):
            report.main([*map(str, command), "--out", str(tmp_path / "page.html")])
    (moved / "history.csv").write_text("step,train_loss\n80,high\n")
    with pytest.raises(TrainingError, match=r"history\.csv cannot be read"):
        report.main([str(moved), "--data", str(shards_of(run)), *QUICK])
    damaged = rewritten(shards_of(run), tmp_path / "damaged", lambda split, number, example: True)
    for shard in damaged.glob("validation-*"):
        shard.write_bytes(shard.read_bytes()[:-7])
    with pytest.raises(TrainingError, match=r"the shard .*damaged.* has \d+ bytes"):
        report.main([str(run), "--data", str(damaged)])
    assert not (tmp_path / "page.html").exists()
    with pytest.raises(SystemExit, match="2"):
        report.main([str(run), "--audio-units", "one"])


def test_chosen_units(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    assert report.main([str(run), "--out", str(out), *QUICK, "--audio-units", "5,3"]) == 0
    assert re.findall(r"audio unit (\d+)", out.read_text(encoding="utf-8")) == ["5", "3"]


# --- What is counted --------------------------------------------------------------------------------------------------


def test_correspondence_by_label() -> None:
    """Four clips of three videos: a and b are bells, c is a dog, d is both and of c's video."""
    groups = np.array([b"a", b"b", b"c", b"c"])
    members = np.array([[1, 0], [1, 0], [0, 1], [1, 1]], bool)
    probability = np.array(  # rows: pictures
        [[0.9, 0.8, 0.1, 0.7], [0.6, 0.4, 0.2, 0.3], [0.1, 0.6, 0.8, 0.0], [0.9, 0.9, 0.0, 0.7]], np.float32
    )
    found = inside.by_label(probability, groups, members)
    assert found.positives == 3 / 4
    assert found.pairs == 10  # 16 without 4 own ones, and c with d and d with c
    assert found.negatives == pytest.approx(4 / 10)  # ac, bc, bd, ca
    assert found.other_label == pytest.approx(3 / 4)  # ac, bc, ca; not cb
    assert found.same_label == pytest.approx(1 / 6)  # ab, ba, ad, bd, da, db: bd
    assert found.shared == pytest.approx(6 / 10)
    assert found.ceiling == pytest.approx(0.7)
    np.testing.assert_allclose(found.accepted, [2 / 3, 1])
    np.testing.assert_allclose(found.picture, [1, 1 / 2])  # bells: ac, bc; dogs: ca, cb
    np.testing.assert_allclose(found.sound, [1 / 2, 1])
    bells = [0.8, 0.7, 0.6, 0.3, 0.9, 0.9]  # ab, ad, ba, bd, da, db
    expected = [[np.mean(bells), np.mean([0.1, 0.7, 0.2, 0.3])], [np.mean([0.1, 0.6, 0.9, 0.9]), np.nan]]
    np.testing.assert_allclose(found.matrix, expected, rtol=1e-6)


def test_ceiling_is_reached_by_a_judge_of_labels() -> None:
    labels = np.repeat(np.arange(5), 4)
    found = inside.by_label(
        (labels[:, None] == labels).astype(np.float32), np.arange(20), labels[:, None] == np.arange(5)
    )
    assert found.negatives is not None
    assert (found.positives + found.negatives) / 2 == pytest.approx(found.ceiling)
    assert found.ceiling == pytest.approx(1 - 3 / 19 / 2)


def test_selectivity_is_the_area_under_the_curve() -> None:
    random = np.random.default_rng(0)
    peaks = random.integers(0, 5, (40, 3)).astype(np.float32)  # with ties
    members = random.random((40, 4)) < [0.3, 0.5, 0.04, 1.0]
    areas = inside.selectivity(peaks, members)
    assert np.isnan(areas[:, 2:]).all()  # on too few clips, and on all
    for (unit, label), area in np.ndenumerate(areas[:, :2]):
        assert area == pytest.approx(roc_auc_score(members[:, label], peaks[:, unit]))


def test_strongest_clips_are_of_different_videos() -> None:
    peaks = np.array([5, 9, 8, 1, 7], np.float32)
    assert inside.strongest(peaks, np.array([b"x", b"y", b"y", b"z", b"x"]), 3).tolist() == [1, 4, 3]
    assert inside.strongest(np.ones(5, np.float32), np.arange(5), 3).tolist() == []


def clips_of(labels: list[str], audio: np.ndarray | None = None) -> held_out.HeldOut:
    n = len(labels)
    nothing = np.zeros((n, 1), np.float32)
    return held_out.HeldOut(
        nothing, nothing if audio is None else audio, labels, np.arange(n), [(label,) for label in labels]
    )


def test_units_are_chosen_one_for_each_label() -> None:
    clips = clips_of(["bell"] * 4 + ["dog"] * 4 + ["rain"] * 4)
    peaks = np.zeros((12, 4), np.float32)
    peaks[:4, 0] = 1  # of bells alone; so is the next, which comes second for a label already shown
    peaks[:4, 1] = 1
    peaks[4:8, 2] = [3, 3, 3, 0]  # of dogs, mostly
    chosen = inside.choose(inside.Activity(peaks, peaks, peaks), clips, 2, 3)
    assert [(unit.number, unit.area) for unit in chosen] == [(0, 1.0), (2, pytest.approx(0.875))]
    assert chosen[0].rows.tolist() == [0, 1, 2]
    assert [unit.number for unit in inside.choose(inside.Activity(peaks, peaks, peaks), clips, 9, 3)] == [0, 2, 1]
    dead = inside.choose(inside.Activity(peaks, peaks, peaks), clips, 2, 3, (3,))
    assert (dead[0].number, dead[0].rows.tolist()) == (3, [])


def test_clusters_agree_with_labels_where_there_are_some() -> None:
    random = np.random.default_rng(0)
    kinds = np.repeat(np.arange(4), 15)
    centres = random.normal(size=(4, 20)) * 30
    labels: list[str | None] = [f"kind {kind}" for kind in kinds]
    apart = clusters.cluster((centres[kinds] + random.normal(size=(60, 20))).astype(np.float32), labels)
    noise = clusters.cluster(random.normal(size=(60, 20)).astype(np.float32), labels)
    assert apart.agreement == pytest.approx(1)
    assert noise.agreement is not None
    assert noise.shuffled is not None
    assert noise.agreement < 0.3
    assert abs(noise.agreement - noise.shuffled) < 0.1
    assert apart.points is not None
    own = np.array([apart.points[kinds == kind].mean(0) for kind in range(4)])
    nearest = np.linalg.norm(apart.points[:, None] - own, axis=2).argmin(1)
    np.testing.assert_array_equal(nearest, kinds)
    still = clusters.cluster(np.ones((60, 20), np.float32), labels)
    assert still == (None, None, None)
    assert clusters.cluster(random.normal(size=(60, 20)).astype(np.float32), [None] * 60)[1:] == (None, None)


def test_heat_is_where_the_sound_is() -> None:
    """Sound at the end of the window reaches the last column alone, and the heat is drawn to the right."""
    spec = PRESETS["edge-s"]
    noise = np.random.default_rng(0).normal(0, 0.1, (1, spec.window)).astype(np.float32)
    early, late = noise.copy(), noise.copy()
    early[:, :400] *= 5
    late[:, spec.samples_seen - 400 : spec.samples_seen] *= 5
    clips = clips_of(["none", "early", "late"], np.concatenate([noise, early, late]))
    tower = inside.Tower(network.avc_model(spec), "audio", spec)
    unit = int(tower.activity(clips, "test").peaks.var(0).argmax())
    maps = tower.maps(clips, np.arange(3), unit)
    assert maps.shape == (3, 2, 8)
    changed = (maps[1:] != maps[0]).any(2)
    np.testing.assert_array_equal(changed, [[True, False], [False, True]])
    heat = embedded.spread(np.array([[0.0] * 8, [1.0] * 8]), tower.centres(2, 8), (spec.frames_used, 64))
    assert heat.shape == (76, 64)
    # A column's middle is half its receptive field of 68 frames behind its first frame, 0 or 8.
    np.testing.assert_array_equal(heat[[0, 33, 42, 75], 5], [0, 0, 1, 1])
    assert heat[37, 5] == pytest.approx(3.5 / 8)


def test_spectrogram_has_low_frequencies_below_and_time_to_the_right() -> None:
    features = np.zeros((50, 40), np.float32)
    features[45:, :5] = 1
    pixels = embedded.spectrogram(features, 0.0, 1.0)
    height, width = pixels.shape[:2]
    assert pixels[-1, -1].tolist() == [1, 1, 1]
    assert pixels[0].max() == pixels[:, : width // 2].max() == 0
    assert pixels[height // 2, -1].max() == 0


def test_charts_of_little() -> None:
    """One point, a constant, gaps, and more labels than marks."""
    assert charts.lines("x", [4.0], {"a": [0.5], "b": [None]}).count("<circle") == 1
    names = [f"label {k}" for k in range(charts.MOST_MARKS + 3)]
    drawn = charts.scatter("x", np.zeros((len(names), 2)), list(range(len(names))), names)
    assert "nan" not in drawn
    assert len({charts.mark(k) for k in range(charts.MOST_MARKS)}) == charts.MOST_MARKS
    assert "nan" not in charts.matrix("x", np.array([[np.nan, 0.5], [0.5, 1.0]]), ["a", "b"])


@pytest.fixture(autouse=True, scope="module")
def _no_page_left(run: Path) -> Iterator[None]:
    yield
    (run / "report.html").unlink(missing_ok=True)
