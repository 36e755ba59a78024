"""What makes embeddings for a probe: a model file through the runtime, or a run's audio tower through TensorFlow.

A model is named as

    edge-m, path/to/M.tflite      a built-in name or a model file: l3edge, as on a device
    RUN, RUN@CLIPS                a run directory, or its snapshot after so many training clips: float32 TensorFlow
    random:PRESET[:SEED]          an architecture with untrained weights, in float32 TensorFlow: what the tower makes of
    random:RUN[:SEED]             sound before it has learned anything, "Ours random" of Arandjelovic & Zisserman 2017;
                                  the seed of the weights is 0 unless given
    yamnet, log-mel               what models are compared with: training.peers

All kinds are given the samples of a clip and make the embeddings of the same windows.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

import l3edge
from l3edge.spec import PRESETS, Spec

from . import peers
from .cli import TrainingError
from .windows import Hearing, Rows, whole_windows

_BATCH = 64  # windows


class Embedder(Protocol):
    """A model that embeds.

    name: for people. identity: SHA-256, hexadecimal; equal identities and engines make equal embeddings.
    engine: name and version of what computes them.
    """

    name: str
    identity: str
    engine: str

    @property
    def spec(self) -> Hearing:
        """Its numbers."""
        ...

    def embed(self, samples: NDArray[np.float32], hop: float, rows: Rows | None = None) -> NDArray[np.float32]:
        """Embeddings [k, d] of the k whole windows of samples [n] at spec.sample_rate, one every `hop` seconds.

        rows: numbers of the windows that are wanted; None: all.
        """
        ...


class ModelFile:
    """A model file, by its engine."""

    def __init__(self, model: l3edge.Model) -> None:
        self.model, self.spec = model, model.spec
        self.name, self.identity = model.name, model.identity
        self.engine = f"{model.engine.name} {model.engine.version}"

    def embed(self, samples: NDArray[np.float32], hop: float, rows: Rows | None = None) -> NDArray[np.float32]:
        """As `Embedder.embed`."""
        cut = whole_windows(samples, self.spec, hop)
        if rows is not None and not self.spec.streaming:  # each window costs what all do, and by itself gives its bits
            return np.concatenate([self.model.embed(cut[row], self.spec.sample_rate)[0] for row in rows])
        every = self.model.embed(samples, self.spec.sample_rate, hop=hop)[0][: len(cut)]
        return every if rows is None else every[rows]


class Tower:
    """An audio tower, float32, each window by itself."""

    def __init__(self, name: str, spec: Spec, tower: object) -> None:
        from .backend import tf
        from .correspondence import features

        self.name, self.spec = name, spec
        self.engine = f"tensorflow {tf.__version__}"
        digest = hashlib.sha256(json.dumps(spec.to_json(), sort_keys=True).encode())
        for variable in tower.weights:
            digest.update(variable.numpy().tobytes())
        self.identity = digest.hexdigest()
        self._of_batch = tf.function(
            lambda windows: tower(features(windows, spec), training=False),
            input_signature=[tf.TensorSpec([None, spec.window], tf.float32)],
        )

    def embed(self, samples: NDArray[np.float32], hop: float, rows: Rows | None = None) -> NDArray[np.float32]:
        """As `Embedder.embed`."""
        cut = whole_windows(samples, self.spec, hop)
        cut = cut if rows is None else cut[rows]
        parts = [self._of_batch(cut[i : i + _BATCH]).numpy() for i in range(0, len(cut), _BATCH)]
        return np.concatenate(parts) if parts else np.zeros((0, self.spec.embedding_size), np.float32)


def _directory(name: str) -> Path:
    """RUN of RUN or RUN@CLIPS."""
    return Path(re.sub(r"@\d+$", "", name))


def is_run(name: str) -> bool:
    """Whether a name is that of a run directory, or of a snapshot of one."""
    return (_directory(name) / "spec.json").is_file()


def load(name: str, engine: str = "auto") -> Embedder:
    """The model of a name, as the module says; TrainingError or l3edge.Error if there is none.

    engine: as for `l3edge.load`, where a model file is loaded.
    """
    if name.startswith("random:"):
        return _untrained(name)
    if name in peers.PEERS:
        return peers.PEERS[name]()
    if is_run(name) or Path(name).is_dir():
        from .artifacts import load_run

        run = load_run(name)
        return Tower(Path(name).name or str(run.directory.resolve().name), run.spec, run.audio_tower)
    try:
        return ModelFile(l3edge.load(name, engine=engine))
    except l3edge.UnknownModelError as error:
        raise TrainingError(
            f"no model and no dataset {name!r}: a model is {', '.join([*l3edge.models(), *peers.PEERS])}, a .tflite, "
            "a run directory, RUN@CLIPS, random:PRESET or random:RUN; the dataset comes last and is a folder or a CSV "
            "file"
        ) from error


def _untrained(name: str) -> Tower:
    of, seed = name.removeprefix("random:"), 0
    if match := re.fullmatch(r"(.*):(\d{1,9})", of):
        of, seed = match[1], int(match[2])
    if of in PRESETS:
        spec = PRESETS[of]
    elif is_run(of):
        from .artifacts import read_json

        spec = Spec.from_json(read_json(_directory(of) / "spec.json"))
    else:
        raise TrainingError(
            f"{name}: {of!r} is neither a preset ({', '.join(PRESETS)}) nor a run directory; "
            "expected random:PRESET[:SEED] or random:RUN[:SEED]"
        )
    from . import network
    from .backend import tf_keras

    tf_keras.utils.set_random_seed(seed)
    short = of if of in PRESETS else _directory(of).resolve().name
    # All towers, though one is used: as `pretrain` builds them, so that a seed means the same there.
    return Tower(f"random:{short}:{seed}", spec, network.embedding_tower(network.avc_model(spec)))
