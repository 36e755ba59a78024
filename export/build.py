"""What `python -m export` and `python -m export.import_weights` share: from a network to a checked model file."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import textwrap
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import l3edge
from l3edge import model_file
from training import artifacts
from training.backend import tf, tf_keras
from training.cli import positive_float, positive_int

from . import ExportError, convert, recipes, verify
from .graph import Network, columns_of, embedding_of
from .head import Head
from .representative import Signal, features
from .tags import Tags

MOST_HOPS = 1000  # in a step: 100 s, beyond which fewer calls save nothing


def add_options(parser: argparse.ArgumentParser, recipe: str, *, streaming: bool = True) -> None:
    """The options that both commands have, and those of networks that stream; recipe: the default."""
    parser.add_argument("--output", type=Path, required=True, metavar="M.tflite", help="model file to write")
    parser.add_argument("--recipe", choices=recipes.RECIPES, default=recipe, help="how to quantise")
    if streaming:
        parser.add_argument(
            "--target",
            choices=model_file.TARGETS,
            default="cpu",
            help="edgetpu: the int8 network alone, log-mel in, for the Edge TPU's compiler",
        )
        parser.add_argument(
            "--hops-per-step",
            type=positive_int,
            default=1,
            metavar="N",
            help="add a step of N hops, for archives: the same bits at fewer calls",
        )
    else:
        parser.set_defaults(target="cpu", hops_per_step=1)
    parser.add_argument("--name", help="the model's name for people (default: the output's stem)")
    parser.add_argument(
        "--steps", type=positive_int, default=300, help="of quantisation-aware training, and of pruning"
    )
    parser.add_argument("--batch", type=positive_int, default=32, help="windows in a fine-tuning step")
    parser.add_argument("--learning-rate", type=positive_float, default=1e-4, help="of fine-tuning, decaying to zero")
    parser.add_argument("--seed", type=int, default=0, help="of the windows and levels that are drawn")


def recipes_told() -> str:
    """The recipes, a paragraph each, for the end of --help."""
    wrapped = [
        textwrap.fill(f"{name}: {recipe.text}", 80, initial_indent="  ", subsequent_indent="    ")
        for name, recipe in recipes.RECIPES.items()
    ]
    return "\n".join(["recipes:", *wrapped])


def check_output(path: Path) -> None:
    """ExportError where no model file can be written, before hours go into it."""
    if not path.parent.is_dir():
        raise ExportError(f"{path.parent}: no such directory for the output")
    if path.exists() and not path.is_file():
        raise ExportError(f"{path}: exists and is not a regular file")


def make_deterministic(seed: int) -> None:
    """The same seed, the same file."""
    tf_keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def prepared(network: Network, signals: Sequence[Signal], arguments: argparse.Namespace) -> Network:
    """A float32 network prepared by the chosen recipe.

    signals: what to calibrate and fine-tune on, float32 [n] each at the model's rate; some recipes need none.
    """
    names = ("steps", "batch", "learning_rate", "seed")
    settings = recipes.Settings(**{name: getattr(arguments, name) for name in names})
    return recipes.prepare(arguments.recipe, network, signals, settings)


def float_embeddings(network: Network) -> verify.Embed:
    """The float32 network on TensorFlow: [n, window] -> [n, embedding_size]."""
    plain = dataclasses.replace(network, ranges=None)
    embed = tf.function(lambda inputs: embedding_of(columns_of(plain, inputs), plain.spec), reduce_retracing=True)

    def run(windows: Signal) -> Signal:
        # A few at a time: the first layers of a full-width network take 13 MB a window, each.
        parts = [features(plain.spec, windows[i : i + 16], plain.affine) for i in range(0, len(windows), 16)]
        return np.concatenate([embed(part).numpy() for part in parts])

    return run


def commit() -> str:
    """The checkout's git commit, with "+" where it has uncommitted changes; "unknown" outside git."""
    here = artifacts.environment()
    return f"{here['commit']}{'+' if here['modified'] else ''}" if here["commit"] else "unknown"


