"""The protocols, held to scripts that use scikit-learn alone, and to what they must find and must not know."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

for module in ("sklearn", "tqdm"):
    pytest.importorskip(module, reason=f"a probe needs {module}, which a device does not have")

from numpy.typing import NDArray  # noqa: E402

from training import datasets, embedders, rotation  # noqa: E402
from training.classifiers import MLP_RATES, PROTOCOLS, SVM_C, Rows  # noqa: E402
from training.cli import TrainingError  # noqa: E402
from training.datasets import Clip  # noqa: E402
from training.embeddings import Windows  # noqa: E402

Judge = tuple[NDArray[np.bool_], dict[str, str]]  # which windows are right, and the class that each clip is taken for


@pytest.fixture(scope="module")
def esc10() -> list[Clip]:
    try:
        return datasets.read(datasets.ESC10)
    except TrainingError:
        pytest.skip(f"ESC-10 (folds 1 to 3) is not at {datasets.ESC10}; set L3EDGE_DATA")


def by_logistic_regression(x: NDArray[np.float32], clip: NDArray[np.int64], clips: list[Clip]) -> Judge:
    """Plain scikit-learn: z-score, logistic regression, mean probability of a clip."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    y, fold = np.array([clips[i].label for i in clip]), np.array([clips[i].fold for i in clip])
    right, taken = np.zeros(len(x), bool), {}
    for test in (1, 2, 3):
        scaler = StandardScaler().fit(x[fold != test])
        model = LogisticRegression(C=0.1, max_iter=5000).fit(scaler.transform(x[fold != test]), y[fold != test])
        p = model.predict_proba(scaler.transform(x[fold == test]))
        right[fold == test] = model.classes_[p.argmax(1)] == y[fold == test]
        for i in np.unique(clip[fold == test]):
            taken[clips[i].name] = model.classes_[p[clip[fold == test] == i].mean(0).argmax()]
    return right, taken


def by_svm(x: NDArray[np.float32], clip: NDArray[np.int64], clips: list[Clip]) -> Judge:
    """Plain scikit-learn: z-score, ten LinearSVCs one against the others, C by cross-validation over the rest."""
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    y, fold = np.array([clips[i].label for i in clip]), np.array([clips[i].fold for i in clip])
    classes = np.unique(y)

    def scores(train: NDArray[np.bool_], test: NDArray[np.bool_], c: float) -> NDArray[np.float64]:
        scaler = StandardScaler().fit(x[train])
        machines = [LinearSVC(C=c, dual=False).fit(scaler.transform(x[train]), y[train] == name) for name in classes]
        return np.stack([machine.decision_function(scaler.transform(x[test])) for machine in machines], axis=1)

    def decided(made: NDArray[np.float64], test: NDArray[np.bool_]) -> dict[int, str]:
        return {i: classes[made[clip[test] == i].sum(0).argmax()] for i in np.unique(clip[test])}

    right, taken = np.zeros(len(x), bool), {}
    for test in (1, 2, 3):
        hits = dict.fromkeys((1e-5, 1e-4, 1e-3, 1e-2, 1e-1), 0)
        for inner in {1, 2, 3} - {test}:
            held = fold == inner
            for c in hits:
                guess = decided(scores((fold != test) & ~held, held, c), held)
                hits[c] += sum(clips[i].label == name for i, name in guess.items())
        best = next(c for c in hits if hits[c] == max(hits.values()))
        made = scores(fold != test, fold == test, best)
        right[fold == test] = classes[made.argmax(1)] == y[fold == test]
        taken |= {clips[i].name: name for i, name in decided(made, fold == test).items()}
    return right, taken


@pytest.mark.parametrize(("protocol", "script"), [("linear", by_logistic_regression), ("svm", by_svm)])
def test_figures_are_those_of_a_plain_script(protocol: str, script: Callable[..., Judge], esc10: list[Clip]) -> None:
    from threadpoolctl import threadpool_limits

    windows = rotation.embed(embedders.load("edge-m-1"), esc10, 0, PROTOCOLS[protocol])
    counts, confusion, _ = rotation.rotate(PROTOCOLS[protocol].classify, windows, esc10)
    with threadpool_limits(1):  # sums in the same order, so that near ties are decided alike
        right, taken = script(windows.values, windows.clip, esc10)
    assert counts.correct.tolist() == np.bincount(windows.clip, right, len(esc10)).tolist()
    assert counts.clips_correct.tolist() == [float(taken[clip.name] == clip.label) for clip in esc10]
    labels = sorted({clip.label for clip in esc10})
    of_script = np.zeros_like(confusion)
    for clip in esc10:
        of_script[labels.index(clip.label), labels.index(taken[clip.name])] += 1
    assert confusion.tolist() == of_script.tolist()
    assert 0.75 < np.trace(confusion) / confusion.sum() < 0.95  # its card says 86 %; chance is 10 %


