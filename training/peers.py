"""What a model is compared with: YAMNet, and the statistics of a log-mel spectrogram.

yamnet   the TFLite file of TensorFlow's model garden (research/audioset/yamnet, Apache 2.0): int8, trained on
         AudioSet. 15,600 samples at 16 kHz in; its embedding is the mean over time and frequency of the last
         convolution, 1024 values. L3EDGE_DATA/yamnet/yamnet.tflite
log-mel  mean and standard deviation over the window of each band of the front end of edge-m: what sound gives
         without a network
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from l3edge import engine, frontend
from l3edge.spec import PRESETS

from . import teachers
from .cli import TrainingError
from .windows import Rows, whole_windows


class Heard(NamedTuple):
    """A peer's `Hearing`."""

    sample_rate: int  # Hz
    window: int  # samples
    embedding_size: int


class YamNet:
    """YAMNet, the same as teaches: `training.teachers`, on one thread.

    A window is a second, as the other models' are; the network hears its first 0.975 s, 15,600 samples.
    Raises TrainingError where the file is missing or is another one.
    """

    name = "yamnet"
    spec = Heard(16_000, 16_000, 1024)

    def __init__(self, path: Path = teachers.YAMNET) -> None:
        if not path.is_file():
            raise TrainingError(f"no YAMNet at {path}: set L3EDGE_DATA to a folder that holds yamnet/yamnet.tflite")
        self.path = path
        self._teacher = teachers.TfliteTeacher(
            path, {"embedding": teachers.YAMNET_EMBEDDING}, self.spec.sample_rate, threads=1
        )
        if self._teacher.widths["embedding"] != self.spec.embedding_size:
            raise TrainingError(f"{path} is not YAMNet: its embedding has not {self.spec.embedding_size} values")
        self.identity = self._teacher.identity
        found = engine.find("litert")
        self.engine = f"{found.name} {found.version}"

    def embed(self, samples: NDArray[np.float32], hop: float, rows: Rows | None = None) -> NDArray[np.float32]:
        """As `embedders.Embedder.embed`."""
        cut = whole_windows(samples, self.spec, hop)
        cut = cut if rows is None else cut[rows]
        heard = self._teacher.window
        if not len(cut):
            return np.zeros((0, self.spec.embedding_size), np.float32)
        return self._teacher(cut[:, :heard].reshape(-1), heard)["embedding"]


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


PEERS: dict[str, Callable[[], YamNet | LogMel]] = {
    YamNet.name: YamNet,
    LogMel.name: LogMel,
}
