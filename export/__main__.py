"""python -m export RUN --output M.tflite: a training run in, one checked model file out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import l3edge
from l3edge import audio, frontend, model_file
from training import artifacts, shards
from training.backend import tf, tf_keras
from training.cli import HelpFormatter, positive_float, positive_int, run
from training.network import folded
from training.pretrain import Run, load_run

from . import convert, quantise, verify
from .graph import Network

RECIPES = {
    "float32": "weights and activations in float32",
    "int8_ptq": "int8 after training: ranges are the largest values that representative audio gives",
    "int8_qat": "int8_ptq, then quantisation-aware fine-tuning towards the float32 network's embeddings",
}
# Some of every kind of sound in a set; whether fewer would do has not been measured.
CALIBRATION_WINDOWS = 512
PARITY_CLIPS = 24
GAIN = 30.0  # dB: representative audio is heard at random levels from this far below its own up to its own


class ExportError(l3edge.Error):
    """An export that cannot go on, or whose result is outside its tolerance."""


def clips(data: Path, split: str) -> list[NDArray[np.float32]]:
    """The audio of a split, float32 [n] each, at the rate of the data."""
    return [shards.parse(record)["audio"].numpy() for record in shards.load(data, split)]


def representative(
    spec: l3edge.Spec, signals: Sequence[NDArray[np.float32]], batch: int, seed: int
) -> Iterator[quantise.LogMels]:
    """Endless batches of log-mels of random seconds at random levels, float32 [batch, frames_used, bands, 1]."""
    rng = np.random.default_rng(seed)
    usable = [signal for signal in signals if len(signal) >= spec.window]
    if not usable:
        raise ExportError(f"no audio of at least {spec.window} samples to calibrate on")
    while True:
        chosen = []
        for _ in range(batch):
            signal = usable[rng.integers(len(usable))]
            begin = int(rng.integers(len(signal) - spec.window + 1))
            chosen.append(signal[begin : begin + spec.window] * 10 ** (rng.uniform(-GAIN, 0) / 20))
        yield log_mels(spec, np.stack(chosen))


def log_mels(spec: l3edge.Spec, windows: NDArray[Any]) -> quantise.LogMels:
    """[n, window] -> float32 [n, frames_used, bands, 1]."""
    mels: quantise.LogMels = frontend.features(windows.astype(np.float32), spec.front_end)
    return mels[:, : spec.frames_used, :, None]


def quantised(trained: Run, data: Path, arguments: argparse.Namespace) -> Network:
    """The run's network, prepared for the chosen recipe."""
    network = Network(trained.spec, tuple(folded(trained.audio_tower)))
    if arguments.recipe == "float32":
        return network
    signals = clips(data, "train")
    calibration = representative(trained.spec, signals, CALIBRATION_WINDOWS, arguments.seed)
    network = quantise.calibrate(network, next(calibration))
    if arguments.recipe == "int8_ptq":
        return network
    from tqdm import tqdm

    with tqdm(total=arguments.steps, desc="quantisation-aware fine-tuning", unit=" steps", disable=None) as bar:

        def progress(step: int, loss: float) -> None:
            bar.update()
            bar.set_postfix(loss=f"{loss:.5f}", refresh=False)

        batches = representative(trained.spec, signals, arguments.batch, arguments.seed + 1)
        return quantise.fine_tune(network, batches, arguments.steps, arguments.learning_rate, progress)


def parity_audio(
    spec: l3edge.Spec, data: Path, paths: Sequence[Path]
) -> tuple[list[NDArray[np.float32]], dict[str, Any]]:
    """What the finished file is checked on: held-out audio of the run, and recordings that the user names."""
    held_out = clips(data, "test")[:PARITY_CLIPS]
    recorded = []
    for path in paths:
        samples, rate = audio.read(path)
        mono = audio.resample(audio.to_mono(samples).samples, rate, spec.sample_rate)
        recorded.append(mono[: 10 * spec.sample_rate])
    usable = [clip for clip in [*held_out, *recorded] if len(clip) >= spec.window]
    if not usable:
        raise ExportError("no held-out audio of a window's length to check the export on; name some with --audio")
    return usable, {"held_out_clips": len(held_out), "recordings": [path.name for path in paths]}


def commit() -> str:
    """The checkout's git commit, with "+" where it has uncommitted changes; "unknown" outside git."""
    here = artifacts.environment()
    return f"{here['commit']}{'+' if here['modified'] else ''}" if here["commit"] else "unknown"


