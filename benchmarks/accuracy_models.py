"""The models of `benchmarks.accuracy`: which file judges which fold, what it has heard, what it costs.

A shipped model was trained on all folds. How well its kind does on clips that it has never heard, its rotations say:
three models of the same making, NAME-without-1.tflite to -3, each trained without one fold and judged on that one.
"""

from __future__ import annotations

import functools
import hashlib
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import l3edge
from training import embedders, operators, peers
from training.artifacts import read_json
from training.cli import TrainingError
from training.datasets import ESC10
from training.embedders import Embedder

CLEAN, HEARD, UNKNOWN = "clean", "heard", "unknown"
SEA = "sea-64"
SEA_WEIGHTS = ESC10.parent / "edgel3" / "edgel3_sea_ust_audio_emb_64.h5.gz"
SYNTHESISED = "MIT: synthesised by this project"  # --data-licence of python -m export, word for word
AUDIOSET = ("yamnet", SEA)  # what they learned from; whether it shares recordings with the clips nobody knows
PEERS = (*peers.PEERS, SEA, "random:edge-m")
A_SECOND = 10  # embeddings, for all models alike: one every 0.1 s
_TIMED = 5  # clips of SECONDS of noise, of which the fastest counts
_SECONDS = 2.0
_PLACES = ("run", "data", "cache")  # arguments that say where, and not what


@dataclass(frozen=True)
class Subject:
    """A row of the table.

    by_fold: what embeds, by the fold that is judged; `None` for all folds that have no own.
    floats: the same in float32, where there is such.
    """

    name: str
    hearing: str  # CLEAN, HEARD or UNKNOWN
    by_fold: Mapping[int | None, Embedder]
    floats: Mapping[int | None, Embedder] = field(default_factory=dict)
    peer: bool = False

    def of(self, fold: int) -> Embedder:
        """What embeds where a fold is judged."""
        return self.by_fold.get(fold) or self.by_fold[None]

    @property
    def first(self) -> Embedder:
        """What stands for all in size and speed."""
        return next(iter(self.by_fold.values()))


def default_names() -> list[str]:
    """Built-in models, then peers."""
    return [*l3edge.models(), *PEERS]


def subjects(
    name: str, folds: Sequence[int], rotations: Path | None, runs: Path | None, engine: str = "auto"
) -> list[Subject]:
    """The rows of a name: what it names, and before it its rotations where there are some; these may be all there is.

    rotations: folder of NAME-without-K.tflite, or of run directories NAME-without-K; runs: folder of the run
    directories that the files were exported from, NAME-without-K.
    Raises TrainingError where some folds have a rotation and others not.
    """
    if name in PEERS or name.startswith("random:"):
        return [Subject(name, UNKNOWN if name in AUDIOSET else CLEAN, {None: _load(name, engine)}, peer=True)]
    found = _rotations(name, folds, rotations) if Path(name).name == name else {}
    # Rotations may be there before the model that they stand for.
    own = None if found and name not in l3edge.models() and not Path(name).exists() else _load(name, engine)
    if own:
        found = _rotations(own.name, folds, rotations)
    if own and not found:
        return [Subject(own.name, _hearing(_told(own, name), folds), {None: own})]
    called = own.name if own else name
    clean: dict[int | None, Embedder] = {fold: _load(str(path), engine) for fold, path in found.items()}
    for fold, path in found.items():
        _check_unheard(_told(clean[fold], str(path)), path, fold)
        if own and _shape(clean[fold]) != _shape(own):
            raise TrainingError(f"{path} is no rotation of {called}: its network or its front end is another")
    floats: dict[int | None, Embedder] = {}
    for fold, path in _rotations(called, folds, runs, ("",)).items():
        floats[fold] = _load(str(path), engine)
        _check_same_making(clean[fold], floats[fold], path, fold)
    rows = [Subject(called, CLEAN, clean, floats)]
    return [*rows, Subject(called, HEARD, {None: own})] if own else rows


def _load(name: str, engine: str) -> Embedder:
    return sea(engine) if name == SEA else embedders.load(name, engine)


def _rotations(
    name: str, folds: Sequence[int], folder: Path | None, suffixes: Sequence[str] = (".tflite", "")
) -> dict[int, Path]:
    """By fold, files or else run directories; none, or one for each fold."""
    for suffix in suffixes if folder else ():
        every = {fold: folder / f"{name}-without-{fold}{suffix}" for fold in folds}
        found = {fold: path for fold, path in every.items() if path.exists()}
        if missing := every.keys() - found.keys() if found else ():
            told = ", ".join(map(str, found.values()))
            raise TrainingError(f"{every[min(missing)]} is missing, and there are {told}")
        if found:
            return found
    return {}


