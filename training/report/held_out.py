"""Held-out clips with what is known about them: the clips of an evaluation, and their names, videos and labels."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from l3edge.spec import Spec

from .. import input, pairs, shards
from ..cli import TrainingError

SPLITS = ("validation", "test")


class HeldOut(NamedTuple):
    """n clips: a picture and the second of sound around it, each a positive pair by itself."""

    images: NDArray[np.float32]  # [n, size, size, 3] in [-1, 1]
    audio: NDArray[np.float32]  # [n, window]
    names: list[str]
    groups: NDArray[Any]  # [n], the source video
    labels: list[tuple[str, ...]]

    def membership(self) -> tuple[list[str], NDArray[np.bool_]]:
        """All k labels, the most frequent first, and which clip has which: bool [n, k]."""
        counts: dict[str, int] = {}
        for label in (label for labels in self.labels for label in set(labels)):
            counts[label] = counts.get(label, 0) + 1
        order = sorted(counts, key=lambda label: (-counts[label], label))
        members = [[label in labels for label in order] for labels in self.labels]
        return order, np.array(members, bool).reshape(len(self.labels), len(order))


def _text(value: bytes) -> str:
    return value.decode("utf-8", errors="replace")


def read(data: shards.Data, spec: Spec, at_least: int) -> HeldOut:
    """Clips of the validation and the test split, at least so many of each where its records have them.

    Evenly spread over the records, of which at most `at_least` are taken: all is in memory. Raises TrainingError
    where there is no held-out record, or a shard cannot be read.
    """
    images, audio, names, groups, labels = [], [], [], [], []
    for split in SPLITS:
        files = data.split(split)
        records = sum(file.records for file in files)
        numbers = input.spread(records, at_least)
        each = math.ceil(at_least / max(1, len(numbers)))
        rows = input.read(files, numbers)
        for record in tqdm(rows, f"{split} clips", len(numbers), disable=None, leave=False):
            fields = shards.fields(record)
            clips = pairs.fixed_clips([record], spec, each, seed=0)
            images.append(clips.images.numpy())
            audio.append(clips.audio.numpy())
            names += [_text(fields["name"].numpy())] * len(images[-1])
            groups += [fields["group"].numpy()] * len(images[-1])
            labels += [tuple(map(_text, fields["labels"].numpy().tolist()))] * len(images[-1])
    if not images:
        raise TrainingError(f"{data.directory} has no record outside its training split: nothing to look inside with")
    return HeldOut(np.concatenate(images), np.concatenate(audio), names, np.array(groups), labels)
