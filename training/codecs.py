"""Sound through a lossy codec and back, at the low rates of telephones, messengers and cheap recorders."""

from __future__ import annotations

import functools
import io
from typing import NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

from l3edge.audio import resample

from .tracks import mono


class Codec(NamedTuple):
    """An encoder of FFmpeg's, the container that says how much of its delay to skip, and what it can be asked for."""

    name: str
    encoder: str
    container: str
    format: str  # of samples
    rates: tuple[int, ...]  # Hz
    bit_rates: tuple[int, ...]  # bit/s; 0: it has but one


_TABLE = (
    Codec("mp3", "libmp3lame", "mp3", "fltp", (8000, 16000), (8_000, 16_000, 24_000, 48_000)),
    Codec("aac", "aac", "mp4", "fltp", (8000, 16000), (12_000, 20_000, 32_000, 48_000)),
    Codec("opus", "libopus", "ogg", "flt", (8000, 16000), (6_000, 8_000, 12_000, 24_000)),
    Codec("amr", "libopencore_amrnb", "amr", "s16", (8000,), (4_750, 7_400, 12_200)),
    Codec("mulaw", "pcm_mulaw", "wav", "s16", (8000,), (0,)),
    Codec("g722", "g722", "wav", "s16", (16000,), (0,)),
    Codec("adpcm", "adpcm_ima_wav", "wav", "s16p", (8000, 16000), (0,)),
)


@functools.lru_cache
def available() -> tuple[Codec, ...]:
    """Those that this build of FFmpeg can encode."""
    return tuple(codec for codec in _TABLE if _has(codec.encoder))


def _has(encoder: str) -> bool:
    try:
        av.codec.Codec(encoder, "w")
    except av.codec.codec.UnknownCodecError:
        return False
    return True


def round_trip(samples: NDArray[np.float32], rate: int, name: str, at: int, bit_rate: int) -> NDArray[np.float32]:
    """Sound [n] at `rate`, full scale 1.0, encoded at `at` Hz and decoded: [n] at `rate` again.

    Where a codec delays its sound and its container does not say so, it comes late, and the end is cut.
    """
    codec = next(codec for codec in available() if codec.name == name)
    narrow = resample(samples, rate, at)
    file = io.BytesIO()
    _encode(file, codec, narrow, at, bit_rate)
    file.seek(0)
    with av.open(file) as container:
        frames = [(frame.sample_rate, mono(frame)) for frame in container.decode(audio=0)]
    decoded = resample(np.concatenate([sound for _, sound in frames]), frames[0][0], rate)[: len(samples)]
    return np.pad(decoded, (0, len(samples) - len(decoded)))


def _encode(file: io.BytesIO, codec: Codec, samples: NDArray[np.float32], rate: int, bit_rate: int) -> None:
    with av.open(file, "w", format=codec.container, options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream(codec.encoder, rate=rate, layout="mono")
        stream.codec_context.format = codec.format
        stream.codec_context.thread_count = 1
        if bit_rate:
            stream.bit_rate = bit_rate
        if codec.format.startswith("s16"):
            samples = np.rint(np.clip(samples, -1, 1) * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), format=codec.format, layout="mono")
        frame.sample_rate = rate
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
