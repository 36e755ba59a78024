"""A video file -> sound and pictures on one clock, or the reason why not.

Times are presentation times as decoded, so a stream that starts late keeps its place: a picture at time t and
the sample at time t were shown and heard together. Holes in the sound are filled with zeros for that reason.
"""

from __future__ import annotations

import io
import itertools
import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from l3edge.audio import Resampler
from l3edge.spec import PRESETS

SAMPLE_RATE = PRESETS["edge-s"].sample_rate  # Hz, unless told otherwise
STATISTICS = "statistics.json"  # what a folder of shards is known by; here, where no TensorFlow is imported
VERDICTS = ("kept", "still", "silent", "no audio", "no video", "corrupt", "too short")

_SEGMENT = 10  # s at most in a record
_SILENCE = 10 ** (-60 / 20)  # RMS of the loudest tenth of a second: above dither and hiss, below a quiet tick
_STILL = 4  # grey levels of 255 by which some thumbnail pixel must change; codec noise stays below
_THUMBNAIL = (32, 32)
_JITTER = 0.05  # s: audio time stamps are rounded to as much as a millisecond or a frame by some containers
_LONGEST_HOLE = 600.0  # s
_MICRO = 1_000_000


class Settings(NamedTuple):
    """What `prepare` lets a user choose about decoding."""

    frame_rate: float = 5.0  # pictures kept per second
    frame_size: int = 110  # pixels of a picture's small side; larger ones are scaled down
    jpeg_quality: int = 90
    sample_rate: int = SAMPLE_RATE  # Hz, of the sound that is kept


class Segment(NamedTuple):
    """At most 10 s of one video, both clocks in microseconds of presentation time."""

    audio: NDArray[np.int16]  # [n] at settings.sample_rate, mono
    audio_start: int  # when audio[0] is heard
    frames: list[bytes]  # JPEG, each shown while some sample of `audio` is heard
    frame_times: list[int]


@dataclass
class Video:
    """A verdict (one of VERDICTS), why, and the usable segments; `segments` counts all by their verdict."""

    verdict: str
    reason: str = ""
    kept: list[Segment] = field(default_factory=list)
    segments: Counter[str] = field(default_factory=Counter)


class _RejectedError(Exception):
    """verdict, reason"""


class _Sound:
    """The audio stream, resampled as it comes, in true time."""

    def __init__(self, target: int) -> None:
        self._target = target  # Hz
        self.rate = 0  # of the stream; 0 until it began
        self.start = 0.0  # s
        self._read = 0  # samples at `rate`, holes included
        self._chunks: list[NDArray[np.int16]] = []
        self._resampler: Resampler | None = None

    @property
    def end(self) -> float:
        """Seconds."""
        return self.start + self._read / (self.rate or 1)

    def add(self, frame: av.AudioFrame) -> None:
        samples = _mono(frame)
        time = self.end if frame.time is None else frame.time
        if not self.rate:
            self.rate, self.start = frame.sample_rate, time
            if self.rate != self._target:
                self._resampler = Resampler(self.rate, self._target)
        elif frame.sample_rate != self.rate:
            raise _RejectedError("corrupt", f"its sample rate changes from {self.rate} to {frame.sample_rate} Hz")
        hole = round((time - self.start) * self.rate) - self._read
        if abs(hole) > _LONGEST_HOLE * self.rate:
            raise _RejectedError("corrupt", f"its audio clock jumps by {hole / self.rate:.0f} s")
        if hole > _JITTER * self.rate:
            self._take(np.zeros(hole, np.float32))
        elif hole < -_JITTER * self.rate:
            samples = samples[-hole:]
        self._take(samples)

    def _take(self, samples: NDArray[np.float32], last: bool = False) -> None:
        self._read += len(samples)
        if self._resampler:
            samples = self._resampler.flush() if last else self._resampler.push(samples)
        self._chunks.append(np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16))

    def finish(self) -> NDArray[np.int16]:
        """All samples, int16 [n] at settings.sample_rate."""
        if self.rate:
            self._take(np.zeros(0, np.float32), last=True)
        return np.concatenate(self._chunks) if self._chunks else np.zeros(0, np.int16)


