"""How well classes of sound are told apart by each built-in model and by what it is compared with, and what it costs.

    python -m benchmarks.accuracy [MODEL...] [--json F] [--plot DIR] [--write]

ESC-10, folds 1 to 3, by the protocol `svm` of `python -m training.probe`: a linear SVM on standardised embeddings, two
windows a second, a clip decided by the mean over its windows; fitted on two folds, judged on the third, for each fold
in turn, pooled. C is chosen by a cross-validation between the two folds that are fitted on.

The column "test clips" says what the model has heard of the clips that it is judged on:

    clean    nothing. Each fold is judged on embeddings by a model that was trained without it (--rotations), or the
             model was trained on none of them: on synthesised video alone, on other data, or not at all. The folds that
             the SVM is fitted on, and those between which C is chosen, a rotation has heard
    heard    all of them, in training: the file that is shipped. Its figure says that the file is whole, and not how
             well it does on what it has not heard
    unknown  the file does not say; or nobody can say: YAMNet, and what taught SEA-64, learned from AudioSet, which may
             share recordings with Freesound, where the clips are from

Robustness: the same SVMs, fitted on the clips as published, judged on the test clips under each of
`benchmarks.conditions`.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from l3edge import audio
from training import artifacts, classifiers, datasets, embeddings, rotation
from training.classifiers import PROTOCOLS
from training.cli import ListHelpFormatter, TrainingError, run
from training.datasets import Clip
from training.embedders import Embedder
from training.embeddings import Cache, Windows
from training.windows import Rows

from . import accuracy_models, accuracy_page, accuracy_plot, conditions
from .accuracy_models import CLEAN, Subject
from .accuracy_page import DOCS
from .conditions import CONDITIONS, PUBLISHED, Condition, Samples
from .machine import describe

ROTATIONS = Path(__file__).parent / "rotations"
PROTOCOL = PROTOCOLS["svm"]
_REMEMBERED = 256  # clips, 0.9 MB each


class Listener:
    """Embeds clips as they are heard under conditions."""

    def __init__(self, cache: Cache | None = None) -> None:
        self._cache = cache
        self._read = functools.lru_cache(_REMEMBERED)(_read)

    def embed(self, embedder: Embedder, clips: Sequence[Clip], condition: str = PUBLISHED) -> Windows:
        """The windows of the protocol."""
        made = CONDITIONS[condition]
        spec = embedder.spec

        def load(clip: Clip, sample_rate: int) -> Samples:
            samples, rate = made.apply(*self._read(clip))
            return audio.resample(samples, rate, sample_rate)

        def choose(count: int) -> Rows:
            return classifiers.spaced(count, PROTOCOL.a_second or 1, spec.window / spec.sample_rate, PROTOCOL.plan.hop)

        altered = f"{PROTOCOL.a_second} windows a second, {condition}"
        if condition != PUBLISHED:
            altered += f" {_code()}"
        return embeddings.embed(embedder, clips, PROTOCOL.plan, 0, self._cache, load, altered, choose)


def _read(clip: Clip) -> tuple[Samples, int]:
    samples, rate = audio.read(clip.path)
    return audio.to_mono(samples).samples, rate


@functools.cache
def _code() -> str:
    return hashlib.sha256(Path(conditions.__file__).read_bytes()).hexdigest()


def measure(
    subject: Subject,
    clips: Sequence[Clip],
    listener: Listener,
    judged: Mapping[str, Condition] = CONDITIONS,
    folds: Sequence[int] | None = None,
) -> dict[str, Any]:
    """The row of a model, as plain JSON values.

    judged: the conditions; `PUBLISHED` is among them. folds: those that are judged; all unless said.
    """
    folds = folds or sorted({clip.fold for clip in clips})
    heard = _heard(subject.by_fold, folds, clips, listener)
    tests = [heard if name == PUBLISHED else _degraded(subject, folds, clips, listener, name) for name in judged]
    outcomes = dict(zip(judged, rotation.transfer(PROTOCOL.classify, heard, tests, clips), strict=True))
    fitted, clips = clips, [clip for clip in clips if clip.fold in folds]
    kept = np.array([clip.fold in folds for clip in fitted])
    outcomes = {name: rotation.of_clips(outcome, kept) for name, outcome in outcomes.items()}
    published = outcomes[PUBLISHED]
    row = {
        "model": subject.name,
        "hearing": subject.hearing,
        "peer": subject.peer,
        "sha256": {str(fold): each.identity for fold, each in subject.by_fold.items()},
        "engine": subject.first.engine,
        "clips": len(clips),
        **rotation.figures(clips, [published]),
        **accuracy_models.costs(subject),
        "robustness": {name: _shares(clips, outcome.counts) for name, outcome in outcomes.items() if len(outcomes) > 1},
    }
    if subject.floats:
        heard = _heard(subject.floats, folds, fitted, listener)
        (floats,) = rotation.transfer(PROTOCOL.classify, heard, [heard], fitted)
        floats = rotation.of_clips(floats, kept)
        row["float32"] = _shares(clips, floats.counts)
        row["int8_minus_float32"] = rotation.difference(clips, published.counts, floats.counts)
    return row


def _heard(
    by_fold: Mapping[int | None, Embedder], folds: Sequence[int], clips: Sequence[Clip], listener: Listener
) -> dict[int, Windows]:
    """By tested fold, the windows of all clips by the model that judges it."""
    made = {fold: listener.embed(embedder, clips) for fold, embedder in by_fold.items()}
    return {fold: made[fold if fold in made else None] for fold in folds}


def _degraded(
    subject: Subject, folds: Sequence[int], clips: Sequence[Clip], listener: Listener, condition: str
) -> dict[int, Windows]:
    """By tested fold, the windows of its clips under a condition."""
    made = {}
    for fold in folds:
        own = [i for i, clip in enumerate(clips) if clip.fold == fold]
        windows = listener.embed(subject.of(fold), [clips[i] for i in own], condition)
        made[fold] = Windows(windows.values, np.array(own)[windows.clip])
    return made


def _shares(clips: Sequence[Clip], counts: rotation.Counts) -> dict[str, dict[str, float]]:
    return {
        "window_accuracy": rotation.estimate(clips, counts.correct, counts.windows)._asdict(),
        "clip_accuracy": rotation.estimate(clips, counts.clips_correct, counts.clips)._asdict(),
    }


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy",
        formatter_class=ListHelpFormatter,
        description="Measure how well classes of sound are told apart by models' embeddings, as they are, quieter, "
        "through bad microphones, in noise and at other rates; print tables as Markdown.",
        epilog="conditions:\n" + "\n".join(f"  {name:15} {each.text}" for name, each in CONDITIONS.items()),
    )
    made.add_argument(
        "names",
        nargs="*",
        metavar="MODEL",
        help="as for python -m training.probe, or a peer: " + ", ".join(accuracy_models.PEERS) + " (default: all "
        "built-in models, then the peers)",
    )
    made.add_argument("--data", type=Path, default=datasets.ESC10, metavar="DATASET", help="as for training.probe")
    made.add_argument(
        "--rotations",
        type=Path,
        default=ROTATIONS,
        metavar="DIR",
        help="where NAME-without-K.tflite are, or run directories NAME-without-K: models made like NAME without fold "
        "K, judged on it; a NAME may be that of rotations alone",
    )
    made.add_argument(
        "--runs",
        type=Path,
        metavar="DIR",
        help="where the runs NAME-without-K are that those were exported from: says what int8 changes (--write keeps "
        "what the page has of the same files where their runs are not here)",
    )
    made.add_argument(
        "--judge",
        type=int,
        nargs="+",
        metavar="FOLD",
        help="judge these folds alone, fitted on all others: for a search",
    )
    made.add_argument("--no-robustness", action="store_true", help="judge the clips as they are, and no more")
    made.add_argument("--engine", default="auto", help="litert or tflite_runtime, for model files")
    made.add_argument("--json", type=Path, metavar="F", help="write all figures here")
    made.add_argument("--plot", type=Path, metavar="DIR", help="draw accuracy-cost.png and confusion.png there")
    made.add_argument(
        "--write",
        action="store_true",
        help="write docs/models.md between its markers, docs/accuracy.json, docs/accuracy-cost.png and "
        "docs/confusion.png",
    )
    made.add_argument("--cache", type=Path, default=embeddings.DEFAULT, metavar="DIR", help="keep embeddings here")
    made.add_argument("--no-cache", action="store_true", help="neither keep embeddings nor use kept ones")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print tables, write what is asked for."""
    from tqdm import tqdm

    arguments = parser().parse_args(argv)
    if arguments.write and (arguments.no_robustness or arguments.names or arguments.judge):
        raise TrainingError("--write makes the page of all models, folds and conditions: leave out what narrows it")
    for folder in (arguments.plot, arguments.json and arguments.json.parent):
        if folder and not folder.is_dir():
            raise TrainingError(f"{folder}: no such directory to write to")
    for folder in (arguments.rotations, arguments.runs):
        if folder and folder != ROTATIONS and not folder.is_dir():
            raise TrainingError(f"{folder}: no such directory of rotations")
    clips = datasets.read(arguments.data)
    folds = sorted({clip.fold for clip in clips})
    if len(folds) < PROTOCOL.folds:
        raise TrainingError(f"the protocol needs {PROTOCOL.folds} folds at least, found {folds}")
    judged = sorted(set(arguments.judge or folds))
    if unknown := sorted(set(judged) - set(folds)):
        raise TrainingError(f"--judge {unknown[0]}: there are folds {folds}")
    written = DOCS / "accuracy.json"
    page = artifacts.read_json(written) if arguments.write and written.is_file() else None
    rows = []
    for name in dict.fromkeys(arguments.names or accuracy_models.default_names()):
        rows += accuracy_models.subjects(name, judged, arguments.rotations, arguments.runs, arguments.engine)
    listener = Listener(Cache(None if arguments.no_cache else arguments.cache))
    results = []
    for subject in tqdm(rows, desc="measuring", unit=" models", disable=None):
        # Degraded sound is for what the model has not heard: of what it has heard, one figure is enough.
        again = subject.hearing != CLEAN and any(result["model"] == subject.name for result in results)
        only = again or arguments.no_robustness
        wanted = {PUBLISHED: CONDITIONS[PUBLISHED]} if only else CONDITIONS
        row = measure(subject, clips, listener, wanted, judged)
        results.append(row if "float32" in row or not page else row | accuracy_page.compared_before(row, page))
    document = {
        "date": date.today().isoformat(),
        "commit": artifacts.environment()["commit"],
        "machine": describe(),
        "data": arguments.data.name,
        "folds": judged,
        "classes": datasets.labels_of(clips),
        "clips": sum(clip.fold in judged for clip in clips),
        "recordings": len({clip.group for clip in clips if clip.fold in judged}),
        "conditions": {name: condition.text for name, condition in CONDITIONS.items()},
        "rows": results,
    }
    print(accuracy_page.tables(document))
    if arguments.json:
        artifacts.write_json(arguments.json, document)
    if arguments.plot:
        accuracy_plot.draw(document, arguments.plot)
    if arguments.write:
        accuracy_page.write(document, DOCS)
        accuracy_plot.draw(document, DOCS)
        artifacts.write_json(written, document)
    return 0


if __name__ == "__main__":
    run(main)