def _check_same_making(int8: Embedder, floats: Embedder, path: Path, fold: int) -> None:
    """TrainingError where a run is not what a model file was exported from."""
    if isinstance(floats, embedders.ModelFile) or _shape(int8) != _shape(floats):
        raise TrainingError(f"{path} is no run of the network of {int8.name}: what int8 changes cannot be said")
    said = [_told(each, name).get("training", {}).get("arguments") for each, name in ((int8, ""), (floats, str(path)))]
    known = [{key: value for key, value in (each or {}).items() if key not in _PLACES} for each in said]
    if known[0] != known[1]:
        raise TrainingError(f"{path} was trained otherwise than the run that {int8.name} was exported from")
    _check_unheard(_told(floats, str(path)), path, fold)


def _shape(embedder: Embedder) -> object:
    spec = embedder.spec
    return (spec.rows, spec.front_end, spec.window) if isinstance(spec, l3edge.Spec) else spec


def _told(embedder: Embedder, name: str) -> Mapping[str, Any]:
    """What a model file or a run says of its making."""
    if isinstance(embedder, embedders.ModelFile):
        told: Mapping[str, Any] = embedder.model.metadata.get("provenance", {})
        return told
    arguments = Path(re.sub(r"@\d+$", "", name)) / "arguments.json"
    return {"training": read_json(arguments)} if arguments.is_file() else {}


def _excluded(provenance: Mapping[str, Any]) -> set[str] | None:
    """Labels whose clips were left out of a training by `training.distill`; None where it does not say."""
    arguments = provenance.get("training", {}).get("arguments", {})
    return set(arguments["exclude"]) if "exclude" in arguments else None


def _hearing(provenance: Mapping[str, Any], folds: Sequence[int]) -> str:
    """Sound that this project synthesised holds no clip; what a distillation does not exclude it may have heard."""
    excluded = _excluded(provenance)
    if excluded is None:
        return CLEAN if provenance.get("data_licence") == SYNTHESISED else UNKNOWN
    return CLEAN if excluded >= {f"fold-{fold}" for fold in folds} else HEARD


def _check_unheard(provenance: Mapping[str, Any], path: Path, fold: int) -> None:
    """TrainingError where a model says that it has heard the fold that it is to be judged on."""
    excluded = _excluded(provenance)
    if excluded is not None and f"fold-{fold}" not in excluded:
        told = ", ".join(sorted(excluded)) or "nothing"
        raise TrainingError(
            f"{path} is to be judged on fold {fold}, and says that {told} was left out of its training: train it with "
            f"--exclude fold-{fold}"
        )
    if heard := [name for name in provenance.get("representative", ()) if re.match(rf"{fold}-\d+-[A-Z]\b", name)]:
        raise TrainingError(
            f"{path} is to be judged on fold {fold}, and was quantised on {heard[0]}: export it without that fold"
        )


def sea(engine: str = "auto", weights: Path = SEA_WEIGHTS) -> embedders.ModelFile:
    """EdgeL3's SEA-64, float32, by `export.import_weights`."""
    if not weights.is_file():
        raise TrainingError(f"no {weights}: set L3EDGE_DATA to a folder that holds edgel3/{weights.name}")
    from export import import_weights

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{SEA}.tflite"
        import_weights.main([str(weights), "--output", str(path)])
        made = embedders.ModelFile(l3edge.load(path, engine=engine))
    # The file's own digest tells the commit that made it; its embeddings depend on the network alone.
    made.identity = hashlib.sha256(made.model.flatbuffer).hexdigest()
    return made


def costs(subject: Subject) -> dict[str, Any]:
    """Multiply-accumulates of the network, the front end not counted, bytes of its flatbuffer, values of an embedding.

    Where windows are computed one by one, a hop costs a window.
    """
    made, spec = subject.first, subject.first.spec
    size: int | None
    if isinstance(made, peers.YamNet):
        content = made.path.read_bytes()
        macs, size = operators.convolution_macs(content), len(content)
    elif isinstance(spec, l3edge.Spec):
        macs = spec.macs_per_hop
        size = len(made.model.flatbuffer) if isinstance(made, embedders.ModelFile) else None
    else:
        macs, size = 0, None
    return {
        "macs_per_hop": macs,
        "macs_per_second": macs * A_SECOND,
        "bytes": size,
        "embedding_size": spec.embedding_size,
        "embeddings_per_second": speed(made),
    }


def speed(embedder: Embedder) -> float | None:
    """Embeddings a second on one thread, one every 0.1 s of sound; None for a tower, which no device runs."""
    if isinstance(embedder, embedders.Tower):
        return None
    spec = embedder.spec
    noise = np.random.default_rng(0).normal(0, 0.1, round(_SECONDS * spec.sample_rate)).astype(np.float32)
    run = functools.partial(embedder.embed, noise, 0.1)
    run()
    best = 0.0
    for _ in range(_TIMED):
        begin = time.perf_counter()
        best = max(best, len(run()) / (time.perf_counter() - begin))
    return round(best, 1)
