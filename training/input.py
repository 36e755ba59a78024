"""Shards -> batches of training clips, without ever holding up the accelerator, and the same ones every time.

The order is a pure function of (seed, pass, shards), so that a run goes on at any step without reading what it has
had. In each pass the shards are shuffled, and cut into waves of as many as have `mixed` bytes; a wave's records are
shuffled together, and come before those of the next wave, which is read meanwhile. Memory holds two waves, however
large the data set is (measured: 0.6 GB read twice in waves of 0.05 or 0.1 GB, and the process grew by 0.3 GB).

A split that fits into `memory` is read once per iterator and kept, as serialized records; its clips are the very same.

Several workers read a stream each: worker s of S the shards s, s + S, ..., or, where there are fewer shards than
workers, those records of every shard. A global batch is the parts of all streams, one after the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from l3edge.spec import Spec

from . import pairs
from .backend import tf
from .cli import TrainingError
from .records import read as records_at
from .shards import Shard

MIXED = 1 << 30  # bytes of the shards of a wave. Another number gives another order: a resumed run needs the same one
CACHED = 1 / 4  # of the available memory

_READERS = 8  # shards of a wave that are read at the same time
_BUFFER = 4 << 20  # bytes that are read from a shard at a time

_CONTROL_GROUP = Path("/sys/fs/cgroup")  # memory.max, the limit of a container, and memory.current, what it uses


class _Stream(NamedTuple):
    """What one worker reads."""

    shards: tuple[Shard, ...]
    counts: NDArray[np.int64]  # records of each shard that are this worker's
    begins: NDArray[np.int64]  # the first of them; the others follow every `step`
    step: int

    @property
    def bytes(self) -> int:
        return sum(shard.bytes for shard in self.shards) // self.step

    def wave(self, mixed: int) -> int:
        """Shards whose records are shuffled together."""
        return max(1, mixed // max(shard.bytes for shard in self.shards))


def _stream(shards: Sequence[Shard], streams: int, stream: int) -> _Stream:
    if len(shards) >= streams:
        own = tuple(shards[stream::streams])
        return _Stream(own, np.array([s.records for s in own], np.int64), np.zeros(len(own), np.int64), 1)
    offsets = np.cumsum([0, *(shard.records for shard in shards)])[:-1]
    begins = (stream - offsets) % streams
    counts = np.array([len(range(b, s.records, streams)) for b, s in zip(begins, shards, strict=True)], np.int64)
    used = np.flatnonzero(counts)
    return _Stream(tuple(shards[i] for i in used), counts[used], begins[used], streams)


def available_memory() -> int:
    """Bytes that this process may still use: of the machine's, or of its container's."""
    free = [
        1024 * int(line.split()[1])
        for line in Path("/proc/meminfo").read_text().splitlines()
        if line.startswith("MemAvailable:")
    ]
    try:
        limit, used = ((_CONTROL_GROUP / f"memory.{name}").read_text().strip() for name in ("max", "current"))
        free.append(int(limit) - int(used))
    except (OSError, ValueError):  # no control groups, or "max": no limit
        pass
    return max(0, min(free))


def _shuffled(count: Any, seed: Any, number: Any) -> Any:
    """A permutation of `count` numbers, int64."""
    key = tf.random.experimental.stateless_fold_in(seed, number)
    return tf.random.experimental.stateless_shuffle(tf.range(count), key)


def _waves(counts: NDArray[np.int64], wave: int, seed: int, first: int) -> Any:
    """Endless waves from record `first` of the stream on, as tf.data of (shards, order), int64.

    `order` are the places of the wave's records, shuffled, among those of `shards` one after the other.
    """
    total, waves = int(counts.sum()), math.ceil(len(counts) / wave)
    last = np.minimum(np.arange(1, waves + 1) * wave, len(counts)) - 1  # shard of each wave

    def one_pass(number: Any) -> Any:
        key = tf.stack([seed, number])
        shards = _shuffled(tf.size(counts, tf.int64), key, 0)
        ends = tf.gather(tf.cumsum(tf.gather(counts, shards)), last)
        begins = tf.concat([[tf.constant(0, tf.int64)], ends[:-1]], 0)  # [waves]
        consumed = tf.where(number == first // total, tf.constant(first % total, tf.int64), 0)

        def one_wave(k: Any) -> tuple[Any, Any]:
            order = _shuffled(ends[k] - begins[k], key, 1 + k)
            return shards[k * wave : (k + 1) * wave], order[tf.maximum(consumed - begins[k], 0) :]

        return tf.data.Dataset.range(tf.math.count_nonzero(ends <= consumed), waves).map(one_wave)

    return tf.data.Dataset.range(first // total, 2**62).flat_map(one_pass)


def _reader(stream: _Stream) -> Any:
    """A function: numbers of shards, int64 [n] -> tf.data of one element, all their records, string [sum of counts]."""
    paths = tf.constant([str(shard.path) for shard in stream.shards])
    expected = np.array([shard.records for shard in stream.shards], np.int64)
    counts, begins, most = tf.constant(stream.counts), tf.constant(stream.begins), int(expected.max())
    none = tf.data.Dataset.from_tensors(tf.zeros([0], tf.string))

    def own(records: Any, number: Any) -> Any:
        # An operation that fails and tells what it was given. Not tf.debugging.Assert, which counts as stateful: where
        # operations are made deterministic, tf.data would then read nothing ahead.
        step = tf.cond(
            tf.size(records, tf.int64) == tf.gather(expected, number),
            lambda: tf.constant(stream.step, tf.int64),
            lambda: tf.cast(tf.strings.to_number(paths[number]), tf.int64),
        )
        return records[begins[number] :: step]

    def one(number: Any) -> Any:
        path = paths[number]
        # Opened first without ignore_errors, which would try forever to open a file that is not there.
        there = tf.data.FixedLengthRecordDataset(path, 1, buffer_size=1).take(1)
        records = there.flat_map(lambda _: tf.data.TFRecordDataset(path, buffer_size=_BUFFER).ignore_errors())
        return records.batch(most).concatenate(none).take(1).map(lambda records: own(records, number))

    def read(numbers: Any) -> Any:
        files = tf.data.Dataset.from_tensor_slices(numbers)
        records = files.interleave(
            one, cycle_length=_READERS, num_parallel_calls=_READERS, deterministic=True
        ).unbatch()
        return records.batch(tf.reduce_sum(tf.gather(counts, numbers)))

    return read


def _records(stream: _Stream, seed: int, first: int, memory: int, mixed: int) -> Any:
    """Endless serialized records of a stream, from the `first` one on."""
    read, waves = _reader(stream), _waves(stream.counts, stream.wave(mixed), seed, first)

    def in_order(records: Any, order: Any) -> Any:
        return tf.data.Dataset.from_tensor_slices(order).map(lambda place: tf.gather(records, place))

    if stream.bytes > memory:
        return (
            waves.flat_map(lambda shards, order: read(shards).map(lambda records: (records, order)))
            .prefetch(1)
            .flat_map(in_order)
        )
    begins = tf.constant(np.cumsum(stream.counts) - stream.counts)  # of each shard, in all records

    def among_all(shards: Any, order: Any) -> Any:
        counts = tf.gather(stream.counts, shards)
        shift = tf.gather(begins, shards) - tf.cumsum(counts, exclusive=True)
        return order + tf.gather(tf.repeat(shift, counts), order)

    return read(np.arange(len(stream.shards))).flat_map(
        lambda records: waves.flat_map(lambda shards, order: in_order(records, among_all(shards, order)))
    )


def training_clips(
    shards: Sequence[Shard],
    spec: Spec,
    seed: int,
    batch: int,
    first_step: int = 0,
    *,
    streams: int = 1,
    stream: int | None = None,
    deterministic: bool = True,
    memory: int | None = None,
    mixed: int = MIXED,
) -> Any:
    """Endless batches from step `first_step` on: tf.data of dicts.

    image float32 [n, size, size, 3] in [-1, 1], audio float32 [n, window], group string [n], and begin and heard,
    int64 [n]: the record's sample at which the audio begins, and the one heard with the image. n is `batch`, or where
    one of several `streams` is asked for, its part of that. Each pass visits every record once, in an order of its own.
    A split that has at most `memory` bytes (None: a quarter of what is available) is kept. Where clips need not be the
    same every time (`deterministic=False`), those that are ready first come first.

    Raises TrainingError where shards are missing, of another size than they were written with, or too few.
    Iterate by `checked`.
    """
    if batch % streams:
        raise TrainingError(f"a batch of {batch} clips cannot be shared by {streams} workers equally")
    shards = [shard for shard in shards if shard.records]
    check(shards)
    count = sum(shard.records for shard in shards)
    if count < streams:
        raise TrainingError(f"{count} records to train on are too few for {streams} worker{'s' * (streams > 1)}")
    memory = int(CACHED * available_memory()) if memory is None else memory
    part = batch // streams

    def one(stream: int) -> Any:
        records = _records(_stream(shards, streams, stream), seed, first_step * part, memory // streams, mixed)

        def clip(position: Any, record: Any) -> dict[str, Any]:
            number = position // part * batch + stream * part + position % part  # in the batches of all streams
            return pairs.training_clip(record, tf.stack([seed, number]), spec)

        clips = records.enumerate(first_step * part).map(
            clip, num_parallel_calls=tf.data.AUTOTUNE, deterministic=deterministic
        )
        return clips.batch(part, drop_remainder=True)

    if stream is not None or streams == 1:
        return one(stream or 0).prefetch(2)
    all_parts = tf.data.Dataset.zip(tuple(one(stream) for stream in range(streams)))
    return all_parts.map(lambda *parts: {key: tf.concat([p[key] for p in parts], 0) for key in parts[0]}).prefetch(2)


def check(shards: Iterable[Shard]) -> None:
    """Raise TrainingError where a shard is not there, or not of the size it was written with."""
    for shard in shards:
        try:
            size = shard.path.stat().st_size
        except OSError as error:
            raise TrainingError(f"the shard {shard.path} cannot be read: {error.strerror}") from None
        if size != shard.bytes:
            raise TrainingError(
                f"the shard {shard.path} has {size} bytes, {shard.bytes} were written: copy it again, or prepare anew"
            )


def checked(clips: Iterable[Any], shards: Sequence[Shard]) -> Iterator[Any]:
    """The batches of `clips`; where a shard turns out to be damaged or gone, TrainingError names it."""
    iterator = iter(clips)
    while True:
        try:
            batch = next(iterator)
        except StopIteration:
            return
        except tf.errors.OpError as error:
            for shard in shards:
                if str(shard.path) in error.message:
                    raise _damaged(shard) from error
            raise
        yield batch


def _damaged(shard: Shard) -> TrainingError:
    check([shard])
    return TrainingError(f"the shard {shard.path} is damaged: copy it again, or prepare the videos anew")


def spread(count: int, at_most: int) -> NDArray[np.int64]:
    """Numbers of all of `count` records, or of `at_most`, evenly spread."""
    n = min(count, at_most)
    return (2 * np.arange(n) + 1) * count // (2 * max(1, n))


def read(shards: Iterable[Shard], numbers: Sequence[int] | NDArray[np.int64]) -> Iterator[bytes]:
    """The serialized records of these numbers, which rise, of all records of the shards.

    No other record is read. Raises TrainingError where a shard is damaged or gone.
    """
    begin = 0
    for shard in shards:
        own = {int(number) - begin for number in numbers if begin <= number < begin + shard.records}
        begin += shard.records
        if not own:
            continue
        check([shard])
        try:
            yield from records_at(shard.path, own)
        except (ValueError, OSError) as error:
            raise _damaged(shard) from error


def evaluation_clips(shards: Sequence[Shard], spec: Spec, at_least: int = 400, seed: int = 0) -> pairs.Clips:
    """Fixed clips without augmentation: frames evenly spread over each record, in the middle of their second.

    As many a record as it takes for `at_least` clips, if the records have so many frames. Where there are more
    records than that, `at_least` of them, evenly spread: all clips are in memory, decoded.
    """
    numbers = spread(sum(shard.records for shard in shards), at_least)
    return pairs.fixed_clips(read(shards, numbers), spec, math.ceil(at_least / max(1, len(numbers))), seed)
