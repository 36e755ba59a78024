"""What a student learns from: the clips of a data set, and a teacher's outputs for all their windows, computed once.

They lie in a folder of the cache, named by the SHA-256 of what they depend on: the data set, the split, the teacher,
the windows, the engine and the kind of processor. Arrays are memory-mapped, so that a data set need not fit in memory:

    audio.npy      int16 [clips, n]
    inside.npy     bool [clips, k]: whether the window lies inside the record, and not in the zeros after a short one
    embedding.npy  float16 [clips, k, d], and scores.npy [clips, k, classes]: of the teacher
    records.json   name, group and labels of each clip
    done.json      how many clips are done: a computation that was stopped goes on there

Window j of a clip begins at sample j * hop. Records longer than the first are cut, shorter ones filled up with zeros.

The teacher hears each clip with its peak at `PEAK`, however quiet it is: a sound is what it is also from far away. One
of another sample rate hears it resampled by soxr, in windows that begin at the same times.

An entry whose files turn out to be damaged is computed anew. Of several processes that want the same one, one computes
it and the others wait.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import json
import math
import os
import shutil
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from tqdm import tqdm

from l3edge import engine
from l3edge.audio import resample

from . import artifacts
from .cli import TrainingError
from .input import read
from .locks import LOCK
from .shards import Data, fields
from .teachers import Teacher

DEFAULT = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "l3edge" / "lessons"
PEAK = 0.5  # of full scale
FAINTEST = 0.006  # of full scale, -44 dB: a clip with a lower peak is heard as it is, which is silence
_BLOCK = 64  # clips between two notes of how many are done


Arrays = dict[str, NDArray[Any]]
_Shapes = dict[str, tuple[Any, tuple[int, ...]]]  # dtype and shape of each array


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

    def repeated(self, clips: NDArray[np.int64], label: str, times: int) -> NDArray[np.int64]:
        """These clips, those with the label as often as said. Raises TrainingError where none has it."""
        often = np.array([times if label in self.records[i]["labels"] else 1 for i in clips])
        if (often == 1).all() and times > 1:
            raise TrainingError(f"no training clip has the label {label!r} of --focus")
        return np.repeat(clips, often)

    def for_windows(self, window: int) -> Lessons:
        """These, less the last windows where one of so many samples would not be in the clips any more."""
        most = max(0, 1 + (self.audio.shape[1] - window) // self.hop)
        outputs = {kind: values[:, :most] for kind, values in self.outputs.items()}
        return self._replace(inside=self.inside[:, :most], outputs=outputs)


def _records(data: Data, split: str, count: int, first: int) -> Iterator[tuple[dict[str, Any], NDArray[np.int16]]]:
    for serialized in read(data.split(split), np.arange(first, count)):
        parsed = fields(serialized)
        said = {key: parsed[key].numpy().decode(errors="surrogateescape") for key in ("name", "group")}
        said["labels"] = [label.decode(errors="surrogateescape") for label in parsed["labels"].numpy()]
        yield said, np.frombuffer(parsed["audio"].numpy(), "<i2")


def gain(samples: NDArray[np.int16]) -> np.float32:
    """What a clip [n] is multiplied by before the teacher hears it: its peak comes to PEAK."""
    peak = max(int(samples.max()), -int(samples.min())) / 32768
    return np.float32(PEAK / peak if peak >= FAINTEST else 1.0)


def leveled(samples: NDArray[np.int16]) -> NDArray[np.float32]:
    """A clip [n] as the teacher hears it."""
    return samples.astype(np.float32) / np.float32(32768) * gain(samples)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait for any other process that computes this entry, and keep others off it while the block runs."""
    with (folder / LOCK).open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another process, which computes the same teacher's outputs", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def prepare(data: Data, split: str, teacher: Teacher, hop: int, cache: Path = DEFAULT) -> Lessons:
    """The lessons of a split; computed, with a progress bar, as far as the cache does not have them.

    hop: samples between windows, at the rate of the data. Raises TrainingError where the split has no clip of a
    window's length, the windows do not begin at samples of the teacher's, or the disk is too small.
    """
    rate = data.statistics["sample_rate"]
    if hop * teacher.sample_rate % rate:
        raise TrainingError(f"{teacher.name} hears {teacher.sample_rate} Hz: {hop / rate:g} s are no whole samples")
    window = -(-teacher.window * rate // teacher.sample_rate)
    count = sum(shard.records for shard in data.split(split))
    first = next(_records(data, split, count, 0), None)
    if first is None or len(first[1]) < window:
        raise TrainingError(f"the {split} split of {data.directory} has no clip of {window / rate:g} s or more")
    length = len(first[1])
    runtime = engine.find("litert")
    said = [data.digest, split, teacher.identity, hop, length, PEAK, FAINTEST]
    said += [runtime.name, runtime.version, engine.cpu_kind()]
    folder = cache / hashlib.sha256(json.dumps(said).encode()).hexdigest()[:32]
    folder.mkdir(parents=True, exist_ok=True)
    windows = 1 + (length - window) // hop
    shapes: _Shapes = {
        "audio": (np.int16, (count, length)),
        "inside": (np.bool_, (count, windows)),
        **{kind: (np.float16, (count, windows, width)) for kind, width in teacher.widths.items()},
    }
    done, _, _ = _kept(folder, shapes)
    if done < count:
        with _alone(folder):
            _compute(data, split, teacher, folder, shapes, hop, window)
    _, arrays, records = _kept(folder, shapes)
    return Lessons(arrays.pop("audio"), arrays.pop("inside"), arrays, records, hop)


def _kept(folder: Path, shapes: _Shapes) -> tuple[int, Arrays, list[dict[str, Any]]]:
    """(clips that are done, the arrays, the records of those clips); (0, {}, []) where a file is missing or damaged."""
    if not (folder / "done.json").is_file():
        return 0, {}, []
    try:
        done = int(artifacts.read_json(folder / "done.json")["clips"])
        records = artifacts.read_json(folder / "records.json")[:done]
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in shapes}
        whole = all((arrays[name].dtype, arrays[name].shape) == each for name, each in shapes.items())
        if not whole or len(records) != done:
            raise ValueError
    except (TrainingError, OSError, EOFError, ValueError, TypeError, KeyError):
        return 0, {}, []
    return done, arrays, records