def without_paths(training: dict[str, Any]) -> dict[str, Any]:
    """What a run was made from, less where that lay on the machine that made it."""
    return {
        **training,
        "arguments": {key: value for key, value in training["arguments"].items() if key not in ("run", "data")},
        "data": {key: value for key, value in training["data"].items() if key != "path"},
    }


def export(arguments: argparse.Namespace) -> None:
    """Build, convert, write, reload, check; the file takes its name only when it passed."""
    trained = load_run(arguments.run)
    spec = trained.spec
    data = Path(arguments.data or trained.data)
    tf_keras.utils.set_random_seed(arguments.seed)
    tf.config.experimental.enable_op_determinism()
    checked_on, described = parity_audio(spec, data, arguments.audio)
    network = quantised(trained, data, arguments)
    print(f"converting {spec.name}, {arguments.recipe}", file=sys.stderr)
    flatbuffer = convert.convert(network)
    metadata: dict[str, Any] = {
        "name": arguments.name or arguments.output.stem,
        "spec": spec.to_json(),
        "recipe": arguments.recipe,
        "parity": {},
        "provenance": {
            "run": Path(arguments.run).name,
            "training": without_paths(trained.arguments),
            "avc": trained.metrics,
            "export_commit": commit(),
            "export": {key: getattr(arguments, key) for key in ("recipe", "steps", "batch", "learning_rate", "seed")},
            "versions": {name: version(name) for name in ("tensorflow", "tensorflow-model-optimization", "numpy")},
            "licence": arguments.licence,
        },
    }
    with model_file.replacing(arguments.output) as path:
        model_file.write(path, flatbuffer, metadata)
        print(f"checking on {len(checked_on)} clips", file=sys.stderr)
        tower = tf.function(trained.audio_tower)
        parity = verify.measure(
            l3edge.load(path), lambda cut: tower(log_mels(spec, cut), training=False).numpy(), checked_on
        )
        tolerance = verify.TOLERANCES[arguments.recipe]
        metadata["parity"] = {**parity, **described, "tolerance": tolerance._asdict()}
        wrong = verify.failures(parity, tolerance)
        for key, value in metadata["parity"].items():
            print(f"  {key:24} {value}", file=sys.stderr)
        if wrong:
            raise ExportError(f"{arguments.output} is not written, it is outside its tolerance: {'; '.join(wrong)}")
        model_file.write(path, flatbuffer, metadata)
    size = arguments.output.stat().st_size
    print(f"{arguments.output}: {metadata['name']}, {arguments.recipe}, {size} bytes", file=sys.stderr)


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = argparse.ArgumentParser(
        prog="python -m export",
        formatter_class=HelpFormatter,
        description="Turn a training run's audio tower into a streaming .tflite with its front end inside, reload it, "
        "and check it against the float32 tower and against its own whole-window graph.",
        epilog="recipes: " + "; ".join(f"{name}: {text}" for name, text in RECIPES.items()),
    )
    made.add_argument("run", type=Path, metavar="RUN", help="directory written by python -m training.pretrain")
    made.add_argument("--output", type=Path, required=True, metavar="M.tflite", help="model file to write")
    made.add_argument("--recipe", choices=RECIPES, default="int8_qat", help="how to quantise")
    made.add_argument("--name", help="the model's name for people (default: the output's stem)")
    made.add_argument("--data", type=Path, metavar="SHARDS", help="calibrate and check on these (default: the run's)")
    made.add_argument(
        "--audio", type=Path, nargs="*", default=[], metavar="FILE", help="recordings to check on as well"
    )
    made.add_argument("--steps", type=positive_int, default=300, help="fine-tuning steps of int8_qat")
    made.add_argument("--batch", type=positive_int, default=32, help="windows in a fine-tuning step")
    made.add_argument("--learning-rate", type=positive_float, default=1e-4, help="of fine-tuning, decaying to zero")
    made.add_argument("--seed", type=int, default=0, help="of the windows and levels that are drawn")
    made.add_argument("--licence", default="MIT", help="under which the weights may be used, for the model file")
    return made


def main() -> None:
    """Parse and export."""
    arguments = parser().parse_args()
    if not arguments.output.parent.is_dir():
        raise ExportError(f"{arguments.output.parent}: no such directory for the output")
    if arguments.output.exists() and not arguments.output.is_file():
        raise ExportError(f"{arguments.output}: exists and is not a regular file")
    export(arguments)


if __name__ == "__main__":
    run(main)
