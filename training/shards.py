"""The data format: what `prepare` writes and training reads.

A data set is a directory of TFRecord shards `<split>-00000-of-00004.tfrecord`, with `statistics.json`, written last,
and `videos.csv`, the verdict on each video. A record is one tf.train.Example, at most 10 s of one video:

    name          bytes   of the video or part of one, unique in the manifest; its segments share it
    group         bytes   the source video: negatives come from another group, and no group is in two splits
    labels        bytes*  what sounds, where the manifest says so
    audio         bytes   int16 little-endian PCM, mono, at statistics.json's sample_rate
    audio_start   int64   presentation time of the first sample, microseconds
    frames        bytes*  JPEG, RGB
    frame_times   int64*  presentation times of the frames on the same clock, microseconds
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .backend import tf
from .cli import TrainingError
from .videos import STATISTICS, Segment

FORMAT = 2

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


def serialize(name: str, group: str, labels: Sequence[str], segment: Segment) -> bytes:
    """One record; the same bytes every time."""
    values: dict[str, list[bytes] | list[int]] = {
        # A name's very bytes where it is no UTF-8.
        "name": [name.encode("utf-8", "surrogateescape")],
        "group": [group.encode("utf-8", "surrogateescape")],
        "labels": [label.encode("utf-8", "surrogateescape") for label in labels],
        "audio": [segment.audio.astype("<i2").tobytes()],
        "audio_start": [segment.audio_start],
        "frames": segment.frames,
        "frame_times": segment.frame_times,
    }
    example = tf.train.Example()
    for key, items in values.items():
        feature = example.features.feature[key]
        (feature.int64_list if key in ("audio_start", "frame_times") else feature.bytes_list).value.extend(items)
    return example.SerializeToString(deterministic=True)


def parse(record: Any) -> dict[str, Any]:
    """Serialized record (scalar string tensor) -> its fields; audio as float32 [n] in [-1, 1)."""
    fields = tf.io.parse_single_example(record, _FEATURES)
    pcm = tf.io.decode_raw(fields["audio"], tf.int16, little_endian=True)
    fields["audio"] = tf.cast(pcm, tf.float32) / 32768.0
    return fields


def check_memory(directory: Path, memory: int | None = None) -> None:
    """Refuse shards of more than half of `memory` (bytes; the machine's), for `load` holds a split twice at its peak.

    Raises TrainingError.
    """
    if memory is None:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    size = sum(path.stat().st_size for path in directory.glob("*.tfrecord"))
    if size > memory / 2:
        raise TrainingError(
            f"the shards in {directory} have {size / 1e9:.1f} GB; training keeps them in memory, which allows for half "
            f"of this machine's {memory / 1e9:.1f} GB. Prepare fewer videos, or give prepare a lower --frame-rate or "
            "--frame-size"
        )


def load(data: Data, split: str) -> Any:
    """All serialized records of a split in memory, string tensor [n]."""
    files = [str(shard.path) for shard in data.split(split)]
    try:
        records = [record.numpy() for record in tf.data.TFRecordDataset(files)] if files else []
    except tf.errors.OpError as error:
        raise TrainingError(f"a shard in {data.directory} cannot be read: {error.message}") from error
    return tf.constant(records, tf.string, shape=[len(records)])


def open_data(directory: Path) -> Data:
    """The data set in a directory. Raises TrainingError where there is none, or one of another format."""
    path = directory / STATISTICS
    try:
        content = path.read_bytes()
        statistics = json.loads(content)
    except FileNotFoundError:
        raise TrainingError(
            f"{directory} holds no {STATISTICS}: make it with `python -m training.prepare VIDEOS --out ...`"
        ) from None
    except ValueError as error:
        raise TrainingError(f"{path} is not JSON: {error}") from None
    if not isinstance(statistics, dict) or statistics.get("format") != FORMAT:
        raise TrainingError(f"{path} is not of format {FORMAT}: prepare the videos anew with this version")
    return Data(directory, statistics, hashlib.sha256(content).hexdigest())