def _mono(frame: av.AudioFrame) -> NDArray[np.float32]:
    """Mean of the channels, float32 [n], full scale 1.0, non-finite samples zero."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    if samples.dtype == np.uint8:
        samples = (samples.astype(np.float32) - 128) / 128
    elif samples.dtype.kind == "i":
        samples = samples / -float(np.iinfo(samples.dtype).min)
    return np.nan_to_num(samples.mean(0, dtype=np.float64), posinf=0, neginf=0).astype(np.float32)


class _Picture(NamedTuple):
    time: float  # s
    jpeg: bytes
    thumbnail: NDArray[np.int16]


class _Pictures:
    """Pictures of the video stream, `frame_rate` a second."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.kept: list[_Picture] = []
        self.end = -math.inf  # s, the latest time decoded
        self._next = -math.inf

    def add(self, frame: av.VideoFrame) -> None:
        if frame.time is None or frame.is_corrupt:
            return
        self.end = max(self.end, frame.time)
        if frame.time < self._next:
            return
        first = self.kept[0].time if self.kept else frame.time
        rate = self.settings.frame_rate
        self._next = first + (math.floor((frame.time - first) * rate + 1e-6) + 1) / rate - 1e-6
        scale = min(1.0, self.settings.frame_size / min(frame.width, frame.height))
        small = frame.reformat(
            width=max(1, round(frame.width * scale)),
            height=max(1, round(frame.height * scale)),
            format="rgb24",
            interpolation="AREA",
        )
        image = Image.fromarray(small.to_ndarray())
        if frame.rotation:
            image = image.rotate(frame.rotation, expand=True)
        jpeg = io.BytesIO()
        image.save(jpeg, "JPEG", quality=self.settings.jpeg_quality)
        thumbnail = np.asarray(image.convert("L").resize(_THUMBNAIL, Image.Resampling.BOX), np.int16)
        self.kept.append(_Picture(frame.time, jpeg.getvalue(), thumbnail))


def read_video(path: Path, settings: Settings) -> Video:
    """Decode any container that FFmpeg knows; a bad file is a verdict, never an exception."""
    try:
        sound, pictures = _decode(path, settings)
        return _judge(sound.finish(), sound.start, pictures.kept, settings.sample_rate)
    except _RejectedError as rejected:
        return Video(*rejected.args)
    except av.error.FFmpegError as error:
        return Video("corrupt", f"{type(error).__name__}: {error.strerror}")
    except Exception as error:  # whatever a broken file provokes in a decoder ends that file, not the run
        return Video("corrupt", f"{type(error).__name__}: {error}".split("\n")[0][:200])


def _decode(path: Path, settings: Settings) -> tuple[_Sound, _Pictures]:
    sound, pictures = _Sound(settings.sample_rate), _Pictures(settings)
    with av.open(str(path)) as container:
        covers = av.stream.Disposition.attached_pic  # a music file's cover is no video
        video = next((s for s in container.streams.video if not s.disposition & covers), None)
        audio = next(iter(container.streams.audio), None)
        if video is None:
            raise _RejectedError("no video", "the file has no video stream")
        if audio is None:
            raise _RejectedError("no audio", "the file has no audio stream")
        for packet in container.demux(video, audio):
            for frame in packet.decode():
                (sound if packet.stream is audio else pictures).add(frame)
        declared = (container.duration or 0) / av.time_base
    if not pictures.kept:
        raise _RejectedError("no video", "the video stream holds no picture")
    if not sound.rate:
        raise _RejectedError("no audio", "the audio stream holds no sample")
    decoded = max(pictures.end, sound.end) - min(pictures.kept[0].time, sound.start)
    if decoded < 0.9 * declared - 0.5:
        raise _RejectedError("corrupt", f"truncated: {decoded:.1f} s of {declared:.1f} s can be decoded")
    return sound, pictures


def _judge(audio: NDArray[np.int16], start: float, pictures: list[_Picture], rate: int) -> Video:
    """Cut what was both seen and heard into segments, and keep those that can teach something.

    Audio further than a window, 1 s, from any picture can be in no pair and is left out.
    """
    at = np.array([round((p.time - start) * rate) for p in pictures])  # the sample heard with each picture
    first, last = max(0, at[0] - rate), min(len(audio), at[-1] + rate)
    if last - first < rate or not np.any((at >= first) & (at < last)):
        overlap = max(0.0, (min(len(audio), at[-1]) - max(0, at[0])) / rate)
        return Video("too short", f"{overlap:.2f} s of sound and picture together, 1 s needed")
    count = math.ceil((last - first) / (_SEGMENT * rate))
    bounds = [first + (last - first) * i // count for i in range(count + 1)]
    video = Video("kept")
    for begin, end in itertools.pairwise(bounds):
        inside = [p for p, sample in zip(pictures, at, strict=True) if begin <= sample < end]
        sound = audio[begin:end]
        verdict = _verdict(sound, inside, rate)
        video.segments[verdict] += 1
        if verdict == "kept":
            times = [round(p.time * _MICRO) for p in inside]
            begin_time = round((start + begin / rate) * _MICRO)
            video.kept.append(Segment(sound, begin_time, [p.jpeg for p in inside], times))
    if not video.kept:
        video.verdict = video.segments.most_common(1)[0][0]
        video.reason = "so in all its segments" if len(video.segments) == 1 else str(dict(video.segments))
    return video


def _verdict(audio: NDArray[np.int16], pictures: list[_Picture], rate: int) -> str:
    if not pictures:
        return "too short"
    tenths = audio[: len(audio) // (rate // 10) * (rate // 10)].reshape(-1, rate // 10)
    if np.sqrt(np.mean((tenths / 32768) ** 2, 1).max()) < _SILENCE:
        return "silent"
    change = max(int(np.abs(p.thumbnail - pictures[0].thumbnail).max()) for p in pictures)
    return "still" if change < _STILL else "kept"
