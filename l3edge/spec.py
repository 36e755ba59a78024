"""Every number of a model, once.

A `Spec` is what training, export and runtime share; it is stored as JSON inside each model file. Times are integers
in samples; what follows from them (frames, columns, receptive field, cost) is derived here and in `layers`.

How a hop becomes a step. The network is a table of layers (`l3edge.layers`). Frames come every `frame_step` samples;
the strides make one output column of every `stride` frames. When a hop is a whole number of columns, the columns of
window k+1 that window k already had are the same columns, and only `columns_per_hop` new ones have to be computed.
Step s reads the frames `frames_per_hop * s + frame_offset` onwards; the offset is the one at which every layer's
input begins where one of its outputs begins.

Layers after these may look at all columns of a window at once, padding and all (`window_layers`): they are computed
anew for each window, on columns of which only the new ones had to be.

A spec that cannot do so (padding in time, a front end that looks at the whole window) has `streaming=False`: its
windows are computed one by one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from . import layers as stack
from . import spec_json
from .errors import ModelFileError, OptionError
from .frontend import Decibel, FrontEnd, LogMel
from .layers import Conv, Layer, Pool, Shape, l3_stack

MOST_SAMPLES = 1 << 22  # in a window: 87 s at 48 kHz
MOST_VALUES = 1 << 24  # in the output of the last layer for a window: a stream keeps as many


@dataclass(frozen=True)
class ImageTower:
    """The image side of audio-visual correspondence; it is trained with and never deployed."""

    size: int = 64  # pixels, square
    filters: tuple[int, ...] = (16, 32, 64, 128)

    def __post_init__(self) -> None:
        if not 8 <= self.size <= 1024 or not self.filters or not 1 <= min(self.filters) <= max(self.filters) <= 4096:
            raise OptionError(f"the image tower's size and filters must be positive and sensible; got {self}")


@dataclass(frozen=True)
class Spec:
    """An audio-embedding model; derived quantities are properties.

    Raises OptionError where the numbers contradict each other, or `streaming` is asked of what cannot stream exactly.
    """

    name: str
    layers: tuple[Layer, ...]  # the audio tower, up to what makes the embedding of its output
    front_end: FrontEnd = field(default_factory=LogMel)
    window: int = 16_000  # samples
    hop: int = 1_600  # samples: the step, and where the model streams the finest hop there is
    streaming: bool = True  # False: each window by itself
    embedding: str = "maximum"  # over all that the last layer makes; or "flatten": frequency, time, channel
    image: ImageTower = field(default_factory=ImageTower)
    fusion: int = 128  # units of the fully connected layer that joins the towers
    # Where the model streams: more rows, on all columns of a window, and on nothing else; computed anew for each.
    window_layers: tuple[Layer, ...] = ()

    def __post_init__(self) -> None:
        stack.check(self.layers)
        stack.check(self.rows)
        if self.window_layers and not self.streaming:
            raise OptionError(
                "window_layers are of models that stream; where windows share nothing, all rows are layers"
            )
        if not 1 <= self.hop <= self.window <= MOST_SAMPLES:
            raise OptionError(f"hop {self.hop} and window {self.window} must be from 1 to {MOST_SAMPLES} samples")
        if self.embedding not in ("maximum", "flatten"):
            raise OptionError(f'embedding must be "maximum" or "flatten", got {self.embedding!r}')
        if not 1 <= self.fusion <= stack.MOST_FILTERS:
            raise OptionError(f"fusion must be from 1 to {stack.MOST_FILTERS} units, got {self.fusion}")
        if self.streaming:
            refusal = self._refusal()
            if refusal:
                raise OptionError(f"{self.name or 'this spec'} cannot stream exactly: {refusal}")
        time, bins, _ = self._columns_made
        if time < 1 or bins < 1:
            raise OptionError(
                f"a window of {self.window} samples has {self.frames} frames of {self.front_end.bins} bins, too few "
                f"for the receptive field of {self.receptive_field} frames and the pools over the bins"
            )
        time, bins, channels = self.shapes(self.frames_used)[-1]
        if time * bins * channels > MOST_VALUES:
            raise OptionError(f"a window has {time} x {bins} x {channels} output values, more than {MOST_VALUES}")
        if time < 1 or bins < 1:
            raise OptionError(f"window_layers leave nothing of a window's {self.columns} columns")

    def _refusal(self) -> str | None:
        """Why windows cannot share columns, and what would have to be different; None if they can."""
        if not isinstance(self.front_end, LogMel):
            return (
                "decibels relative to the window's maximum depend on the whole window; "
                "the nearest front end that can is a LogMel of the same frames, log(mel + offset) of each by itself"
            )
        padded = [i for i, layer in enumerate(self.layers) if isinstance(layer, Conv) and layer.padding == "same"]
        if padded:
            return (
                f'"same" padding in time (layers {padded}) puts zeros where the next window has sound; '
                'the nearest stack that can has padding="valid" there'
            )
        if self.embedding != "maximum":
            return 'flattening keeps every column apart; the nearest embedding that can is the "maximum" over columns'
        column = self.front_end.frame_step * self.stride
        if self.hop % column:
            return (
                f"hop {self.hop} is not a whole number of output columns of {column} samples (frame step "
                f"{self.front_end.frame_step} x stride {self.stride}), so windows could not share columns; "
                f"the nearest hop that can is {max(1, round(self.hop / column)) * column}"
            )
        if self.window % self.hop:
            nearest = max(1, round(self.window / self.hop)) * self.hop
            return f"window {self.window} must be a multiple of hop {self.hop}, in samples; the nearest is {nearest}"
        return None

    def nearest_streaming(self) -> Spec:
        """The nearest spec that streams exactly: this one, or one with what a refusal names replaced."""
        layers = [
            layer._replace(padding="valid") if isinstance(layer, Conv) else layer
            for layer in self.layers[: 1 + max(i for i, layer in enumerate(self.layers) if isinstance(layer, Conv))]
        ]
        if self.embedding == "maximum":
            layers += self.layers[len(layers) :]
        front = self.front_end if isinstance(self.front_end, LogMel) else self.front_end.nearest_log_mel()
        column = front.frame_step * stack.stride(layers)
        hop = max(1, round(self.hop / column)) * column
        least = -(-front.samples(stack.receptive_field(layers)) // hop)
        window = max(least, round(self.window / hop)) * hop
        return dataclasses.replace(
            self,
            layers=tuple(layers),
            front_end=front,
            hop=hop,
            window=window,
            streaming=True,
            embedding="maximum",
        )

    @property
    def sample_rate(self) -> int:
        """Hz."""
        return self.front_end.sample_rate

    @property
    def grid(self) -> int:
        """Hops are multiples of so many samples: the step where the model streams, any number where it does not."""
        return self.hop if self.streaming else 1

    @property
    def embedding_size(self) -> int:
        """Values in an embedding."""
        time, bins, channels = self.shapes(self.frames_used)[-1]
        return channels if self.embedding == "maximum" else time * bins * channels

    @property
    def rows(self) -> tuple[Layer, ...]:
        """The whole tower."""
        return (*self.layers, *self.window_layers)

    def with_rows(self, rows: Sequence[Layer]) -> Spec:
        """The spec with other rows in place of each of its own."""
        count = len(self.layers)
        return dataclasses.replace(self, layers=tuple(rows[:count]), window_layers=tuple(rows[count:]))

    @property
    def convolutions(self) -> tuple[Conv, ...]:
        """The rows that hold weights."""
        return tuple(layer for layer in self.rows if isinstance(layer, Conv))

    @property
    def stride(self) -> int:
        """Frames from one output column to the next."""
        return stack.stride(self.layers)

    @property
    def receptive_field(self) -> int:
        """Frames that one output column depends on; padding, where there is some, lies inside it."""
        return stack.receptive_field(self.layers)

    @property
    def frames(self) -> int:
        """Frames in a window."""
        return self.front_end.frames(self.window)

    @property
    def columns(self) -> int:
        """Output columns of a window: without padding, those whose receptive field lies inside it."""
        return self._columns_made[0]

    @property
    def _columns_made(self) -> Shape:
        """Shape of what `layers` make of a window's frames."""
        return list(stack.shapes(self.layers, self.frames, self.front_end.bins))[-1]

    @property
    def results(self) -> int:
        """Results of steps whose maximum is a window's embedding: its columns, or what `window_layers` make of them."""
        return 1 if self.window_layers else self.columns

    @property
    def results_per_hop(self) -> int:
        """Of these, in a step."""
        return 1 if self.window_layers else self.columns_per_hop

    @property
    def frames_used(self) -> int:
        """Frames of a window that reach its embedding: those that fill whole output columns."""
        if not self.streaming:
            return self.frames
        return self.receptive_field + (self.columns - 1) * self.stride

    @property
    def samples_seen(self) -> int:
        """An embedding depends on the samples [0, samples_seen) of its window, and on no others."""
        return min(self.window, self.front_end.samples(self.frames_used))

    @property
    def frames_per_hop(self) -> int:
        """New frames in a step."""
        return self.hop // self.front_end.frame_step

    @property
    def columns_per_hop(self) -> int:
        """New output columns in a step."""
        return self.frames_per_hop // self.stride

    @property
    def steps_per_window(self) -> int:
        """Steps from the beginning of a window to its end."""
        return self.window // self.hop

    @property
    def step_start(self) -> int:
        """Sample, counted from the beginning of hop s, at which step s starts to read; zero or negative."""
        latest = min(0, (self.hop - self.step_samples) // self.front_end.frame_step)
        return stack.alignment(self.layers, latest)[0] * self.front_end.frame_step

    @property
    def step_samples(self) -> int:
        """Samples that a step reads."""
        return self.samples_of(1)

    def samples_of(self, hops: int) -> int:
        """Samples that a step of so many hops reads, which end no later than its last hop does."""
        return self.front_end.samples(hops * self.frames_per_hop)

    def shapes(self, frames: int, *, step: bool = False) -> list[Shape]:
        """Output shape (time, frequency, channels) of each layer for an input of `frames` frames.

        In a step each layer has what it kept in front of its input, so nothing is lost at the edges.
        """
        made = list(stack.shapes(self.layers, frames, self.front_end.bins, step=step))
        if self.window_layers:
            _, bins, channels = made[-1]
            made += stack.shapes(self.window_layers, self.columns, bins, channels=channels)
        return made

    @property
    def state_shapes(self) -> list[tuple[int, int, int, int]]:
        """Shape [1, time, frequency, channels] of each state: the last columns of a layer's input, if it keeps any; and
        those columns of the windows to come that `window_layers` have not seen the last of.
        """
        made = stack.state_shapes(self.layers, self.frames_per_hop, self.front_end.bins)
        return [*made, (1, self.columns_kept, *self._columns_made[1:])] if self.columns_kept else made

    @property
    def columns_kept(self) -> int:
        """Columns that are kept from one step to the next for `window_layers`."""
        return max(0, self.columns - self.columns_per_hop) if self.window_layers else 0

    @property
    def macs_per_hop(self) -> int:
        """Multiply-accumulates of the network in one hop: a step, or the whole window where it does not stream."""
        if not self.streaming:
            return self.macs_per_window
        return stack.macs(self.rows, self.shapes(self.frames_per_hop, step=True))

    @property
    def macs_per_window(self) -> int:
        """Multiply-accumulates of the network when a window is computed from scratch."""
        return stack.macs(self.rows, self.shapes(self.frames_used))

    @property
    def parameters(self) -> int:
        """Weights and biases of the deployed network (batch normalisation folded)."""
        return stack.parameters(self.rows)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values; `from_json` is the inverse."""
        plain = dataclasses.replace(self, layers=(Conv(1),), window_layers=(), streaming=False)
        document = {**dataclasses.asdict(plain), "layers": spec_json.rows(self.layers), "streaming": self.streaming}
        # Left out where there are none: files of before there were any are read as they are, and written so.
        del document["window_layers"]
        return {**document, "window_layers": spec_json.rows(self.window_layers)} if self.window_layers else document

    @classmethod
    def from_json(cls, document: object) -> Spec:
        """The spec in a JSON object; ModelFileError names what is missing, unknown or impossible."""
        try:
            document = spec_json.upgraded(document)
            if isinstance(document, dict):
                document = {"window_layers": [], **document}
            values = spec_json.fields(cls, document, "spec")
            front_ends: dict[object, type[LogMel] | type[Decibel]] = {"log_mel": LogMel, "decibel": Decibel}
            kind = spec_json.kind(values["front_end"], list(front_ends), "spec.front_end")
            values["front_end"] = front_ends[kind](
                **spec_json.fields(front_ends[kind], values["front_end"], "spec.front_end")
            )
            values["image"] = ImageTower(**spec_json.fields(ImageTower, values["image"], "spec.image"))
            for table in ("layers", "window_layers"):
                values[table] = tuple(spec_json.layer(row, f"spec.{table}[{i}]") for i, row in enumerate(values[table]))
            return cls(**values)
        except OptionError as error:
            raise ModelFileError(f"the spec contradicts itself: {error}") from error


def _published(name: str, front_end: FrontEnd, size: int) -> Spec:
    """A tower of the 2019 paper: "same" padding, and the last convolution before its normalisation and ReLU."""
    *tower, last = l3_stack((64, 128, 256, 512), "same")
    assert isinstance(last, Conv)
    rows = (*tower, last._replace(relu=False))
    time, bins, _ = list(stack.shapes(rows, front_end.frames(48_000), front_end.bins))[-1]
    pools = {512: (time, bins), 6144: (time // 3, bins // 4)}
    return Spec(
        name,
        (*rows, Pool(pools[size], pools[size])),
        front_end,
        window=48_000,
        hop=4_800,
        streaming=False,
        embedding="flatten",
        image=ImageTower(224, (64, 128, 256, 512)),
    )


def openl3_spec(kind: str, size: int = 512) -> Spec:
    """The spec of an OpenL3 tower (Cramer et al. 2019): "linear", "mel128" or "mel256"; 512 or 6144 values."""
    front_ends = {
        "linear": Decibel(48_000, 512, 242, 0, padding="valid"),
        "mel128": Decibel(48_000, 2048, 242, 128),
        "mel256": Decibel(48_000, 2048, 242, 256),
    }
    return _published(f"openl3-{kind}", front_ends[kind], size)


# Widths and frame step of edge-*: chosen by measuring (training/LOG.md, `python -m benchmarks.widths`). l3-net:
# Arandjelovic & Zisserman 2017, section 3.1: 10 ms windows every 5 ms, log-spectrogram of 257 bins, 199 frames.
PRESETS: dict[str, Spec] = {
    spec.name: spec
    for spec in (
        Spec("edge-s", l3_stack((16, 32, 64, 128))),
        Spec("edge-m", l3_stack((32, 64, 128, 256))),
        Spec("edge-l", l3_stack((48, 96, 192, 384)), image=ImageTower(96, (32, 64, 128, 256))),
        Spec(
            "l3-net",
            l3_stack((64, 128, 256, 512), "same"),
            LogMel(48_000, 480, 240, 512, 0, 0.0, 24_000.0),
            window=48_000,
            hop=4_800,
            streaming=False,
            image=ImageTower(224, (64, 128, 256, 512)),
        ),
        openl3_spec("linear"),
        openl3_spec("mel128"),
        openl3_spec("mel256"),
    )
}
