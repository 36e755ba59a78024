"""What happens to a sound between its source and an embedding: rooms, bad microphones, noise, telephones, codecs.

`draw` decides what is done to a clip and `apply` does it. Half of the clips stay clean but for their level.
Peaks of finished clips are uniform in decibels from `QUIETEST` to full scale.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, signal

from l3edge.audio import resample

from . import codecs

Sound = NDArray[np.float32]  # [n]
Step = tuple[str, dict[str, Any]]  # what is done, and its parameters; they travel as JSON

QUIETEST = -40.0  # dB of full scale, of a clip's peak
_CLEAN = 1 / 2  # of the clips
_SILENT = 0.01  # of the clips: nothing but zeros, or a hiss far below everything


def draw(rng: np.random.Generator) -> list[Step]:
    """What is done to one clip, in order; its level comes last."""
    if rng.random() < _SILENT:
        return [("silence", {"db": round(rng.uniform(-90, -60), 1) if rng.random() < 0.7 else None})]
    steps: list[Step] = []
    if rng.random() >= _CLEAN:
        while not steps:
            steps = [step(rng) for step, share in _CHAIN if rng.random() < share]
    return [*steps, ("level", {"db": round(rng.uniform(QUIETEST, 0), 1)})]


def apply(sound: Sound, rate: int, steps: list[Step], rng: np.random.Generator) -> Sound:
    """The sound [n], full scale 1.0, after all steps: float32 [n]. What is random in rooms and noise is of `rng`."""
    for name, parameters in steps:
        sound = np.asarray(_DO[name](sound, rate, rng, **parameters), np.float32)
    return sound


def level(sound: NDArray[Any], rate: int) -> float:
    """RMS of the louder half of a sound's tenths of a second: pauses do not make it quieter. 0.0 of silence."""
    size = max(1, min(rate // 10, len(sound)))
    parts = sound[: len(sound) // size * size].reshape(-1, size)
    powers = np.sort(np.mean(np.square(parts, dtype=np.float64), 1))
    return float(np.sqrt(np.mean(powers[len(powers) // 2 :])))


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _draw_room(rng: np.random.Generator) -> Step:
    return "room", {"rt60": round(_log_uniform(rng, 0.1, 1.2), 2), "wet_db": round(rng.uniform(-15, 3), 1)}


def _room(sound: Sound, rate: int, rng: np.random.Generator, rt60: float, wet_db: float) -> NDArray[Any]:
    """Exponentially decaying noise after a few early reflections; `wet_db`: energy of all that to the direct sound."""
    n = round(rt60 * rate)
    response = rng.standard_normal(n) * 10 ** (-3 * np.arange(n) / n)
    response[: round(0.01 * rate)] = 0
    early = rng.integers(round(0.002 * rate), round(0.04 * rate), rng.integers(3, 9))
    response[early] += rng.choice([-1.0, 1.0], len(early)) * rng.uniform(2, 6, len(early))
    response *= 10 ** (wet_db / 20) / np.sqrt(np.sum(response**2))
    response[0] = 1
    return np.asarray(signal.fftconvolve(sound, response)[: len(sound)])


def _draw_equaliser(rng: np.random.Generator) -> Step:
    peaks = [
        [round(_log_uniform(rng, 80, 7000)), round(rng.uniform(-12, 12), 1), round(_log_uniform(rng, 0.2, 1.5), 2)]
        for _ in range(rng.integers(0, 4))
    ]
    return "equaliser", {"tilt": round(rng.uniform(-3, 3), 1), "peaks": peaks}


def _equaliser(
    sound: Sound, rate: int, rng: np.random.Generator, tilt: float, peaks: list[list[float]]
) -> NDArray[Any]:
    """`tilt` in dB an octave about 1 kHz, not below 60 Hz; `peaks`: centre [Hz], gain [dB], width [octaves]."""
    size = fft.next_fast_len(len(sound) + rate // 10, real=True)
    octaves = np.log2(np.maximum(fft.rfftfreq(size, 1 / rate), 60) / 1000)
    db = tilt * octaves
    for centre, gain, width in peaks:
        db += gain * np.exp(-0.5 * ((octaves - np.log2(centre / 1000)) / width) ** 2)
    return np.asarray(fft.irfft(fft.rfft(sound, size) * 10 ** (db / 20), size)[: len(sound)])


def _draw_noise(rng: np.random.Generator) -> Step:
    colour = str(rng.choice(["white", "pink", "brown", "hum"]))
    return "noise", {"colour": colour, "snr_db": round(rng.uniform(5, 40), 1)}


def _noise(sound: Sound, rate: int, rng: np.random.Generator, colour: str, snr_db: float) -> NDArray[Any]:
    n = len(sound)
    if colour == "hum":
        base = rng.choice([50.0, 60.0]) * np.arange(1, 16)
        strengths = rng.uniform(0, 1, 15) / np.arange(1, 16) ** rng.uniform(0.3, 1.5)
        phases = rng.uniform(0, 2 * np.pi, 15)
        time = np.arange(n) / rate
        noise = sum(s * np.sin(2 * np.pi * f * time + p) for f, s, p in zip(base, strengths, phases, strict=True))
    else:
        size = fft.next_fast_len(n, real=True)
        power = {"white": 0.0, "pink": -0.5, "brown": -1.0}[colour]
        shape = np.maximum(fft.rfftfreq(size, 1 / rate), 20) ** power
        noise = fft.irfft(fft.rfft(rng.standard_normal(n), size) * shape, size)[:n]
    noise = np.asarray(noise)
    return sound + noise * (level(sound, rate) / np.sqrt(np.mean(noise**2)) * 10 ** (-snr_db / 20))


def _draw_band(rng: np.random.Generator) -> Step:
    kind = rng.integers(3)
    low = 300 if kind == 0 else round(_log_uniform(rng, 60, 600)) if kind == 1 else None
    high = 3400 if kind == 0 else round(_log_uniform(rng, 1000, 6500)) if kind == 2 else None
    return "band", {"low": low, "high": high}


def _band(sound: Sound, rate: int, rng: np.random.Generator, low: int | None, high: int | None) -> NDArray[Any]:
    """Butterworth of order 4 between `low` and `high` Hz, either of which may be missing."""
    edges, kind = ((low, high), "bandpass") if low and high else (low, "highpass") if low else (high, "lowpass")
    return np.asarray(signal.sosfilt(signal.butter(4, edges, kind, fs=rate, output="sos"), sound))


def _draw_resample(rng: np.random.Generator) -> Step:
    return "resample", {"through": int(rng.choice([8000, 8000, 11025, 22050]))}


def _resample(sound: Sound, rate: int, rng: np.random.Generator, through: int) -> NDArray[Any]:
    back = resample(resample(sound, rate, through), through, rate)[: len(sound)]
    return np.pad(back, (0, len(sound) - len(back)))


def _draw_clipping(rng: np.random.Generator) -> Step:
    return "clipping", {"over_db": round(rng.uniform(3, 24), 1)}


def _clipping(sound: Sound, rate: int, rng: np.random.Generator, over_db: float) -> NDArray[Any]:
    limit = float(np.abs(sound).max()) * 10 ** (-over_db / 20)
    return np.clip(sound, -limit, limit)


def _draw_codec(rng: np.random.Generator) -> Step:
    choices = codecs.available()
    codec = choices[rng.integers(len(choices))]
    at, bit_rate = int(rng.choice(codec.rates)), int(rng.choice(codec.bit_rates))
    return "codec", {"name": codec.name, "at": at, "bit_rate": bit_rate}


def _codec(sound: Sound, rate: int, rng: np.random.Generator, name: str, at: int, bit_rate: int) -> NDArray[Any]:
    scale = 0.5 / max(float(np.abs(sound).max()), 1e-9)  # as a telephone's own gain would have it
    return codecs.round_trip(sound * np.float32(scale), rate, name, at, bit_rate) / scale


def _level(sound: Sound, rate: int, rng: np.random.Generator, db: float) -> NDArray[Any]:
    return sound * (10 ** (db / 20) / max(float(np.abs(sound).max()), 1e-9))


def _silence(sound: Sound, rate: int, rng: np.random.Generator, db: float | None) -> NDArray[Any]:
    return np.zeros(len(sound)) if db is None else rng.standard_normal(len(sound)) * 10 ** (db / 20)


# In the order in which sound meets them, with the share of the degraded clips that have each.
_CHAIN = (
    (_draw_room, 0.4),
    (_draw_equaliser, 0.45),
    (_draw_noise, 0.4),
    (_draw_band, 0.25),
    (_draw_resample, 0.12),
    (_draw_clipping, 0.12),
    (_draw_codec, 0.2),
)
_DO = {
    "room": _room,
    "equaliser": _equaliser,
    "noise": _noise,
    "band": _band,
    "resample": _resample,
    "clipping": _clipping,
    "codec": _codec,
    "level": _level,
    "silence": _silence,
}
