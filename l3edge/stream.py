"""Streaming embeddings: every hop the embedding of the last window, bit for bit that of the window alone.

Samples are collected; each complete hop runs one step of the network on the frames that are new and yields the
output columns that are new. A window's embedding is the maximum over its columns, kept in a ring. A model that cannot
stream computes each window by itself. Time is the count of samples: window k spans [k * hop, k * hop + window) and is
stamped with its centre.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from . import audio
from .arrays import NDArray
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


def hop_samples(hop: float, spec: Spec) -> int:
    """A hop in seconds as samples at the model's rate; OptionError names the nearest hop if the model has none such."""
    unit = spec.grid / spec.sample_rate
    of = f"the model's step of {unit:g} s" if spec.streaming else f"a sample of the model, 1/{spec.sample_rate} s"
    if isinstance(hop, bool) or not isinstance(hop, (int, float, np.integer, np.floating)) or not math.isfinite(hop):
        raise OptionError(f"hop must be a number of seconds, a multiple of {of}; got {hop!r}")
    count = round(min(float(hop), LONGEST_HOP) / unit)
    if count < 1 or abs(count * unit - hop) > 1e-9:
        nearest = max(1, count) * unit
        raise OptionError(f"hop must be a multiple of {of}, got {hop!r}; use {nearest:.9g}")
    return count * spec.grid


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
        self._hop = hop_samples(hop, spec)
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
        self._window = 0
        make = _Steps if spec.streaming else _Windows
        self._runner = make(self._network, spec, self._hop)
        self._runner.feed(np.zeros(zeros, np.float32))
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
        spec, hop = self._spec, self._hop
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
        self._total += len(x)
        rows = self._runner.feed(x)
        if not rows:
            return np.zeros((0, self._spec.embedding_size), np.float32), np.zeros(0, np.float64)
        first, count = self._window, len(rows)
        self._window = first + count
        middle, rate, hop = self._spec.window // 2 - self._zeros, self._spec.sample_rate, self._hop
        # Plain numbers: for one window, as nearly always, an array's arithmetic would cost more than the numbers.
        times = [self._origin + (k * hop + middle) / rate for k in range(first, first + count)]
        values = rows[0][None] if count == 1 else np.array(rows)
        return self._network.dequantize(values), np.array(times, np.float64)


class _Steps:
    """Steps of a streaming model: samples in, the windows that they complete out, in the model's dtype."""

    def __init__(self, network: Network, spec: Spec, hop: int) -> None:
        self._network = network
        # Derived numbers, looked up once: deriving them every hop would cost as much as a small network.
        self._start, self._step, self._steps_per_window = spec.step_start, spec.hop, spec.steps_per_window
        self._steps_per_hop = hop // spec.hop
        self._reads = {hops: spec.samples_of(hops) for hops in reversed(network.hops)}  # longest first
        self._states = network.zero_states()
        # A network that ends in a mean over the window gives one result a step: nothing to keep, or to compare.
        self._alone = spec.results == 1
        self._ring = np.zeros((spec.results, spec.embedding_size), network.dtype)
        self._done = 0
        # Samples from where the next step begins to read; the first begins before the signal does.
        self._pending = np.zeros(-self._start, np.float32)

    def feed(self, x: NDArray[np.float32]) -> list[NDArray[Any]]:
        pending = np.concatenate([self._pending, x]) if len(x) else self._pending
        rows, begin = [], 0
        while (ready := (len(pending) - begin + self._start) // self._step) > 0:
            hops = 1 if ready == 1 else next(hops for hops in self._reads if hops <= ready)
            columns = self._network.step(pending[begin : begin + self._reads[hops]], self._states, hops)
            begin += hops * self._step
            each = len(columns) // hops
            for step in range(hops):
                if not self._alone:
                    new = columns[step * each : (step + 1) * each]
                    self._ring = np.concatenate([self._ring, new])[len(new) :]
                self._done += 1
                complete = self._done - self._steps_per_window  # the window, in steps, that this step completes
                if complete >= 0 and complete % self._steps_per_hop == 0:
                    rows.append(columns[step] if self._alone else np.maximum.reduce(self._ring))
        self._pending = pending[begin:].copy() if begin else pending
        return rows


class _Windows:
    """Windows of a model that cannot stream, each computed by itself."""

    def __init__(self, network: Network, spec: Spec, hop: int) -> None:
        self._network, self._window, self._hop = network, spec.window, hop
        self._pending = np.zeros(0, np.float32)  # from where the next window begins
        self._skip = 0  # samples yet to come before it, where hops are longer than windows

    def feed(self, x: NDArray[np.float32]) -> list[NDArray[Any]]:
        pending = np.concatenate([self._pending, x[self._skip :]])
        self._skip = max(0, self._skip - len(x))
        rows, begin = [], 0
        while len(pending) - begin >= self._window:
            rows.append(self._network.window(pending[begin : begin + self._window]))
            begin += self._hop
        self._skip += max(0, begin - len(pending))
        self._pending = pending[begin:].copy() if begin else pending
        return rows
