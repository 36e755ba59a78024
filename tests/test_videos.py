"""Real files of all sorts -> the right verdict, and what was shown and heard at one time still is.

Each file holds two flashes, each with a tone as long: a picture that is white where it is silent, or black where it
sounds, is the fault that OpenL3's README reports of its published training data.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

for module in ("av", "soxr", "PIL"):
    pytest.importorskip(module, reason=f"reading videos needs {module}, which a device does not have")

import av  # noqa: E402
from PIL import Image  # noqa: E402

from training.videos import VERDICTS, Settings, Video, read_video  # noqa: E402

FPS = 20
FLASHES = ((1.0, 1.25), (2.0, 2.25))  # s
ALL = Settings(frame_rate=FPS)  # keeps every picture

Sound = Callable[[np.ndarray], np.ndarray]
Look = Callable[[float], np.ndarray]


def flashing(t: np.ndarray | float) -> np.ndarray:
    return np.any([(t >= begin - 1e-6) & (t < end - 1e-6) for begin, end in FLASHES], axis=0)


def beep(t: np.ndarray) -> np.ndarray:
    """[n] in [-1, 1]"""
    return 0.5 * np.sin(2 * np.pi * 1000 * t) * flashing(t)


def flash(t: float) -> np.ndarray:
    return np.full((48, 64, 3), 230 if flashing(t) else 20, np.uint8)


def sized(width: int, height: int) -> Look:
    return lambda t: np.full((height, width, 3), 230 if flashing(t) else 20, np.uint8)


def write(
    file: Path | io.RawIOBase,
    seconds: float = 3.0,
    look: Look | None = flash,
    sound: Sound | None = beep,
    look_from: float = 0.0,
    sound_from: float = 0.0,
    shift: float = 0.0,
    codecs: tuple[str, str] = ("libx264", "aac"),
    pixels: str = "yuv420p",
    samples: str | None = None,
    rate: int = 48_000,
    layout: str = "mono",
    times: Sequence[float] | None = None,
    rotation: int = 0,
    container: str | None = None,
    options: dict[str, str] | None = None,
    video_options: dict[str, str] | None = None,
) -> Any:
    """A file whose streams cover [their start, seconds) of one clock, on which `look` and `sound` are defined.

    shift: s, added to all time stamps. times: of the pictures, instead of FPS a second.
    """
    with av.open(file if not isinstance(file, Path) else str(file), "w", container, options=options or {}) as output:
        if look:
            fast = {"preset": "ultrafast"} if codecs[0] == "libx264" else {}
            video = output.add_stream(codecs[0], rate=FPS, options=fast | (video_options or {}))
            video.height, video.width = look(0.0).shape[:2]
            video.pix_fmt = pixels
            video.codec_context.time_base = Fraction(1, 1000) if times is not None else Fraction(1, FPS)
            if rotation:
                video.set_display_rotation(rotation)
        if sound:
            audio = output.add_stream(codecs[1], rate=rate, layout=layout)
            audio.bit_rate = 128_000
        packets = []
        if look:
            base = video.codec_context.time_base
            for time in np.arange(round(look_from * FPS), round(seconds * FPS)) / FPS if times is None else times:
                frame = av.VideoFrame.from_ndarray(look(float(time)), format="rgb24")
                frame.pts, frame.time_base = round((float(time) + shift) / base), base
                packets += video.encode(frame)
            packets += video.encode()
        if sound:
            packets += encode_sound(audio, sound, round(sound_from * rate), round(seconds * rate), shift, samples)
        output.mux(sorted(packets, key=lambda packet: float((packet.dts or 0) * packet.time_base)))
    return file


def encode_sound(
    audio: Any, sound: Sound, begin: int, end: int, shift: float = 0.0, samples: str | None = None
) -> list[av.Packet]:
    codec = audio.codec_context if hasattr(audio, "codec_context") else audio
    rate, layout = codec.sample_rate, codec.layout
    packets = []
    converter = av.AudioResampler(samples or codec.format.name, layout, rate)
    for i in range(begin, end, 1000):
        values = sound(np.arange(i, min(i + 1000, end)) / rate).astype(np.float32)
        channels = np.repeat(values, layout.nb_channels)[None]
        frame = av.AudioFrame.from_ndarray(channels, format="flt", layout=layout.name)
        frame.sample_rate, frame.pts, frame.time_base = rate, i + round(shift * rate), Fraction(1, rate)
        for converted in converter.resample(frame):
            packets += audio.encode(converted)
    return packets + audio.encode()


def onsets(times: np.ndarray, on: np.ndarray) -> np.ndarray:
    return times[np.flatnonzero(np.diff(on.astype(int), prepend=0) == 1)]


def assert_aligned(video: Video, rate: int = ALL.sample_rate, flashes: int = 2, tolerance: float = 1 / FPS) -> None:
    """Each flash begins with its tone, within a picture."""
    assert video.verdict == "kept", video
    seen, heard = [], []
    for segment in video.kept:
        grey = np.array([np.asarray(Image.open(io.BytesIO(jpeg)).convert("L")).mean() for jpeg in segment.frames])
        seen += list(onsets(np.array(segment.frame_times) / 1e6, grey > 128))
        # Loud within 5 ms on either side: a tone passes through zero.
        loud = np.abs(segment.audio) > 4000
        around = np.convolve(loud, np.ones(rate // 200), "full")[: len(loud)] > 0
        heard += list(onsets(segment.audio_start / 1e6 + np.arange(len(loud)) / rate, around))
    assert len(seen) == len(heard) == flashes, (seen, heard)
    np.testing.assert_allclose(seen, heard, rtol=0, atol=tolerance)


KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "mp4": ("a.mp4", {}),
    "mov": ("a.mov", {"codecs": ("mpeg4", "pcm_s16le")}),
    "mkv": ("a.mkv", {}),
    "ts": ("a.ts", {}),
    "ts, MPEG-2": ("a.ts", {"codecs": ("mpeg2video", "mp2")}),
    "avi": ("a.avi", {"codecs": ("mpeg4", "mp3")}),
    "avi, H.264 with B-frames": (
        "a.avi",
        {"video_options": {"preset": "fast", "bf": "2"}, "codecs": ("libx264", "mp3")},
    ),
    "webm": ("a.webm", {"codecs": ("libvpx", "libopus"), "video_options": {"deadline": "realtime", "cpu-used": "8"}}),
    "ogv": ("a.ogv", {"codecs": ("libvpx", "libopus"), "video_options": {"deadline": "realtime", "cpu-used": "8"}}),
    "flv": ("a.flv", {"codecs": ("flv1", "mp3"), "rate": 44_100}),
    "wmv": ("a.wmv", {"codecs": ("wmv2", "wmav2"), "rate": 44_100}),
    "mpg": ("a.mpg", {"codecs": ("mpeg2video", "mp2")}),
    "vob": ("a.vob", {"codecs": ("mpeg2video", "ac3")}),
    "3gp": ("a.3gp", {"codecs": ("h263", "aac"), "look": sized(176, 144)}),
    "mkv, FLAC and FFV1": ("a.mkv", {"codecs": ("ffv1", "flac")}),
}


def irregular() -> list[float]:
    """Times of pictures between 20 and 160 ms apart, one at each flash's beginning and end."""
    gaps = np.random.default_rng(0).uniform(0.02, 0.16, 40)
    times = [*np.cumsum(gaps), 0.0, *(time for flash in FLASHES for time in flash)]
    return sorted({round(float(time), 3) for time in times if time < 3})


