"""One record as bytes: a tf.train.Example in TFRecord framing, made and found without TensorFlow.

The processes that decode make records, and importing TensorFlow costs each of them 3 s and 600 MB. The schema below is
that of tensorflow/core/example/{example,feature}.proto, as far as `shards` uses it; protobuf's own runtime fills it.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import google_crc32c
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from .videos import Segment

FORMAT = 2  # of the data set; see `shards`


def _example_class() -> type:
    """tf.train.Example, in a pool of its own: TensorFlow may put its own into the default one."""
    kind = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="records.proto", package="tensorflow", syntax="proto3")

    def message(name: str, *fields: tuple[str, int, int, int, str]) -> descriptor_pb2.DescriptorProto:
        made = descriptor_pb2.DescriptorProto(name=name)
        for field, number, label, type_, type_name in fields:
            made.field.add(name=field, number=number, label=label, type=type_, type_name=type_name or None)
        return made

    one, many = kind.LABEL_OPTIONAL, kind.LABEL_REPEATED
    features = message("Features", ("feature", 1, many, kind.TYPE_MESSAGE, ".tensorflow.Features.FeatureEntry"))
    entry = features.nested_type.add(name="FeatureEntry")
    entry.CopyFrom(
        message(
            "FeatureEntry",
            ("key", 1, one, kind.TYPE_STRING, ""),
            ("value", 2, one, kind.TYPE_MESSAGE, ".tensorflow.Feature"),
        )
    )
    entry.options.map_entry = True
    file.message_type.extend(
        [
            message("BytesList", ("value", 1, many, kind.TYPE_BYTES, "")),
            message("Int64List", ("value", 1, many, kind.TYPE_INT64, "")),
            message(
                "Feature",
                ("bytes_list", 1, one, kind.TYPE_MESSAGE, ".tensorflow.BytesList"),
                ("int64_list", 3, one, kind.TYPE_MESSAGE, ".tensorflow.Int64List"),
            ),
            features,
            message("Example", ("features", 1, one, kind.TYPE_MESSAGE, ".tensorflow.Features")),
        ]
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))


_Example = _example_class()


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
    example = _Example()
    for key, items in values.items():
        feature = example.features.feature[key]
        (feature.int64_list if key in ("audio_start", "frame_times") else feature.bytes_list).value.extend(items)
    return example.SerializeToString(deterministic=True)


def _masked_crc(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def framed(record: bytes) -> bytes:
    """The record as it stands in a TFRecord file: length, checksum, record, checksum."""
    length = struct.pack("<Q", len(record))
    return length + _masked_crc(length) + record + _masked_crc(record)


def read(path: Path, places: Collection[int]) -> Iterator[bytes]:
    """The records of a TFRecord file at these places, in the file's order; others are skipped and not read.

    Raises ValueError where the file is damaged or has fewer records, OSError where it cannot be read.
    """
    wanted, size = set(places), path.stat().st_size
    with path.open("rb") as file:
        for place in range(max(wanted, default=-1) + 1):
            header = file.read(12)
            if len(header) < 12 or _masked_crc(header[:8]) != header[8:]:
                raise ValueError(f"record {place} has no valid length")
            length = int.from_bytes(header[:8], "little")
            if length + 4 > size - file.tell():
                raise ValueError(f"record {place} is longer than the file")
            if place not in wanted:
                file.seek(length + 4, os.SEEK_CUR)
                continue
            record = file.read(length)
            if file.read(4) != _masked_crc(record):
                raise ValueError(f"record {place} is not as it was written")
            yield record
