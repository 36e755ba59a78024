"""A video file, or a part of one -> sound and pictures on one clock, or the reason why not.

Times are presentation times as decoded, so a stream that starts late keeps its place: a picture at time t and
the sample at time t were shown and heard together. Holes in the sound are filled with zeros for that reason.
(OpenL3's README says that its models were trained on positive pairs that "do not necessarily overlap in time": samples
were taken for seconds, as commit 8a0d31b of marl/l3embedding mends. tests/test_videos.py looks for such faults.)
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

from .decoding import decode
from .tracks import SAMPLE_RATE, Picture, RejectedError, Settings

__all__ = ["SAMPLE_RATE", "STATISTICS", "VERDICTS", "Segment", "Settings", "Video", "read_video"]

STATISTICS = "statistics.json"  # what a folder of shards is known by; here, where no TensorFlow is imported
VERDICTS = ("kept", "still", "silent", "no audio", "no video", "corrupt", "too short")

_SEGMENT = 10  # s at most in a record
_SILENCE = 10 ** (-60 / 20)  # RMS of the loudest tenth of a second: above dither and hiss, below a quiet tick
_STILL = 4  # grey levels of 255 by which some thumbnail pixel must change; codec noise stays below
_MICRO = 1_000_000


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


def read_video(
    path: Path | str | BinaryIO, settings: Settings, start: float | None = None, end: float | None = None
) -> Video:
    """Decode any container that FFmpeg knows; a bad file is a verdict, never an exception.

    Args:
        path: of the file, or the file itself, open for reading bytes and seekable
        start, end: seconds of the part wanted, counted from the file's first picture or sample (`decoding` says how it
            is read); None: from the beginning, to the end. The times in segments are the file's own all the same.

    Raises OSError where reading from a given file object does: that is not the video's fault.
    """
    try:
        if isinstance(path, (str, Path)):
            with Path(path).open("rb") as file:
                sound, pictures = decode(file, settings, start, end)
        else:
            sound, pictures = decode(path, settings, start, end)
        assert sound.start is not None
        return _judge(sound.finish(), sound.start, pictures.kept, settings.sample_rate)
    except RejectedError as rejected:
        return Video(*rejected.args)
    except av.error.FFmpegError as error:
        return Video("corrupt", f"{type(error).__name__}: {error.strerror}")
    except OSError as error:
        if not isinstance(path, (str, Path)):
            raise
        return Video("corrupt", f"it cannot be read: {error.strerror}")
    except Exception as error:  # whatever a broken file provokes in a decoder ends that file, not the run
        return Video("corrupt", f"{type(error).__name__}: {error}".split("\n")[0][:200])


def _judge(audio: NDArray[np.int16], start: float, pictures: list[Picture], rate: int) -> Video:
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
        video.reason = "throughout" if len(video.segments) == 1 else str(dict(video.segments))
    return video


def _verdict(audio: NDArray[np.int16], pictures: list[Picture], rate: int) -> str:
    if not pictures:
        return "too short"
    tenths = audio[: len(audio) // (rate // 10) * (rate // 10)].reshape(-1, rate // 10)
    if np.sqrt(np.mean((tenths / 32768) ** 2, 1).max()) < _SILENCE:
        return "silent"
    first = pictures[0].thumbnail.astype(np.int16)
    change = max(int(np.abs(p.thumbnail - first).max()) for p in pictures)
    return "still" if change < _STILL else "kept"
