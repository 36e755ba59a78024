"""The downstream protocols: what is fitted on the windows of all folds but one, and tells those of that one apart.

linear  This project's own, and quick. Windows of a second every 0.5 s, the first beginning at random; the quietest are
        left out. Logistic regression on standardised embeddings with a fixed C. A clip is decided by the mean of its
        windows' probabilities.

svm     L3-Net (Arandjelovic & Zisserman 2017, "Audio features"), after SoundNet (Aytar et al. 2016, "Sound
        classification"). Two windows a second, equally spaced over the clip: the papers' 10 of ESC-50's 5 s and 60 of
        DCASE's 30 s. Embeddings are z-scored; a linear SVM for each class against the others. C is the one of
        `SVM_C` with the best clip accuracy in a cross-validation over the training folds (the smallest of equals).
        A clip is decided by the mean of its windows' scores.
        Deviations: the embedding is the model's, not conv4_2 pooled to 4 x 3 x 512; windows lie on a grid of 0.1 s, at
        most 0.05 s from equal spacing; the papers do not say which values of C they tried, nor by which loss (here:
        squared hinge).

mlp     OpenL3 (Cramer et al. 2019) as in marl/l3embedding, `classifier/train.py` and `data/usc/folds.py`. A window
        every 0.1 s, a clip shorter than a window filled up with zeros. Standardised embeddings, hidden layers of 512
        and 128 ReLUs, softmax, Adam, batches of 32, at most 50 epochs. The fold before the tested one (the last before
        the first) validates: of each learning rate in `MLP_RATES` the epoch with the lowest validation loss is kept,
        20 epochs without a better one end it, and the rate with the best window accuracy on that fold is used, as it
        was fitted, without that fold. A clip is decided by the mean of its windows' probabilities.
        Deviations: weight decay is 1e-5, where l3embedding tries 1e-5 to 1e-3 as well; its ESC-50 jobs validate on a
        random 15 % of the training windows, which share clips with the rest, and here it is a fold, as in its
        UrbanSound8K split; the rest of a clip, less than 0.1 s, is not filled up to a window; zeros follow a short
        clip, where l3embedding puts half in front.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .cli import TrainingError
from .embeddings import Plan, Windows

QUIETEST = -70.0  # dB relative to full scale, root mean square; the front end's offset hides what is below
REGULARISATION = 0.1  # C of the linear protocol, on standardised embeddings
SVM_C = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
MLP_HIDDEN = (512, 128)
MLP_RATES = (1e-5, 1e-4, 1e-3)
MLP_DECAY = 1e-5
MLP_EPOCHS, MLP_PATIENCE, MLP_BATCH = 50, 20, 32


class Rows(NamedTuple):
    """Windows with what is known of them."""

    values: NDArray[np.float32]  # [n, d]
    label: NDArray[np.int64]  # [n], index of the class
    fold: NDArray[np.int64]  # [n]
    clip: NDArray[np.int64]  # [n], index of the clip, ascending

    def where(self, mask: NDArray[np.bool_]) -> Rows:
        """Those of a mask."""
        return Rows(*(column[mask] for column in self))


# (training rows, values [n, d] to judge, number of classes, tested fold, seed) -> scores [n, classes], what was chosen
Classify = Callable[[Rows, NDArray[np.float32], int, int, int], tuple[NDArray[Any], dict[str, float]]]


class Protocol(NamedTuple):
    """How a dataset is probed."""

    text: str
    plan: Plan
    classify: Classify
    seeds: tuple[int, ...]  # by default; empty: nothing is drawn at random
    folds: int  # as many are needed
    a_second: int | None = None  # windows of a clip that are used, equally spaced; None: all


def linear(
    training: Rows, values: NDArray[np.float32], classes: int, tested: int, seed: int
) -> tuple[NDArray[Any], dict[str, float]]:
    """Probabilities by logistic regression."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    line = make_pipeline(StandardScaler(), LogisticRegression(C=REGULARISATION, max_iter=5000))
    line.fit(training.values, training.label)
    probability = np.zeros((len(values), classes))
    probability[:, line.classes_] = line.predict_proba(values)
    return probability, {}


def svm(
    training: Rows, values: NDArray[np.float32], classes: int, tested: int, seed: int
) -> tuple[NDArray[Any], dict[str, float]]:
    """Scores by one-against-all linear SVMs."""
    accuracy = dict.fromkeys(SVM_C, 0.0)
    for fold, c in itertools.product(np.unique(training.fold), SVM_C):
        inside = training.fold != fold
        judged = training.where(~inside)
        accuracy[c] += clip_accuracy(judged, _svm_scores(training.where(inside), judged.values, classes, c))
    best = max(SVM_C, key=lambda c: (accuracy[c], -c))
    return _svm_scores(training, values, classes, best), {"C": best}


