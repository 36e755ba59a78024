"""What a model is compared with: YAMNet, and the statistics of a log-mel spectrogram.

yamnet   the TFLite file of TensorFlow's model garden (research/audioset/yamnet, Apache 2.0): int8, trained on
         AudioSet. 15,600 samples at 16 kHz in; its embedding is the mean over time and frequency of the last
         convolution, 1024 values. L3EDGE_DATA/yamnet/yamnet.tflite
log-mel  mean and standard deviation over the window of each band of the front end of edge-m: what sound gives
         without a network
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from l3edge import engine, flatbuffer, frontend
from l3edge.spec import PRESETS

from .cli import TrainingError
from .windows import Rows, whole_windows

DATA = Path(os.environ.get("L3EDGE_DATA", Path(__file__).parents[2] / "shared" / "data"))
YAMNET = DATA / "yamnet" / "yamnet.tflite"
_YAMNET_EMBEDDING = 1024


class Heard(NamedTuple):
    """A peer's `Hearing`."""

    sample_rate: int  # Hz
    window: int  # samples
    embedding_size: int


class YamNet:
    """YAMNet, on the engine of l3edge.

    A window is a second, as the other models' are; the network hears its first 0.975 s, 15,600 samples.
    Raises TrainingError where the file is missing or is another one.
    """

    name = "yamnet"
    spec = Heard(16_000, 16_000, _YAMNET_EMBEDDING)

    def __init__(self, path: Path = YAMNET, engine_name: str = "auto") -> None:
        try:
            self.file = path.read_bytes()
        except OSError as error:
            raise TrainingError(
                f"no YAMNet at {path} ({error.strerror}): set L3EDGE_DATA to a folder that holds yamnet/yamnet.tflite"
            ) from error
        self.identity = hashlib.sha256(self.file).hexdigest()
        found = engine.find(engine_name)
        self.engine = f"{found.name} {found.version}"
        graph = flatbuffer.parse(self.file).subgraphs[0]
        self._embedding = _pooled(graph, path)
        (given,) = (graph.tensors[i] for i in graph.inputs)
        self._samples = int(np.prod(given.shape))
        # The embedding is no output of the graph: without this flag its memory is used again before it can be read.
        # LiteRT warns of the memory that it takes, here a few MB.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            self._interpreter = found.interpreter.Interpreter(
                model_content=self.file, num_threads=1, experimental_preserve_all_tensors=True
            )
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        tensor = graph.tensors[self._embedding]
        self._scale, self._zero = np.float32(tensor.scales[0]), np.float32(tensor.zero_points[0])

    def embed(self, samples: NDArray[np.float32], hop: float, rows: Rows | None = None) -> NDArray[np.float32]:
        """As `embedders.Embedder.embed`."""
        cut = whole_windows(samples, self.spec, hop)
        wanted = cut if rows is None else cut[rows]
        made = np.zeros((len(wanted), _YAMNET_EMBEDDING), np.float32)
        for i, window in enumerate(wanted):
            made[i] = self._window(window)
        return made

    def _window(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        self._interpreter.set_tensor(self._input, samples[: self._samples])
        self._interpreter.invoke()
        values = self._interpreter.get_tensor(self._embedding).reshape(-1).astype(np.float32)
        made: NDArray[np.float32] = (values - self._zero) * self._scale
        return made


def _pooled(graph: flatbuffer.Subgraph, path: Path) -> int:
    """The tensor that the only MEAN of a graph makes, if it is an int8 embedding."""
    made = [operator.outputs[0] for operator in graph.operators if operator.name == "MEAN"]
    if len(made) == 1:
        tensor = graph.tensors[made[0]]
        if tensor.dtype == "int8" and int(np.prod(tensor.shape)) == _YAMNET_EMBEDDING and len(tensor.scales) == 1:
            return made[0]
    raise TrainingError(
        f"{path} is not YAMNet in int8: expected one MEAN that makes {_YAMNET_EMBEDDING} int8 values, found {len(made)}"
    )


class LogMel:
    """Mean and standard deviation over the window's frames of each log-mel band."""

    name = "log-mel"
    front_end = PRESETS["edge-m"].front_end
    spec = Heard(front_end.sample_rate, PRESETS["edge-m"].window, 2 * front_end.bins)
    engine = f"numpy {np.__version__}"
    identity = hashlib.sha256(f"log-mel mean, sd {front_end}".encode()).hexdigest()

    def embed(self, samples: NDArray[np.float32], hop: float, rows: Rows | None = None) -> NDArray[np.float32]:
        """As `embedders.Embedder.embed`; a hop is a whole number of frames."""
        step, every = divmod(round(hop * self.spec.sample_rate), self.front_end.frame_step)
        if every:
            raise TrainingError(f"{self.name}: a hop must be a multiple of a frame's step, got {hop:g} s")
        if len(samples) < self.spec.window:
            return np.zeros((0, self.spec.embedding_size), np.float32)
        bands = frontend.features(samples, self.front_end)  # [frames, bins]
        cut = np.lib.stride_tricks.sliding_window_view(bands, self.front_end.frames(self.spec.window), axis=0)
        cut = cut[::step] if rows is None else cut[::step][rows]  # [k, bins, frames]
        return np.concatenate([cut.mean(axis=-1), cut.std(axis=-1)], axis=1)


# What makes each; the name of an engine in.
PEERS: dict[str, Callable[[str], YamNet | LogMel]] = {
    YamNet.name: lambda engine_name: YamNet(engine_name=engine_name),
    LogMel.name: lambda _: LogMel(),
}


def macs(content: bytes) -> int:
    """Multiply-accumulates of the convolutions in one run of a TFLite file's first graph."""
    graph = flatbuffer.parse(content).subgraphs[0]
    total = 0
    for operator in graph.operators:
        if operator.name in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            kernel = graph.tensors[operator.inputs[1]].shape  # [filters, h, w, inputs]; depthwise [1, h, w, filters]
            each = kernel[1:3] if operator.name == "DEPTHWISE_CONV_2D" else kernel[1:]
            total += int(np.prod(graph.tensors[operator.outputs[0]].shape)) * int(np.prod(each))
    return total
