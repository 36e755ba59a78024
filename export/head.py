"""A head: labels for what an embedding sounds like, as a model file's optional signature `head`.

`python -m training.head` trains it on a run's embeddings: dense layers with ReLUs, and a softmax. It stays float32 in
every recipe, as tags do (`export.tags`). What it takes and gives is in `l3edge.heads`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l3edge.errors import ModelFileError
from l3edge.tags import labels_in
from training import dense
from training.artifacts import read_json
from training.backend import tf
from training.head import DESCRIPTION, WEIGHTS

from . import ExportError

_KINDS: dict[str, type] = {"source": str, "labels": list, "figures": dict, "overall": dict, "sha256": dict}


@dataclass(frozen=True)
class Head:
    """The scores of `training.dense`, with a label for each of the m.

    names: m, for people. layers: kernel float32 [in, out] and bias float32 [out] of each; the first takes d values.
    source: what it was trained on.
    figures: m times what was measured of a label, such as {"clips_right": 0.93, "clips": 24}; overall: of all together.
    """

    names: tuple[str, ...]
    layers: dense.Layers
    source: str
    figures: tuple[Mapping[str, float], ...]
    overall: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """What the model file says of it, under `head`."""
        return {
            "labels": list(self.names),
            "source": self.source,
            "figures": [dict(figures) for figures in self.figures],
            "overall": dict(self.overall),
        }

    def scores(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """Float [k, d] -> [k, m], 0 to 1, in float64: what a file's graph is checked against."""
        return dense.scores(self.layers, embeddings)


def head_function(head: Head) -> Any:
    """embedding float32 [1, d] -> scores float32 [1, m], a tf.function."""

    def score(embedding: Any) -> dict[str, Any]:
        *hidden, (kernel, bias) = head.layers
        x = embedding
        for own, offset in hidden:
            x = tf.nn.relu(tf.nn.bias_add(tf.matmul(x, own), offset))
        return {"scores": tf.nn.softmax(tf.nn.bias_add(tf.matmul(x, kernel), bias))}

    size = len(head.layers[0][0])
    return tf.function(score, input_signature=[tf.TensorSpec([1, size], tf.float32, "embedding")])


def of_run(run: Path, embedding_size: int) -> Head | None:
    """The head that a finished run was given, or None where it has none.

    Raises ExportError, naming the file, where it is not as `python -m training.head` left it, or of other weights.
    """
    path = run / DESCRIPTION
    if not path.exists():
        return None
    described = read_json(path)
    if not isinstance(described, dict):
        raise ExportError(f"{path}: must be a JSON object, as `python -m training.head` writes it")
    for key, kind in _KINDS.items():
        if not isinstance(described.get(key), kind):
            raise ExportError(f"{path}: needs {key!r} as {kind.__name__}, as `python -m training.head` writes it")
    labels = described["labels"]
    document = {
        **{key: described[key] for key in ("labels", "source", "overall")},
        "figures": [described["figures"].get(label) if isinstance(label, str) else None for label in labels],
    }
    try:
        labels_in(document)
    except ModelFileError as error:
        raise ExportError(f"{path}: {error}") from error
    for name, what in ((WEIGHTS, "this head"), ("weights.npz", "the run that it was trained on")):
        if described["sha256"].get(name) != _digest(run / name):
            raise ExportError(f"{run / name} is not that of {what}, as {path} says: give the run a head again")
    layers = dense.read(run / WEIGHTS)
    if layers[0][0].shape[0] != embedding_size or layers[-1][0].shape[1] != len(labels):
        raise ExportError(
            f"{run / WEIGHTS}: takes {layers[0][0].shape[0]} values and gives {layers[-1][0].shape[1]} scores; for "
            f"embeddings of {embedding_size} values and {len(labels)} labels it must be as many"
        )
    return Head(tuple(labels), layers, document["source"], tuple(document["figures"]), document["overall"])


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ExportError(f"{path} cannot be read: {error.strerror}") from error
