"""A data set of made sound, in the format of `training.shards`, for what needs no video: records have no frames."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.records import FORMAT, framed, serialize
from training.videos import Segment

RATE = 16_000


class Clip(NamedTuple):
    """A record: what it is called, and int16 [n]."""

    name: str
    group: str
    labels: tuple[str, ...]
    audio: NDArray[np.int16]


def tone(random: np.random.Generator, seconds: float) -> NDArray[np.float64]:
    """A chord that glides, full scale 1.0."""
    t = np.arange(round(seconds * RATE)) / RATE
    base, glide = random.uniform(150, 900), random.uniform(-0.3, 0.3)
    made = sum(np.sin(2 * np.pi * base * k * (t + glide * t * t / 2)) / k for k in range(1, 6))
    return np.asarray(made * (0.6 + 0.4 * np.sin(2 * np.pi * random.uniform(0.5, 6) * t)))


def noise(random: np.random.Generator, seconds: float) -> NDArray[np.float64]:
    """Bursts of noise of some band, full scale 1.0."""
    count = round(seconds * RATE)
    spectrum = np.fft.rfft(random.normal(size=count))
    hertz, low = np.fft.rfftfreq(count, 1 / RATE), random.uniform(100, 4000)
    made = np.fft.irfft(np.where((hertz > low) & (hertz < 2 * low), spectrum, 0), count)
    return np.asarray(made * (np.sin(2 * np.pi * random.uniform(0.5, 4) * np.arange(count) / RATE) > -0.3))


def clips(count: int, seconds: float, seed: int) -> list[Clip]:
    """Tones and noises in turn; every third is also a "domain"."""
    made = []
    for i in range(count):
        random = np.random.default_rng([seed, i])
        kind = (tone, noise)[i % 2]
        sound = kind(random, seconds)
        sound *= random.uniform(0.05, 0.9) / np.abs(sound).max()
        labels = (kind.__name__, *(("domain",) if i % 3 == 0 else ()))
        made.append(Clip(f"{seed}-{i}", f"group-{seed}-{i}", labels, (sound * 32767).astype(np.int16)))
    return made


def write(folder: Path, splits: dict[str, Sequence[Clip]], rate: int = RATE) -> Path:
    """A finished data set of these clips, one shard a split."""
    folder.mkdir(parents=True)
    shards, sizes = {}, {}
    for split, own in splits.items():
        content = b"".join(framed(serialize(c.name, c.group, c.labels, Segment(c.audio, 0, [], []))) for c in own)
        file = f"{split}-00000-of-00001.tfrecord"
        (folder / file).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        shards[split] = [{"file": file, "records": len(own), "bytes": len(content), "sha256": digest}]
        sizes[split] = {"records": len(own), "groups": len({c.group for c in own})}
    samples = sum(len(c.audio) for own in splits.values() for c in own)
    statistics = {"format": FORMAT, "sample_rate": rate, "shards": shards, "splits": sizes}
    statistics |= {"verdicts": {"kept": sum(len(own) for own in splits.values())}, "hours": samples / rate / 3600}
    (folder / "statistics.json").write_text(json.dumps(statistics))
    return folder
