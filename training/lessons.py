"""What a student learns from: the clips of a data set, and a teacher's outputs for all their windows, computed once.

They lie in a folder of the cache, named by the SHA-256 of what they depend on: the data set, the split, the teacher,
the windows, the engine and the kind of processor. Arrays are memory-mapped, so that a data set need not fit in memory:

    audio.npy      int16 [clips, n]
    inside.npy     bool [clips, k]: whether the window lies inside the record, and not in the zeros after a short one
    embedding.npy  float16 [clips, k, d], and scores.npy [clips, k, classes]: of the teacher
    records.json   name, group and labels of each clip
    done.json      how many clips are done: a computation that was stopped goes on there

Window j of a clip begins at sample j * hop. Records longer than the first are cut, shorter ones filled up with zeros.

The teacher hears each clip with its peak at `PEAK`, however quiet it is: a sound is what it is also from far away.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from tqdm import tqdm

from l3edge import engine

from . import artifacts
from .cli import TrainingError
from .input import read
from .locks import locked
from .shards import Data, fields
from .teachers import Teacher

DEFAULT = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "l3edge" / "lessons"
PEAK = 0.5  # of full scale
MOST_GAIN = 200.0  # 46 dB: what is quieter is left to be silence
_BLOCK = 64  # clips between two notes of how many are done


class Lessons(NamedTuple):
    """Clips of one length, with a teacher's outputs."""

    audio: NDArray[np.int16]  # [clips, n]
    inside: NDArray[np.bool_]  # [clips, k]
    outputs: dict[str, NDArray[np.float16]]  # [clips, k, d]
    records: list[dict[str, Any]]  # name, group, labels
    hop: int  # samples from one window to the next

    def without(self, excluded: Collection[str]) -> NDArray[np.int64]:
        """Numbers of the clips that have none of these labels."""
        kept = [i for i, record in enumerate(self.records) if not set(excluded) & set(record["labels"])]
        return np.array(kept, np.int64)


def _records(data: Data, split: str, count: int, first: int) -> Iterator[tuple[dict[str, Any], NDArray[np.int16]]]:
    for serialized in read(data.split(split), np.arange(first, count)):
        parsed = fields(serialized)
        said = {key: parsed[key].numpy().decode(errors="surrogateescape") for key in ("name", "group")}
        said["labels"] = [label.decode(errors="surrogateescape") for label in parsed["labels"].numpy()]
        yield said, np.frombuffer(parsed["audio"].numpy(), "<i2")


def prepare(data: Data, split: str, teacher: Teacher, hop: int, cache: Path = DEFAULT) -> Lessons:
    """The lessons of a split; computed, with a progress bar, as far as the cache does not have them.

    hop: samples between windows, at the rate of the data. Raises TrainingError where the split has no clip of a
    window's length, or another process is computing the same.
    """
    if data.statistics["sample_rate"] != teacher.sample_rate:
        raise TrainingError(
            f"{data.directory} is at {data.statistics['sample_rate']} Hz, {teacher.name} hears {teacher.sample_rate} Hz"
        )
    count = sum(shard.records for shard in data.split(split))
    first = next(_records(data, split, count, 0), None)
    if first is None or len(first[1]) < teacher.window:
        raise TrainingError(f"the {split} split of {data.directory} has no clip of {teacher.window} samples or more")
    length = len(first[1])
    runtime = engine.find("litert")
    said = [data.digest, split, teacher.identity, hop, length, PEAK, MOST_GAIN]
    said += [runtime.name, runtime.version, engine.cpu_kind()]
    folder = cache / hashlib.sha256(json.dumps(said).encode()).hexdigest()[:32]
    folder.mkdir(parents=True, exist_ok=True)
    windows = 1 + (length - teacher.window) // hop
    with locked(folder):
        done = artifacts.read_json(folder / "done.json")["clips"] if (folder / "done.json").is_file() else 0
        if done < count:
            _compute(data, split, teacher, folder, (done, count, length, windows, hop))
    mapped = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("audio", "inside", *teacher.widths)}
    return Lessons(mapped.pop("audio"), mapped.pop("inside"), mapped, artifacts.read_json(folder / "records.json"), hop)


def _compute(data: Data, split: str, teacher: Teacher, folder: Path, shape: tuple[int, int, int, int, int]) -> None:
    done, count, length, windows, hop = shape
    shapes: dict[str, tuple[Any, tuple[int, ...]]] = {
        "audio": (np.int16, (count, length)),
        "inside": (np.bool_, (count, windows)),
        **{kind: (np.float16, (count, windows, width)) for kind, width in teacher.widths.items()},
    }
    arrays = {
        name: open_memmap(folder / f"{name}.npy", "r+" if done else "w+", dtype, each)
        for name, (dtype, each) in shapes.items()
    }
    records = artifacts.read_json(folder / "records.json")[:done] if done else []
    source = _records(data, split, count, done)
    with tqdm(total=count, initial=done, desc=f"{teacher.name}, {split}", unit=" clips", disable=None) as bar:
        while done < count:
            for said, samples in itertools.islice(source, _BLOCK):
                samples = samples[:length]
                filled = np.zeros(length, np.int16)
                filled[: len(samples)] = samples
                arrays["audio"][done] = filled
                arrays["inside"][done] = np.arange(windows) * hop + teacher.window <= len(samples)
                sound = filled.astype(np.float32) / np.float32(32768)
                sound *= np.float32(min(MOST_GAIN, PEAK / max(float(np.abs(sound).max()), 1e-9)))
                for kind, values in teacher(sound, hop).items():
                    arrays[kind][done] = values
                records.append(said)
                done += 1
                bar.update()
            for array in arrays.values():
                array.flush()
            artifacts.write_json(folder / "records.json", records)
            artifacts.write_json(folder / "done.json", {"clips": done, "of": count})
