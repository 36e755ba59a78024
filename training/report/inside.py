"""What a trained network makes of held-out clips: activations, correspondence by label, and what excites its units.

A unit is a channel of a tower's last convolution (conv4_2 in the names of Arandjelovic & Zisserman 2017, table 1),
after its normalisation and ReLU where it has them. Its peak is its largest value in a clip; where the embedding is the
maximum over the last convolution, the peaks are the embedding.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from tqdm import tqdm

from l3edge.spec import Spec

from .. import correspondence
from ..backend import tf, tf_keras
from .held_out import HeldOut

BATCH = 32
FEWEST = 3  # clips of a label, and clips without it, to say that a unit tells them apart

Floats = NDArray[np.float32]


class Activity(NamedTuple):
    """What a tower makes of n clips."""

    embeddings: Floats  # [n, d]
    joined: Floats  # [n, d or channels]: what the fusion is given, which is the embedding unless a head comes between
    peaks: Floats  # [n, channels]


class Tower:
    """A tower with its last convolution in sight; `side` is "audio" or "image"."""

    def __init__(self, model: tf_keras.Model, side: str, spec: Spec) -> None:
        self.side, self.spec = side, spec
        tower = model.get_layer(side)
        last = [layer for layer in tower.layers if re.fullmatch(r"(conv|relu)\d+", layer.name)][-1]
        self.units = int(last.output.shape[-1])
        self.layer = last.name
        joined = model.get_layer("head")(tower.outputs[1]) if len(tower.outputs) > 1 else tower.outputs[0]
        self._all = tf_keras.Model(tower.input, [tower.outputs[0], joined, last.output])

    def _outputs(self, clips: HeldOut, rows: NDArray[np.int64]) -> tuple[Any, Any, Any]:
        if self.side == "image":
            return self._all(tf.constant(clips.images[rows]), training=False)
        return self._all(correspondence.features(tf.constant(clips.audio[rows]), self.spec), training=False)

    def activity(self, clips: HeldOut, description: str) -> Activity:
        """Embeddings and peaks of all clips."""
        parts = []
        starts = range(0, len(clips.names), BATCH)
        for start in tqdm(starts, f"{description} {self.side}", disable=None, leave=False):
            rows = np.arange(start, min(start + BATCH, len(clips.names)))
            embeddings, joined, maps = self._outputs(clips, rows)
            parts.append((embeddings.numpy(), joined.numpy(), tf.reduce_max(maps, [1, 2]).numpy()))
        return Activity(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def maps(self, clips: HeldOut, rows: NDArray[np.int64], unit: int) -> Floats:
        """A unit's activation in some clips: [rows, time, frequency] or [rows, height, width]."""
        return self._outputs(clips, rows)[2][..., unit].numpy()

    def centres(self, *shape: int) -> tuple[Floats, Floats]:
        """Where on the input, in [0, 1] of each axis, the cells of a map of this shape have the middle of their
        receptive field.
        """
        axes = [(np.arange(cells) + 0.5) / cells for cells in shape]
        if self.side == "audio" and self.spec.streaming:  # "valid" in time: the middle of what a column depends on
            frames = (self.spec.receptive_field - 1) / 2 + np.arange(shape[0]) * self.spec.stride
            axes[0] = (frames + 0.5) / self.spec.frames_used
        return axes[0].astype(np.float32), axes[1].astype(np.float32)


def probabilities(model: tf_keras.Model, image: Floats, sound: Floats) -> Floats:
    """Probability that picture i and sound j, as joined, belong together, for all pairs: [n, n]."""
    fusion = model.get_layer("fusion")
    sounds = tf.constant(sound)

    @tf.function
    def row(picture: Any) -> Any:
        return tf.nn.softmax(fusion([tf.repeat(picture[None], len(sound), 0), sounds], training=False))[:, 1]

    return np.stack([row(picture).numpy() for picture in tqdm(tf.constant(image), "pairs", disable=None, leave=False)])


class Correspondence(NamedTuple):
    """Accuracy over all pairs of n clips; shares are None where there is no such pair. k labels."""

    positives: float  # share of the n own pairs that is accepted
    negatives: float | None  # of pairs of different source videos, the share that is rejected
    other_label: float | None  # the same, of those that share no label
    same_label: float | None  # the same, of those that share a label
    pairs: int  # of different source videos
    shared: float  # share of these that share a label
    matrix: Floats  # [k, k] mean probability, picture of label a with sound of label b of another video; nan: none
    accepted: Floats  # [k] own pairs of clips of a label
    picture: Floats  # [k] rejected share of a label's pictures with sounds that share no label with it; nan: none
    sound: Floats  # [k] the same of its sounds with pictures

    @property
    def ceiling(self) -> float:
        """Accuracy, half the pairs negative, of a judge who knows labels without fault and nothing else."""
        return 1 - self.shared / 2


