"""Teachers: models whose outputs another model learns, and their outputs for a data set, computed once and kept.

A teacher is named as

    yamnet                  YAMNet, from the folder of L3EDGE_DATA: 1024 values and 521 scores (AudioSet)
    edge-l, path/M.tflite   a model of l3edge, built-in or from a file: its embedding
    path/T.tflite           any other model that takes one window of sound, float32 [n] or [1, n], of --teacher-rate;
                            which of its tensors are learned is told by --embedding-tensor and --scores-tensor

"embedding" is any tensor of so many values a window; "scores" are posteriors of independent classes, from 0 to 1.
Scores that cannot be told apart from 0 and 1 exactly, as those of an int8 model, are taken as they are.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

import l3edge
from l3edge import engine, flatbuffer
from l3edge.errors import ModelError, ModelFileError
from l3edge.spec import Spec

from .cli import TrainingError
from .datasets import ESC10

YAMNET = ESC10.parent / "yamnet" / "yamnet.tflite"
YAMNET_EMBEDDING = 115  # the mean over time and frequency, before the classes

Outputs = dict[str, NDArray[np.float32]]  # "embedding" [k, d] and "scores" [k, classes], or one of them
KINDS = ("embedding", "scores")


class Teacher(Protocol):
    """A model to learn from.

    name: for people. identity: SHA-256 of it and of which tensors are taken. names: of the classes, maybe none.
    sample_rate: Hz. window: samples. widths: values of each output.
    """

    name: str
    identity: str
    names: tuple[str, ...]
    sample_rate: int
    window: int
    widths: dict[str, int]

    def __call__(self, samples: NDArray[np.float32], hop: int) -> Outputs:
        """Outputs for all whole windows of samples [n], one every `hop` samples."""
        ...


def quantisation(tensor: flatbuffer.Tensor) -> tuple[float, int]:
    """(scale, zero point); (1, 0) of floats."""
    return (tensor.scales[0], tensor.zero_points[0]) if tensor.scales else (1.0, 0)


def with_outputs(content: bytes, tensors: Iterable[int]) -> bytes:
    """A flatbuffer whose main graph gives these tensors, in this order; its signatures are dropped."""
    import flatbuffers
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    model.subgraphs[0].outputs = list(tensors)
    model.signatureDefs = None
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


class TfliteTeacher:
    """Any .tflite of one input, a window of sound, by the tensors that are named."""

    def __init__(
        self, path: Path, tensors: dict[str, int], sample_rate: int, names: tuple[str, ...] = (), *, threads: int = 2
    ) -> None:
        try:
            content = path.read_bytes()
            graph = flatbuffer.parse(content).subgraphs[0]
        except (OSError, ModelFileError, IndexError) as error:
            raise TrainingError(f"{path} is no .tflite that can be read: {error}") from error
        (entry,) = [graph.tensors[i] for i in graph.inputs] if len(graph.inputs) == 1 else [None]
        if entry is None or entry.dtype != "float32" or entry.shape[:-1] not in ((), (1,)) or entry.shape[-1:] < (2,):
            raise TrainingError(f"{path}: a teacher takes one window of sound, float32 [n] or [1, n], n fixed")
        for kind, index in tensors.items():
            if not 0 <= index < len(graph.tensors) or graph.tensors[index].dtype not in ("float32", "int8", "uint8"):
                raise TrainingError(f"{path} has no float32 or 8-bit tensor {index} for --{kind}-tensor")
        self.path = path
        self.name, self.sample_rate, self.window = path.stem, sample_rate, entry.shape[-1]
        self._shape, self._threads = entry.shape, threads
        self._order = {kind: tensors[kind] for kind in KINDS if kind in tensors}
        self.widths = {kind: int(np.prod(graph.tensors[i].shape)) for kind, i in self._order.items()}
        self._scales = {kind: quantisation(graph.tensors[i]) for kind, i in self._order.items()}
        if names and len(names) != self.widths.get("scores"):
            raise TrainingError(f"{len(names)} names for the {self.widths.get('scores')} scores of {path}")
        self.names = names
        said = f"{sorted(self._order.items())} {sample_rate} {hashlib.sha256(content).hexdigest()}"
        self.identity = hashlib.sha256(said.encode()).hexdigest()
        made = with_outputs(content, self._order.values())
        module = engine.find("litert").interpreter
        try:
            self._interpreters = [module.Interpreter(model_content=made, num_threads=1) for _ in range(threads)]
            for each in self._interpreters:
                each.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise TrainingError(f"{path} cannot be run with its tensors {tensors} as outputs: {error}") from error

    def _run(self, number: int, windows: NDArray[np.float32]) -> list[NDArray[Any]]:
        each = self._interpreters[number]
        (entry,) = [detail["index"] for detail in each.get_input_details()]
        exits = [detail["index"] for detail in each.get_output_details()]
        made: list[list[NDArray[Any]]] = [[] for _ in exits]
        for window in windows:
            each.set_tensor(entry, window.reshape(self._shape))
            each.invoke()
            for rows, index in zip(made, exits, strict=True):
                rows.append(each.get_tensor(index).reshape(-1))
        return [np.array(rows) for rows in made]

    def __call__(self, samples: NDArray[np.float32], hop: int) -> Outputs:
        """As `Teacher.__call__`."""
        windows = np.lib.stride_tricks.sliding_window_view(samples, self.window)[::hop]
        share = -(-len(windows) // self._threads)
        with ThreadPoolExecutor(self._threads) as pool:  # an interpreter lets go of the lock while it computes
            parts = list(
                pool.map(
                    self._run,
                    range(self._threads),
                    (windows[i * share : (i + 1) * share] for i in range(self._threads)),
                )
            )
        made = {}
        for position, (kind, width) in enumerate(self.widths.items()):
            scale, zero = self._scales[kind]
            values = np.concatenate([part[position].reshape(-1, width) for part in parts])
            made[kind] = ((values.astype(np.float32) - zero) * scale).astype(np.float32)
        return made


class ModelTeacher:
    """A model of l3edge: its embedding."""

    names: tuple[str, ...] = ()

    def __init__(self, model: l3edge.Model) -> None:
        self.model, self.name = model, model.name
        self.identity = hashlib.sha256(f"l3edge {model.identity}".encode()).hexdigest()
        self.sample_rate, self.window = model.spec.sample_rate, model.spec.window
        self.widths = {"embedding": model.spec.embedding_size}

    def __call__(self, samples: NDArray[np.float32], hop: int) -> Outputs:
        """As `Teacher.__call__`."""
        embeddings, _ = self.model.embed(samples, self.sample_rate, hop=hop / self.sample_rate)
        return {"embedding": embeddings[: 1 + (len(samples) - self.window) // hop]}


class Nobody:
    """No teacher: where a student learns from what it sees alone. It takes windows of the student's length."""

    name = "nobody"
    names: tuple[str, ...] = ()

    def __init__(self, spec: Spec) -> None:
        self.sample_rate, self.window = spec.sample_rate, spec.window
        self.identity, self.widths = f"nobody {spec.window}", {}

    def __call__(self, samples: NDArray[np.float32], hop: int) -> Outputs:
        """As `Teacher.__call__`: nothing."""
        return {}


