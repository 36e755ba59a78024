"""python -m training.probe MODEL... [--data FOLDER]: how well a line tells sounds apart by their embeddings.

A linear probe: logistic regression on standardised embeddings of single windows, by fold rotation. Each fold in turn is
the test set of a probe that was fitted on the others, so each clip is judged once by a probe that never heard it.

Data are folders `<class>/<fold>-<anything>.ogg` (or .wav, .flac): the names of ESC-50 and ESC-10 (Piczak 2015).
Windows are as long as the model's and `HOP` seconds apart; those quieter than `QUIETEST` hold nothing to tell apart and
are left out. Window accuracy counts windows. Clip accuracy counts clips, decided by the mean of the probabilities of
their windows.

A seed draws where in the first `HOP` of each clip its first window begins, and nothing else: the probe itself has no
randomness. So with one seed all models hear the same windows, and results of two models can be subtracted clip by clip.

Intervals are 95 %, from `RESAMPLES` bootstrap samples of the recordings: the clips that were cut from one recording
(`1-211527-A.ogg` and `-B`) go together, and so do all seeds' windows of a clip.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import l3edge
from l3edge import audio
from l3edge.model_file import replacing

from .cli import HelpFormatter, TrainingError, run

HOP = 0.5  # seconds
QUIETEST = -70.0  # dB relative to full scale, root mean square; the front end's offset hides what is below
REGULARISATION = 0.1  # C of sklearn's LogisticRegression, on standardised embeddings
RESAMPLES = 10_000
HELD_OUT = re.compile(r"[45]-\d+-[A-Z](-\d+)?\.\w+")  # names of ESC-10's folds 4 and 5

DATA = Path(os.environ.get("L3EDGE_DATA", Path(__file__).parents[2] / "shared" / "data")) / "esc10"


class Clip(NamedTuple):
    """A labelled recording."""

    name: str  # class/file
    label: str
    fold: int
    samples: NDArray[np.float32]  # [n], mono, at the rate it was read for

    @property
    def recording(self) -> str:
        """What the clip was cut from: clips of the same recording are not independent of each other."""
        stem = Path(self.name).stem
        return re.sub(r"^(\d+-\d+)-[A-Z].*$", r"\1", stem)


class Windows(NamedTuple):
    """Embeddings of the windows of clips."""

    values: NDArray[np.float32]  # [windows, d]
    clip: NDArray[np.int64]  # [windows], index of the clip


class Counts(NamedTuple):
    """What a probe got right, for each clip; sums of several seeds are again counts."""

    windows: NDArray[np.float64]  # [clips], windows that were classified
    correct: NDArray[np.float64]  # [clips], of these correctly
    clips: NDArray[np.float64]  # [clips], 1 where the clip had a window
    clips_correct: NDArray[np.float64]  # [clips]


class Estimate(NamedTuple):
    """A share, or a difference of two, with its 95 % interval."""

    value: float
    low: float
    high: float


def read_clips(folder: Path, sample_rate: int) -> list[Clip]:
    """All clips of a folder, mono and at this rate, in the order of their names.

    Raises TrainingError where there is nothing to rotate over, or where a clip is of ESC-10's folds 4 and 5.
    """
    files = sorted(path for path in folder.glob("*/*") if path.suffix.lower() in (".ogg", ".wav", ".flac"))
    if not files:
        raise TrainingError(
            f"{folder} holds no <class>/<fold>-*.ogg, .wav or .flac: name a folder of that kind with --data, "
            "or the folder that holds esc10 in L3EDGE_DATA"
        )
    held_out = [path.name for path in files if HELD_OUT.fullmatch(path.name)]
    if held_out:
        raise TrainingError(
            f"{folder} holds clips of ESC-10's folds 4 and 5 ({held_out[0]}, {len(held_out)} in all): they are held "
            "out and not to be looked at; probe a folder of folds 1 to 3"
        )
    clips = []
    for path in files:
        fold = re.match(r"(\d+)-", path.name)
        if not fold:
            raise TrainingError(f"{path}: the name must begin with the number of its fold and a hyphen")
        samples, rate = audio.read(path)
        mono = audio.resample(audio.to_mono(samples).samples, rate, sample_rate)
        clips.append(Clip(f"{path.parent.name}/{path.name}", path.parent.name, int(fold[1]), mono))
    check(clips)
    return clips


def check(clips: Sequence[Clip]) -> None:
    """TrainingError unless there are two folds at least, and each class is in all of them."""
    folds, labels = sorted({clip.fold for clip in clips}), sorted({clip.label for clip in clips})
    if len(folds) < 2 or len(labels) < 2:
        raise TrainingError(f"a probe needs two folds and two classes at least; found folds {folds}, classes {labels}")
    have = {(clip.label, clip.fold) for clip in clips}
    missing = [f"{label} in fold {fold}" for label in labels for fold in folds if (label, fold) not in have]
    if missing:
        raise TrainingError(f"each class must be in each fold; there is no {', no '.join(missing[:5])}")


def embed(model: l3edge.Model, clips: Sequence[Clip], seed: int) -> Windows:
    """Embeddings of the whole windows of each clip that are loud enough."""
    spec = model.spec
    hop = round(HOP * spec.sample_rate)
    values, index = [], []
    for i, clip in enumerate(clips):
        # Of the clip's name and the seed alone, so that it stays where it is when other clips come or go.
        begin = int(np.random.default_rng([seed, zlib.crc32(clip.name.encode())]).integers(hop))
        heard = clip.samples[begin:]
        if len(heard) < spec.window:
            continue
        cut = np.lib.stride_tricks.sliding_window_view(heard, spec.window)[::hop]
        loud = np.sqrt(np.mean(np.square(cut, dtype=np.float64), axis=1)) > 10 ** (QUIETEST / 20)
        embeddings = model.embed(heard, spec.sample_rate, hop=HOP)[0][: len(cut)][loud]
        values.append(embeddings)
        index += [i] * len(embeddings)
    if not index:
        raise TrainingError(f"no clip holds a window of {spec.window} samples that is louder than {QUIETEST:g} dB")
    return Windows(np.concatenate(values), np.array(index))


def probe(windows: Windows, clips: Sequence[Clip], folds: Sequence[int] | None = None) -> Counts:
    """Fit a probe for each of the test folds (default: all there are) on the clips of the other folds, and count."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    labels = sorted({clip.label for clip in clips})
    truth = np.array([labels.index(clip.label) for clip in clips])
    fold = np.array([clip.fold for clip in clips])
    counts = Counts(*(np.zeros(len(clips)) for _ in Counts._fields))
    for tested in sorted(set(fold.tolist())) if folds is None else folds:
        test = fold[windows.clip] == tested
        line = make_pipeline(StandardScaler(), LogisticRegression(C=REGULARISATION, max_iter=5000))
        with threadpool_limits(1):  # so small a problem gains nothing from threads, and loses much on a busy machine
            line.fit(windows.values[~test], truth[windows.clip[~test]])
        probability = np.zeros((test.sum(), len(labels)))
        probability[:, line.classes_] = line.predict_proba(windows.values[test])
        index = windows.clip[test]
        np.add.at(counts.windows, index, 1)
        np.add.at(counts.correct, index, probability.argmax(axis=1) == truth[index])
        for i in np.unique(index):
            counts.clips[i] = 1
            counts.clips_correct[i] = probability[index == i].mean(axis=0).argmax() == truth[i]
    return counts


