"""The record format: what `prepare` writes and `pairs` reads.

A data set is a directory of TFRecord shards `<split>-00000-of-00004.tfrecord` and `statistics.json`.
A record is one tf.train.Example, at most 10 s of one video:

    video         bytes   name of the video, as in the file system; its segments share it
    kind          bytes   what sounds, where the videos' index.csv says so, else empty
    audio         bytes   int16 little-endian PCM, mono, at statistics.json's sample_rate
    audio_start   int64   presentation time of the first sample, microseconds
    frames        bytes*  JPEG, RGB
    frame_times   int64*  presentation times of the frames on the same clock, microseconds
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from .backend import tf
from .cli import TrainingError
from .videos import STATISTICS, Segment

_FEATURES = {
    "video": tf.io.FixedLenFeature([], tf.string),
    "kind": tf.io.FixedLenFeature([], tf.string),
    "audio": tf.io.FixedLenFeature([], tf.string),
    "audio_start": tf.io.FixedLenFeature([], tf.int64),
    "frames": tf.io.FixedLenSequenceFeature([], tf.string, allow_missing=True),
    "frame_times": tf.io.FixedLenSequenceFeature([], tf.int64, allow_missing=True),
}


def serialize(video: str, kind: str, segment: Segment) -> bytes:
    """One record; the same bytes every time."""
    values: dict[str, list[bytes] | list[int]] = {
        "video": [video.encode("utf-8", "surrogateescape")],  # the name's very bytes where it is no UTF-8
        "kind": [kind.encode()],
        "audio": [segment.audio.astype("<i2").tobytes()],
        "audio_start": [segment.audio_start],
        "frames": segment.frames,
        "frame_times": segment.frame_times,
    }
    example = tf.train.Example()
    for name, items in values.items():
        feature = example.features.feature[name]
        (feature.bytes_list if isinstance(items[0], bytes) else feature.int64_list).value.extend(items)
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


def load(directory: Path, split: str) -> Any:
    """All serialized records of a split in memory, string tensor [n]."""
    files = sorted(str(path) for path in directory.glob(f"{split}-*-of-*.tfrecord"))
    try:
        records = [record.numpy() for record in tf.data.TFRecordDataset(files)] if files else []
    except tf.errors.OpError as error:
        raise TrainingError(f"a shard in {directory} cannot be read: {error.message}") from error
    return tf.constant(records, tf.string, shape=[len(records)])


def statistics(directory: Path) -> tuple[dict[str, Any], str]:
    """(statistics.json, its SHA-256), which names the data: the file lists every video and the settings."""
    path = directory / STATISTICS
    try:
        content = path.read_bytes()
        return json.loads(content), hashlib.sha256(content).hexdigest()
    except FileNotFoundError:
        raise TrainingError(
            f"{directory} holds no {STATISTICS}: make it with `python -m training.prepare VIDEOS --out ...`"
        ) from None
    except ValueError as error:
        raise TrainingError(f"{path} is not JSON: {error}") from None
