"""Shards -> training clips: one order by seed, whole or resumed, kept or read again, by one worker or many."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

for module in ("tensorflow", "av", "soxr", "PIL"):
    pytest.importorskip(module, reason=f"training needs {module}, which a device does not have")

from PIL import Image  # noqa: E402

from l3edge.spec import PRESETS, Spec  # noqa: E402
from training import pairs  # noqa: E402
from training.backend import tf  # noqa: E402
from training.cli import TrainingError  # noqa: E402
from training.input import checked, evaluation_clips, read, spread, training_clips  # noqa: E402
from training.shards import Shard, serialize  # noqa: E402
from training.videos import Segment  # noqa: E402

SPEC = PRESETS["edge-s"]
SIZES = (3, 1, 7, 2, 5)
RECORDS = sum(SIZES)
FRAMES = 4


def jpeg(side: int, number: int) -> bytes:
    """Noise: any resampling would change it."""
    content = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (side, side + 16, 3), np.uint8)
    Image.fromarray(pixels).save(content, "JPEG", quality=90)
    return content.getvalue()


def record(number: int, side: int = 72, seconds: float = 2.0) -> bytes:
    """The sound is a ramp, so a clip tells where it begins; the group is the number."""
    samples = np.arange(int(seconds * SPEC.sample_rate)).astype(np.int16)
    times = [int(1e6 * seconds * (k + 0.5) / FRAMES) for k in range(FRAMES)]
    segment = Segment(audio=samples, audio_start=0, frames=[jpeg(side, number)] * FRAMES, frame_times=times)
    return serialize(f"video {number}", str(number), [f"label {number % 3}"], segment)


def write(folder: Path, sizes: Sequence[int]) -> tuple[Shard, ...]:
    numbers = itertools.count()
    shards = []
    for i, size in enumerate(sizes):
        path = folder / f"train-{i:05d}-of-{len(sizes):05d}.tfrecord"
        with tf.io.TFRecordWriter(str(path)) as file:
            for number in itertools.islice(numbers, size):
                file.write(record(number))
        shards.append(Shard(path, size, path.stat().st_size))
    return tuple(shards)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> tuple[Shard, ...]:
    return write(tmp_path_factory.mktemp("shards"), SIZES)


def batches(
    shards: Sequence[Shard], count: int, batch: int = 4, first: int = 0, seed: int = 7, **how: Any
) -> list[Any]:
    clips = training_clips(shards, SPEC, seed, batch, first, **how)
    return list(itertools.islice(checked(clips, shards), count))


def numbers(clips: Sequence[Any]) -> list[int]:
    return [int(group) for batch in clips for group in batch["group"].numpy()]


def assert_same(one: Sequence[Any], two: Sequence[Any]) -> None:
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        assert set(a) == set(b)
        for key in a:
            np.testing.assert_array_equal(a[key], b[key], err_msg=key)


@pytest.mark.parametrize(("shards_a_wave", "steps"), [(1, (5,)), (2, (1, 4, 9, 12)), (5, (7,))])
def test_the_same_clips_from_any_step_on_kept_or_not(
    shards: tuple[Shard, ...], shards_a_wave: int, steps: tuple[int, ...]
) -> None:
    """3 passes over 18 records in batches of 4: steps within passes, at their ends, and across."""
    mixed = shards_a_wave * max(shard.bytes for shard in shards)
    whole = batches(shards, 14, mixed=mixed, memory=0)
    order = numbers(whole)
    passes = [order[k * RECORDS : (k + 1) * RECORDS] for k in range(3)]
    assert all(sorted(one) == list(range(RECORDS)) for one in passes)
    assert passes[0] != passes[1] != passes[2]
    assert_same(batches(shards, 14, mixed=mixed, memory=10**9), whole)
    for k, first in enumerate(steps):
        assert_same(batches(shards, 2, first=first, mixed=mixed, memory=k % 2 * 10**9), whole[first : first + 2])
    if shards_a_wave == len(shards):
        assert numbers(batches(shards, 5, seed=8, mixed=mixed)) != order[:20]
        assert len({int(np.searchsorted(np.cumsum(SIZES), number, "right")) for number in order[:6]}) > 2  # mixed


def test_kept_records_need_no_disk(tmp_path: Path) -> None:
    shards = write(tmp_path, (4, 4))
    clips = checked(training_clips(shards, SPEC, 0, 4, memory=10**9), shards)
    seen = [next(clips)]
    for shard in shards:
        shard.path.unlink()
    seen += itertools.islice(clips, 19)  # far beyond what was read ahead
    assert sorted(numbers(seen)) == sorted(10 * list(range(8)))


@pytest.mark.parametrize(("streams", "looked_at"), [(2, (0, 1)), (6, (0, 5))])
def test_the_parts_of_all_workers_are_the_global_batch(
    shards: tuple[Shard, ...], streams: int, looked_at: tuple[int, ...]
) -> None:
    """2 workers share the shards; 6 are more than there are shards, and share the records of each."""
    batch = 2 * streams
    whole = batches(shards, 9, batch, streams=streams)
    for stream in looked_at:
        part = batches(shards, 3, batch, streams=streams, stream=stream)
        own = [{key: value[2 * stream : 2 * stream + 2] for key, value in clips.items()} for clips in whole]
        assert_same(part, own[:3])
    assert_same(
        batches(shards, 2, batch, 3, streams=streams, stream=1, memory=0),
        [{key: value[2:4] for key, value in clips.items()} for clips in whole[3:5]],
    )
    seen = [set(numbers([{"group": clips["group"][2 * s : 2 * s + 2]} for clips in whole])) for s in range(streams)]
    assert sum(len(one) for one in seen) == RECORDS  # each record is read by one of them
    assert set().union(*seen) == set(range(RECORDS))


def test_bad_numbers_of_workers(shards: tuple[Shard, ...]) -> None:
    with pytest.raises(TrainingError, match="cannot be shared by 3 workers"):
        training_clips(shards, SPEC, 0, 4, streams=3)
    with pytest.raises(TrainingError, match="too few for 19 workers"):
        training_clips(shards, SPEC, 0, 19, streams=19)


def test_fewer_records_than_a_batch(tmp_path: Path) -> None:
    shards = (Shard(tmp_path / "nothing", 0, 0), *write(tmp_path, (3,)))  # a shard of no records is not read
    for memory in (0, 10**9):
        (clips,) = batches(shards, 1, batch=8, memory=memory)
        assert clips["image"].shape == (8, SPEC.image.size, SPEC.image.size, 3)
        assert clips["audio"].shape == (8, SPEC.window)
        order = numbers([clips])
        assert set(order[:3]) == set(order[3:6]) == {0, 1, 2}
    with pytest.raises(TrainingError, match="0 records to train on"):
        training_clips(shards[:1], SPEC, 0, 8)


def test_clips_in_the_order_they_are_ready_are_of_the_same_records(shards: tuple[Shard, ...]) -> None:
    clips = batches(shards, 9, deterministic=False, memory=0)  # exactly two passes
    assert sorted(numbers(clips)) == sorted(2 * list(range(RECORDS)))


@pytest.mark.parametrize(("harm", "memory"), [("bit", 0), ("bit", 10**9), ("cut", 0), ("gone", 0)])
def test_a_damaged_shard_is_named(tmp_path: Path, harm: str, memory: int) -> None:
    shards = write(tmp_path, (2, 2))
    clips = training_clips(shards, SPEC, 0, 2, memory=memory, mixed=1)
    path = shards[1].path
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(content if harm == "bit" else content[:-1])
    message = {
        "bit": "is damaged",
        "cut": f"has {len(content) - 1} bytes, {len(content)} were",
        "gone": "cannot be read",
    }
    with pytest.raises(TrainingError, match=f"{path}.*{message[harm]}"):  # found in training
        list(itertools.islice(checked(clips, shards), 9))
    with pytest.raises(TrainingError, match=f"{path}.*{message[harm]}"):
        list(read(shards, range(4)))
    if harm != "bit":  # found before it
        with pytest.raises(TrainingError, match=f"{path}.*{message[harm]}"):
            training_clips(shards, SPEC, 0, 2)


def test_other_errors_keep_their_name(shards: tuple[Shard, ...]) -> None:
    broken = tf.data.Dataset.from_tensors("not a number").map(tf.strings.to_number)
    with pytest.raises(tf.errors.InvalidArgumentError, match="not a number"):
        list(checked(broken, shards))


def test_sound_and_picture_overlap_and_are_cut_from_the_record(shards: tuple[Shard, ...]) -> None:
    """The sound is a ramp: each clip must be its own stretch of it, at a volume within 10 %."""
    clips = batches(shards, 1, batch=256)[0]
    begin, heard, audio = (clips[key].numpy() for key in ("begin", "heard", "audio"))
    assert (begin >= 0).all()
    assert (begin <= heard).all()
    assert (heard < begin + SPEC.window).all()
    assert (begin + SPEC.window <= 2 * SPEC.sample_rate).all()
    ramp = (begin[:, None] + np.arange(SPEC.window)) / 32768
    gain = audio[:, -1] / ramp[:, -1]
    np.testing.assert_allclose(audio, ramp * gain[:, None], rtol=1e-5, atol=1e-7)
    assert 1 - pairs.VOLUME <= gain.min() < 0.92
    assert 1.08 < gain.max() <= 1 + pairs.VOLUME + 1e-5
    assert len(set(heard)) == FRAMES
    assert clips["image"].numpy().min() >= -1
    assert clips["image"].numpy().max() <= 1


def test_pictures_of_256_give_224_without_resampling(monkeypatch: pytest.MonkeyPatch) -> None:
    """l3-net's crop: the very pixels, somewhere in the picture, plain or mirrored, and every place is reached."""
    spec: Spec = PRESETS["l3-net"]
    assert spec.image.size == 224
    content = jpeg(256, 5)
    picture = tf.image.decode_jpeg(content, channels=3).numpy()
    assert picture.shape == (256, 272, 3)
    monkeypatch.setattr(pairs, "BRIGHTNESS", 0.0)
    monkeypatch.setattr(pairs, "SATURATION", (1.0, 1.0 + 1e-7))
    segment = Segment(audio=np.zeros(96_000, np.int16), audio_start=0, frames=[content], frame_times=[1_000_000])
    data = serialize("a", "a", [], segment)
    clip = tf.function(
        lambda number: pairs.training_clip(data, tf.stack([tf.constant(0, tf.int64), number]), spec)["image"]
    )
    places, mirrored = set(), set()
    for number in range(60):
        found = np.rint((clip(tf.constant(number, tf.int64)).numpy() + 1) * 127.5).astype(np.uint8)
        for flip in (False, True):
            square = found[:, ::-1] if flip else found
            rows, columns = np.nonzero((picture[:33, :49] == square[0, 0]).all(-1))
            match = [
                (top, left)
                for top, left in zip(rows, columns, strict=True)
                if np.array_equal(picture[top : top + 224, left : left + 224], square)
            ]
            if match:
                places.add(match[0])
                mirrored.add(flip)
                break
        else:
            raise AssertionError(f"clip {number} holds other pixels than the picture")
    assert mirrored == {False, True}
    tops, lefts = zip(*places, strict=True)
    assert min(tops) <= 4
    assert max(tops) >= 28
    assert min(lefts) <= 4
    assert max(lefts) >= 44