LABELS = ("cat", "dog", "hen")


def toy(distance: float, seed: int = 0, labels: tuple[str, ...] = LABELS) -> tuple[Windows, list[Clip]]:
    """Six windows of each of 36 clips in three folds: 8 normal values, the classes' means so far apart."""
    clips = [
        Clip(f"{label}{fold}{n}", Path("nowhere"), label, fold, f"{label}{fold}{n}")
        for label in labels
        for fold in (1, 2, 3)
        for n in range(4)
    ]
    index = np.repeat(np.arange(len(clips)), 6)
    values = np.random.default_rng(seed).normal(size=(len(index), 8))
    for i, label in enumerate(labels):
        values[[clips[j].label == label for j in index], i] += distance
    return Windows(values.astype(np.float32), index), clips


@pytest.mark.parametrize("protocol", ["svm", "mlp"])
@pytest.mark.parametrize("labels", [LABELS, LABELS[:2]])
def test_what_can_be_told_apart_is_and_what_cannot_is_at_chance(protocol: str, labels: tuple[str, ...]) -> None:
    classify = PROTOCOLS[protocol].classify
    told = rotation.rotate(classify, *toy(20.0, labels=labels))
    assert told.counts.clips_correct.mean() == 1
    assert told.counts.correct.sum() == told.counts.windows.sum()
    assert (told.confusion == 12 * np.eye(len(labels))).all()
    if len(labels) == 3:
        drawn = rotation.rotate(classify, *toy(0.0, labels=labels)).counts
        assert abs(drawn.correct.sum() / drawn.windows.sum() - 1 / 3) < 0.15


@pytest.mark.parametrize("protocol", ["linear", "svm", "mlp"])
def test_no_clip_is_judged_by_a_classifier_that_heard_it(protocol: str) -> None:
    """Embeddings that say which clip they are of, and nothing of its class: by heart they would be right."""
    windows, clips = toy(0.0)
    alone = np.eye(len(clips), dtype=np.float32)[windows.clip]
    counts = rotation.rotate(PROTOCOLS[protocol].classify, Windows(alone, windows.clip), clips).counts
    assert counts.correct.sum() <= counts.windows.sum() / 2


@pytest.mark.parametrize(("protocol", "name", "values"), [("svm", "C", SVM_C), ("mlp", "learning_rate", MLP_RATES)])
def test_what_is_chosen_without_the_tested_fold(protocol: str, name: str, values: tuple[float, ...]) -> None:
    """Other embeddings in the tested fold change neither what is chosen nor a judgement on anything else."""
    windows, clips = toy(1.0)
    fold = np.array([clip.fold for clip in clips])[windows.clip]
    mixed = Windows(np.where((fold == 2)[:, None], -windows.values, windows.values), windows.clip)
    made, other = (rotation.rotate(PROTOCOLS[protocol].classify, each, clips, folds=[2]) for each in (windows, mixed))
    assert made.chosen == other.chosen
    assert made.chosen["2"][name] in values
    assert made.counts.correct.sum() != other.counts.correct.sum()


@pytest.mark.parametrize(("tested", "validates"), [(2, 1), (1, 3)])
def test_mlp_is_fitted_on_all_but_the_tested_fold_and_the_one_before(tested: int, validates: int) -> None:
    """Hens are found where the fold that is left has some, and never where only the validating one does."""
    windows, clips = toy(20.0)
    fold = np.array([clip.fold for clip in clips])
    label = np.array([LABELS.index(clip.label) for clip in clips])
    rows = Rows(windows.values, label[windows.clip], fold[windows.clip], windows.clip)
    judged = rows.where(rows.fold == tested)
    for lacking in {1, 2, 3} - {tested}:
        training = rows.where((rows.fold != tested) & ((rows.fold != lacking) | (rows.label != 2)))
        scores, _ = PROTOCOLS["mlp"].classify(training, judged.values, 3, tested, 0)
        np.testing.assert_allclose(scores.sum(1), 1, atol=1e-5)
        hens = scores[judged.label == 2].argmax(1) == 2
        assert hens.all() if lacking == validates else not hens.any()


def test_a_seed_is_all_that_mlp_draws_from() -> None:
    windows, clips = toy(1.0)
    classify = PROTOCOLS["mlp"].classify
    first, again, other = (rotation.rotate(classify, windows, clips, seed, [1]) for seed in (0, 0, 1))
    assert first.chosen == again.chosen
    assert (first.confusion == again.confusion).all()
    assert first.chosen != other.chosen or (first.confusion != other.confusion).any()
