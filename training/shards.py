"""The data format: what `prepare` and `corpus` write and training reads.

A data set is a directory of TFRecord shards `<split>-00000-of-00004.tfrecord`, with `statistics.json`, written last,
and `videos.csv`, the verdict on each video, or `clips.csv`, what each clip of sound is made of. Shards are numbered
before anything is decoded (`plan`): where one would hold no record its number is missing, so statistics.json says which
there are. A record is one tf.train.Example, at most 10 s of one video:

    name          bytes   of the video or part of one, unique in the manifest; its segments share it
    group         bytes   the source video: negatives come from another group, and no group is in two splits
    labels        bytes*  what sounds, where the manifest says so
    audio         bytes   int16 little-endian PCM, mono, at statistics.json's sample_rate
    audio_start   int64   presentation time of the first sample, microseconds
    frames        bytes*  JPEG, RGB; none in a corpus of sound
    frame_times   int64*  presentation times of the frames on the same clock, microseconds
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from .backend import tf
from .cli import TrainingError
from .plan import PLAN
from .records import FORMAT, serialize
from .videos import STATISTICS

__all__ = ["FORMAT", "Data", "Shard", "fields", "open_data", "parse", "samples", "serialize"]

_FEATURES = {
    "name": tf.io.FixedLenFeature([], tf.string),
    "group": tf.io.FixedLenFeature([], tf.string),
    "labels": tf.io.FixedLenSequenceFeature([], tf.string, allow_missing=True),
    "audio": tf.io.FixedLenFeature([], tf.string),
    "audio_start": tf.io.FixedLenFeature([], tf.int64),
    "frames": tf.io.FixedLenSequenceFeature([], tf.string, allow_missing=True),
    "frame_times": tf.io.FixedLenSequenceFeature([], tf.int64, allow_missing=True),
}


class Shard(NamedTuple):
    """One file of a split, as statistics.json lists it."""

    path: Path
    records: int
    bytes: int


class Data(NamedTuple):
    """A finished data set."""

    directory: Path
    statistics: dict[str, Any]  # statistics.json
    digest: str  # SHA-256 of it, which names the data: it lists the digest of every shard

    def split(self, name: str) -> tuple[Shard, ...]:
        """The shards of "train", "validation" or "test", in order; maybe none."""
        shards = self.statistics["shards"].get(name, [])
        return tuple(Shard(self.directory / s["file"], s["records"], s["bytes"]) for s in shards)


def fields(record: Any) -> dict[str, Any]:
    """Serialized record (scalar string tensor) -> its fields; audio as the bytes that they are stored in."""
    return dict(tf.io.parse_single_example(record, _FEATURES))


def samples(pcm: Any) -> Any:
    """Bytes of a record's sound (scalar string tensor) -> float32 [n] in [-1, 1)."""
    return tf.cast(tf.io.decode_raw(pcm, tf.int16, little_endian=True), tf.float32) / 32768.0


def parse(record: Any) -> dict[str, Any]:
    """Serialized record (scalar string tensor) -> its fields; audio as float32 [n] in [-1, 1)."""
    parsed = fields(record)
    return {**parsed, "audio": samples(parsed["audio"])}


def open_data(directory: Path) -> Data:
    """The data set in a directory. Raises TrainingError where there is none, or one of another format."""
    path = directory / STATISTICS
    try:
        content = path.read_bytes()
        statistics = json.loads(content)
    except FileNotFoundError:
        if (directory / PLAN).exists():
            raise TrainingError(
                f"{directory} is unfinished: repeat the `python -m training.prepare` or `training.corpus` that began it"
            ) from None
        raise TrainingError(
            f"{directory} holds no {STATISTICS}: make it with `python -m training.prepare VIDEOS --out ...`, "
            "or of sound alone with `python -m training.corpus --out ...`"
        ) from None
    except ValueError as error:
        raise TrainingError(f"{path} is not JSON: {error}") from None
    if not isinstance(statistics, dict) or statistics.get("format") != FORMAT:
        raise TrainingError(f"{path} is not of format {FORMAT}: prepare the videos anew with this version")
    return Data(directory, statistics, hashlib.sha256(content).hexdigest())