def total(counts: Sequence[Counts]) -> Counts:
    """The sum over seeds, clip by clip."""
    return Counts(*(np.sum(column, axis=0) for column in zip(*counts, strict=True)))


def estimate(
    clips: Sequence[Clip], correct: NDArray[np.float64], count: NDArray[np.float64], against: Any = None
) -> Estimate:
    """The share sum(correct) / sum(count), with its interval over recordings.

    against: the `correct` of another model on the same windows; then it is the difference of the two shares.
    """
    if against is not None:
        correct = correct - against
    names = sorted({clip.recording for clip in clips})
    group = np.array([names.index(clip.recording) for clip in clips])
    right, every = (np.bincount(group, values, len(names)) for values in (correct, count))
    drawn = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLES)
    shares = (drawn @ right) / np.maximum(drawn @ every, 1)
    low, high = np.percentile(shares, [2.5, 97.5])
    return Estimate(float(right.sum() / every.sum()), float(low), float(high))


def measure(model: l3edge.Model, clips: Sequence[Clip], seeds: Sequence[int]) -> dict[str, Any]:
    """Window and clip accuracy of a model, pooled over rotations and seeds, and each by itself."""
    from tqdm import tqdm

    each = [
        probe(embed(model, clips, seed), clips)
        for seed in tqdm(seeds, desc=f"probing {model.name}", unit=" seeds", disable=None)
    ]
    pooled = total(each)
    folds = sorted({clip.fold for clip in clips})
    of_fold = {fold: np.array([clip.fold == fold for clip in clips]) for fold in folds}
    return {
        "model": model.name,
        "sha256": model.identity,
        "engine": f"{model.engine.name} {model.engine.version}",
        "clips": len(clips),
        "windows": int(pooled.windows.sum()),
        "seeds": list(seeds),
        "window_accuracy": estimate(clips, pooled.correct, pooled.windows)._asdict(),
        "clip_accuracy": estimate(clips, pooled.clips_correct, pooled.clips)._asdict(),
        "by_fold": {
            str(fold): float(pooled.correct[of_fold[fold]].sum() / pooled.windows[of_fold[fold]].sum())
            for fold in folds
        },
        "by_seed": {
            str(seed): float(counts.correct.sum() / counts.windows.sum())
            for seed, counts in zip(seeds, each, strict=True)
        },
    }


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = argparse.ArgumentParser(
        prog="python -m training.probe",
        formatter_class=HelpFormatter,
        description="Linear probe: how well a line tells classes of sound apart by a model's embeddings, on folds that "
        "it was not fitted on.",
        epilog=f"Windows every {HOP:g} s; a seed draws where each clip's first one begins. Intervals are 95 %, "
        "bootstrapped over recordings.",
    )
    made.add_argument("models", nargs="+", metavar="MODEL", help="built-in names or model files")
    made.add_argument(
        "--data", type=Path, default=DATA, metavar="FOLDER", help="<class>/<fold>-*.ogg, .wav or .flac, as in ESC-10"
    )
    made.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="S", help="of where windows begin")
    made.add_argument("--engine", default="auto", help="litert or tflite_runtime")
    made.add_argument("--json", type=Path, metavar="F", help="write the figures here as well")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Probe, print a table, write JSON if asked."""
    arguments = parser().parse_args(argv)
    models = [l3edge.load(name, engine=arguments.engine) for name in arguments.models]
    clips: dict[int, list[Clip]] = {}
    results = []
    print("| model | window accuracy | clip accuracy | windows by fold |\n|---|---:|---:|---|")
    for model in models:
        rate = model.spec.sample_rate
        if rate not in clips:
            clips[rate] = read_clips(arguments.data, rate)
        results.append(measure(model, clips[rate], arguments.seeds))
        share = {
            name: "{value:.1%} ({low:.1%} to {high:.1%})".format(**results[-1][name])
            for name in ("window_accuracy", "clip_accuracy")
        }
        folds = ", ".join(f"{fold}: {value:.1%}" for fold, value in results[-1]["by_fold"].items())
        print(f"| {model.name} | {share['window_accuracy']} | {share['clip_accuracy']} | {folds} |", flush=True)
    first = clips[models[0].spec.sample_rate]
    print(
        f"\n{len(first)} clips of {len({clip.label for clip in first})} classes, folds "
        f"{sorted({clip.fold for clip in first})}, seeds {arguments.seeds}",
        file=sys.stderr,
    )
    if arguments.json:
        with replacing(arguments.json) as part:
            part.write_text(json.dumps({"data": arguments.data.name, "results": results}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    run(main)
