"""The rows of `benchmarks.peers`: what is compared, and how one embedding of it is made.

All hear the same sound, each at its own rate. Ours is called as users call it, by `Stream.push`; the others by the bare
engine, without the work that whoever uses them would have around it.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import l3edge
from export.contract import sounds
from l3edge.engine import Engine
from l3edge.model import DEFAULT
from l3edge.spec import PRESETS
from training import operators, teachers
from training.cli import TrainingError
from training.peers import Heard
from training.windows import Hearing

from . import bare, peer_files

HOP = 0.1  # seconds from one embedding to the next, for all but one
YAMNET_HOP = 0.48  # YAMNet's own
SECONDS = 4  # of sound, over and over
RATE = 48_000  # at which it is made; the models' rates are whole fractions of it
SEA, YAMNET = Heard(8_000, 8_000, 64), Heard(16_000, 15_600, 1024)
OURS, WINDOW, PEER = "ours", "window", "peer"


@dataclass(frozen=True)
class Subject:
    """What a row measures.

    embed: makes the next embedding. path, samples, signature: what `benchmarks.bare` is to run for the same.
    macs: of the network for one embedding; the front end is not counted. judged: its name in docs/accuracy.json.
    """

    model: str
    embed: Callable[[], Any]
    path: Path
    samples: int
    signature: str
    macs: int
    embedding_size: int
    judged: str | None


@dataclass(frozen=True)
class Row:
    """A row of the table: `name` is typed, `title` is printed and names ratios; kind: OURS, WINDOW or PEER."""

    name: str
    title: str
    kind: str
    make: Callable[[Engine], Subject]
    hop: float = HOP  # seconds


@functools.cache
def sound(rate: int) -> NDArray[np.float32]:
    """The sound, [SECONDS * rate]: each sample the mean of so many at RATE."""
    made: NDArray[np.float32] = sounds(0, SECONDS * RATE, RATE).reshape(-1, RATE // rate).mean(axis=1)
    return made


def pieces(rate: int, samples: int) -> Iterator[NDArray[np.float32]]:
    """So many samples of the sound every HOP, over and over."""
    cut = np.lib.stride_tricks.sliding_window_view(sound(rate), samples)[:: round(HOP * rate)]
    return itertools.cycle([np.ascontiguousarray(piece) for piece in cut])


def _ours(name: str, engine: Engine) -> Subject:
    """A built-in model: `push` of one hop."""
    model = l3edge.load(name, engine=engine.name)
    spec = model.spec
    stream, hops = model.stream(spec.sample_rate), pieces(spec.sample_rate, spec.hop)
    stream.push(sound(spec.sample_rate)[: spec.window - spec.hop])
    return Subject(
        model.name,
        lambda: stream.push(next(hops)),
        model.path,
        spec.step_samples,
        "",
        spec.macs_per_hop,
        spec.embedding_size,
        judged=model.name,
    )


def _recomputed(name: str, engine: Engine) -> Subject:
    """The same model by the file's own `window` graph: all of the window, every time."""
    model = l3edge.load(name, engine=engine.name)
    return _bare(model.name, engine, model.path, model.spec, model.spec.macs_per_window, model.name, "window")


def _exported(kind: str, recipe: str, heard: Hearing, engine: Engine) -> Subject:
    """A published network; its front end is in the graph, as in ours."""
    path = peer_files.find(kind, recipe)
    name = f"{kind}, {recipe}" + (", seeded weights" if kind.startswith("openl3") else "")
    judged = kind if (kind, recipe) == ("sea-64", "float32") else None
    return _bare(name, engine, path, heard, operators.convolution_macs(path.read_bytes()), judged)


def _yamnet(engine: Engine) -> Subject:
    """The file as published: int8, its front end in float32, and its classes, which are less than 1 % of its MACs."""
    path = teachers.YAMNET
    if not path.is_file():
        raise TrainingError(f"no {path}: set L3EDGE_DATA to a folder that holds yamnet/{path.name}")
    return _bare("yamnet, int8", engine, path, YAMNET, operators.convolution_macs(path.read_bytes()), "yamnet")


def _bare(
    name: str, engine: Engine, path: Path, heard: Hearing, macs: int, judged: str | None, signature: str = ""
) -> Subject:
    try:
        embed = bare.embedder(engine.interpreter, path, signature)
    except (ValueError, RuntimeError) as error:
        raise l3edge.EngineError(f"{engine.name} {engine.version} refuses {path.name}: {error}") from error
    windows = pieces(heard.sample_rate, heard.window)
    return Subject(
        name, lambda: embed(next(windows)), path, heard.window, signature, macs, heard.embedding_size, judged
    )


def _rows() -> Iterator[Row]:
    families = (DEFAULT, "edge-s", "edge-l", "avc-s")
    for name in families:
        title = f"{name} (default)" if name == DEFAULT else name
        yield Row(name, title, OURS, functools.partial(_ours, name))
    for name in families:
        yield Row(f"{name}-window", f"{name} per window", WINDOW, functools.partial(_recomputed, name))
    for kind in ("mel256", "mel128"):
        for recipe in peer_files.RECIPES:
            bits = recipe.removesuffix("_ptq")
            preset = f"openl3-{kind}"
            make = functools.partial(_exported, preset, recipe, PRESETS[preset])
            yield Row(f"{kind}-{bits}", f"published {kind} {bits} per window", PEER, make)
    for recipe in peer_files.RECIPES:
        bits = recipe.removesuffix("_ptq")
        yield Row(
            f"sea-64-{bits}", f"SEA-64 {bits} per window", PEER, functools.partial(_exported, "sea-64", recipe, SEA)
        )
    yield Row("yamnet", "YAMNet at 0.48 s", PEER, _yamnet, YAMNET_HOP)
    yield Row("yamnet-10hz", "YAMNet at 10 Hz", PEER, _yamnet)


ROWS = {row.name: row for row in _rows()}
