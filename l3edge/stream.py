"""Streaming embeddings: every hop the embedding of the last window, bit for bit that of the window alone.

Samples are collected; each complete hop runs one step of the network on the frames that are new and yields the
output columns that are new. A window's embedding is the maximum over its columns, kept in a ring. Time is the count
of samples: window k spans [k * hop, k * hop + window) and is stamped with its centre.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import audio
from .errors import AudioWarning, OptionError, StreamError

if TYPE_CHECKING:
    from .engine import Network
    from .spec import Spec

ABSURD = 16.0  # times full scale: no gain stage does that, a forgotten division does
LONGEST_HOP = 86_400.0  # seconds: what is asked for less than once a day is no stream

Result = tuple[NDArray[np.float32], NDArray[np.float64]]


@dataclasses.dataclass
class Counts:
    """What a stream has seen since it was new, in samples per channel (`clipped`, `non_finite`: in values)."""

    samples: int = 0  # pushed
    clipped: int = 0  # at or over full scale; used as they are
    non_finite: int = 0  # NaN or infinite; taken as zero
    lost: int = 0  # reported by `skip`


def hop_steps(hop: float, spec: Spec) -> int:
    """How many steps of the model a hop in seconds is; OptionError names the nearest hop if it is not whole."""
    step = spec.hop / spec.sample_rate
    if isinstance(hop, bool) or not isinstance(hop, (int, float, np.integer, np.floating)) or not math.isfinite(hop):
        raise OptionError(f"hop must be a number of seconds, a multiple of {step:g}; got {hop!r}")
    steps = round(min(float(hop), LONGEST_HOP) / step)
    if steps < 1 or abs(steps * step - hop) > 1e-9:
        nearest = max(1, steps) * step
        raise OptionError(f"hop must be a multiple of the model's step of {step:g} s, got {hop!r}; use {nearest:g}")
    return steps


def _complaint(mono: audio.Mono) -> str:
    """What a stream warns of, once: values that are no sound, or else a scale that is none."""
    if mono.non_finite:
        return f"{mono.non_finite} non-finite value(s) in the audio were taken as zero"
    return (
        f"the audio reaches {mono.peak:.6g}, and full scale is 1.0: integers that were converted to floats must be "
        "divided by their full scale, 32768 for int16"
    )


class Stream:
    """Embeddings of a signal that arrives in pieces; made by `Model.stream`. Belongs to one thread."""

    def __init__(self, network: Network, spec: Spec, sample_rate: int, hop: float = 0.1, center: bool = False) -> None:
        self._network, self._spec, self._center = network, spec, bool(center)
        self.sample_rate = audio.check_rate(sample_rate)
        self._steps_per_hop = hop_steps(hop, spec)
        # Derived numbers, looked up once: deriving them every hop would cost as much as a small network.
        self._hop, self._read, self._steps_per_window = spec.hop, spec.step_samples, spec.steps_per_window
        self._resampler = (
            audio.Resampler(self.sample_rate, spec.sample_rate) if self.sample_rate != spec.sample_rate else None
        )
        self.reset()

    @property
    def delay(self) -> float:
        """Seconds by which results may come late because the resampler holds samples back; 0.0 without one."""
        return self._resampler.delay if self._resampler else 0.0

    def reset(self) -> None:
        """As new: time zero, no counts, nothing of the past."""
        self.counts = Counts()
        self._warned = False
        self._begin(0.0, self._spec.window // 2 if self._center else 0)

    def _begin(self, origin: float, zeros: int) -> None:
        """Start at `origin` seconds, with so many zeros in front of the signal."""
        spec = self._spec
        if self._resampler:
            self._resampler.clear()
        self._origin = origin
        self._zeros = zeros
        self._total = zeros  # samples at the model's rate, the zeros in front included
        self._step = 0
        self._window = 0
        self._states = self._network.zero_states()
        self._ring = np.zeros((spec.columns, spec.embedding_size), self._network.dtype)
        # Samples from where the next step begins to read; the first begins before the signal does.
        self._pending = np.zeros(zeros - spec.step_start, np.float32)
        self._empty = True
        self._flushed = False

    def push(self, samples: Any) -> Result:
        """Embeddings of the windows that these samples complete.

        samples: float32, float64 or int16, [n] or [n, channels], any n, at `sample_rate`.
        Returns float32 [k, embedding_size] and their centres, float64 [k], in seconds since the beginning.
        """
        self._check_open("push")
        mono = audio.to_mono(samples)
        self.counts.samples += len(mono.samples)
        self.counts.clipped += mono.clipped
        self.counts.non_finite += mono.non_finite
        if (mono.non_finite or mono.peak > ABSURD) and not self._warned:
            self._warned = True
            warnings.warn(_complaint(mono), AudioWarning, stacklevel=2)
        x = mono.samples
        if not len(x):
            return self._advance(x)
        self._empty = False
        return self._advance(self._resampler.push(x) if self._resampler else x)

    def _check_open(self, call: str) -> None:
        if self._flushed:
            raise StreamError(f"{call} after flush: the signal has ended; call reset() to begin another")

    def flush(self) -> Result:
        """Embeddings of the windows that the end of the signal completes: zeros follow it until every sample lies in
        some window. A signal without samples has no windows.
        """
        self._check_open("flush")
        rest = self._held_back()
        spec, hop = self._spec, self._spec.hop * self._steps_per_hop
        n = self._total + len(rest)
        rows = 0 if self._empty else 1 + math.ceil(max(0, n - spec.window) / hop)
        end = (rows - 1) * hop + spec.window if rows else n
        result = self._advance(np.concatenate([rest, np.zeros(max(0, end - n), np.float32)]))
        self._flushed = True
        return result

    def _held_back(self) -> NDArray[np.float32]:
        """What the resampler still has of the signal that ends here."""
        return self._resampler.flush() if self._resampler else np.zeros(0, np.float32)

    def skip(self, lost: int) -> Result:
        """Say that `lost` samples (at `sample_rate`) never arrived: they are counted, no window spans the gap, and
        time goes on after it, with a first window that begins where the gap ends.

        Returns, as `push`, the windows before the gap that only waited for the resampler. What came after the last
        whole window before the gap is in no window.
        """
        if isinstance(lost, bool) or not isinstance(lost, (int, np.integer)) or lost < 0:
            raise OptionError(f"lost must be a whole number of samples, at least 0; got {lost!r}")
        self._check_open("skip")
        if not lost:
            return self._advance(np.zeros(0, np.float32))
        result = self._advance(self._held_back())
        self.counts.lost += int(lost)
        self._begin((self.counts.samples + self.counts.lost) / self.sample_rate, 0)
        return result

    def _advance(self, x: NDArray[np.float32]) -> Result:
        network, spec = self._network, self._spec
        self._total += len(x)
        pending = np.concatenate([self._pending, x]) if len(x) else self._pending
        rows, times, begin = [], [], 0
        while self._total >= self._hop * (self._step + 1):
            columns = network.step(pending[begin : begin + self._read], self._states)
            self._ring = np.concatenate([self._ring, columns])[len(columns) :]
            self._step += 1
            begin += self._hop
            complete = self._step - self._steps_per_window  # the window, in steps, that this step completes
            if complete == self._window * self._steps_per_hop:
                rows.append(np.maximum.reduce(self._ring))
                centre = complete * self._hop + spec.window // 2 - self._zeros
                times.append(self._origin + centre / spec.sample_rate)
                self._window += 1
        self._pending = pending[begin:].copy() if begin else pending
        if not rows:
            return np.zeros((0, spec.embedding_size), np.float32), np.zeros(0, np.float64)
        return network.dequantize(np.array(rows)), np.array(times, np.float64)
