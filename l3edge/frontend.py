"""Log-mel, one definition for training, export and runtime.

A frame is `frame_length` samples, every `frame_step` samples; its value depends on that frame alone:

    log_mel[f, b] = log( sum_k |rfft(hann * frame_f)[k]| * mel[k, b]  +  offset )

There is no per-window maximum, mean or decibel reference: a frame computed once serves every window it lies in.
Constants are NumPy arrays. The arithmetic is one function body that runs on NumPy arrays and on TensorFlow tensors;
what differs between the two is handed in as `Ops`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .spec import LogMel


class Ops(NamedTuple):
    """The operations that NumPy and TensorFlow spell differently."""

    reshape: Callable[[Any, list[int]], Any]
    concat: Callable[[list[Any], int], Any]
    magnitude: Callable[[Any, int], Any]  # |rfft(x, n)| over the last axis, float32
    log: Callable[[Any], Any]


def _magnitude(x: NDArray[np.float32], n: int) -> NDArray[np.float32]:
    # float64 on purpose: NumPy 1 transforms in float64 and NumPy 2 in the input's precision; so both agree.
    magnitude: NDArray[np.float32] = np.abs(np.fft.rfft(x.astype(np.float64), n)).astype(np.float32)
    return magnitude


NUMPY = Ops(np.reshape, np.concatenate, _magnitude, np.log)


def hertz_to_mel(hertz: Any) -> Any:
    """HTK mel scale (O'Shaughnessy 1987)."""
    return 1127.0 * np.log1p(np.asarray(hertz, np.float64) / 700.0)


@functools.lru_cache
def window(spec: LogMel) -> NDArray[np.float32]:
    """Periodic Hann window, float32 [frame_length]."""
    n = np.arange(spec.frame_length)
    return (0.5 - 0.5 * np.cos(2 * np.pi * n / spec.frame_length)).astype(np.float32)


@functools.lru_cache
def mel_matrix(spec: LogMel) -> NDArray[np.float32]:
    """Triangles of peak 1, equally spaced in mel, float32 [fft_length // 2 + 1, bands]."""
    bins = hertz_to_mel(np.arange(spec.fft_length // 2 + 1) * (spec.sample_rate / spec.fft_length))[:, None]
    edges = np.linspace(hertz_to_mel(spec.low), hertz_to_mel(spec.high), spec.bands + 2)
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    triangles: NDArray[np.float32] = np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)
    return triangles


def log_mel(samples: Any, spec: LogMel, ops: Ops = NUMPY) -> Any:
    """Natural-log mel spectrogram of all whole frames.

    samples: float32 [n] or [batch, n], full scale 1.0, at `spec.sample_rate`, with n static and at least one frame.
    Returns float32 [frames, bands] or [batch, frames, bands], at least log(offset).
    """
    frames = spec.frames(samples.shape[-1])
    overlap = spec.frame_length // spec.frame_step  # blocks in a frame
    batch = [] if len(samples.shape) == 1 else [-1]
    blocks = samples[..., : spec.samples(frames)]
    blocks = ops.reshape(blocks, [*batch, frames + overlap - 1, spec.frame_step])
    framed = ops.concat([blocks[..., i : i + frames, :] for i in range(overlap)], -1)  # [..., frames, frame_length]
    magnitude = ops.magnitude(framed * window(spec), spec.fft_length)  # [..., frames, fft_length // 2 + 1]
    return ops.log(magnitude @ mel_matrix(spec) + np.float32(spec.offset))  # [..., frames, bands]
