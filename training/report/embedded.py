"""Pictures and sounds inside a page: spectrograms, frames, heat maps over both, and data URIs of them."""

from __future__ import annotations

import base64
import io
from typing import Any

import matplotlib
import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from PIL import Image

SOUND_RATE = 16_000  # Hz, of sounds in a page
PICTURE = 192  # pixels, height of a picture in a page
QUALITY = 80  # JPEG

Floats = NDArray[np.floating[Any]]


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def sound(samples: Floats, rate: int) -> str:
    """FLAC, 16 bit, at most `SOUND_RATE`, of mono samples in [-1, 1]."""
    if rate > SOUND_RATE:
        samples, rate = soxr.resample(samples, rate, SOUND_RATE), SOUND_RATE
    content = io.BytesIO()
    soundfile.write(content, np.clip(samples, -1, 1), rate, format="FLAC", subtype="PCM_16")
    return _uri("audio/flac", content.getvalue())


def picture(pixels: Floats) -> str:
    """JPEG of RGB values in [0, 1], [height, width, 3]."""
    content = io.BytesIO()
    image = Image.fromarray((np.clip(pixels, 0, 1) * 255).round().astype(np.uint8))
    image.save(content, "JPEG", quality=QUALITY)
    return _uri("image/jpeg", content.getvalue())


def spread(values: Floats, centres: tuple[Floats, Floats], size: tuple[int, int]) -> Floats:
    """A map's cells, which lie at `centres` (each axis in [0, 1]), linearly between them and level beyond: [size]."""
    for axis in (0, 1):
        at = (np.arange(size[axis]) + 0.5) / size[axis]
        values = np.apply_along_axis(lambda cells, at=at, axis=axis: np.interp(at, centres[axis], cells), axis, values)
    return values


def heated(pixels: Floats, heat: Floats) -> Floats:
    """Heat in [0, 1], [height, width], over a picture: from nothing through red to yellow."""
    colours = matplotlib.colormaps["autumn"](np.clip(heat, 0, 1))[..., :3]
    opacity = 0.75 * np.clip(heat, 0, 1)[..., None] ** 1.5
    return pixels * (1 - opacity) + colours * opacity


def spectrogram(features: Floats, low: float, high: float) -> Floats:
    """Features [frames, bins] as pixels: time to the right, low frequencies below, the louder the lighter."""
    level = np.clip((features - low) / max(1e-9, high - low), 0, 1).T[::-1]
    times = max(1, PICTURE // level.shape[0])
    return np.repeat(np.repeat(level[..., None], 3, 2), times, 0).repeat(times, 1)


def frame(image: Floats) -> Floats:
    """A network's picture [size, size, 3] in [-1, 1] as pixels, `PICTURE` high and wide."""
    pixels = Image.fromarray(((image + 1) * 127.5).round().astype(np.uint8))
    return np.asarray(pixels.resize((PICTURE, PICTURE), Image.Resampling.BICUBIC)) / 255.0
