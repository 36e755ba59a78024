"""Model files of networks that others published, made by this project's exporter for `benchmarks.peers`.

    python -m benchmarks.peer_files KIND RECIPE PATH      writes one; needs TensorFlow

openl3-mel256, openl3-mel128   the published architecture with seeded weights: nothing here depends on what they learned
sea-64                         EdgeL3's published weights, L3EDGE_DATA/edgel3

They are kept under ~/.cache/l3edge/peers, each named by the SHA-256 of what it is made of: the network, the recipe, the
weights, and the source code of this project that makes it. TensorFlow's version is not in it, so that a board without
TensorFlow can be given the files that another machine made. Int8 is calibrated on synthetic sound: speed does not
depend on the ranges, and no accuracy is claimed for these files.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

from l3edge.model_file import replacing
from l3edge.spec import PRESETS
from training import cli, embeddings
from training.cli import TrainingError

from . import options

ROOT = Path(__file__).parent.parent
CACHE = embeddings.DEFAULT.parent / "peers"
RECIPES = ("float32", "int8_ptq")
SEED = 0
CALIBRATION_WINDOWS = 16
# What the input's batch normalisation makes of decibels from -80 to 0: they have about this mean and deviation.
NORMALISED = (1 / 18, 45 / 18)

_CODE = (
    "benchmarks/peer_files.py",
    "l3edge/frontend.py",
    "l3edge/layers.py",
    "l3edge/spec.py",
    "training/network.py",
    "training/tf_ops.py",
)


def find(kind: str, recipe: str) -> Path:
    """The file, made in a process of its own where it is not there yet; TrainingError says why it cannot be."""
    path = CACHE / f"{kind}-{recipe}-{_key(kind, recipe)[:16]}.tflite"
    if path.is_file():
        return path
    if not options.tensorflow():
        raise TrainingError('it is made with TensorFlow, which is not installed: pip install -e ".[train]"')
    options.progress(f"making {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "benchmarks.peer_files", kind, recipe, str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        told = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise TrainingError(f"{' '.join(command[1:])} failed: {told[-1]}")
    return path


def _key(kind: str, recipe: str) -> str:
    """Of all that the file depends on."""
    code = [*sorted((ROOT / "export").glob("*.py")), *(ROOT / name for name in _CODE)]
    weights = hashlib.sha256(_sea_weights().read_bytes()).hexdigest() if kind == "sea-64" else SEED
    said = [kind, recipe, weights, *(hashlib.sha256(path.read_bytes()).hexdigest() for path in code)]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def _sea_weights() -> Path:
    from .accuracy_models import SEA_WEIGHTS

    if not SEA_WEIGHTS.is_file():
        raise TrainingError(f"no {SEA_WEIGHTS}: set L3EDGE_DATA to a folder that holds edgel3/{SEA_WEIGHTS.name}")
    return SEA_WEIGHTS


def make(kind: str, recipe: str) -> bytes:
    """The flatbuffer: the front end in float32, and the network as the recipe has it."""
    from export import build, contract, convert, graph, published, recipes

    build.make_deterministic(SEED)
    if kind == "sea-64":
        read = published.read(_sea_weights())
        network = graph.Network(read.spec, read.weights, affine=read.affine)
    else:
        spec = PRESETS[kind]
        network = graph.Network(spec, graph.random_weights(spec.layers, SEED), affine=NORMALISED)
    rate = network.spec.sample_rate
    signals = [contract.sounds(seed, 2 * rate, rate) for seed in range(CALIBRATION_WINDOWS)]
    settings = recipes.Settings(calibration_windows=CALIBRATION_WINDOWS, seed=SEED)
    return convert.convert(recipes.prepare(recipe, network, signals, settings))


def main() -> None:
    """Make one file."""
    kind, recipe, path = sys.argv[1:]
    content = make(kind, recipe)
    with replacing(Path(path)) as part:
        part.write_bytes(content)


if __name__ == "__main__":
    cli.run(main)
