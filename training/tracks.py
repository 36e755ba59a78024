"""The sound and the pictures of a video as they are decoded: onto one clock, resampled to int16, scaled to small JPEGs.

Nothing of full size is held: an hour costs its int16 samples (115 MB at 16 kHz; twice for a moment at the end) and its
kept pictures (about 5 KB each at 110 pixels, thumbnail included, 5 a second: 90 MB).
"""

from __future__ import annotations

import io
import math
from typing import NamedTuple

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray
from PIL import Image

from l3edge.audio import Resampler
from l3edge.spec import PRESETS

SAMPLE_RATE = PRESETS["edge-s"].sample_rate  # Hz, unless told otherwise

_THUMBNAIL = (32, 32)
_JITTER = 0.05  # s: audio time stamps are rounded to as much as a millisecond or a frame by some containers
_LONGEST_HOLE = 600.0  # s
_SAMPLES = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}  # FFmpeg's name: NumPy's


class Settings(NamedTuple):
    """What `prepare` lets a user choose about decoding."""

    frame_rate: float = 5.0  # pictures kept per second
    frame_size: int = 110  # pixels of a picture's small side; larger ones are scaled down
    jpeg_quality: int = 90
    sample_rate: int = SAMPLE_RATE  # Hz, of the sound that is kept


class RejectedError(Exception):
    """verdict, reason"""


class Part(NamedTuple):
    """What is wanted of a file, seconds of presentation time."""

    begin: float = -math.inf
    end: float = math.inf
    origin: float | None = None  # where the file begins, if a part of it is wanted


class Sound:
    """The audio stream, resampled as it comes, in true time: holes are filled with zeros, overlaps dropped."""

    def __init__(self, target: int, part: Part) -> None:
        self._target = target  # Hz
        self._part = part
        self.earliest: float | None = None  # s, the first that was decoded, wanted or not; None: nothing was
        self.latest: float | None = None  # s, its end
        self.start: float | None = None  # s, of the first sample kept
        self._rate = 0  # Hz, of the stream, which may change
        self._since = 0.0  # s, when this rate began
        self._read = 0  # samples at this rate, holes included
        self._chunks: list[NDArray[np.int16]] = []
        self._resampler: Resampler | None = None

    @property
    def _now(self) -> float:
        return self._since + self._read / self._rate

    def add(self, frame: av.AudioFrame) -> None:
        samples, rate = mono(frame), frame.sample_rate
        time = frame.time if frame.time is not None else (self.latest or 0.0)
        self.earliest = time if self.earliest is None else self.earliest
        self.latest = time + len(samples) / rate
        if self.start is None:
            samples, time = _from(samples, time, rate, self._part.begin)
            if not len(samples):
                return
            self.start = self._since = time
        if rate != self._rate:
            self._change_rate(rate)
        hole = round((time - self._now) * rate)
        if abs(hole) > _LONGEST_HOLE * rate:
            raise RejectedError("corrupt", f"its audio clock jumps by {hole / rate:.0f} s")
        if hole > _JITTER * rate:
            for begin in range(0, hole, rate):
                self._take(np.zeros(min(rate, hole - begin), np.float32))
        elif hole < -_JITTER * rate:
            samples = samples[-hole:]
        self._take(samples)

    def _change_rate(self, rate: int) -> None:
        if self._rate:
            self._since = self._now
            self._flush()
        self._rate, self._read = rate, 0
        self._resampler = Resampler(rate, self._target) if rate != self._target else None

    def _take(self, samples: NDArray[np.float32]) -> None:
        if self._part.end < math.inf:
            samples = samples[: max(0, _ceil((self._part.end - self._since) * self._rate) - self._read)]
        self._read += len(samples)
        self._keep(self._resampler.push(samples) if self._resampler else samples)

    def _keep(self, samples: NDArray[np.float32]) -> None:
        self._chunks.append(np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16))

    def _flush(self) -> None:
        if self._resampler:
            self._keep(self._resampler.flush())

    def finish(self) -> NDArray[np.int16]:
        """All samples kept, int16 [n] at settings.sample_rate."""
        self._flush()
        return np.concatenate(self._chunks) if self._chunks else np.zeros(0, np.int16)


