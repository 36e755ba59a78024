"""Building blocks of the synthetic sounds: one `Synth` holds a take's random generator and its clock.

A struck body is a sum of damped sinusoids, each the impulse response of one two-pole filter

    y[n] = r^n sin(w n),   r = exp(-1 / (decay * rate)),   w = 2 pi f / rate

which costs a few operations per sample and no sine. A pitched body is one period of its waveform read at a
varying speed (a wavetable). Everything noisy is filtered noise.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft, signal

Audio = NDArray[np.float64]

_TABLE = 4096  # samples in a wavetable; reading the nearest leaves noise some 65 dB down, below the room's
_LONGEST_GAP = 0.62  # seconds between events, so that every second of a take holds at least one
_PEAK_DB = (-30.0, -3.0)  # range of the finished take's peak, dBFS
_SNR_DB = (18.0, 50.0)  # of the sound against the room's hum and hiss


@dataclass
class Synth:
    """Random source, length and rate of one take; `strikes` collects event times [s] for the picture."""

    rng: np.random.Generator
    seconds: float
    rate: int
    strikes: list[float] = field(default_factory=list)

    @property
    def n(self) -> int:
        return round(self.seconds * self.rate)

    def samples(self, seconds: float | None) -> int:
        return self.n if seconds is None else max(1, round(seconds * self.rate))

    def pick(self, low: float, high: float) -> float:
        """One number from `low` to `high`, uniform in its logarithm: for pitches, rates, decays."""
        return float(np.exp(self.rng.uniform(np.log(low), np.log(high))))

    def noise(self, seconds: float | None = None) -> Audio:
        return self.rng.standard_normal(self.samples(seconds))

    def band(self, x: ArrayLike, low: float, high: float) -> Audio:
        """`x` between `low` and `high` Hz, 12 dB per octave on either side."""
        top = 0.49 * self.rate
        edges = (min(low, 0.9 * top), min(high, top))
        return signal.sosfilt(signal.butter(2, edges, "bandpass", fs=self.rate, output="sos"), x)

    def resonate(self, x: ArrayLike, frequencies: Sequence[float], widths: Sequence[float]) -> Audio:
        """`x` through parallel resonators: formants of a mouth, or the body of an instrument."""
        total = np.zeros(np.shape(x))
        for k, (frequency, width) in enumerate(zip(frequencies, widths, strict=True)):
            if frequency < 0.48 * self.rate:
                b, a = signal.iirpeak(frequency, frequency / width, fs=self.rate)
                total += signal.lfilter(b, a, x) * 0.6**k
        return total

    def wander(self, per_second: float, seconds: float | None = None) -> Audio:
        """A slow random curve in [-1, 1] with about `per_second` turns a second."""
        n = self.samples(seconds)
        knots = self.rng.uniform(-1, 1, int(n / self.rate * per_second) + 3)
        position = np.arange(n) / self.rate * per_second
        whole = position.astype(int)
        blend = 0.5 - 0.5 * np.cos(np.pi * (position - whole))
        return knots[whole] * (1 - blend) + knots[whole + 1] * blend

    def decay(self, seconds: float, attack: float, decay: float) -> Audio:
        """An envelope: linear rise over `attack` seconds, exponential fall with time constant `decay`."""
        t = np.arange(self.samples(seconds)) / self.rate
        return np.minimum(1, t / attack) * np.exp(-t / decay)

    def hump(self, seconds: float, edge: float = 0.3) -> Audio:
        """An envelope that is flat but for smooth first and last `edge` parts."""
        return signal.windows.tukey(self.samples(seconds), 2 * edge)

    def modes(self, frequencies: ArrayLike, decays: ArrayLike, gains: ArrayLike, contact: float = 2e-4) -> Audio:
        """A struck body: damped sinusoids [Hz, s]; a soft mallet has a long `contact` [s]."""
        frequencies, decays, gains = np.broadcast_arrays(frequencies, decays, gains)
        blow = np.zeros(self.samples(min(1.6, 5 * float(decays.max()))))
        touch = signal.windows.hann(max(1, round(contact * self.rate)) + 2)[1:-1]
        blow[: len(touch)] = (touch / touch.sum())[: len(blow)]
        total = np.zeros_like(blow)
        for frequency, decay, gain in zip(frequencies, decays, gains, strict=True):
            if frequency < 0.48 * self.rate:
                r, w = np.exp(-1 / (decay * self.rate)), 2 * np.pi * frequency / self.rate
                total += gain * signal.lfilter([0, r * np.sin(w)], [1, -2 * r * np.cos(w), r * r], blow)
        return total

    def table(self, pitch: ArrayLike, waveform: Audio) -> Audio:
        """`waveform` (one period) repeated `pitch` [n] times a second."""
        phase = np.cumsum(np.asarray(pitch) / self.rate) + self.rng.uniform()
        return waveform[((phase % 1.0) * len(waveform)).astype(int) % len(waveform)]

    def tone(self, pitch: ArrayLike, harmonics: ArrayLike) -> Audio:
        """A harmonic sound of varying `pitch` [n] Hz; those `harmonics` that would alias are left out."""
        pitch, harmonics = np.asarray(pitch), np.asarray(harmonics, float)
        harmonics = harmonics[: max(1, int(0.45 * self.rate / pitch.max()))]
        spectrum = np.zeros(_TABLE // 2 + 1, complex)
        spectrum[1 : len(harmonics) + 1] = harmonics * np.exp(2j * np.pi * self.rng.uniform(size=len(harmonics)))
        waveform = np.fft.irfft(spectrum, _TABLE)
        return self.table(pitch, waveform / np.abs(waveform).max())

    def place(self, total: Audio, clip: Audio, time: float, gain: float = 1.0) -> None:
        """Add `clip` to `total` from `time` seconds on; what lies beyond the end is lost."""
        start = round(time * self.rate)
        room = total[start : start + len(clip)]
        room += gain * clip[: len(room)]

    def times(self, per_second: tuple[float, float], jitter: float) -> list[float]:
        """Event times [s] at a random mean rate; noted as the strikes that the picture shows."""
        gap, now = 1 / self.pick(*per_second), 0.0
        now = self.rng.uniform(0, min(gap, _LONGEST_GAP))
        while now < self.seconds:
            self.strikes.append(now)
            now += min(_LONGEST_GAP, gap * (1 + jitter * float(np.clip(self.rng.standard_normal(), -2, 2))))
        return self.strikes

    def repeat(
        self,
        make: Callable[[], Audio],
        per_second: tuple[float, float],
        jitter: float = 0.1,
        variants: int = 3,
    ) -> Audio:
        """`variants` clips from `make`, in turn, at `times`, each blow a little different in strength."""
        clips = [make() for _ in range(variants)]
        total = np.zeros(self.n)
        for k, time in enumerate(self.times(per_second, jitter)):
            self.place(total, clips[k % variants], time, self.pick(0.5, 1.0))
        return total

    def scatter(self, clips: Sequence[Audio], per_second: float, spread: float = 1.0) -> Audio:
        """`clips` at random times with log-normal strength: drops, sparks; not noted as strikes."""
        total = np.zeros(self.n)
        for time in self.rng.uniform(0, self.seconds, self.rng.poisson(per_second * self.seconds)):
            clip = clips[self.rng.integers(len(clips))]
            self.place(total, clip, time, float(np.exp(spread * self.rng.standard_normal())))
        return total

    def finish(self, dry: Audio) -> NDArray[np.float32]:
        """The take as a microphone in a room gives it: echo, tone colour, noise, level. Peak below 0.9."""
        tail = self.samples(self.pick(0.05, 0.5))
        echo = self.noise(tail / self.rate) * np.exp(-np.linspace(0, 7, tail)) * self.pick(0.003, 0.05)
        echo[0] = 1.0
        size = fft.next_fast_len(self.n + tail, real=True)
        octaves = np.log2(np.maximum(fft.rfftfreq(size, 1 / self.rate), 20) / 1000)
        colour = 10 ** (octaves * self.rng.uniform(-2, 2) / 20) * (octaves > np.log2(0.03))
        dry = dry / max(float(np.abs(dry).max()), 1e-9)
        wet = fft.irfft(fft.rfft(dry, size) * fft.rfft(echo, size) * colour, size)[: self.n]
        tilt = 10 ** (-np.maximum(octaves, -4) * self.rng.uniform(0, 9) / 20)
        hiss = fft.irfft(fft.rfft(self.noise(), size) * tilt, size)[: self.n]
        hiss *= np.sqrt(np.mean(wet**2) / np.mean(hiss**2)) * 10 ** (-self.rng.uniform(*_SNR_DB) / 20)
        mixed = wet + hiss
        return (mixed * 10 ** (self.rng.uniform(*_PEAK_DB) / 20) / np.abs(mixed).max()).astype(np.float32)