def by_label(probability: Floats, groups: NDArray[Any], members: NDArray[np.bool_]) -> Correspondence:
    """Count what `probabilities` [n, n] accepts, by source video [n] and label [n, k]."""
    member = members.astype(np.float64)
    different = groups[:, None] != groups[None, :]
    shared = (member @ member.T > 0) & different
    other = different & ~shared
    rejected = probability <= 0.5

    def share(mask: NDArray[np.bool_]) -> float | None:
        return float(rejected[mask].mean()) if mask.any() else None

    def ratio(part: Any, whole: Any) -> Floats:
        return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0)

    own = ~np.diag(rejected)
    return Correspondence(
        positives=float(own.mean()),
        negatives=share(different),
        other_label=share(other),
        same_label=share(shared),
        pairs=int(different.sum()),
        shared=float(shared.sum() / max(1, different.sum())),
        matrix=ratio(member.T @ (probability * different) @ member, member.T @ different @ member),
        accepted=ratio(member.T @ own, member.sum(0)),
        picture=ratio(member.T @ (rejected & other).sum(1), member.T @ other.sum(1)),
        sound=ratio(member.T @ (rejected & other).sum(0), member.T @ other.sum(0)),
    )


def selectivity(peaks: Floats, members: NDArray[np.bool_]) -> Floats:
    """How well a unit's peak alone tells each label from the rest: area under the ROC curve, [channels, k].

    The probability that a clip with the label excites the unit more than one without it; 0.5 is chance. nan for labels
    on fewer than `FEWEST` clips, or missing on fewer.
    """
    have = members.sum(0)
    lack = len(members) - have
    ranks = rankdata(peaks, axis=0).T @ members  # [channels, k]
    usable = np.minimum(have, lack) >= FEWEST
    return np.where(usable, (ranks - have * (have + 1) / 2) / np.maximum(1, have * lack), np.nan)


class Unit(NamedTuple):
    """A chosen unit, and the clips that excite it most, each of another source video."""

    number: int
    label: int | None  # the label it is most selective for
    area: float  # its area under the ROC curve; nan without a label
    rows: NDArray[np.int64]  # clips, the strongest first


def strongest(peaks: Floats, groups: NDArray[Any], count: int) -> NDArray[np.int64]:
    """The clips with the largest peaks [n], one of each source video; none where the unit is never excited."""
    order = np.argsort(-peaks, kind="stable")
    first = np.sort(np.unique(groups[order], return_index=True)[1])
    return order[first][:count] if np.ptp(peaks) > 0 else order[:0]


def choose(
    activity: Activity, clips: HeldOut, count: int, examples: int, numbers: tuple[int, ...] | None = None
) -> list[Unit]:
    """The most selective unit, then the most selective for a label not yet shown, and so on; when labels run out, the
    remaining ones with the largest variance. Or the units of these numbers.
    """
    _, members = clips.membership()
    peaks = activity.peaks
    areas = selectivity(peaks, members)
    areas = np.concatenate([areas, np.full((len(areas), 1), np.nan)], 1)  # so that there is a column to choose
    areas[np.ptp(peaks, 0) == 0] = np.nan
    chosen: dict[int, int | None] = {}
    if numbers is None:
        left = np.nan_to_num(areas, nan=-1.0)
        while len(chosen) < count and left.max() >= 0:
            unit, label = np.unravel_index(np.argmax(left), left.shape)
            chosen[int(unit)] = int(label)
            left[unit], left[:, label] = -1, -1
        for unit in np.argsort(-peaks.var(0), kind="stable"):
            if len(chosen) < count and np.ptp(peaks[:, unit]) > 0:
                chosen.setdefault(int(unit), None)
    else:
        chosen = dict.fromkeys(numbers)
    units = []
    for unit, label in chosen.items():
        if label is None and not np.isnan(areas[unit]).all():
            label = int(np.nanargmax(areas[unit]))
        area = float("nan") if label is None else float(areas[unit, label])
        units.append(Unit(unit, label, area, strongest(peaks[:, unit], clips.groups, examples)))
    return units
