"""Tags: names for what an embedding sounds like, and how sure each is, as a model file's optional signature `tags`.

The head is one dense layer with a sigmoid, which `training.distill` fits to a teacher's scores. It stays float32 in
every recipe: its input is the embedding as the SDK gives it, and it is a thousandth of the network's work. A run says
in its `tags.json` how well each tag agreed with the teacher on sound that the student had not heard, and which
ones are good enough to be shown; only those are exported.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l3edge.errors import ModelFileError
from l3edge.tags import names_in
from training.artifacts import read_json
from training.backend import tf

from . import ExportError

WEIGHTS = ("tags/dense/kernel", "tags/dense/bias")  # in a run's weights.npz


@dataclass(frozen=True)
class Tags:
    """sigmoid(embedding @ kernel + bias), with a name for each of the n scores.

    names: n, for people. kernel: float32 [d, n]. bias: float32 [n].
    source: whose tags they are, such as "YAMNet, AudioSet display names".
    agreement: n times what was measured of a tag, such as {"average_precision": 0.93, "windows": 120}.
    """

    names: tuple[str, ...]
    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]
    source: str
    agreement: tuple[Mapping[str, float], ...]

    def __post_init__(self) -> None:
        n = len(self.names)
        if self.kernel.ndim != 2 or self.kernel.shape[1] != n or self.bias.shape != (n,) or len(self.agreement) != n:
            raise ValueError(
                f"{n} tags, kernel {self.kernel.shape}, bias {self.bias.shape}, {len(self.agreement)} figures"
            )

    def to_json(self) -> dict[str, Any]:
        """What the model file says of them, under `tags`."""
        return {
            "names": list(self.names),
            "source": self.source,
            "agreement": [dict(figures) for figures in self.agreement],
        }

    def scores(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """Float [k, d] -> [k, n], 0 to 1, in float64: what a file's graph is checked against."""
        logits = embeddings.astype(np.float64) @ self.kernel.astype(np.float64) + self.bias
        made: NDArray[np.float64] = 0.5 + 0.5 * np.tanh(logits / 2)  # the sigmoid, without an overflow
        return made


def tags_function(tags: Tags) -> Any:
    """embedding float32 [1, d] -> scores float32 [1, n], a tf.function."""
    kernel, bias = (np.asarray(values, np.float32) for values in (tags.kernel, tags.bias))

    def score(embedding: Any) -> dict[str, Any]:
        return {"scores": tf.sigmoid(tf.nn.bias_add(tf.matmul(embedding, kernel), bias))}

    return tf.function(score, input_signature=[tf.TensorSpec([1, len(kernel)], tf.float32, "embedding")])


def of_run(run: Path, embedding_size: int) -> Tags | None:
    """The tags that a finished run selected, or None: it has no tag head, or has not said which of its tags are good.

    Reads the head in RUN/weights.npz and RUN/tags.json:

        {"source": "YAMNet ...", "names": [every class], "selected": [those to export],
         "agreement": {name: {"windows": 120, "average_precision": 0.93, ...}}}

    Raises ExportError, naming the file, for what is not so.
    """
    path = run / "tags.json"
    if not path.exists():
        return None
    described = read_json(path)
    names, selected, agreement = _described(described, path)
    kernel, bias = _head(run / "weights.npz", path)
    if kernel.shape != (embedding_size, len(names)) or bias.shape != (len(names),):
        raise ExportError(
            f"{run / 'weights.npz'}: the tag head has kernel {kernel.shape} and bias {bias.shape}; for the "
            f"{len(names)} names in {path.name} and embeddings of {embedding_size} values it must be "
            f"{(embedding_size, len(names))} and {(len(names),)}"
        )
    if not np.isfinite(kernel).all() or not np.isfinite(bias).all():
        raise ExportError(f"{run / 'weights.npz'}: the tag head has values that are not finite; train it again")
    if not selected:
        return None
    chosen = [names.index(name) for name in selected]
    figures = tuple(agreement[name] for name in selected)
    made = Tags(tuple(selected), kernel[:, chosen], bias[chosen], described["source"], figures)
    try:
        names_in(made.to_json())
    except ModelFileError as error:
        raise ExportError(f"{path}: {error}") from error
    return made


def _described(described: object, path: Path) -> tuple[list[str], list[str], dict[str, dict[str, float]]]:
    """names, selected and agreement of a tags.json."""
    if not isinstance(described, dict):
        raise ExportError(f"{path}: must be a JSON object, as `python -m training.distill` writes it")
    kinds: dict[str, type] = {"source": str, "names": list, "selected": list, "agreement": dict}
    for key, kind in kinds.items():
        if not isinstance(described.get(key), kind):
            raise ExportError(f"{path}: needs {key!r} as {kind.__name__}, as `python -m training.distill` writes it")
    names, selected, agreement = described["names"], described["selected"], described["agreement"]
    for key in ("names", "selected"):
        if not all(isinstance(name, str) for name in described[key]) or len(set(described[key])) < len(described[key]):
            raise ExportError(f"{path}: {key!r} must be strings, each once")
    for name in selected:
        if name not in names:
            raise ExportError(f"{path}: {name!r} is selected, and is not among its names")
        if not isinstance(agreement.get(name), dict):
            raise ExportError(f"{path}: {name!r} is selected, and how well it agrees was not measured")
    return names, selected, agreement


def _head(path: Path, described: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Kernel and bias of a run's tag head."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            missing = [name for name in WEIGHTS if name not in file.files]
            if missing:
                raise ExportError(f"{path}: has no {missing[0]}, which {described} is about; train the run again")
            kernel, bias = (np.asarray(file[name], np.float32) for name in WEIGHTS)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ExportError(f"{path} cannot be read: {error}") from error
    return kernel, bias
