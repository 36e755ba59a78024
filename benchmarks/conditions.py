"""Sound as a device hears it: what becomes of a clip on the way to a model.

A condition is a function (float32 mono [n], Hz) -> (float32 mono [m], Hz); the model gets what it gives at the rate it
gives, and resamples as the SDK does. `CONDITIONS`, at the end, says what each name means. The noise is drawn from the
clip's own samples, so that the same clip always gets the same. Levels of noise are relative to the root mean square of
the whole clip.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from l3edge import audio

Samples = NDArray[np.float32]

TELEPHONE = (300.0, 3400.0)  # Hz
NOISE_RATE = 16_000  # Hz: what lies above no model here hears, and would make a ratio look better than it is
PINK_FROM = 20.0  # Hz; constant below


class Condition(NamedTuple):
    """A condition, and what it is in words."""

    text: str
    apply: Callable[[Samples, int], tuple[Samples, int]]


def as_published(samples: Samples, rate: int) -> tuple[Samples, int]:
    """Nothing is done."""
    return samples, rate


def gain(decibel: float) -> Callable[[Samples, int], tuple[Samples, int]]:
    """So much louder, in the 16 bits of a converter."""

    def apply(samples: Samples, rate: int) -> tuple[Samples, int]:
        return _in_16_bits(samples * np.float32(10 ** (decibel / 20))), rate

    return apply


def full_scale(samples: Samples, rate: int) -> tuple[Samples, int]:
    """The largest sample becomes 1; silence stays."""
    peak = np.abs(samples).max(initial=0)
    return (samples / peak if peak > 0 else samples), rate


def band_limit(samples: Samples, rate: int) -> tuple[Samples, int]:
    """`TELEPHONE` by a Butterworth filter with 36 dB an octave on both sides."""
    from scipy.signal import butter, sosfilt

    sections = butter(6, TELEPHONE, "bandpass", fs=rate, output="sos")
    return sosfilt(sections, samples).astype(np.float32), rate


def noise(decibel: float, pink: bool = False) -> Callable[[Samples, int], tuple[Samples, int]]:
    """At NOISE_RATE, with noise so far below the clip."""

    def apply(samples: Samples, rate: int) -> tuple[Samples, int]:
        heard = audio.resample(samples, rate, NOISE_RATE)
        made = np.random.default_rng(zlib.crc32(heard.tobytes())).normal(size=len(heard))
        if pink:
            frequency = np.fft.rfftfreq(len(made), 1 / NOISE_RATE)
            made = np.fft.irfft(np.fft.rfft(made) / np.sqrt(np.maximum(frequency, PINK_FROM)), len(made))
        level = _rms(heard) * 10 ** (-decibel / 20) / _rms(made)
        return (heard + level * made).astype(np.float32), NOISE_RATE

    return apply


def resampled(target: int) -> Callable[[Samples, int], tuple[Samples, int]]:
    """At another rate, by soxr."""

    def apply(samples: Samples, rate: int) -> tuple[Samples, int]:
        return audio.resample(samples, rate, target), target

    return apply


def clipped(decibel: float) -> Callable[[Samples, int], tuple[Samples, int]]:
    """Cut off so far below the largest sample."""

    def apply(samples: Samples, rate: int) -> tuple[Samples, int]:
        most = np.abs(samples).max(initial=0) * 10 ** (-decibel / 20)
        return np.clip(samples, -most, most).astype(np.float32), rate

    return apply


def bad_microphone(samples: Samples, rate: int) -> tuple[Samples, int]:
    """Noise of the room, a telephone's band, an amplifier that clips."""
    for step in (noise(15, pink=True), band_limit, clipped(12)):
        samples, rate = step(samples, rate)
    return samples, rate


def _in_16_bits(samples: Samples) -> Samples:
    made: Samples = (np.clip(np.rint(samples * 32768), -32768, 32767) / 32768).astype(np.float32)
    return made


def _rms(samples: NDArray[np.floating]) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


PUBLISHED = "as published"
CONDITIONS = {
    PUBLISHED: Condition("the clips as they are", as_published),
    "full scale": Condition("the loudest sample of each clip at full scale", full_scale),
    **{f"{level} dB": Condition(f"{-level} dB quieter, in 16 bits", gain(level)) for level in (-10, -20, -30, -40)},
    "300-3400 Hz": Condition("a telephone's band, 36 dB an octave", band_limit),
    "white noise": Condition("10 dB below the clip, of 0-8 kHz", noise(10)),
    "pink noise": Condition("10 dB below the clip, of 0-8 kHz", noise(10, pink=True)),
    **{
        f"{rate / 1000:g} kHz": Condition(f"recorded at {rate / 1000:g} kHz", resampled(rate))
        for rate in (48_000, 32_000, 22_050, 11_025, 8_000)
    },
    "bad microphone": Condition(
        "pink noise 15 dB below the clip, a telephone's band, clipped 12 dB below the peak", bad_microphone
    ),
}
