"""Models: find one, load it, embed with it."""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import model_file
from .arrays import NDArray
from .engine import Engine, Network
from .errors import OptionError, UnknownModelError
from .spec import Spec
from .stream import Result, Stream
from .tags import Tag, checked_embeddings, strongest

if TYPE_CHECKING:
    from .heads import Head, Labeller
    from .microphone import Microphone

# Versioned, oldest first: under one name the bits never change. A name without its version is the newest.
BUILT_IN = ("edge-m-1", "avc-s-1", "edge-s-2", "edge-m-3", "edge-l-2")
DEFAULT = "edge-m"
FOLDER = Path(__file__).parent / "models"


def models() -> list[str]:
    """Names of the built-in models, with their versions."""
    return list(BUILT_IN)


def load(
    model: str | os.PathLike[str] | None = None,
    engine: str = "auto",
    threads: int = 1,
    delegate: str | None = None,
    delegate_options: Mapping[str, str] | None = None,
) -> Model:
    """Load a model: the default (None), a built-in name ("edge-m-3"; "edge-m" is its newest), or a path to a .tflite.

    engine: "auto" (the first of the following that is installed), "litert", "tflite_runtime"; or "edgetpu", for a file
        that was exported for it.
    threads: of the engine; they do not change a bit of the result.
    delegate: path of a library with a TFLite external delegate; of "edgetpu" it is libedgetpu.so.1 unless given.
    delegate_options: what the delegate is told, such as {"device": "usb:0"} for libedgetpu.
    Raises UnknownModelError, ModelFileError, EngineError, OptionError.
    """
    return Model(model_file.read(find(model)), engine, threads, delegate, delegate_options)


def find(model: str | os.PathLike[str] | None = None) -> Path:
    """The file of a model by name or path; UnknownModelError if there is none."""
    name = DEFAULT if model is None else os.fspath(model)
    versions = [built_in for built_in in BUILT_IN if name in (built_in, built_in.rpartition("-")[0])]
    if versions:
        return FOLDER / f"{versions[-1]}.tflite"
    if Path(name).is_file():
        return Path(name)
    hint = "; a run is no model yet: `python -m export` makes one of it" if (Path(name) / "spec.json").is_file() else ""
    raise UnknownModelError(
        f"no model {name!r}{hint}: neither a file nor a built-in model; the built-in models are {', '.join(BUILT_IN)}"
    )


