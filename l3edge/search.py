"""The moments of an archive that sound most like a query.

A moment is a window. How alike it is: the cosine of its embedding and the query's, which is 1 for the same sound,
however loud, and does not depend on what else the archive holds. The query's embedding is the mean of those of its
windows, each of length 1, silent ones left out; `python -m benchmarks.similar` measures that against other ways.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import audio
from .clips import SILENCE, embedded
from .errors import AudioError
from .folders import audio_files
from .heads import unit
from .index import Entry, Index
from .model import Model

ROUNDING = 1e-6  # of quotients that are whole numbers
BLOCK_SECONDS = 10.0  # of an audio file that are in memory


class Moment(NamedTuple):
    """A window that sounds like the query."""

    score: float  # cosine, -1 to 1
    file: str  # path relative to the archive
    time: float  # s, the centre of the window


def query(model: Model, path: Path) -> NDArray[np.float32]:
    """The direction [d] of a sound: the mean of its windows, one every step; AudioError where it is silent."""
    embeddings, levels = embedded(model, path, model.spec.hop / model.spec.sample_rate)
    heard = unit(embeddings[levels > SILENCE])
    if not len(heard) or not heard.any():
        raise AudioError(f"{path}: digital silence, which sounds like nothing")
    made: NDArray[np.float32] = unit(heard.mean(axis=0)).astype(np.float32)
    return made


class File(NamedTuple):
    """An audio file of an archive, as it is now."""

    path: Path
    size: int  # bytes
    mtime_ns: int


def files(archive: Path) -> dict[str, File]:
    """An archive's audio files, by their path relative to it."""
    made = {}
    for path in audio_files(archive):
        status = path.stat() if path.exists() else path.lstat()  # a link to nothing is told when it is read
        made[str(path.relative_to(archive))] = File(path, status.st_size, status.st_mtime_ns)
    return made


def embeddings_of(model: Model, path: Path, hop: float) -> Iterator[tuple[NDArray[np.float32], float, float]]:
    """Embeddings of a file, block by block, each with the seconds done until then, and in all."""
    with audio.open_file(path) as file:
        stream = model.stream(file.sample_rate, hop)
        seconds = file.frames / file.sample_rate
        for block in file.blocks(round(BLOCK_SECONDS * file.sample_rate)):
            yield stream.push(block)[0], stream.counts.samples / file.sample_rate, seconds
        yield stream.flush()[0], seconds, seconds


def search(
    index: Index, entries: Iterable[Entry], wanted: NDArray[np.float32], window: float, top: int
) -> list[Moment]:
    """The `top` moments most like `wanted` [d], the best first; of those less than a window apart only the best one.

    window: s. Of a file's scores all are in memory, of its rows one block.
    """
    apart = max(1, math.ceil(window / index.about.hop - ROUNDING))
    best: list[tuple[float, int, str, float]] = []
    for entry in entries:
        scores = [np.zeros(0, np.float32), *(block @ wanted for block in index.blocks(entry))]
        peaks = _peaks(np.concatenate(scores), apart)
        for score, k in heapq.nlargest(top, ((score, -k) for k, score in peaks)):
            # Of equals the first in the archive: rows count upwards.
            best.append((score, -(entry.row - k), entry.file, -k * index.about.hop + window / 2))
        best = heapq.nlargest(top, best)
    return [Moment(score, file, time) for score, _, file, time in best]


def _peaks(scores: NDArray[np.float32], apart: int) -> list[tuple[int, float]]:
    """Indices and values of the scores that none within less than `apart` exceeds, of equals the first."""
    good = np.ones(len(scores), bool)
    for shift in range(1, min(apart, len(scores))):
        good[shift:] &= scores[shift:] > scores[:-shift]
        good[:-shift] &= scores[:-shift] >= scores[shift:]
    return [(int(k), float(scores[k])) for k in np.flatnonzero(good)]
