"""The bits of the built-in models, kept: embeddings of examples/scene.flac by model, engine version and CPU kind.

    python -m tests.golden    adds what this machine and its engines give, and refuses to change what is there

Where a combination is known, a test wants its exact bits; where it is not (another engine version, another kind of
CPU), each value may differ by as many int8 steps as `MOST_STEPS` says from every combination that is.

Those of ARM are of emulated cores (tests/arm/run.sh), which compute what real ones do, instruction by instruction.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import l3edge
from l3edge import engine

# Between engines and kinds of CPU, by model; what was measured is on its card. Engines round differently, and over
# 15 or 19 layers it adds up: LiteRT and tflite-runtime are one to three steps apart, and a kind of CPU not seen yet may
# add one.
MOST_STEPS = {"edge-m-1": 1, "avc-s-1": 1, "edge-s-2": 4, "edge-m-3": 4, "edge-l-2": 4}
HERE = Path(__file__).parent
SCENE = HERE.parent / "examples" / "scene.flac"


def path(name: str) -> Path:
    """Where the bits of a built-in model are kept."""
    return HERE / "data" / f"golden-{name}.npz"


def key(model: l3edge.Model) -> str:
    """What the bits may depend on."""
    return f"{model.engine.name} {model.engine.version} {engine.cpu_kind()}"


def bits(model: l3edge.Model) -> NDArray[np.int8]:
    """Int8 [t, embedding_size] of the scene."""
    embeddings, _ = model.embed(*l3edge.audio.read(SCENE))
    levels = np.rint(embeddings / np.float32(model.network.scale)) + model.network.zero_point
    return levels.astype(np.int8)


def read(name: str) -> dict[str, NDArray[np.int8]]:
    """All kept bits of a model."""
    if not path(name).exists():
        return {}
    with np.load(path(name), allow_pickle=False) as archive:
        return {entry: archive[entry] for entry in archive.files}


def main() -> None:
    """Add this machine's bits."""
    for name in l3edge.models():
        kept = read(name)
        for engine_name in engine.installed():
            try:
                model = l3edge.load(name, engine=engine_name)
            except l3edge.EngineError as error:
                print(f"{engine_name}: {error}", file=sys.stderr)
                continue
            made = bits(model)
            if not np.array_equal(kept.setdefault(key(model), made), made):
                sys.exit(f"{name} on {key(model)} is known and gives other bits now: a changed model is a new version")
            print(f"{name} on {key(model)}: {made.shape}")
        np.savez_compressed(path(name), **kept)


if __name__ == "__main__":
    main()
