"""Embeddings of a dataset's windows, kept on disk by the content of what made them.

A cache file's name is the SHA-256 over what its bits depend on: the model (its file's or its weights' digest), the
engine and its version, the kind of processor (`l3edge.engine.cpu_kind`), the versions of the packages that decode,
resample and compute, the audio file's bytes, where windows lie in it, and the source code of this project that computes
an embedding. So what is found is what would be made, as far as a processor's kind and a package's version say: another
build of the same version, or a run's tower on a GPU, may round otherwise. What is no longer asked for can be deleted at
any time. A damaged file is computed again.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import io
import json
import os
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

import l3edge
from l3edge import engine
from l3edge.model_file import replacing

from . import datasets
from .cli import TrainingError
from .datasets import Clip
from .embedders import Embedder
from .windows import Rows, whole_windows

DEFAULT = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "l3edge" / "embeddings"

_PACKAGES = ("numpy", "soxr", "soundfile", "av")  # the engine says its own version
_MODULES = (
    "correspondence",
    "datasets",
    "embedders",
    "embeddings",
    "network",
    "peers",
    "teachers",
    "tf_ops",
    "tracks",
    "windows",
)

Load = Callable[[Clip, int], NDArray[np.float32]]


class Plan(NamedTuple):
    """Which windows of a clip are embedded."""

    hop: float  # seconds from one to the next
    seeded: bool  # the first begins at random within the first hop, else at the beginning
    quietest: float | None  # dB relative to full scale, root mean square; quieter windows are left out
    pad: bool  # a clip shorter than a window is filled up with zeros, else it has no window


class Windows(NamedTuple):
    """Embeddings of the windows of clips."""

    values: NDArray[np.float32]  # [windows, d]
    clip: NDArray[np.int64]  # [windows], index of the clip, ascending


class Cache:
    """A folder of embeddings; None keeps nothing. `found` and `made` count clips."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.found = self.made = 0

    def get(self, key: str, width: int) -> tuple[NDArray[np.float32], NDArray[np.float64]] | None:
        """Embeddings [k, width] and levels [k] under a key; None where there are none, or only a damaged file."""
        if self.folder is None:
            return None
        with contextlib.suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
            with np.load(io.BytesIO(self._path(key).read_bytes()), allow_pickle=False) as file:
                values, levels = file["embeddings"], file["levels"]
            if values.dtype == np.float32 and values.shape == (len(levels), width) and levels.dtype == np.float64:
                return values, levels
        return None

    def put(self, key: str, values: NDArray[np.float32], levels: NDArray[np.float64]) -> None:
        """Keep embeddings and levels under a key."""
        if self.folder is None:
            return
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()
        np.savez(content, embeddings=values, levels=levels)
        with replacing(path) as part:
            part.write_bytes(content.getvalue())

    def _path(self, key: str) -> Path:
        assert self.folder is not None
        return self.folder / key[:2] / f"{key}.npz"


@functools.cache
def _machine() -> dict[str, object]:
    """What a process computes with."""
    versions: dict[str, str | None] = dict.fromkeys(_PACKAGES)
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {"processor": engine.cpu_kind(), "packages": versions}


@functools.cache
def _code() -> str:
    """SHA-256 of the source that an embedding depends on: all of l3edge, and what makes and feeds a tower."""
    here = Path(__file__).parent
    files = sorted(Path(l3edge.__file__).parent.glob("*.py"))
    files += [here / f"{name}.py" for name in _MODULES]
    return hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in files)).hexdigest()


def key(embedder: Embedder, clip: Clip, hop: float, begin: int, pad: bool, altered: str = "") -> str:
    """The name of a clip's embeddings, SHA-256 in hexadecimal.

    begin: the sample of the first window. altered: as in `embed`.
    """
    spec = embedder.spec
    said = {
        "model": embedder.identity,
        "engine": embedder.engine,
        "machine": _machine(),
        "audio": hashlib.sha256(clip.path.read_bytes()).hexdigest(),
        "windows": [spec.sample_rate, spec.window, round(hop * spec.sample_rate), begin, pad],
        "code": _code(),
    }
    if altered:
        said["altered"] = altered
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def embed(
    embedder: Embedder,
    clips: Sequence[Clip],
    plan: Plan,
    seed: int = 0,
    cache: Cache | None = None,
    load: Load = datasets.load,
    altered: str = "",
    choose: Callable[[int], Rows] | None = None,
) -> Windows:
    """Embeddings of the planned windows of each clip.

    seed: of where the first windows begin, if the plan has it so.
    load: what reads a clip's sound at a rate.
    altered: what tells these embeddings from those of all planned windows of the sound as it is in the file, where
        `load` or `choose` make a difference.
    choose: of so many windows the numbers of those that are wanted; None: all.
    """
    from tqdm import tqdm

    cache = cache or Cache()
    spec = embedder.spec
    values, index = [], []
    for i, clip in enumerate(
        tqdm(clips, desc=f"embedding by {embedder.name}", unit=" clips", disable=None, leave=False)
    ):
        begin = 0
        if plan.seeded:
            # Of the clip's name and the seed alone, so that it stays where it is when other clips come or go.
            random = np.random.default_rng([seed, zlib.crc32(clip.name.encode(errors="surrogateescape"))])
            begin = int(random.integers(round(plan.hop * spec.sample_rate)))
        name = key(embedder, clip, plan.hop, begin, plan.pad, altered) if cache.folder else ""
        kept = cache.get(name, spec.embedding_size)
        if kept is None:
            heard = load(clip, spec.sample_rate)[begin:]
            if plan.pad and len(heard) < spec.window:
                heard = np.pad(heard, (0, spec.window - len(heard)))
            cut = whole_windows(heard, spec, plan.hop)
            rows = None if choose is None else choose(len(cut))
            cut = cut if rows is None else cut[rows]
            levels = np.sqrt(np.mean(np.square(cut, dtype=np.float64), axis=1))
            kept = embedder.embed(heard, plan.hop, rows), levels
            cache.put(name, *kept)
            cache.made += 1
        else:
            cache.found += 1
        loud = kept[1] > (-1 if plan.quietest is None else 10 ** (plan.quietest / 20))
        values.append(kept[0][loud])
        index += [i] * int(loud.sum())
    if not index:
        louder = "" if plan.quietest is None else f" that is louder than {plan.quietest:g} dB"
        raise TrainingError(f"no clip holds a window of {spec.window} samples{louder}")
    return Windows(np.concatenate(values), np.array(index))