class Model:
    """An embedding model, loaded. May be shared by threads.

    Attributes: spec (its numbers), name, path, metadata (what its file says of itself), head (that of its file, or what
    `with_head` gave it; None where there is none).
    """

    head: Labeller | None = None

    def __init__(
        self,
        file: model_file.ModelFile,
        engine: str = "auto",
        threads: int = 1,
        delegate: str | None = None,
        delegate_options: Mapping[str, str] | None = None,
    ) -> None:
        self._file = file
        self.network = Network(file, engine, threads, delegate, delegate_options)
        if file.head_labels:
            from .heads import TrainedHead  # most models have none

            score = functools.partial(self.network.scores, key="head")
            self.head = TrainedHead(file.head_labels, file.spec.embedding_size, score)

    @property
    def spec(self) -> Spec:
        """The model's numbers: sample_rate (Hz), window and hop (samples), embedding_size, ..."""
        return self._file.spec

    @property
    def name(self) -> str:
        """The model's name for people."""
        return self._file.name

    @property
    def path(self) -> Path:
        """The model file."""
        return self._file.path

    @property
    def metadata(self) -> dict[str, Any]:
        """The file's `l3edge.json`."""
        return self._file.metadata

    @property
    def identity(self) -> str:
        """SHA-256 of the model file, hexadecimal."""
        return self._file.sha256

    @property
    def flatbuffer(self) -> bytes:
        """The .tflite without what is appended to it, for an interpreter of one's own."""
        return self._file.flatbuffer

    @property
    def labels(self) -> list[str]:
        """Names of an embedding's values; empty where they have none."""
        return self._file.labels

    @property
    def tag_names(self) -> list[str]:
        """Names of the sounds that the model can tag, in the order of `tag_scores`; empty where it has none."""
        return self._file.tag_names

    @property
    def engine(self) -> Engine:
        """The engine it runs on: name and version."""
        return self.network.engine

    def __repr__(self) -> str:
        return f"<l3edge model {self.name}, {self.spec.embedding_size} values, on {self.engine.name}>"

    def embed(self, audio: Any, sample_rate: int, hop: float = 0.1, center: bool = False) -> Result:
        """Embeddings of a whole signal.

        audio: float32, float64 (full scale 1.0) or int16, shape [n] or [n, channels].
        sample_rate: Hz.
        hop: seconds between windows, a multiple of the model's step (0.1 s) where it streams, else of a sample.
        center: put half a window of zeros in front, so that the first time is 0.0.
        Returns float32 [t, embedding_size] and the centres of the windows, float64 [t], in seconds;
        t = 1 + ceil(max(0, n - window) / hop) at the model's rate, and 0 for an empty signal.
        """
        stream = self.stream(sample_rate, hop, center)
        parts = [stream.push(audio), stream.flush()]
        return np.concatenate([e for e, _ in parts]), np.concatenate([t for _, t in parts])

    def tag_scores(self, embeddings: Any) -> NDArray[np.float32]:
        """How sure the model is of each of its tags: a score from 0 to 1, in the order of `tag_names`.

        embeddings: as `embed`, `push` and `listen` give them, float32 [d] or [k, d].
        Returns float32 [n] or [k, n]. Raises OptionError where the model has no tags or the shape is another.
        """
        if not self.tag_names:
            having = [name for name in BUILT_IN if model_file.read(find(name)).tag_names]
            built_in = (
                f"the built-in models that have are {', '.join(having)}" if having else "nor has any built-in model"
            )
            raise OptionError(f"model {self.name} has no tags, {built_in}; `l3edge info MODEL` lists what a file has")
        size = self.spec.embedding_size
        values = checked_embeddings(embeddings, size)
        rows = [self.network.scores(row) for row in values.reshape(-1, size)]
        return np.array(rows, np.float32).reshape(*values.shape[:-1], len(self.tag_names))

    def tags(self, embedding: Any, top: int | None = None) -> list[Tag]:
        """What one embedding sounds like: (name, score from 0 to 1) of each tag, the highest score first.

        embedding: float32 [d]; of many, `tag_scores` gives an array.
        top: only so many.
        Raises OptionError as `tag_scores` does.
        """
        if top is not None and (type(top) is not int or top < 1):
            raise OptionError(f"top must be a whole number, at least 1, or None for all; got {top!r}")
        scores = self.tag_scores(embedding)
        if scores.ndim != 1:
            raise OptionError(f"tags are of one embedding, got {len(scores)}: take them one by one, or use tag_scores")
        return [(name, float(score)) for name, score in strongest(self.tag_names, scores, most=top)]

    def with_head(self, head: Head | str | os.PathLike[str]) -> Model:
        """This model with a head, which names what it hears: `label`, `label_scores`. Shares everything that is loaded.
        It takes the place of a head that the model has.

        head: a path, of a file that `l3edge learn` wrote, or what `l3edge.head_file.read` made of one.
        Raises HeadError where the file is no head, or the head is of another model.
        """
        from . import head_file
        from .heads import Head

        where = "the head" if isinstance(head, Head) else os.fspath(head)
        head = head if isinstance(head, Head) else head_file.read(head)
        head_file.check(head, self._file, where)
        made = copy.copy(self)
        made.head = head
        return made

    def label_scores(self, embeddings: Any) -> NDArray[np.float32]:
        """How sure the head is of each of its labels: a score from 0 to 1, in the order of `head.labels`.

        embeddings: as `embed`, `push` and `listen` give them, float32 [d] or [k, d].
        Returns float32 [m] or [k, m]. Raises OptionError where the model has no head or the shape is another.
        """
        return self._need_head().scores(embeddings)

    def label(self, embedding: Any) -> Tag:
        """What one embedding sounds like: (label, its score); or ("unknown", score of the label it is most like).

        embedding: float32 [d]; of many, `head.decide` gives a list.
        Raises OptionError as `label_scores` does.
        """
        scores, decided = self._need_head().judge(embedding)
        if scores.ndim != 1:
            raise OptionError(f"a label is of one embedding, got {len(scores)}: take them one by one")
        return decided, float(scores.max())

    def _need_head(self) -> Labeller:
        if self.head is None:
            raise OptionError(
                f"model {self.name} has no head to label with: `l3edge learn` makes one, model.with_head(PATH) takes it"
            )
        return self.head

    def stream(self, sample_rate: int, hop: float = 0.1, center: bool = False) -> Stream:
        """A new stream, for a signal that arrives in pieces; arguments as in `embed`."""
        return Stream(self.network, self.spec, sample_rate, hop, center)

    def listen(self, microphone: Microphone, hop: float = 0.1) -> Iterator[tuple[NDArray[np.float32], float]]:
        """Embeddings of what a microphone hears, one (embedding [embedding_size], time in seconds) a hop.

        Time zero is the first sample heard. Where samples were lost (`microphone.lost` counts them), no window spans
        the gap. For the other counts make the stream yourself: `model.stream`, `stream.skip(block.lost)` and
        `stream.push(block.samples)` for each block of the microphone.
        """
        stream = self.stream(microphone.sample_rate, hop)
        for block in microphone:
            for embeddings, times in (stream.skip(block.lost), stream.push(block.samples)):
                for embedding, time in zip(embeddings, times, strict=True):
                    yield embedding, float(time)