def _from(samples: NDArray[np.float32], time: float, rate: int, begin: float) -> tuple[NDArray[np.float32], float]:
    if time >= begin:
        return samples, time
    skipped = _ceil((begin - time) * rate)
    return samples[skipped:], time + skipped / rate


def _ceil(samples: float) -> int:
    return math.ceil(samples - 1e-3)  # time stamps are binary fractions


def mono(frame: av.AudioFrame) -> NDArray[np.float32]:
    """Mean of the channels, float32 [n], full scale 1.0, non-finite samples zero.

    Not by frame.to_ndarray(), which knows no 64-bit integers, and in PyAV 18.1 takes planar 7.1 for nine channels, the
    last of them other memory.
    """
    dtype, channels = _SAMPLES[frame.format.name.removesuffix("p")], frame.layout.nb_channels
    if frame.format.is_planar:
        samples = np.stack([np.frombuffer(plane, dtype, frame.samples) for plane in frame.planes[:channels]])
    else:
        samples = np.frombuffer(frame.planes[0], dtype, frame.samples * channels).reshape(-1, channels).T
    if dtype == "u1":
        samples = (samples.astype(np.float32) - 128) / 128
    elif samples.dtype.kind == "i":
        samples = samples / -float(np.iinfo(samples.dtype).min)
    return np.nan_to_num(samples.mean(0, dtype=np.float64), posinf=0, neginf=0).astype(np.float32)


class Picture(NamedTuple):
    """One that is kept."""

    time: float  # s
    jpeg: bytes
    thumbnail: NDArray[np.uint8]  # grey [32, 32]


class Pictures:
    """Pictures of the video stream, `frame_rate` a second, upright."""

    def __init__(self, settings: Settings, part: Part) -> None:
        self._settings = settings
        self._part = part
        self._reformatter = VideoReformatter()
        self.earliest: float | None = None  # s, the first that was decoded, wanted or not; None: nothing was
        self.latest: float | None = None  # s, the last
        self.kept: list[Picture] = []
        self._next = part.begin

    def add(self, frame: av.VideoFrame, interval: float) -> None:
        """`interval`: seconds between pictures, where they have no time stamps."""
        time = _time(frame)
        if time is None:
            time = 0.0 if self.latest is None else self.latest + interval
        if self.latest is not None and time - self.latest > _LONGEST_HOLE:
            raise RejectedError("corrupt", f"its video clock jumps by {time - self.latest:.0f} s")
        self.earliest = time if self.earliest is None else self.earliest
        self.latest = time if self.latest is None else max(self.latest, time)
        if time < self._next - 1e-6 or time >= self._part.end - 1e-6:
            return
        first = self.kept[0].time if self.kept else time
        rate = self._settings.frame_rate
        self._next = first + (math.floor((time - first) * rate + 1e-6) + 1) / rate
        self.kept.append(self._picture(frame, time))

    def _picture(self, frame: av.VideoFrame, time: float) -> Picture:
        scale = min(1.0, self._settings.frame_size / min(frame.width, frame.height))
        small = self._reformatter.reformat(
            frame,
            width=max(1, round(frame.width * scale)),
            height=max(1, round(frame.height * scale)),
            format="rgb24",
            interpolation="AREA",
        )
        image = Image.fromarray(small.to_ndarray())
        if frame.rotation:
            image = image.rotate(frame.rotation, expand=True)
        jpeg = io.BytesIO()
        image.save(jpeg, "JPEG", quality=self._settings.jpeg_quality)
        thumbnail = np.asarray(image.convert("L").resize(_THUMBNAIL, Image.Resampling.BOX), np.uint8)
        return Picture(time, jpeg.getvalue(), thumbnail)


def _time(frame: av.VideoFrame) -> float | None:
    if frame.time is None and frame.dts is not None and frame.time_base:
        return float(frame.dts * frame.time_base)  # AVI has no other
    return frame.time
