"""Front ends: their numbers, and one definition of their arithmetic for training, export and runtime.

A log-mel frame is `frame_length` samples, every `frame_step` samples; its value depends on that frame alone:

    log_mel[f, b] = log( sum_k |rfft(hann * frame_f)[k]| * mel[k, b]  +  offset )

There is no per-window maximum, mean or decibel reference: a frame computed once serves every window it lies in.
The published networks' decibels are relative to the maximum of their window, which is why they cannot stream:

    x[f, b] = sqrt( sum_k |rfft(hann * frame_f)[k]|^2 * mel[k, b] ),  decibel = max( 10 log10(x / max x), -80 )

Constants are NumPy arrays. The arithmetic is one function body that runs on NumPy arrays and on TensorFlow tensors;
what differs between the two is handed in as `Ops`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from .arrays import NDArray
from .audio import HIGHEST_RATE, LOWEST_RATE
from .errors import OptionError

LONGEST_FFT = 1 << 14
MOST_BANDS = 1 << 10


def audio_rate(rate: int) -> None:
    """OptionError for what is no sample rate."""
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise OptionError(f"sample_rate must be from {LOWEST_RATE} to {HIGHEST_RATE} Hz, got {rate}")


def _check(sample_rate: int, frame_step: int, fft_length: int, bands: int, low: float, high: float) -> None:
    audio_rate(sample_rate)
    if not 1 <= fft_length <= LONGEST_FFT or fft_length & (fft_length - 1):
        raise OptionError(f"fft_length must be a power of two up to {LONGEST_FFT}, got {fft_length}")
    if not 1 <= frame_step <= fft_length:
        raise OptionError(f"frame_step must be from 1 to fft_length {fft_length}, got {frame_step}")
    if not 0 <= bands <= MOST_BANDS:
        raise OptionError(f"bands must be from 0 (linear) to {MOST_BANDS}, got {bands}")
    if not 0 <= low < high <= sample_rate / 2:
        raise OptionError(f"mel range {low}-{high} Hz does not fit a rate of {sample_rate} Hz")


@dataclass(frozen=True)
class LogMel:
    """`log(mel + offset)` of the magnitude spectrum, each frame by itself.

    The mel scale is HTK's; the bands are triangles of peak 1, as in YAMNet (Plakal & Ellis 2020, `features.py`).
    Without bands it is the log of the linear spectrum.
    """

    sample_rate: int = 16_000
    frame_length: int = 400  # samples, 25 ms
    frame_step: int = 200  # samples, 12.5 ms
    fft_length: int = 512
    bands: int = 64  # 0: linear
    low: float = 125.0  # Hz
    high: float = 7500.0  # Hz
    offset: float = 1e-3
    kind: str = "log_mel"

    def __post_init__(self) -> None:
        _check(self.sample_rate, self.frame_step, self.fft_length, self.bands, self.low, self.high)
        if not 1 <= self.frame_length <= self.fft_length:
            raise OptionError(f"fft_length {self.fft_length} is shorter than frame_length {self.frame_length}")
        if self.frame_length % self.frame_step:
            raise OptionError(
                f"frame_length {self.frame_length} must be a multiple of frame_step {self.frame_step}: "
                "frames are assembled from whole blocks"
            )
        if self.offset <= 0:
            raise OptionError(f"offset must be positive, got {self.offset}")

    @property
    def bins(self) -> int:
        """Values in a frame."""
        return self.bands or self.fft_length // 2 + 1

    def frames(self, samples: int) -> int:
        """Number of whole frames in so many samples."""
        return max(0, (samples - self.frame_length) // self.frame_step + 1)

    def samples(self, frames: int) -> int:
        """Samples that so many consecutive frames span."""
        return (frames - 1) * self.frame_step + self.frame_length


@dataclass(frozen=True)
class Decibel:
    """Magnitude spectrum, linear or mel, in decibels below the maximum of the window: kapre 0.1.4's, as OpenL3 uses it.

    A window of `samples` has ceil(samples / frame_step) frames with padding "same" (zeros around it), else the whole
    ones. The mel matrix is applied to power before the square root; the bands are Slaney's, of equal area, on HTK's
    scale.
    """

    sample_rate: int
    fft_length: int
    frame_step: int
    bands: int  # 0: linear
    low: float = 0.0  # Hz
    high: float = 0.0  # Hz; 0: half the sample rate
    padding: str = "same"
    kind: str = "decibel"

    RANGE: ClassVar[float] = 80.0  # dB; what is further below the maximum is raised to it

    def __post_init__(self) -> None:
        audio_rate(self.sample_rate)
        if not self.high:
            object.__setattr__(self, "high", self.sample_rate / 2)
        _check(self.sample_rate, self.frame_step, self.fft_length, self.bands, self.low, self.high)
        if self.padding not in ("same", "valid"):
            raise OptionError(f'padding must be "same" or "valid", got {self.padding!r}')

    @property
    def bins(self) -> int:
        """Values in a frame."""
        return self.bands or self.fft_length // 2 + 1

    def frames(self, samples: int) -> int:
        """Number of frames in so many samples."""
        if self.padding == "same":
            return math.ceil(samples / self.frame_step)
        return max(0, (samples - self.fft_length) // self.frame_step + 1)

    def samples(self, frames: int) -> int:
        """Samples that so many consecutive frames span, padding included."""
        return (frames - 1) * self.frame_step + self.fft_length

    def nearest_log_mel(self) -> LogMel:
        """A front end of nearly the same frames that treats each by itself."""
        length = self.fft_length // self.frame_step * self.frame_step
        return LogMel(self.sample_rate, length, self.frame_step, self.fft_length, self.bands, self.low, self.high)


FrontEnd = LogMel | Decibel


class Ops(NamedTuple):
    """The operations that NumPy and TensorFlow spell differently."""

    reshape: Callable[[Any, list[int]], Any]
    concat: Callable[[list[Any], int], Any]
    pad: Callable[[Any, int, int], Any]  # zeros before and after, on the last axis
    magnitude: Callable[[Any, int], Any]  # |rfft(x, n)| over the last axis
    matmul: Callable[[Any, Any], Any]
    log: Callable[[Any], Any]  # float32
    sqrt: Callable[[Any], Any]
    maximum: Callable[[Any, Any], Any]
    largest: Callable[[Any], Any]  # over the last two axes, which stay


def _pad(x: NDArray[Any], before: int, after: int) -> NDArray[Any]:
    return np.pad(x, [(0, 0)] * (x.ndim - 1) + [(before, after)])


# In float64 until the last step, on purpose: NumPy 1 transforms in float64 and NumPy 2 in the input's precision, and
# their float32 logarithms and matrix products differ in the last bit. So both give the same values.
NUMPY = Ops(
    reshape=np.reshape,
    concat=np.concatenate,
    pad=_pad,
    magnitude=lambda x, n: np.abs(np.fft.rfft(x.astype(np.float64), n)),
    matmul=np.matmul,
    log=lambda x: np.log(x).astype(np.float32),
    sqrt=np.sqrt,
    maximum=np.maximum,
    largest=lambda x: np.max(x, axis=(-2, -1), keepdims=True),
)


def hertz_to_mel(hertz: Any) -> Any:
    """HTK mel scale (O'Shaughnessy 1987)."""
    return 2595.0 * np.log10(1.0 + np.asarray(hertz) / 700.0)


def _hann(length: int) -> NDArray[np.float32]:
    n = np.arange(length)
    return (0.5 - 0.5 * np.cos(2 * np.pi * n / length)).astype(np.float32)


@functools.lru_cache
def window(spec: FrontEnd) -> NDArray[np.float32]:
    """Periodic Hann window, float32 [frame length]."""
    return _hann(spec.frame_length if isinstance(spec, LogMel) else spec.fft_length)


@functools.lru_cache
def mel_matrix(spec: FrontEnd) -> NDArray[np.float32]:
    """Triangles equally spaced in mel, of peak 1 (LogMel) or of equal area (Decibel), float32 [bins, bands]."""
    hertz = np.arange(spec.fft_length // 2 + 1) * (spec.sample_rate / spec.fft_length)
    mels = np.linspace(hertz_to_mel(spec.low), hertz_to_mel(spec.high), spec.bands + 2)
    if isinstance(spec, LogMel):
        bins, edges, height = hertz_to_mel(hertz)[:, None], mels, np.ones(spec.bands)
    else:  # Slaney's filters are triangles in Hertz
        bins, edges = hertz[:, None], 700.0 * (10.0 ** (mels / 2595.0) - 1.0)
        height = 2.0 / (edges[2:] - edges[:-2])
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    triangles: NDArray[np.float32] = (np.maximum(0.0, np.minimum(rising, falling)) * height).astype(np.float32)
    return triangles


def features(samples: Any, spec: FrontEnd, ops: Ops = NUMPY) -> Any:
    """What a network hears: float32 [frames, bins] or [batch, frames, bins].

    samples: float32 [n] or [batch, n], full scale 1.0, at `spec.sample_rate`, with n static and at least one frame.
    """
    return log_mel(samples, spec, ops) if isinstance(spec, LogMel) else decibel(samples, spec, ops)


def _framed(x: Any, frames: int, length: int, step: int, ops: Ops) -> Any:
    """[..., n] -> [..., frames, length], a frame every `step`: put together from whole blocks, as slices of one
    sample each would be far too many operations for a graph.
    """
    overlap = math.ceil(length / step)  # blocks that a frame touches
    span = (frames + overlap - 1) * step
    x = x[..., :span] if x.shape[-1] >= span else ops.pad(x, 0, span - x.shape[-1])
    blocks = ops.reshape(x, [*([] if len(x.shape) == 1 else [-1]), frames + overlap - 1, step])
    return ops.concat([blocks[..., i : i + frames, :] for i in range(overlap)], -1)[..., :length]


def log_mel(samples: Any, spec: LogMel, ops: Ops = NUMPY) -> Any:
    """Natural-log mel (or, without bands, linear) magnitude spectrogram of all whole frames.

    samples: float32 [n] or [batch, n], full scale 1.0, at `spec.sample_rate`, with n static and at least one frame.
    Returns float32 [frames, bins] or [batch, frames, bins], at least log(offset).
    """
    frames = spec.frames(samples.shape[-1])
    framed = _framed(samples, frames, spec.frame_length, spec.frame_step, ops)  # [..., frames, frame_length]
    magnitude = ops.magnitude(framed * window(spec), spec.fft_length)  # [..., frames, fft_length // 2 + 1]
    if spec.bands:
        magnitude = ops.matmul(magnitude, mel_matrix(spec))  # [..., frames, bands]
    return ops.log(magnitude + np.float32(spec.offset))


def decibel(samples: Any, spec: Decibel, ops: Ops = NUMPY) -> Any:
    """Decibels of the magnitude (mel) spectrogram below its maximum, down to -80: kapre 0.1.4's, as OpenL3 hears.

    samples: float32 [n] or [batch, n], full scale 1.0, at `spec.sample_rate`, with n static.
    Returns float32 [frames, bins] or [batch, frames, bins], from -80 to 0.
    """
    n = samples.shape[-1]
    frames = spec.frames(n)
    missing = max(0, spec.samples(frames) - n)
    x = ops.pad(samples, missing // 2, missing - missing // 2) if missing else samples
    framed = _framed(x, frames, spec.fft_length, spec.frame_step, ops)  # [..., frames, fft_length]
    magnitude = ops.magnitude(framed * window(spec), spec.fft_length)  # [..., frames, fft_length // 2 + 1]
    if spec.bands:
        magnitude = ops.sqrt(ops.matmul(magnitude * magnitude, mel_matrix(spec)))  # [..., frames, bands]
    # The smallest is kapre's; its decibels are of a magnitude and yet 10 log10.
    decibels = np.float32(10 / math.log(10)) * ops.log(ops.maximum(magnitude, np.float32(1e-10)))
    return ops.maximum(decibels - ops.largest(decibels), np.float32(-spec.RANGE))
