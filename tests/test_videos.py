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
FLASHES = ((1.0, 1.25), (2.0, 2.25), (8.8, 9.0), (13.1, 13.3), (17.0, 17.25))  # s
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


def assert_same(one: Video, two: Video) -> None:
    assert (one.verdict, one.reason, len(one.kept)) == (two.verdict, two.reason, len(two.kept))
    for a, b in zip(one.kept, two.kept, strict=True):
        np.testing.assert_array_equal(a.audio, b.audio)
        assert a[1:] == b[1:]


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
        f"{start}, {name}": (f"a.{name}", how)
        for name in ("mp4", "mkv", "ts", "mov")
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


@pytest.mark.parametrize("name", ["a.mp4", "a.ts", "a.mkv", "a.avi"])
def test_a_file_object_is_as_good_as_a_path(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, codecs=("mpeg4", "mp3"))
    for part in ((None, None), (0.5, 2.5)):
        with path.open("rb") as file:
            videos = [read_video(source, ALL, *part) for source in (file, path, str(path))]
        assert videos[0].verdict == "kept"
        assert_same(videos[0], videos[1])
        assert_same(videos[0], videos[2])


class Pipe(io.RawIOBase):
    """What is written goes out at once: nobody can come back to fill in a duration."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("wb")

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self.file.write(data)


@pytest.mark.parametrize(("container", "codecs"), [("matroska", ("libx264", "aac")), ("avi", ("mjpeg", "pcm_s16le"))])
def test_a_duration_that_is_missing(tmp_path: Path, container: str, codecs: tuple[str, str]) -> None:
    pipe = Pipe(tmp_path / "a")
    write(pipe, container=container, codecs=codecs, pixels="yuvj420p" if codecs[0] == "mjpeg" else "yuv420p")
    pipe.file.close()
    assert_aligned(read_video(tmp_path / "a", ALL))


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_pictures_come_out_upright(tmp_path: Path, rotation: int) -> None:
    """The camera was held sideways: what it stored is turned by so much clockwise."""

    def upright(t: float) -> np.ndarray:
        picture = np.full((64, 48, 3), 100 + (int(t * FPS) % 2) * 20, np.uint8)
        picture[:16] = (230, 20, 20)  # red sky,
        picture[40:, :16] = (20, 20, 230)  # blue at the lower left
        return picture

    path = write(tmp_path / "a.mp4", look=lambda t: np.rot90(upright(t), -rotation // 90).copy(), rotation=rotation)
    (segment,) = read_video(path, ALL).kept
    for jpeg in segment.frames:
        picture = np.asarray(Image.open(io.BytesIO(jpeg))).astype(int)
        assert picture.shape == (64, 48, 3)
        assert picture[4:12, 4:44, 0].min() > 150 > 100 > picture[4:12, 4:44, 2].max()
        assert picture[46:60, 3:12, 2].min() > 150 > 100 > picture[46:60, 3:12, 0].max()


def still(t: float) -> np.ndarray:
    return np.tile(np.arange(64, dtype=np.uint8)[None, :, None], (48, 1, 3))


def make_still(folder: Path) -> Path:
    return write(folder / "a.mp4", look=still)


def make_one_picture(folder: Path) -> Path:
    return write(folder / "a.mp4", times=[0.0], sound=lambda t: np.sin(3000 * t))


def make_silent(folder: Path) -> Path:
    return write(folder / "a.mp4", sound=lambda t: 0 * t)


def make_mute(folder: Path) -> Path:
    return write(folder / "a.mp4", sound=None)


def make_blind(folder: Path) -> Path:
    return write(folder / "a.mp4", look=None)


def make_short(folder: Path) -> Path:
    return write(folder / "a.mp4", seconds=0.6)


def make_apart(folder: Path) -> Path:
    return write(folder / "a.mkv", look=flash, sound_from=2.7)


def make_sound_without_packets(folder: Path) -> Path:
    return _add_silent_stream(folder / "a.mkv", "audio")


def make_sound_without_packets_mp4(folder: Path) -> Path:
    return _add_silent_stream(folder / "a.mp4", "audio")


def make_pictures_without_packets(folder: Path) -> Path:
    return _add_silent_stream(folder / "a.mkv", "video")


def _add_silent_stream(path: Path, empty: str) -> Path:
    """Both streams have a header; one has nothing else."""
    source = write(path.with_stem("whole"))
    with av.open(str(source)) as whole, av.open(str(path), "w") as output:
        copies = {stream: output.add_stream_from_template(stream) for stream in whole.streams}
        for packet in whole.demux():
            if packet.dts is not None and packet.stream.type != empty:
                packet.stream = copies[packet.stream]
                output.mux(packet)
    return path


def make_cover(folder: Path) -> Path:
    """Music with a picture on its sleeve."""
    path = folder / "a.mp4"
    write(folder / "music.mp4", look=None)
    Image.fromarray(still(0)).save(folder / "cover.png")
    music, cover = av.open(str(folder / "music.mp4")), av.open(str(folder / "cover.png"))
    with music, cover, av.open(str(path), "w") as output:
        sound = output.add_stream_from_template(music.streams.audio[0])
        picture = output.add_stream_from_template(cover.streams.video[0])
        picture.disposition = av.stream.Disposition.attached_pic
        packets = [(picture, next(cover.demux())), *((sound, p) for p in music.demux() if p.dts is not None)]
        for stream, packet in packets:
            packet.stream = stream
            output.mux(packet)
    return path


def make_noise(folder: Path) -> Path:
    (folder / "a.mp4").write_bytes(np.random.default_rng(0).bytes(50_000))
    return folder / "a.mp4"


def make_nothing(folder: Path) -> Path:
    (folder / "a.mp4").write_bytes(b"")
    return folder / "a.mp4"


def make_text(folder: Path) -> Path:
    (folder / "a.mp4").write_text("You have reached your download limit.\n" * 50)
    return folder / "a.mp4"


def make_playlist(folder: Path) -> Path:
    """That names another file must not make it that file."""
    write(folder / "b.ts")
    (folder / "a.mp4").write_text("ffconcat version 1.0\nfile 'b.ts'\n")
    return folder / "a.mp4"


def make_http_playlist(folder: Path) -> Path:
    (folder / "a.mp4").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://localhost:1/a.ts\n")
    return folder / "a.mp4"


def make_absent(folder: Path) -> Path:
    return folder / "a.mp4"


def make_folder(folder: Path) -> Path:
    return folder


def make_headless(folder: Path) -> Path:
    """Cut in half, and the index was at the end."""
    return cut(write(folder / "a.mp4"), 0.5)


def make_noise_inside(folder: Path) -> Path:
    """The index is whole; most of what it points to is not."""
    path = write(folder / "a.mp4", options={"movflags": "faststart"})
    content = bytearray(path.read_bytes())
    begin = content.find(b"mdat") + 200
    content[begin:-200] = np.random.default_rng(0).bytes(len(content) - 200 - begin)
    path.write_bytes(content)
    return path


def cut(path: Path, share: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: round(len(content) * share)])
    return path


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "still": (make_still, "still"),
    "one picture": (make_one_picture, "still"),
    "silent": (make_silent, "silent"),
    "mute": (make_mute, "no audio"),
    "sound without packets, mkv": (make_sound_without_packets, "no audio"),
    "sound without packets, mp4": (make_sound_without_packets_mp4, "no audio"),
    "blind": (make_blind, "no video"),
    "pictures without packets": (make_pictures_without_packets, "no video"),
    "cover": (make_cover, "no video"),
    "short": (make_short, "too short"),
    "apart": (make_apart, "too short"),
    "noise": (make_noise, "corrupt"),
    "empty": (make_nothing, "corrupt"),
    "text": (make_text, "corrupt"),
    "playlist": (make_playlist, "corrupt"),
    "HTTP playlist": (make_http_playlist, "corrupt"),
    "absent": (make_absent, "corrupt"),
    "folder": (make_folder, "corrupt"),
    "headless": (make_headless, "corrupt"),
    "noise inside": (make_noise_inside, "corrupt"),
}


@pytest.mark.parametrize(("make", "verdict"), BAD.values(), ids=BAD)
def test_bad_files(tmp_path: Path, make: Callable[[Path], Path], verdict: str) -> None:
    video = read_video(make(tmp_path), ALL)
    assert video.verdict == verdict, video
    assert video.reason
    assert not video.kept


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi", "a.webm"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.97])
def test_truncated_files(tmp_path: Path, name: str, share: float) -> None:
    """What says how long it is, and is not by more than a tenth and half a second, is corrupt.

    A transport stream says nothing: its beginning is as good a video as any, if it is long enough.
    """
    codecs = {"a.avi": ("mjpeg", "pcm_s16le"), "a.webm": ("libvpx", "libopus")}.get(name, ("libx264", "mp2"))
    path = write(
        tmp_path / name,
        seconds=6.0,
        codecs=codecs,
        pixels="yuvj420p" if codecs[0] == "mjpeg" else "yuv420p",
        options={"movflags": "faststart"} if name == "a.mp4" else {},
        video_options={"g": "10"},
    )
    video = read_video(cut(path, share), ALL)
    if share == 0.97:
        assert_aligned(video)
    elif name == "a.ts" and share > 0.1:
        assert_aligned(video, flashes=1 if share == 0.3 else 2)
    elif name == "a.ts":
        assert video.verdict == "too short"
    else:
        assert video.verdict == "corrupt", video


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi"])
def test_damaged_files_end_in_a_verdict(tmp_path: Path, name: str) -> None:
    whole = write(tmp_path / name, codecs=("mpeg4", "mp3")).read_bytes()
    generator = np.random.default_rng(1)
    verdicts = set()
    for count in (1, 3, 10, 30, 100, 300, 1000, 3000):
        damaged = np.frombuffer(whole, np.uint8).copy()
        at = generator.integers(0 if count > 5 else 2000, len(damaged), count)
        damaged[at] ^= generator.integers(1, 256, count).astype(np.uint8)
        video = read_video(io.BytesIO(damaged.tobytes()), ALL)
        assert (video.verdict == "kept") == bool(video.kept)
        assert video.verdict in VERDICTS
        assert video.kept or video.reason
        verdicts.add(video.verdict)
    assert {"kept", "corrupt"} <= verdicts


def hum(t: np.ndarray) -> np.ndarray:
    """Never silent, never the same: what is cut out can be found again."""
    return beep(t) + 0.05 * np.sin(2 * np.pi * (200 * t + 9 * t**2))


def flicker(t: float) -> np.ndarray:
    return flash(t) + np.uint8(round(t * FPS) % 7)


def first_time(path: Path) -> float:
    """s, of the first picture or sample."""
    times = []
    for kind in ("video", "audio"):
        with av.open(str(path)) as container:
            times.append(next(container.decode(**{kind: 0})).time)
    return min(times)


FULL_RATE = Settings(frame_rate=FPS, sample_rate=48_000)  # no resampler
LONG: dict[str, tuple[str, dict[str, Any]]] = {
    "mp4": ("a.mp4", {}),
    "mp4, B-frames": ("a.mp4", {"video_options": {"preset": "fast", "bf": "3", "g": "50"}}),
    "mp4, one key frame": ("a.mp4", {"video_options": {"g": "1000", "sc_threshold": "0"}}),
    "mp4, key frame at the start": ("a.mp4", {"video_options": {"g": "20"}}),
    "mp4, sound late": ("a.mp4", {"sound_from": 2.73}),
    "mp4, picture late": ("a.mp4", {"look_from": 1.65}),
    "mp4, both late": ("a.mp4", {"shift": 7.0, "sound_from": 0.4}),
    "mkv": ("a.mkv", {}),
    "mkv, sound very late": ("a.mkv", {"sound_from": 9.2}),
    "mkv, picture late": ("a.mkv", {"look_from": 1.65}),
    "ts": ("a.ts", {}),
    "ts, sound late": ("a.ts", {"sound_from": 2.73}),
    "ts, picture late": ("a.ts", {"look_from": 1.65, "shift": 100.0}),
    "ts, MPEG-2": ("a.ts", {"codecs": ("mpeg2video", "mp2"), "video_options": {"bf": "2", "g": "40"}}),
    "mpg": ("a.mpg", {"codecs": ("mpeg2video", "mp2")}),
    "avi": ("a.avi", {"codecs": ("mpeg4", "mp3")}),
    "flv": ("a.flv", {"codecs": ("flv1", "mp3"), "rate": 44_100}),
    "ogv": ("a.ogv", {"codecs": ("libvpx", "flac"), "video_options": {"deadline": "realtime", "cpu-used": "8"}}),
    "wmv": ("a.wmv", {"codecs": ("wmv2", "wmav2")}),
}


@pytest.mark.parametrize(("name", "how"), LONG.values(), ids=LONG)
def test_a_part_is_what_cutting_leaves(tmp_path: Path, name: str, how: dict[str, Any]) -> None:
    """The same pictures, the same samples, and sound and picture together as in the whole."""
    path = write(tmp_path / name, 20.0, flicker, hum, **{"video_options": {"g": "50"}, **how})
    settings = FULL_RATE._replace(sample_rate=how.get("rate", 48_000))
    whole = read_video(path, settings)
    assert len(whole.kept) >= 2, whole
    audio = np.concatenate([segment.audio for segment in whole.kept])
    pictures = {t: f for segment in whole.kept for t, f in zip(segment.frame_times, segment.frames, strict=True)}
    origin = first_time(path)
    part = read_video(path, settings, 8.0, 15.0)
    (segment,) = part.kept
    begin, end = (origin + 8.0) * 1e6, (origin + 15.0) * 1e6
    expected = {t: f for t, f in pictures.items() if begin - 1 <= t < end - 1}
    assert dict(zip(segment.frame_times, segment.frames, strict=True)) == expected
    assert_aligned(part, settings.sample_rate, flashes=1 if how.get("sound_from") == 9.2 else 2)

    ticks = 48 if name in ("a.mkv", "a.flv", "a.wmv") else 2  # their clocks go by milliseconds
    at = round((segment.audio_start - whole.kept[0].audio_start) / 1e6 * settings.sample_rate)
    near = range(max(0, at - ticks), at + ticks + 1)
    best = min(np.abs(audio[i : i + len(segment.audio)].astype(int) - segment.audio).max() for i in near)
    assert best <= (1 if how.get("codecs", ("", ""))[1] == "mp2" else 0)  # its decoder rounds by what came before
    assert 0 <= segment.audio_start - begin < 1.5e6


@pytest.mark.parametrize("name", ["a.ts", "a.mkv"])
@pytest.mark.parametrize("rates", [(48_000, 44_100), (16_000, 48_000), (22_050, 16_000)])
def test_a_sample_rate_that_changes(tmp_path: Path, name: str, rates: tuple[int, int]) -> None:
    with av.open(str(tmp_path / name), "w") as output:
        video = output.add_stream("libx264", rate=FPS, options={"preset": "ultrafast"})
        video.width, video.height = 64, 48
        audio = output.add_stream("mp2", rate=rates[0], layout="mono")
        packets = encode_sound(audio, beep, 0, round(1.5 * rates[0]))
        second = av.CodecContext.create("mp2", "w")
        second.sample_rate, second.layout, second.format = rates[1], "mono", "s16"
        second.open()
        for packet in encode_sound(second, beep, round(1.5 * rates[1]), 3 * rates[1]):
            packet.stream = audio
            packets.append(packet)
        for i in range(3 * FPS):
            packets += video.encode(av.VideoFrame.from_ndarray(flash(i / FPS), format="rgb24"))
        packets += video.encode()
        output.mux(sorted(packets, key=lambda packet: float(packet.dts * packet.time_base)))
    video = read_video(tmp_path / name, ALL)
    assert_aligned(video)
    assert abs(sum(len(segment.audio) for segment in video.kept) / 16_000 - 3.0) < 0.2


def test_several_streams(tmp_path: Path) -> None:
    """The first pair counts; other languages, a second camera, and subtitles that go on for a minute do not."""
    (tmp_path / "a.srt").write_text(
        "1\n00:00:01,000 --> 00:00:02,000\nHello\n\n2\n00:00:59,000 --> 00:01:00,000\nBye\n"
    )
    sources = [
        av.open(str(path))
        for path in (
            write(tmp_path / "1.mp4"),
            write(tmp_path / "2.mp4", look=still, sound=lambda t: np.sin(9000 * t)),
            tmp_path / "a.srt",
        )
    ]
    with av.open(str(tmp_path / "a.mkv"), "w") as output:
        copies = {id(s): output.add_stream_from_template(s) for source in sources for s in source.streams}
        for source in sources:
            for packet in source.demux():
                if packet.dts is not None:
                    packet.stream = copies[id(packet.stream)]
                    output.mux(packet)
            source.close()
    video = read_video(tmp_path / "a.mkv", ALL)
    assert_aligned(video)


def test_a_clock_that_starts_again(tmp_path: Path) -> None:
    """Two recordings in one file, as `cat` leaves them: the second is heard and seen before the first ended."""
    one = write(tmp_path / "one.ts").read_bytes()
    (tmp_path / "a.ts").write_bytes(one + one)
    assert_aligned(read_video(tmp_path / "a.ts", ALL))


def test_a_stream_that_appears_on_the_way(tmp_path: Path) -> None:
    """A broadcast goes on with a second language."""
    path = tmp_path / "b.ts"
    with av.open(str(write(tmp_path / "a.ts", shift=12.0))) as source, av.open(str(path), "w") as output:
        copies = [output.add_stream_from_template(source.streams[i]) for i in (0, 1, 1, 1)]
        for packet in source.demux():
            for copy in copies if packet.dts is not None else ():
                if copy.type == packet.stream.type:
                    again = av.Packet(bytes(packet))
                    again.pts, again.dts, again.time_base, again.stream = packet.pts, packet.dts, packet.time_base, copy
                    again.is_keyframe = packet.is_keyframe
                    output.mux(again)
    first = write(tmp_path / "first.ts", 12.0, flicker, hum).read_bytes()
    assert_aligned(read_video(io.BytesIO(first + path.read_bytes()), ALL), flashes=5)


def test_a_broadcast_that_was_cut_anywhere(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.ts", 6.0, flicker, hum, video_options={"g": "15"}).read_bytes()
    begin = len(whole) // 188 // 8 * 188
    assert_aligned(read_video(io.BytesIO(whole[begin:]), ALL))


def test_tags_that_are_no_utf8(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(write(tmp_path / "b.mkv"))) as source, av.open(str(path), "w") as output:
        output.metadata["title"] = "Le café"
        copies = {id(stream): output.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = copies[id(packet.stream)]
                output.mux(packet)
    content = path.read_bytes()
    assert b"caf\xc3\xa9" in content
    path.write_bytes(content.replace(b"caf\xc3\xa9", b"caf\xe9 "))
    assert_aligned(read_video(path, ALL))


def test_a_part_beyond_the_end(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4")
    video = read_video(path, ALL, 30.0, 40.0)
    assert video.verdict == "too short"
    assert video.reason == "the part begins at 30.0 s, and the file ends at 3.0 s"
    assert_aligned(read_video(path, ALL, None, 40.0))
    assert_aligned(read_video(path, ALL, 0.5, None))


def test_a_file_object_that_fails_is_not_the_videos_fault(tmp_path: Path) -> None:
    class Torn(io.FileIO):
        reads = 0

        def read(self, size: int | None = -1) -> bytes:
            self.reads += 1
            if self.reads > 1:
                raise OSError("connection reset")
            return super().read(size)

    path = write(tmp_path / "a.mp4", 10.0, flicker, hum)
    with Torn(str(path)) as file, pytest.raises(OSError, match="connection reset"):
        read_video(file, ALL)