PCM = {"codecs": ("mpeg4", "pcm_s16le")}
ODD: dict[str, tuple[str, dict[str, Any]]] = {
    "variable frame rate, mp4": ("a.mp4", {"times": irregular()}),
    "variable frame rate, mkv": ("a.mkv", {"times": irregular()}),
    **{f"{rate} Hz": ("a.mkv", {**PCM, "rate": rate}) for rate in (8000, 11_025, 22_050, 37_800, 96_000, 192_000)},
    **{layout: ("a.mkv", {**PCM, "layout": layout}) for layout in ("stereo", "2.1", "quad", "5.1", "7.1")},
    "5.1, AAC": ("a.mp4", {"layout": "5.1"}),
    "7.1, AAC": ("a.mp4", {"layout": "7.1"}),
    "8 bits": ("a.avi", {"codecs": ("mpeg4", "pcm_u8"), "layout": "stereo"}),
    "24 bits": ("a.mkv", {"codecs": ("mpeg4", "pcm_s24le")}),
    "32 bits": ("a.mkv", {"codecs": ("mpeg4", "pcm_s32le"), "layout": "stereo"}),
    "64 bits": ("a.nut", {"codecs": ("mpeg4", "pcm_s64le")}),
    "float": ("a.mkv", {"codecs": ("mpeg4", "pcm_f32le"), "layout": "stereo"}),
    "double": ("a.mkv", {"codecs": ("mpeg4", "pcm_f64le")}),
    "A-law": ("a.mov", {"codecs": ("mpeg4", "pcm_alaw")}),
    **{
        pixels: ("a.nut", {"codecs": (codec, "flac"), "pixels": pixels})
        for codec, pixels in (
            ("ffv1", "yuv422p10le"),
            ("ffv1", "gray"),
            ("ffv1", "gray16le"),
            ("ffv1", "yuva444p"),
            ("ffv1", "bgr0"),
            ("png", "rgb24"),
            ("png", "rgba64be"),
            ("png", "monob"),
            ("mjpeg", "yuvj420p"),
            ("libx264", "yuv444p"),
        )
    },
    "pal8": ("a.mov", {"codecs": ("qtrle", "pcm_s16le"), "pixels": "rgb24"}),
    "interlaced": ("a.ts", {"codecs": ("mpeg2video", "mp2"), "video_options": {"flags": "+ildct+ilme"}}),
    "2 wide, 300 high": ("a.nut", {"codecs": ("png", "flac"), "pixels": "rgb24", "look": sized(2, 300)}),
    "300 wide, 1 high": ("a.nut", {"codecs": ("png", "flac"), "pixels": "rgb24", "look": sized(300, 1)}),
    "1 wide, 1 high": ("a.nut", {"codecs": ("png", "flac"), "pixels": "rgb24", "look": sized(1, 1)}),
    "large": ("a.mp4", {"look": sized(1280, 720)}),
    # Not AVI: it stores no time of a beginning.
    **{
        f"{start}, {name}": (f"a.{name}", {**how, **({"codecs": ("libvpx", "libopus")} if name == "webm" else {})})
        for name in ("mp4", "mkv", "ts", "mov", "webm")
        for start, how in (
            ("sound late", {"sound_from": 0.73}),
            ("picture late", {"look_from": 0.65}),
            ("both late", {"shift": 7.0, "sound_from": 0.4}),
        )
    },
    "both negative": ("a.mp4", {"shift": -0.5, "options": {"avoid_negative_ts": "disabled"}}),
    "day-old broadcast": ("a.ts", {"shift": 86_400.0}),
    "fragmented": ("a.mp4", {"options": {"movflags": "frag_keyframe+empty_moov"}}),
}


@pytest.mark.parametrize(("name", "how"), [*KINDS.values(), *ODD.values()], ids=[*KINDS, *ODD])
def test_kinds(tmp_path: Path, name: str, how: dict[str, Any]) -> None:
    assert_aligned(read_video(write(tmp_path / name, **how), ALL))
