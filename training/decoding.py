"""Decode a file, or a part of one, as far as it can be decoded, and say where it is no whole file.

A part [start, end) is counted from the file's first picture or sample, whichever is earlier. It is read from a key
frame a second or more before it, or from the beginning where the container cannot seek or where what comes after
seeking starts too late. It is what cutting the decoded file would leave: of the sound the samples whose time is in
[start, end), and the resampler sees no others; of the pictures the first one there, then `frame_rate` a second. Time
stamps are as exact as the container's (1 ms in Matroska): a part's sound may lie that much beside the whole file's.

A single bad packet is skipped, as players do; what it held is a hole. What cannot be decoded before the first picture
does not count: a broadcast that was cut anywhere begins so.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, BinaryIO

import av

from .tracks import Part, Pictures, RejectedError, Settings, Sound

_BAD = 0.1  # of a stream's packets, or of the declared duration: a file that lacks more is not whole
_SLACK = 0.5  # s by which declared durations are wrong anyway
_MARGINS = (1.0, 8.0, 64.0)  # s before a part, tried in turn: decoders need what came before
_PREROLL = 0.1  # s of sound that a decoder must have had to be exact: 80 ms for Opus, a frame for AAC
_INTERLEAVING = 10.0  # s that one stream may be stored after the other
_UNTOLD = 1 << 30  # pictures in an AVI that was written into a pipe


class _Reader:
    """One pass over an open container."""

    def __init__(self, file: BinaryIO) -> None:
        file.seek(0)
        # No protocol, not even files: a playlist that calls itself a video shall not make us read other files, or open
        # addresses. Tags may be in any encoding.
        self.container = av.open(file, options={"protocol_whitelist": "none"}, metadata_errors="replace")
        streams = self.container.streams
        covers = av.stream.Disposition.attached_pic  # a music file's cover is no video
        self.video = _first([s for s in streams.video if not s.disposition & covers])
        self.audio = _first(list(streams.audio))
        self.packets: Counter[str] = Counter()
        self.bad: Counter[str] = Counter()
        self.begun: set[str] = set()  # types of stream of which something was decoded
        self.ended = False  # the container was read to its end,
        self.broken = ""  # or why it could not be

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.container.close()

    def frames(self) -> Iterator[av.VideoFrame | av.AudioFrame]:
        packets = self.container.demux(*[stream for stream in (self.video, self.audio) if stream])
        while True:
            try:
                packet = next(packets)
            except (StopIteration, IndexError):
                # IndexError: at its end PyAV 18.1 empties the decoders also of streams that appeared on the way, as in
                # a broadcast, and does not find them; those before were emptied.
                self.ended = True
                return
            except av.error.FFmpegError as error:
                self.broken = f"{type(error).__name__}: {error.strerror}"
                return
            kind = packet.stream.type
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                frames = []
                self.bad[kind] += kind in self.begun
            self.packets[kind] += packet.size > 0  # the last one only empties the decoder
            for frame in frames:
                if isinstance(frame, av.VideoFrame) and frame.is_corrupt:
                    self.bad[kind] += kind in self.begun
                else:
                    self.begun.add(kind)
                    yield frame

    def declared(self) -> float:
        """Seconds that the file says it lasts; 0 if it does not say."""
        if self.container.format.name == "avi":  # what FFmpeg says of it is a guess from the file's size
            frames, rate = self.video.frames, self.video.average_rate
            return float(frames / rate) if rate and frames < _UNTOLD else 0.0
        streams = [_declared(stream) for stream in (self.video, self.audio) if stream]
        if any(streams):
            return max(streams)
        return (self.container.duration or 0) / av.time_base


def _declared(stream: Any) -> float:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    # Matroska's own is that of the longest stream, which may be subtitles; most writers leave this for each.
    tag = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    return int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3]) if tag else 0.0


def _first(streams: list[Any]) -> Any | None:
    """The one that the file says to play, else the first; of those that can be decoded, if any can."""
    able = [stream for stream in streams if stream.codec_context is not None] or streams
    return next((s for s in able if s.disposition & av.stream.Disposition.default), able[0] if able else None)


def decode(
    file: BinaryIO, settings: Settings, start: float | None = None, end: float | None = None
) -> tuple[Sound, Pictures]:
    """What was heard and seen of a file (seekable), or from `start` to `end` of it, s.

    Raises RejectedError with a verdict, or av.error.FFmpegError, where there is nothing to keep.
    """
    if start is None and end is None:
        found = _attempt(file, settings, Part(), None, {})
        assert found is not None
        return found
    first = _first_times(file)
    origin = min(first.values(), default=0.0)
    part = Part(origin + (start or 0.0), math.inf if end is None else origin + end, origin)
    for margin in _MARGINS:
        if margin < part.begin - origin:
            found = _attempt(file, settings, part, part.begin - margin, first)
            if found:
                return found
    found = _attempt(file, settings, part, None, first)
    assert found is not None
    return found


def _first_times(file: BinaryIO) -> dict[str, float]:
    """Type of stream -> time of the first thing decoded, as far as that is known soon."""
    first: dict[str, float] = {}
    with _Reader(file) as reader:
        for frame in reader.frames():
            if frame.time is None:
                continue
            first.setdefault(_kind(frame), frame.time)
            if len(first) == 2 or frame.time > min(first.values()) + _INTERLEAVING:
                break
    return first


def _kind(frame: av.VideoFrame | av.AudioFrame) -> str:
    return "video" if isinstance(frame, av.VideoFrame) else "audio"


def _attempt(
    file: BinaryIO, settings: Settings, part: Part, seek: float | None, first: dict[str, float]
) -> tuple[Sound, Pictures] | None:
    """Decode from `seek`, s, or from the beginning; None if seeking did not come out where it should."""
    sound, pictures = Sound(settings.sample_rate, part), Pictures(settings, part)
    with _Reader(file) as reader:
        _check_streams(reader)
        if seek is not None:
            try:
                reader.container.seek(round(seek * av.time_base))
            except av.error.FFmpegError:
                return None
        rate = reader.video.average_rate
        for frame in reader.frames():
            track = pictures if isinstance(frame, av.VideoFrame) else sound
            if seek is not None and track.latest is None:
                latest = max(part.begin - _PREROLL, first.get(_kind(frame), -math.inf))
                if frame.time is None or frame.time > latest + 1e-6 or not frame.key_frame:
                    return None
            if isinstance(frame, av.VideoFrame):
                pictures.add(frame, float(1 / rate) if rate else 0.04)
            else:
                sound.add(frame)
            if _over(sound.latest, pictures.latest, part.end):
                break
        if seek is not None and (sound.latest is None or pictures.latest is None):
            return None
        _check_whole(reader, sound, pictures, part)
    return sound, pictures


def _over(sound: float | None, pictures: float | None, end: float) -> bool:
    """Whether nothing before `end` is to come."""
    times = [-math.inf if time is None else time for time in (sound, pictures)]
    return min(times) >= end or max(times) >= end + _INTERLEAVING


def _check_streams(reader: _Reader) -> None:
    for kind, stream in (("video", reader.video), ("audio", reader.audio)):
        if stream is None:
            raise RejectedError(f"no {kind}", f"the file has no {kind} stream")
        if stream.codec_context is None:
            raise RejectedError("corrupt", f"there is no decoder for its {kind} stream")


def _check_whole(reader: _Reader, sound: Sound, pictures: Pictures, part: Part) -> None:
    """Raises RejectedError where too little of what there should be could be decoded, or nothing is kept."""
    ends = [track.latest for track in (sound, pictures) if track.latest is not None]
    if not ends:
        raise RejectedError("corrupt", reader.broken or "nothing in it can be decoded")
    for kind in ("video", "audio"):
        if reader.bad[kind] > _BAD * reader.packets[kind]:
            what = f"{reader.bad[kind]} of {reader.packets[kind]} {kind} packets cannot be decoded"
            raise RejectedError("corrupt", what)
    origin = part.origin
    if origin is None:
        origin = min(track.earliest for track in (sound, pictures) if track.earliest is not None)
    begin, declared = max(part.begin, origin), reader.declared()
    # Matroska counts the duration from zero, whenever its streams begin.
    wanted = min(part.end, min(0.0, origin) + declared) - begin
    decoded = max(0.0, min(part.end, max(ends)) - begin)
    if declared and wanted > 0 and decoded < (1 - _BAD) * wanted - _SLACK:
        reason = f"; {reader.broken}" if reader.broken else ""
        raise RejectedError("corrupt", f"truncated: {decoded:.1f} s of {wanted:.1f} s can be decoded{reason}")
    if reader.broken and not declared:
        raise RejectedError("corrupt", f"after {decoded:.1f} s: {reader.broken}")
    for kind, stream, track, what in (
        ("video", reader.video, pictures, "picture"),
        ("audio", reader.audio, sound, "sample"),
    ):
        if track.latest is None:
            if reader.packets[kind] or (reader.ended and stream.frames):
                raise RejectedError("corrupt", f"nothing of its {kind} stream can be decoded")
            raise RejectedError(f"no {kind}", f"the {kind} stream holds no {what}")
    if not pictures.kept or sound.start is None:
        raise RejectedError(
            "too short", f"the part begins at {begin - origin:.1f} s, and the file ends at {max(ends) - origin:.1f} s"
        )
