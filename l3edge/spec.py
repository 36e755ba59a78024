"""Every number of a model, once.

A `Spec` is what training, export and runtime share; it is stored as JSON inside each model file. Times are integers
in samples; what follows from them (frames, columns, receptive field, cost) is derived here and nowhere else.

How a hop becomes a step. The network is a table of convolutions, valid in time, and pools. Frames come every
`frame_step` samples; the pools make one output column of every `stride` frames. When a hop is a whole number of
columns, the columns of window k+1 that window k already had are the same columns, and only `columns_per_hop` new ones
have to be computed. Step s reads the frames `frames_per_hop * s + frame_offset` onwards; the offset is the one for
which every pool's input begins on a pool boundary, so that convolutions are the only layers with state.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .errors import ModelFileError, OptionError


class Conv(NamedTuple):
    """Convolution with bias and ReLU, stride 1: "valid" in time, "same" in frequency."""

    filters: int
    kernel: tuple[int, int] = (3, 3)  # time, frequency


class Pool(NamedTuple):
    """Maximum over non-overlapping blocks."""

    size: tuple[int, int] = (2, 2)  # time, frequency


Layer = Conv | Pool


def l3_stack(filters: tuple[int, ...]) -> tuple[Layer, ...]:
    """L3 stack (Arandjelovic & Zisserman 2017, fig. 2): two 3x3 convolutions a block, pools between blocks."""
    blocks: list[Layer] = []
    for count in filters:
        blocks += [Conv(count), Conv(count), Pool()]
    return tuple(blocks[:-1])


@dataclass(frozen=True)
class LogMel:
    """`log(mel + offset)` of the magnitude spectrum, each frame by itself.

    The mel scale is HTK's; the bands are triangles of peak 1, as in YAMNet (Plakal & Ellis 2020, `features.py`).
    """

    sample_rate: int = 16_000
    frame_length: int = 400  # samples, 25 ms
    frame_step: int = 200  # samples, 12.5 ms
    fft_length: int = 512
    bands: int = 64
    low: float = 125.0  # Hz
    high: float = 7500.0  # Hz
    offset: float = 1e-3

    def __post_init__(self) -> None:
        if self.frame_step < 1 or self.frame_length % self.frame_step:
            raise OptionError(
                f"frame_length {self.frame_length} must be a multiple of frame_step {self.frame_step}: "
                "frames are assembled from whole blocks"
            )
        if self.fft_length < self.frame_length:
            raise OptionError(f"fft_length {self.fft_length} is shorter than frame_length {self.frame_length}")
        if not 0 <= self.low < self.high <= self.sample_rate / 2:
            raise OptionError(f"mel range {self.low}-{self.high} Hz does not fit a rate of {self.sample_rate} Hz")
        if self.bands < 1 or self.offset <= 0:
            raise OptionError(f"bands ({self.bands}) and offset ({self.offset}) must be positive")

    def frames(self, samples: int) -> int:
        """Number of whole frames in so many samples."""
        return max(0, (samples - self.frame_length) // self.frame_step + 1)

    def samples(self, frames: int) -> int:
        """Samples that so many consecutive frames span."""
        return (frames - 1) * self.frame_step + self.frame_length


@dataclass(frozen=True)
class ImageTower:
    """The image side of audio-visual correspondence; it is trained with and never deployed."""

    size: int = 64  # pixels, square
    filters: tuple[int, ...] = (16, 32, 64, 128)


@dataclass(frozen=True)
class Spec:
    """A streaming audio-embedding model; derived quantities are properties.

    Raises OptionError where the numbers cannot stream exactly.
    """

    name: str
    filters: tuple[int, ...]
    log_mel: LogMel = field(default_factory=LogMel)
    window: int = 16_000  # samples
    hop: int = 1_600  # samples: the step, and the finest hop there is
    image: ImageTower = field(default_factory=ImageTower)
    fusion: int = 128  # units of the fully connected layer that joins the towers

    def __post_init__(self) -> None:
        if not self.filters or min(self.filters) < 1:
            raise OptionError(f"filters must be positive, one number a block; got {self.filters}")
        if self.window < 1 or self.hop < 1 or self.window % self.hop:
            raise OptionError(f"window {self.window} must be a multiple of hop {self.hop}, in samples")
        column = self.log_mel.frame_step * self.stride
        if self.hop % column:
            nearest = max(1, round(self.hop / column)) * column
            raise OptionError(
                f"hop {self.hop} is not a whole number of output columns of {column} samples (frame step "
                f"{self.log_mel.frame_step} x stride {self.stride}), so windows could not share columns; "
                f"the nearest hop that can is {nearest}"
            )
        if self.columns < 1:
            raise OptionError(
                f"a window of {self.window} samples has {self.frames} frames, fewer than the receptive field of "
                f"{self.receptive_field}"
            )

    @property
    def sample_rate(self) -> int:
        """Hz."""
        return self.log_mel.sample_rate

    @property
    def embedding_size(self) -> int:
        """Values in an embedding: the filters of the last block."""
        return self.filters[-1]

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The audio tower, up to the maximum over all columns and bands that makes the embedding."""
        return l3_stack(self.filters)

    @property
    def convolutions(self) -> tuple[Conv, ...]:
        """The rows of `layers` that hold weights, and in a step, state."""
        return tuple(layer for layer in self.layers if isinstance(layer, Conv))

    @property
    def stride(self) -> int:
        """Frames from one output column to the next."""
        return math.prod(layer.size[0] for layer in self.layers if isinstance(layer, Pool))

    @property
    def receptive_field(self) -> int:
        """Frames that one output column depends on."""
        frames, stride = 1, 1
        for layer in self.layers:
            if isinstance(layer, Pool):
                frames += (layer.size[0] - 1) * stride
                stride *= layer.size[0]
            else:
                frames += (layer.kernel[0] - 1) * stride
        return frames

    @property
    def frames(self) -> int:
        """Whole frames in a window."""
        return self.log_mel.frames(self.window)

    @property
    def columns(self) -> int:
        """Output columns whose receptive field lies inside the window."""
        return max(0, (self.frames - self.receptive_field) // self.stride + 1)

    @property
    def frames_used(self) -> int:
        """Frames of a window that reach its embedding: those that fill whole output columns."""
        return self.receptive_field + (self.columns - 1) * self.stride

    @property
    def samples_seen(self) -> int:
        """An embedding depends on the samples [0, samples_seen) of its window, and on no others."""
        return self.log_mel.samples(self.frames_used)

    @property
    def frames_per_hop(self) -> int:
        """New frames in a step."""
        return self.hop // self.log_mel.frame_step

    @property
    def columns_per_hop(self) -> int:
        """New output columns in a step."""
        return self.frames_per_hop // self.stride

    @property
    def steps_per_window(self) -> int:
        """Steps from the beginning of a window to its end."""
        return self.window // self.hop

    @property
    def _alignment(self) -> tuple[int, int]:
        """(frame_offset, first column of step 0): the latest offset at which no pool needs state, among those at
        which a step reads no further than its hop. So the step that ends a window yields the window's last column.
        """
        latest = min(0, (self.hop - self.step_samples) // self.log_mel.frame_step)
        for offset in range(latest, latest - self.stride, -1):
            position = offset
            for layer in self.layers:
                if isinstance(layer, Conv):
                    position -= layer.kernel[0] - 1
                elif position % layer.size[0]:
                    break
                else:
                    position //= layer.size[0]
            else:
                return offset, position
        raise AssertionError("one of any `stride` offsets aligns")

    @property
    def step_start(self) -> int:
        """Sample, counted from the beginning of hop s, at which step s starts to read; zero or negative."""
        return self._alignment[0] * self.log_mel.frame_step

    @property
    def step_samples(self) -> int:
        """Samples that a step reads."""
        return self.log_mel.samples(self.frames_per_hop)

    def shapes(self, frames: int, *, step: bool = False) -> list[tuple[int, int, int]]:
        """Output shape (time, frequency, channels) of each layer for an input of `frames` mel frames.

        In a step each convolution has its state in front of its input, so its output is as long as its input.
        """
        time, bands, channels = frames, self.log_mel.bands, 1
        shapes = []
        for layer in self.layers:
            if isinstance(layer, Pool):
                time, bands = time // layer.size[0], bands // layer.size[1]
            else:
                time, channels = time if step else time - layer.kernel[0] + 1, layer.filters
            shapes.append((time, bands, channels))
        return shapes

    @property
    def state_shapes(self) -> list[tuple[int, int, int, int]]:
        """Shape [1, time, frequency, channels] of each convolution's state: the last columns of its input."""
        before = [(self.frames_per_hop, self.log_mel.bands, 1), *self.shapes(self.frames_per_hop, step=True)]
        return [
            (1, layer.kernel[0] - 1, bands, channels)
            for layer, (_, bands, channels) in zip(self.layers, before, strict=False)
            if isinstance(layer, Conv)
        ]

    def _macs(self, shapes: list[tuple[int, int, int]]) -> int:
        macs, inputs = 0, 1
        for layer, (time, bands, channels) in zip(self.layers, shapes, strict=True):
            if isinstance(layer, Conv):
                macs += time * bands * channels * inputs * math.prod(layer.kernel)
            inputs = channels
        return macs

    @property
    def macs_per_hop(self) -> int:
        """Multiply-accumulates of the network in one step."""
        return self._macs(self.shapes(self.frames_per_hop, step=True))

    @property
    def macs_per_window(self) -> int:
        """Multiply-accumulates of the network when a window is computed from scratch."""
        return self._macs(self.shapes(self.frames_used))

    @property
    def parameters(self) -> int:
        """Weights and biases of the deployed network (batch normalisation folded)."""
        inputs, count = 1, 0
        for layer in self.convolutions:
            count += math.prod(layer.kernel) * inputs * layer.filters + layer.filters
            inputs = layer.filters
        return count

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values; `from_json` is the inverse."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, document: object) -> Spec:
        """The spec in a JSON object; ModelFileError names what is missing, unknown or impossible."""
        values = _fields(cls, document, "spec")
        try:
            values["log_mel"] = LogMel(**_fields(LogMel, values["log_mel"], "spec.log_mel"))
            values["image"] = ImageTower(**_fields(ImageTower, values["image"], "spec.image"))
            return cls(**values)
        except OptionError as error:
            raise ModelFileError(f"the spec contradicts itself: {error}") from error


def _fields(cls: type, document: object, where: str) -> dict[str, Any]:
    """The fields of dataclass `cls` from untrusted JSON, types checked."""
    if not isinstance(document, dict):
        raise ModelFileError(f"{where} must be a JSON object, got {type(document).__name__}")
    types = {f.name: str(f.type) for f in dataclasses.fields(cls)}
    if set(document) != set(types):
        missing, unknown = sorted(set(types) - set(document)), sorted(set(document) - set(types))
        raise ModelFileError(f"{where}: missing {missing}, unknown {unknown}")
    values = {}
    for name, value in document.items():
        expected = types[name]
        if expected == "tuple[int, ...]":
            good = isinstance(value, (list, tuple)) and len(value) <= 16 and all(type(v) is int for v in value)
            value = tuple(value) if good else value
        elif expected == "int":
            good = type(value) is int and abs(value) < 2**31
        elif expected == "float":
            good = type(value) in (int, float) and math.isfinite(value)
        else:
            good = isinstance(value, str if expected == "str" else dict)
        if not good:
            raise ModelFileError(f"{where}.{name} must be {expected}, got {str(value)[:80]!r}")
        values[name] = value
    return values


# Widths and frame step chosen by measuring: training/LOG.md, `python -m benchmarks.widths`.
PRESETS: dict[str, Spec] = {
    spec.name: spec
    for spec in (
        Spec("edge-s", (16, 32, 64, 128)),
        Spec("edge-m", (32, 64, 128, 256)),
        Spec("edge-l", (48, 96, 192, 384), image=ImageTower(96, (32, 64, 128, 256))),
    )
}
