"""Audio in: dtype, channels, resampling, files.

Everything downstream is defined on the signal after conversion: float32, mono, at the model's sample rate.
soxr and soundfile are imported when first used: a device whose input already has the model's rate needs neither.
"""

from __future__ import annotations

import functools
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from .arrays import NDArray
from .errors import AudioError, AudioTypeError, Error, OptionError

Samples = NDArray[np.float32]

LOWEST_RATE, HIGHEST_RATE = 1_000, 768_000  # Hz; soxr and PortAudio agree on these in practice
MOST_CHANNELS = 64
FLOAT32 = np.dtype(np.float32)
DTYPES = (FLOAT32, np.dtype(np.float64), np.dtype(np.int16))
FULL_SCALE = np.float32(32767 / 32768)  # the largest int16
UNKNOWN_FRAMES = 1 << 62


class Mono(NamedTuple):
    """What `to_mono` made, and what it had to count."""

    samples: Samples  # [n]
    clipped: int  # input values at full scale, as saturated converters give them, or over it; they are kept
    non_finite: int  # input values that were NaN or infinite; they became zero
    peak: float  # largest absolute value, where it is at full scale or over it, else 0


def to_mono(audio: Any) -> Mono:
    """Float32 mono from float32, float64 or int16 (divided by 32768), `[n]` or `[n, channels]` (mean of the channels).

    AudioTypeError for any other type, AudioError for any other shape.
    """
    if not isinstance(audio, np.ndarray):
        raise AudioTypeError(f"audio must be a NumPy array, got {type(audio).__name__}; convert it with numpy.asarray")
    dtype = audio.dtype
    if dtype != FLOAT32 and dtype not in DTYPES:
        raise AudioTypeError(
            f"audio must be float32 or float64 (full scale 1.0) or int16 (full scale 32768), got {audio.dtype}; "
            "scale it and convert it with audio.astype"
        )
    if audio.ndim not in (1, 2):
        raise AudioError(f"audio must have shape [n] or [n, channels], got {list(audio.shape)}")
    if audio.ndim == 2 and not 1 <= audio.shape[1] <= MOST_CHANNELS:
        raise AudioError(
            f"audio of shape {list(audio.shape)} would have {audio.shape[1]} channels, expected 1 to {MOST_CHANNELS}; "
            "if it is [channels, n], transpose it"
        )
    x = audio if dtype == FLOAT32 else _to_float32(audio)
    clipped, non_finite, peak = 0, 0, 0.0
    # Nearly every block is within full scale, and its extremes say so at a tenth of the cost of counting. NaN is the
    # greatest and the least of whatever it is in, and compares as false. `argmax` has a third of the overhead of `max`.
    if x.size and not (x.item(x.argmax()) < FULL_SCALE and x.item(x.argmin()) > -FULL_SCALE):
        finite = np.isfinite(x)
        non_finite = x.size - int(np.count_nonzero(finite))
        x = np.where(finite, x, np.float32(0))
        magnitude = np.abs(x)
        clipped, peak = int(np.count_nonzero(magnitude >= FULL_SCALE)), float(magnitude.max())
    if x.ndim == 2:
        # Channel by channel: NumPy's own mean may add in another order for another memory layout.
        total = x[:, 0]
        for channel in range(1, x.shape[1]):
            total = total + x[:, channel]
        x = total / np.float32(x.shape[1])
    return Mono(x, clipped, non_finite, peak)


def _to_float32(audio: NDArray[Any]) -> Samples:
    if audio.dtype == np.int16:
        return audio.astype(np.float32) / np.float32(32768)
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, and is counted as non-finite
        return audio.astype(np.float32)


def check_rate(sample_rate: object) -> int:
    """A sample rate in Hz as an int; OptionError unless it is a whole number in a possible range."""
    if (
        isinstance(sample_rate, (int, float, np.integer, np.floating))
        and not isinstance(sample_rate, bool)
        and LOWEST_RATE <= sample_rate <= HIGHEST_RATE  # before int(): NaN and infinity have no whole number
        and sample_rate == int(sample_rate)
    ):
        return int(sample_rate)
    raise OptionError(
        f"sample_rate must be a whole number of Hz from {LOWEST_RATE} to {HIGHEST_RATE}, got {sample_rate!r}"
    )


def _soxr() -> Any:
    try:
        import soxr
    except ImportError as error:
        raise Error(
            f"resampling needs the package soxr ({error}); install it, or bring audio at the model's own rate"
        ) from error
    return soxr