def _svm_scores(training: Rows, values: NDArray[np.float32], classes: int, c: float) -> NDArray[np.float64]:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    # The primal problem is solved without random numbers.
    line = make_pipeline(StandardScaler(), LinearSVC(C=c, dual=False, max_iter=10_000))
    line.fit(training.values, training.label)
    made = line.decision_function(values)
    if made.ndim == 1:  # of two classes there is one score
        made = np.stack([-made, made], axis=1)
    scores = np.full((len(values), classes), -np.inf)
    scores[:, line.classes_] = made
    return scores


def mlp(
    training: Rows, values: NDArray[np.float32], classes: int, tested: int, seed: int
) -> tuple[NDArray[Any], dict[str, float]]:
    """Probabilities by a multilayer perceptron."""
    from sklearn.preprocessing import StandardScaler

    folds = sorted({*training.fold.tolist(), tested})
    valid = training.fold == folds[folds.index(tested) - 1]
    fitted, validation = training.where(~valid), training.where(valid)
    scaler = StandardScaler().fit(fitted.values)
    fitted = fitted._replace(values=scaler.transform(fitted.values))
    validation = validation._replace(values=scaler.transform(validation.values))
    kept = [(*mlp_fit(fitted, validation, classes, rate, seed), rate) for rate in MLP_RATES]
    accuracy, network, rate = max(kept, key=lambda each: each[0])
    return network.predict_proba(scaler.transform(values)), {"learning_rate": rate, "validation_accuracy": accuracy}


def mlp_fit(
    fitted: Rows,
    validation: Rows,
    classes: int,
    rate: float,
    seed: int,
    hidden: Sequence[int] = MLP_HIDDEN,
    each_epoch: Callable[[], object] = lambda: None,
) -> tuple[float, Any]:
    """Window accuracy on the validation rows, and the network, at the epoch with the lowest loss there."""
    from sklearn.metrics import log_loss
    from sklearn.neural_network import MLPClassifier

    batch = min(MLP_BATCH, len(fitted.values))
    network = MLPClassifier(
        tuple(hidden),
        # Here the penalty is alpha / 2 times the squares, divided by the batch; in Keras it is decay times the squares.
        alpha=2 * MLP_DECAY * batch,
        batch_size=batch,
        learning_rate_init=rate,
        random_state=np.random.RandomState(seed),
    )
    least, kept, since = np.inf, [], 0
    every = np.arange(classes)
    for _ in range(MLP_EPOCHS):
        _epoch(network, fitted, every)
        each_epoch()
        loss = log_loss(validation.label, network.predict_proba(validation.values), labels=every)
        since += 1
        if loss < least:
            least, since = loss, 0
            kept = [[weights.copy() for weights in part] for part in (network.coefs_, network.intercepts_)]
        if since == MLP_PATIENCE:
            break
    if not kept:
        raise TrainingError("the loss of the multilayer perceptron is no number: are the embeddings?")
    network.coefs_, network.intercepts_ = kept
    return float(network.score(validation.values, validation.label)), network


def _epoch(network: Any, fitted: Rows, every: NDArray[np.int64]) -> None:
    """One pass. scikit-learn makes a warning of Ctrl-C, and would go on with the next."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Training interrupted by user", UserWarning)
        try:
            network.partial_fit(fitted.values, fitted.label, classes=every)
        except UserWarning as warning:
            raise KeyboardInterrupt from warning


def decide(clip: NDArray[np.int64], scores: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The clips that have windows, and the class of each: the best mean of its windows' scores."""
    clips = np.unique(clip)
    return clips, np.array([scores[clip == i].mean(axis=0).argmax() for i in clips], np.int64)


def clip_accuracy(rows: Rows, scores: NDArray[Any]) -> float:
    """Share of the clips that are decided as labelled."""
    clips, decided = decide(rows.clip, scores)
    return float(np.mean(decided == [rows.label[rows.clip == i][0] for i in clips]))


def spaced(count: int, a_second: int, window: float, hop: float) -> NDArray[np.int64]:
    """Of a clip's `count` windows so many for each of its seconds, equally spaced; window and hop in seconds."""
    wanted = round(a_second * (window + (count - 1) * hop))
    return np.unique(np.rint(np.linspace(0, count - 1, max(1, wanted))).astype(np.int64))


def spread(windows: Windows, a_second: int, window: float, hop: float) -> Windows:
    """The windows of each clip that `spaced` takes."""
    kept = []
    for i in np.unique(windows.clip):
        (rows,) = np.nonzero(windows.clip == i)
        kept.append(rows[spaced(len(rows), a_second, window, hop)])
    chosen = np.concatenate(kept)
    return Windows(windows.values[chosen], windows.clip[chosen])


_EVERY_HOP = Plan(hop=0.1, seeded=False, quietest=None, pad=True)
PROTOCOLS = {
    "linear": Protocol("logistic regression", Plan(0.5, True, QUIETEST, False), linear, (0, 1, 2), 2),
    "svm": Protocol("one-vs-all linear SVM", _EVERY_HOP, svm, (), 3, a_second=2),
    "mlp": Protocol("MLP 512-128", _EVERY_HOP, mlp, (0,), 3),
}
