"""python -m export.import_weights FILE.h5 --output M.tflite: published weights in, one checked model file out."""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from l3edge.spec import Spec
from training.cli import ListHelpFormatter, positive_int, run

from . import ExportError, published
from .build import add_options, check_output, finish, float_embeddings, make_deterministic, prepared, recipes_told
from .graph import Network
from .recipes import RECIPES
from .representative import Signal, affordable, recordings

MOST_NAMES = 20  # of recordings that a file lists
HELD_OUT = 4  # of so many recordings one is checked on, and the others are calibrated on


def split(spec: Spec, paths: Sequence[Path]) -> tuple[list[Signal], list[Signal]]:
    """(to calibrate on, to check on): recordings of at least a window; both are all of them where they are few."""
    signals = [signal for signal in recordings(paths, spec.sample_rate) if len(signal) >= spec.window]
    if paths and not signals:
        raise ExportError(
            f"no recording named with --audio is as long as a window, {spec.window / spec.sample_rate:g} s"
        )
    if len(signals) < HELD_OUT:
        return signals, signals
    return [x for i, x in enumerate(signals, 1) if i % HELD_OUT], signals[HELD_OUT - 1 :: HELD_OUT]


def synthetic(spec: Spec) -> list[Signal]:
    """A sweep in noise and a click, for a float32 file to be checked on where nobody named recordings."""
    rng = np.random.default_rng(0)
    n = 2 * spec.window
    time = np.arange(n) / spec.sample_rate
    sweep = 0.5 * np.sin(2 * np.pi * spec.sample_rate * 0.1 * time**2) + rng.normal(0, 0.01, n)
    click = rng.normal(0, 0.3, n) * np.exp(-((time - 0.7) ** 2) / 0.001) + rng.normal(0, 1e-4, n)
    return [sweep.astype(np.float32), click.astype(np.float32)]


def audio_of(spec: Spec, paths: Sequence[Path]) -> tuple[list[Signal], list[Signal], dict[str, Any]]:
    """What to calibrate on, what to check on, and what the file says of the latter."""
    calibrate_on, check_on = split(spec, paths)
    described = {
        "held_out_clips": 0 if calibrate_on is check_on else len(check_on),
        "recordings": [path.name for path in paths[:MOST_NAMES]],
        "recordings_and_folders": len(paths),
    }
    return calibrate_on, affordable(spec, check_on or synthetic(spec)), described


def import_weights(arguments: argparse.Namespace) -> None:
    """Read, recognise, convert, write, reload, check; the file takes its name only when it passed."""
    read = published.read(arguments.weights, arguments.embedding_size, arguments.input_repr)
    print(f"{arguments.weights}: {read.kind}, {read.spec.embedding_size} values", file=sys.stderr)
    if read.kind == "edgel3-sparse":
        shares = ", ".join(f"{share:.1%}" for share in read.sparsity)
        print(f"  zeros in each layer: {shares}; dense kernels gain no speed from them", file=sys.stderr)
    if RECIPES[arguments.recipe].listens and not arguments.audio:
        raise ExportError(
            f"{arguments.recipe} needs representative audio to find the range of each layer: name recordings, or "
            "folders of them, as the device will hear them, with --audio; float32 needs none"
        )
    make_deterministic(arguments.seed)
    calibrate_on, check_on, described = audio_of(read.spec, arguments.audio)
    if arguments.audio and not described["held_out_clips"]:
        told = f"fewer than {HELD_OUT} recordings: the file is checked on those that it is calibrated on"
        print(f"warning: {told}", file=sys.stderr)
    network = Network(read.spec, read.weights, affine=read.affine)
    finish(
        prepared(network, calibrate_on, arguments),
        arguments,
        float_embeddings(network),
        check_on,
        described,
        {
            "source": arguments.weights.name,
            "sha256": hashlib.sha256(arguments.weights.read_bytes()).hexdigest(),
            "kind": read.kind,
            "content_type": read.content_type,
            "licence": read.licence,
            "citation": read.citation,
            "zeros": [round(share, 4) for share in read.sparsity],
            "stored_kernels_compared": read.kernels is not None,
        },
    )


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = argparse.ArgumentParser(
        prog="python -m export.import_weights",
        formatter_class=ListHelpFormatter,
        description="Turn a weight file that OpenL3 (0.2 to 0.4) or EdgeL3 published into a .tflite with its front end "
        "inside, reload it, and check it. What the file is, is recognised from its layers; every window is computed by "
        "itself, as there.",
        epilog=recipes_told(),
    )
    made.add_argument("weights", type=Path, metavar="FILE.h5", help="published weights, .h5 or .h5.gz")
    # float32 gives the values that the published network gives, and needs nothing but the file.
    add_options(made, recipe="float32", streaming=False)
    made.add_argument(
        "--embedding-size",
        type=positive_int,
        metavar="512|6144",
        help="of OpenL3 and sparse EdgeL3 (default: 512); SEA has its own",
    )
    made.add_argument(
        "--input-repr", choices=published.OPENL3, help="for OpenL3 0.4 files that were renamed: which one it is"
    )
    made.add_argument(
        "--audio",
        type=Path,
        nargs="*",
        default=[],
        metavar="PATH",
        help="recordings and folders of them, as the device will hear them: int8 is calibrated on three of four, the "
        "file is checked on the rest",
    )
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Parse and import."""
    arguments = parser().parse_args(argv)
    check_output(arguments.output)
    import_weights(arguments)


if __name__ == "__main__":
    run(main)