def test_brightness_and_saturation_are_as_published() -> None:
    """On one colour, whose brightness and saturation tell what was done to it."""
    colour = np.array([0.6, 0.5, 0.4], np.float32)
    image = tf.constant(np.tile(colour, (8, 8, 1)))
    jitter = tf.function(
        lambda seed: pairs._jittered(image, tf.unstack(tf.random.experimental.stateless_split(seed, 4)))
    )
    found = np.array([jitter(tf.constant([3, number])).numpy()[0, 0] for number in range(300)])
    highest, lowest = found.max(1), found.min(1)
    brightness = highest - 0.6  # saturation leaves the highest channel as it is
    assert -32 / 255 - 1e-5 <= brightness.min() < -0.11
    assert 0.11 < brightness.max() <= 32 / 255 + 1e-5
    # Saturation is (highest - lowest) / highest; brightness, before it or after, moves all channels alike.
    contrast = (highest - lowest) / 0.2
    times = np.stack([contrast, contrast * 0.6 / highest])  # saturation first, or brightness first
    inside = (times >= 0.5 - 1e-4) & (times <= 1.5 + 1e-4)
    assert inside.any(0).all()
    assert contrast.min() < 0.6
    assert contrast.max() > 1.4


def test_evaluation_clips_are_fixed_bounded_and_spread(shards: tuple[Shard, ...], tmp_path: Path) -> None:
    clips = evaluation_clips(shards, SPEC, 40)
    assert len(clips.images) == len(clips.audio) == 3 * RECORDS  # 3 of each record's 4 frames
    for one, two in zip(clips, evaluation_clips(shards, SPEC, 40), strict=True):
        np.testing.assert_array_equal(one, two)
    assert len(clips.other) == len(clips.images)
    assert len(evaluation_clips(shards, SPEC).images) == FRAMES * RECORDS
    few = evaluation_clips(shards, SPEC, 4)
    chosen = [data for k, data in enumerate(read(shards, range(RECORDS))) if k in (2, 6, 11, 15)]
    for one, two in zip(few, pairs.fixed_clips(chosen, SPEC, 1, 0), strict=True):
        np.testing.assert_array_equal(one, two)
    assert evaluation_clips(shards[1:2], SPEC).other.size == 0  # one video
    assert evaluation_clips((), SPEC).images.shape == (0, SPEC.image.size, SPEC.image.size, 3)


def test_negatives_are_of_other_source_videos() -> None:
    groups = np.array(["a", "a", "b", "c", "c"])
    other, same_label = pairs._negatives(groups, [{b"x"}, {b"x"}, {b"x", b"y"}, set(), set()], 0)
    assert (groups[other] != groups).all()
    assert not same_label[3:].any()
    assert (same_label[:3] == (other[:3] < 3)).all()


def test_records_are_read_by_number(shards: tuple[Shard, ...]) -> None:
    assert list(spread(18, 4)) == [2, 6, 11, 15]
    assert list(spread(3, 4)) == [0, 1, 2]
    assert list(spread(0, 4)) == []
    assert list(read(shards, [0, 3, 4, 17])) == [record(number) for number in (0, 3, 4, 17)]