def _new(folder: Path, shapes: _Shapes) -> Arrays:
    """Empty arrays; TrainingError where the disk has no room for them, which a memory-mapped file would die of."""
    if (folder / "done.json").is_file():
        print(f"{folder} is damaged: the teacher is asked anew", file=sys.stderr)
        (folder / "done.json").unlink()
    needed = sum(math.prod(shape) * np.dtype(dtype).itemsize for dtype, shape in shapes.values())
    if needed > (free := shutil.disk_usage(folder).free):
        raise TrainingError(
            f"the teacher's outputs take {needed / 1e9:.1f} GB, {folder} has {free / 1e9:.1f} GB left: give another "
            "--cache, or make --teacher-hop longer"
        )
    return {name: open_memmap(folder / f"{name}.npy", "w+", dtype, shape) for name, (dtype, shape) in shapes.items()}


def _compute(data: Data, split: str, teacher: Teacher, folder: Path, shapes: _Shapes, hop: int, window: int) -> None:
    """Go on with an entry from where it is to its end."""
    done, _, records = _kept(folder, shapes)
    arrays = {name: open_memmap(folder / f"{name}.npy", "r+") for name in shapes} if done else _new(folder, shapes)
    (count, length), windows = shapes["audio"][1], shapes["inside"][1][1]
    rate, own = data.statistics["sample_rate"], teacher.sample_rate
    heard = (windows - 1) * (own_hop := hop * own // rate) + teacher.window
    source = _records(data, split, count, done)
    with tqdm(total=count, initial=done, desc=f"{teacher.name}, {split}", unit=" clips", disable=None) as bar:
        while done < count:
            for said, samples in itertools.islice(source, _BLOCK):
                samples = samples[:length]
                filled = np.zeros(length, np.int16)
                filled[: len(samples)] = samples
                arrays["audio"][done] = filled
                arrays["inside"][done] = np.arange(windows) * hop + window <= len(samples)
                sound = leveled(filled)
                if own != rate:
                    sound = resample(sound, rate, own)[:heard]
                    sound = np.pad(sound, (0, heard - len(sound)))
                for kind, values in teacher(sound, own_hop).items():
                    arrays[kind][done] = values
                records.append(said)
                done += 1
                bar.update()
            for array in arrays.values():
                array.flush()
            artifacts.write_json(folder / "records.json", records)
            artifacts.write_json(folder / "done.json", {"clips": done, "of": count})