class Resampler:
    """soxr's streaming resampler at its "HQ" setting, float32 mono; any chunking gives the same bits."""

    def __init__(self, source: int, target: int) -> None:
        self._stream = _soxr().ResampleStream(source, target, 1, dtype="float32")
        self._rates = source, target

    @property
    def delay(self) -> float:
        """Seconds; found by measuring, so only for who asks."""
        return resampler_delay(*self._rates)

    def push(self, samples: Samples) -> Samples:
        """The output that is ready after these samples, float32 [m]."""
        return np.asarray(self._stream.resample_chunk(samples), np.float32)

    def flush(self) -> Samples:
        """The rest of the output, float32 [m]."""
        return np.asarray(self._stream.resample_chunk(np.zeros(0, np.float32), last=True), np.float32)

    def clear(self) -> None:
        """As new."""
        self._stream.clear()


def resample(samples: Samples, source: int, target: int) -> Samples:
    """A whole signal at another rate, float32 mono [n] -> [m]: the bits that any chunking of it gives."""
    if source == target:
        return samples
    resampler = Resampler(source, target)
    return np.concatenate([resampler.push(samples), resampler.flush()])


@functools.lru_cache
def resampler_delay(source: int, target: int) -> float:
    """The longest that soxr holds back output, in seconds: found by pushing about 1 ms at a time for some seconds.

    soxr filters in blocks; how much is pending goes up and down between them, and is most just before a block is full.
    """
    stream = _soxr().ResampleStream(source, target, 1, dtype="float32")
    chunk = np.zeros(max(1, source // 1000), np.float32)
    pushed, produced, longest = 0, 0, 0.0
    while pushed < max(3 * source, 20_000):
        pushed += len(chunk)
        produced += len(stream.resample_chunk(chunk))
        longest = max(longest, pushed / source - produced / target)
    return longest


class AudioFile:
    """An audio file, read in blocks; a context manager.

    Attributes: sample_rate (Hz), channels, frames (samples per channel).
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            import soundfile
        except (ImportError, OSError) as error:  # OSError: libsndfile itself is missing
            raise Error(f"reading audio files needs the package soundfile ({error}); install it") from error
        if not self.path.is_file():
            raise AudioError(f"{self.path}: no such file" if not self.path.exists() else f"{self.path}: not a file")
        try:
            _refuse_truncated_wav(self.path)
            self._file = soundfile.SoundFile(os.fsencode(self.path))  # a str may be a name that it cannot encode
        except TypeError as error:  # soundfile's answer to the ending .raw
            raise AudioError(
                f"{self.path}: raw PCM does not say its sample rate; pipe it: l3edge stream --input - --rate HZ < FILE"
            ) from error
        except (soundfile.SoundFileError, OSError) as error:
            why = getattr(error, "error_string", error)  # without the path
            raise AudioError(
                f"{self.path}: not a readable audio file ({why}); WAV, FLAC, OGG, MP3 and AIFF are read"
            ) from error
        self.sample_rate = int(self._file.samplerate)
        self.channels = int(self._file.channels)
        self.frames = int(self._file.frames)
        if self.frames >= UNKNOWN_FRAMES:  # and libsndfile cannot read the last block of such a file
            self._file.close()
            raise AudioError(
                f"{self.path}: does not say how long it is, as when written to a pipe; convert it, for instance with "
                "`ffmpeg -i IN OUT.wav`"
            )
        self._error = soundfile.SoundFileError

    def blocks(self, size: int) -> Iterator[Samples]:
        """Float32 [size, channels] after each other, the last one shorter; AudioError if the file ends too early."""
        done = 0
        while True:
            try:
                block: Samples = self._file.read(size, dtype="float32", always_2d=True)
            except self._error as error:
                raise AudioError(f"{self.path}: unreadable after {done / self.sample_rate:.2f} s ({error})") from error
            if not len(block):
                break
            done += len(block)
            yield block
        if done < self.frames:
            raise AudioError(
                f"{self.path}: truncated, {done / self.sample_rate:.2f} s of {self.frames / self.sample_rate:.2f} s"
            )

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> AudioFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_file(path: str | os.PathLike[str]) -> AudioFile:
    """Open whatever libsndfile reads; AudioError if it cannot."""
    return AudioFile(path)


def read(path: str | os.PathLike[str]) -> tuple[Samples, int]:
    """A whole file: float32 [n, channels] and its sample rate in Hz."""
    with open_file(path) as file:
        blocks = list(file.blocks(1 << 20))
        return np.concatenate(blocks) if blocks else np.zeros((0, file.channels), np.float32), file.sample_rate


def _refuse_truncated_wav(path: Path) -> None:
    """libsndfile shortens a truncated WAV without a word; its RIFF header still says how long it was."""
    with path.open("rb") as file:
        header = file.read(12)
    if len(header) == 12 and header[:4] == b"RIFF" and header[8:] == b"WAVE":
        (size,) = struct.unpack("<I", header[4:8])
        actual = path.stat().st_size - 8
        # Recorders that write to a pipe and do not know the length put 0, or something near 2 or 4 GiB.
        unknown = size == 0 or size >= 0x7FFF0000
        if not unknown and actual < size:
            raise AudioError(f"{path}: truncated, {actual + 8} bytes of {size + 8}")
