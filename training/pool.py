"""All recordings of a corpus, decoded or rendered once: what its clips are cut from.

A part of the pool is journal/NAME.npy, int16 [n], its recordings one after the other, each with its peak at full scale
and without the silence around it; and journal/NAME.json, written last: [name, samples, why there are none] of each.
"""

from __future__ import annotations

import functools
import io
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from l3edge.errors import Error

from . import plan, recordings, storage
from .journal import FOLDER
from .manifest import Item
from .plan import Shard

PARTS = 16  # recordings in a part

_LONGEST = 600  # s that are kept of a recording
_QUIET = 10 ** (-60 / 20)  # of a recording's peak: below it, silence around a sound
_SILENT = 10 ** (-80 / 20)  # of full scale: a recording whose peak is below it is silent


class Sound(NamedTuple):
    """What became of one recording."""

    item: Item
    samples: NDArray[np.int16]  # [n], none where it cannot be used
    reason: str  # why there are none


def make_part(directory: str, shard: Shard, rate: int) -> None:
    """Decode or render the recordings of a part of the plan, unless that was done before."""
    data, index = _paths(directory, shard)
    if index.exists():
        return
    index.parent.mkdir(exist_ok=True)
    made = [_sound(item, rate) for item in plan.read_items(directory, shard)]
    file = io.BytesIO()
    np.save(file, np.concatenate([samples for samples, _ in made]), allow_pickle=False)
    storage.write(str(data), file.getvalue())
    rows = [[len(samples), reason] for samples, reason in made]
    storage.write(str(index), json.dumps(rows).encode())


def done(directory: str, shard: Shard) -> bool:
    return _paths(directory, shard)[1].exists()


def _paths(directory: str, shard: Shard) -> tuple[Path, Path]:
    folder = Path(directory, FOLDER)
    return folder / f"{shard.name}.npy", folder / f"{shard.name}.json"


def _sound(item: Item, rate: int) -> tuple[NDArray[np.int16], str]:
    none = np.zeros(0, np.int16)
    try:
        samples = recordings.decode(item, rate)[: _LONGEST * rate]
    except Error as error:
        return none, str(error)
    except OSError as error:
        return none, f"{item.path} cannot be read: {error.strerror or error}"
    samples = np.nan_to_num(samples, posinf=0, neginf=0)
    peak = float(np.abs(samples).max(initial=0))
    if peak < _SILENT:
        return none, f"{item.path} is silent" if len(samples) else f"{item.path} has no samples"
    loud = np.flatnonzero(np.abs(samples) > _QUIET * peak)
    return np.rint(samples[loud[0] : loud[-1] + 1] * (32767 / peak)).astype(np.int16), ""


@functools.lru_cache(maxsize=1)
def open_pool(directory: str, shards: tuple[Shard, ...]) -> dict[str, Sound]:
    """All recordings by name; the sound is mapped, and read when it is used."""
    pool: dict[str, Sound] = {}
    for shard in shards:
        data, index = _paths(directory, shard)
        rows, begin = json.loads(index.read_bytes()), 0
        empty = not any(size for size, _ in rows)  # which cannot be mapped
        samples = np.zeros(0, np.int16) if empty else np.load(data, mmap_mode="r", allow_pickle=False)
        for item, (size, reason) in zip(plan.read_items(directory, shard), rows, strict=True):
            pool[item.name] = Sound(item, samples[begin : begin + size], reason)
            begin += size
    return pool