def finish(
    network: Network,
    arguments: argparse.Namespace,
    reference: verify.Embed,
    checked_on: Sequence[Signal],
    described: dict[str, Any],
    provenance: dict[str, Any],
    tags: Tags | None = None,
    head: Head | None = None,
) -> None:
    """Convert, write, reload, check; the file takes its name only when it passed.

    reference: the float32 network that the file must agree with.
    checked_on: the audio of the check, float32 [n] each; described: what the file says of it.
    provenance: where the weights come from, and their licence.
    tags, head: what names what an embedding sounds like, of a file for the CPU.
    """
    recipe, target, hops = arguments.recipe, arguments.target, arguments.hops_per_step
    print(f"converting {network.spec.name}, {recipe}", file=sys.stderr)
    float16 = recipes.RECIPES[recipe].float16
    flatbuffer = convert.convert(
        network, hops=[hops] if hops > 1 else (), target=target, float16=float16, tags=tags, head=head
    )
    metadata: dict[str, Any] = {
        "name": arguments.name or arguments.output.stem,
        "spec": network.spec.to_json(),
        "recipe": recipe,
        "target": target,
        "parity": {},
        "provenance": {
            **provenance,
            "export_commit": commit(),
            "export": {key: getattr(arguments, key) for key in ("recipe", "steps", "batch", "learning_rate", "seed")},
            "versions": {name: version(name) for name in ("tensorflow", "tensorflow-model-optimization", "numpy")},
        },
    }
    metadata |= {key: made.to_json() for key, made in scoring(tags, head).items()}
    with model_file.replacing(arguments.output) as path:
        model_file.write(path, flatbuffer, metadata)
        print(f"checking on {len(checked_on)} clip(s) of sound", file=sys.stderr)
        tolerance = verify.TOLERANCES[recipe]
        if target == "edgetpu":
            tolerance = tolerance._replace(step=verify.TWO_FRONT_ENDS)
            parity = _parity_of_split(network, path, metadata, reference, checked_on)
        else:
            parity = verify.measure(l3edge.load(path), reference, checked_on)
        parity |= verify.scores_errors(l3edge.load(path), scoring(tags, head), checked_on)
        metadata["parity"] = {**parity, **described, "tolerance": tolerance._asdict()}
        wrong = verify.failures(parity, tolerance)
        for line in verify.told(parity, tolerance):
            print(f"  {line}", file=sys.stderr)
        if wrong:
            raise ExportError(
                f"{arguments.output} is not written, it is outside its tolerance: {'; '.join(wrong)}; give more "
                "--steps, or audio to learn from that is more like what it is checked on"
            )
        model_file.write(path, flatbuffer, metadata)
    size = arguments.output.stat().st_size
    print(f"{arguments.output}: {metadata['name']}, {recipe}, {size:,} bytes", file=sys.stderr)


def scoring(tags: Tags | None, head: Head | None) -> dict[str, Tags | Head]:
    """Those of both that there are, by the signature that they are in a file."""
    return {key: made for key, made in (("tags", tags), ("head", head)) if made is not None}


def check_target(spec: l3edge.Spec, arguments: argparse.Namespace) -> None:
    """ExportError where the target or the longer step is not to be had, before hours go into it."""
    recipe, target, hops = arguments.recipe, arguments.target, arguments.hops_per_step
    if hops > 1 and target == "edgetpu":
        raise ExportError(f"--hops-per-step {hops}: the Edge TPU's compiler takes one graph; leave the option out")
    if hops > 1 and not spec.streaming:
        raise ExportError(f"--hops-per-step {hops}: {spec.name} computes its windows one by one; leave the option out")
    if hops > MOST_HOPS:
        raise ExportError(f"--hops-per-step {hops}: a step takes at most {MOST_HOPS} hops")
    if target == "edgetpu" and not spec.streaming:
        raise ExportError(
            f"--target edgetpu: {spec.name} does not stream, and the Edge TPU is for steps; use edge-s, -m or -l"
        )
    if target == "edgetpu" and not recipe.startswith("int8"):
        raise ExportError(f"--target edgetpu: the Edge TPU computes in int8, not {recipe}; use --recipe int8_qat")


def _parity_of_split(
    network: Network, path: Path, metadata: dict[str, Any], reference: verify.Embed, clips: Sequence[Signal]
) -> dict[str, Any]:
    """Parity of a file for the Edge TPU, against the float32 network and against the same network for the CPU."""
    with tempfile.TemporaryDirectory() as folder:
        twin = Path(folder) / "cpu.tflite"
        model_file.write(twin, convert.convert(network), {**metadata, "target": "cpu"})
        split, whole = l3edge.load(path), l3edge.load(twin)
        parity = verify.measure(split, reference, clips, whole)
        return {**parity, **verify.same_mel(split, whole, clips)}


def tower_of(trained: artifacts.Run) -> verify.Embed:
    """The float32 audio tower of a run: [n, window] -> [n, embedding_size]."""
    tower = tf.function(trained.audio_tower)

    def run(windows: Signal) -> Signal:
        embeddings: Signal = tower(features(trained.spec, windows), training=False).numpy()
        return embeddings

    return run