class Wanted(NamedTuple):
    """What of a file that is no l3edge model is learned; of yamnet it is known."""

    embedding: int | None = None  # numbers of tensors
    scores: int | None = None
    sample_rate: int = 16_000
    names: Path | None = None  # CSV file with a column display_name, or name, a row for each score


def class_names(path: Path) -> tuple[str, ...]:
    """The names of a class map: a CSV file with a column display_name or name."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        column = next(name for name in ("display_name", "name") if name in (rows[0] if rows else {}))
    except (OSError, UnicodeDecodeError, csv.Error, StopIteration) as error:
        raise TrainingError(f"{path} is no CSV file with a column display_name or name") from error
    return tuple(row[column] for row in rows)


def load(name: str, wanted: Wanted = Wanted()) -> Teacher:  # noqa: B008 - a plain tuple of defaults
    """The teacher of a name, as the module says; TrainingError if there is none."""
    if name == "yamnet":
        if not YAMNET.is_file():
            raise TrainingError(f"no YAMNet at {YAMNET}: set L3EDGE_DATA to the folder that holds yamnet/yamnet.tflite")
        (scores,) = flatbuffer.parse(YAMNET.read_bytes()).subgraphs[0].outputs
        names = class_names(YAMNET.with_name("yamnet_class_map.csv"))
        return TfliteTeacher(YAMNET, {"embedding": YAMNET_EMBEDDING, "scores": scores}, 16_000, names)
    tensors = {kind: index for kind in KINDS if (index := getattr(wanted, kind)) is not None}
    if tensors:
        names = class_names(wanted.names) if wanted.names else ()
        return TfliteTeacher(Path(name), tensors, wanted.sample_rate, names)
    try:
        return ModelTeacher(l3edge.load(name))
    except ModelError as error:
        raise TrainingError(
            f"no teacher {name!r}: it is yamnet, or a model of l3edge ({error}); of another .tflite say which tensors "
            "to learn, with --embedding-tensor and --scores-tensor"
        ) from error


def asked_for(options: Mapping[str, Any]) -> Teacher:
    """The teacher that the options of training.distill name, as given or as a run keeps them."""
    names = options["teacher_names"]
    wanted = Wanted(
        options["embedding_tensor"], options["scores_tensor"], options["teacher_rate"], Path(names) if names else None
    )
    return load(options["teacher"], wanted)


def source_of_names(teacher: Teacher) -> str:
    """Whose names of classes a teacher has, for people."""
    return "YAMNet, AudioSet's display names" if teacher.name == YAMNET.stem else teacher.name
