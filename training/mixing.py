"""Which clips a corpus has, and how each is made: a recording, maybe others under it, and what is done to it all.

Everything about clip k is drawn from (seed, k). What is mixed is of one split, and of one fold of ESC-10 at most: a
clip with sound of fold 2 has the label fold-2, and none with another fold's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from l3edge.audio import resample

from . import degrade
from .pool import Sound
from .recordings import fold_of

SAMPLE_RATE = 16_000  # Hz

MIXED = "mixed"  # label of a clip with sound of several recordings
_MIXED = (0.5, 0.35, 0.15)  # shares of clips with 0, 1, 2 other recordings
_RELATIVE = (-15.0, 10.0)  # dB, of another recording to the main one
_SPEED = (0.8, 1.25)
_AS_IT_IS = 0.5  # of the recordings keep their speed
_REPEATED = 0.4  # of the recordings that are shorter than a clip


class Part(NamedTuple):
    """One recording in a clip."""

    name: str
    at: float  # 0 to 1: where in the recording the clip begins; or where in the clip a shorter recording begins
    repeated: bool  # where it is shorter: again and again, instead of once
    speed: float
    db: float  # level, relative to the main one's


class Clip(NamedTuple):
    """One clip, before it is made."""

    number: int
    split: str
    group: str
    labels: tuple[str, ...]
    parts: tuple[Part, ...]  # the main one first
    steps: tuple[degrade.Step, ...]

    @property
    def name(self) -> str:
        return f"{self.number:06d}"


def draw(pool: dict[str, Sound], shares: dict[str, float], clips: int, length: int, seed: int) -> Iterator[Clip]:
    """The clips, `length` samples each: of each source its share, and of a source's recordings each as often.

    A long recording counts as many as it has clips' lengths.
    """
    choice = _Choice(pool, shares)
    for number, name in enumerate(_main(pool, shares, clips, length, seed)):
        rng = np.random.default_rng([seed, number])
        steps = tuple(degrade.draw(rng))
        item = pool[name].item
        labels, fold = item.labels, fold_of(item.labels)
        parts = [_part(rng, name, 0.0)]
        for _ in range(rng.choice(len(_MIXED), p=_MIXED)):
            if other := choice.draw(rng, item.split, fold, item.group):
                parts.append(_part(rng, other, round(rng.uniform(*_RELATIVE), 1)))
                fold = fold or fold_of(pool[other].item.labels)
        if fold and fold not in labels:
            labels = (*labels, fold)
        if len(parts) > 1:
            labels = (*labels, MIXED)
        if steps[0][0] == "silence":
            labels, parts = ("silence",), []
        yield Clip(number, item.split, item.group, labels, tuple(parts), steps)


def _part(rng: np.random.Generator, name: str, db: float) -> Part:
    speed = 1.0 if rng.random() < _AS_IT_IS else round(float(np.exp(rng.uniform(*np.log(_SPEED)))), 3)
    return Part(name, round(rng.random(), 4), bool(rng.random() < _REPEATED), speed, db)


def _source(name: str) -> str:
    return name.split("/", 1)[0]


def _main(pool: dict[str, Sound], shares: dict[str, float], clips: int, length: int, seed: int) -> list[str]:
    """The main recording of each clip."""
    entries: dict[str, list[str]] = {}
    for name, sound in pool.items():
        if len(sound.samples):
            entries.setdefault(_source(name), []).extend([name] * max(1, len(sound.samples) // length))
    rng = np.random.default_rng([seed, clips])
    names = sorted(entries)
    weights = np.array([shares[name] for name in names])
    edges = np.rint(np.cumsum(weights) / weights.sum() * clips).astype(int)
    chosen: list[str] = []
    for name, count in zip(names, np.diff(edges, prepend=0), strict=True):
        own = sorted(entries[name])
        rounds = [rng.permutation(len(own)) for _ in range(-(-count // len(own)))]
        chosen += [own[place] for place in np.concatenate(rounds)[:count]] if count else []
    return [chosen[place] for place in rng.permutation(clips)]


class _Choice:
    """Recordings to mix in, by split, source and fold."""

    def __init__(self, pool: dict[str, Sound], shares: dict[str, float]) -> None:
        self._names: dict[tuple[str, str, str], list[str]] = {}
        self._pool = pool
        for name, sound in sorted(pool.items()):
            if len(sound.samples):
                key = sound.item.split, _source(name), fold_of(sound.item.labels)
                self._names.setdefault(key, []).append(name)
        self._shares = shares

    def draw(self, rng: np.random.Generator, split: str, fold: str, group: str) -> str | None:
        """One of this split and, where a fold is given, of no other fold; None where there is none, or a poor draw."""
        keys = [key for key in self._names if key[0] == split and (not fold or key[2] in ("", fold))]
        if not keys:
            return None
        weights = np.array([self._shares[source] * len(self._names[split, source, own]) for _, source, own in keys])
        for source in {key[1] for key in keys}:  # a source's weight is its share, whatever it has
            mine = np.array([key[1] == source for key in keys])
            weights[mine] *= self._shares[source] / weights[mine].sum()
        names = self._names[keys[rng.choice(len(keys), p=weights / weights.sum())]]
        name = names[rng.integers(len(names))]
        return None if self._pool[name].item.group == group else name


def make(clip: Clip, pool: dict[str, Sound], length: int, seed: int) -> NDArray[np.int16]:
    """A clip's sound, int16 [length]."""
    total = np.zeros(length, np.float32)
    loudness = 0.0
    for part in clip.parts:
        sound = _cut(pool[part.name].samples, part, length)
        own = degrade.level(sound, SAMPLE_RATE)
        loudness = loudness or own
        total += sound * np.float32(loudness / max(own, 1e-9) * 10 ** (part.db / 20))
    rng = np.random.default_rng([seed, clip.number, 1])
    total = degrade.apply(total, SAMPLE_RATE, list(clip.steps), rng)
    return np.clip(np.rint(total * 32767), -32768, 32767).astype(np.int16)


def _cut(recording: NDArray[np.int16], part: Part, length: int) -> NDArray[np.float32]:
    """float32 [length] of a recording, at its speed and place."""
    wanted = round(length * part.speed) + 1
    begin = round(part.at * max(0, len(recording) - wanted))
    sound = recording[begin : begin + wanted].astype(np.float32) / np.float32(32768)
    sound = resample(sound, round(SAMPLE_RATE * part.speed), SAMPLE_RATE)[:length]
    if not len(sound):
        return np.zeros(length, np.float32)
    room = length - len(sound)
    if part.repeated:
        return np.roll(np.resize(sound, length), round(part.at * room))
    before = round(part.at * room)
    return np.pad(sound, (before, room - before))


def described(clip: Clip) -> dict[str, Any]:
    """What was done, as clips.csv says it."""
    made = []
    for part in clip.parts:
        how = [f"{part.db:+g} dB"] if part.db else []
        how += [f"speed {part.speed:g}"] if part.speed != 1 else []
        made.append(part.name + (f" ({', '.join(how)})" if how else ""))
    steps = [f"{name}({', '.join(f'{k}={v}' for k, v in done.items())})" for name, done in clip.steps]
    return {"recordings": " + ".join(made), "done": " ".join(steps)}
