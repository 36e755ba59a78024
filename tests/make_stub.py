"""Writes tests/data/stub-*.tflite: a few kB each, random weights, real graphs.

    python -m tests.make_stub

They are what the SDK's tests run on where there is no TensorFlow; a test checks that this script still makes them.
int8: one column a hop. float32: two, and steps of ten hops besides. edgetpu: the int8 network alone. window: a model
that cannot stream, with decibels, int8. tags: int8, with random tags. head: int8, with a random
head of the labels that tests need.
"""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from l3edge import frontend, model_file
from l3edge.layers import Pool, l3_stack
from l3edge.spec import Decibel, LogMel, Spec

DATA = Path(__file__).parent / "data"
STACK = l3_stack((4, 4, 6, 8))
SPECS = {
    "int8": Spec("stub", STACK, LogMel(bands=8)),
    "float32": Spec("stub", STACK, LogMel(bands=8, frame_step=100)),
    "edgetpu": Spec("stub", STACK, LogMel(bands=8)),
    "window": Spec(
        "stub",
        (*l3_stack((4, 8), "same"), Pool((8, 2), (8, 2))),
        Decibel(16_000, 512, 400, 8),
        streaming=False,
        embedding="flatten",
    ),
    "tags": Spec("stub", STACK, LogMel(bands=8)),
    "head": Spec("stub", STACK, LogMel(bands=8)),
}
TAGS = ("Dog", "Vehicle horn, car horn, honking", 'So-called "music"', "Sprache, Gespräch")  # all that CSV must quote
LABELS = ("Hund", "background", "Sprache, Gespräch")


def layers(spec: Spec) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Of a head that finds all of its labels in examples/scene.flac, and sound that is none of them."""
    rng = np.random.default_rng(138)
    sizes = (spec.embedding_size, 6, 5, len(LABELS))
    made = [
        (rng.normal(0, 2.1 / before**0.5, (before, size)), rng.normal(0, 0.3, size))
        for before, size in itertools.pairwise(sizes)
    ]
    mean, scale = np.array([0, 0.1, 0.2, 0, 0, 0, 0, 0]), 0.05  # of the scene's embeddings, more or less
    kernel, bias = made[0]
    made[0] = kernel / scale, bias - mean / scale @ kernel
    return [(kernel.astype(np.float32), bias.astype(np.float32)) for kernel, bias in made]


def make(kind: str, path: Path) -> None:
    """Write one of the stubs."""
    from export import convert, graph, head, quantise, tags

    spec = SPECS[kind]
    rng = np.random.default_rng(20261120)
    network = graph.Network(spec, graph.random_weights(spec.layers, 20261120))
    if kind == "window":
        network = dataclasses.replace(network, ranges=[(0.0, 6.0)] * len(network.weights))
    elif kind != "float32":
        levels = 10 ** rng.uniform(-3, 0, (64, 1))
        noise = (rng.normal(size=(64, spec.window)) * levels).astype(np.float32)
        network = quantise.calibrate(network, frontend.features(noise, spec.front_end)[:, : spec.frames_used, :, None])
    target = "edgetpu" if kind == "edgetpu" else "cpu"
    metadata = {
        "name": f"stub-{kind}",
        "spec": spec.to_json(),
        "recipe": "float32" if kind == "float32" else "int8_ptq",
        "target": target,
        "parity": {},
        "provenance": {"weights": "random, tests/make_stub.py", "licence": "MIT"},
    }
    hops = [10] if kind == "float32" else ()
    tagging = labelling = None
    if kind == "tags":
        kernel = rng.normal(0, 30, (spec.embedding_size, len(TAGS))).astype(np.float32)
        figures = tuple({"average_precision": 0.5 + 0.1 * i, "positives": 10 * (i + 1)} for i in range(len(TAGS)))
        tagging = tags.Tags(TAGS, kernel, np.linspace(-1, 1, len(TAGS), dtype=np.float32), "nobody: random", figures)
        metadata["tags"] = tagging.to_json()
    if kind == "head":
        figures = tuple({"clips": 10 * (i + 1), "clips_right": 0.5 + 0.1 * i} for i in range(len(LABELS)))
        labelling = head.Head(LABELS, layers(spec), "nothing: random", figures, {"folds": 3, "clips_right": 0.6})
        metadata["head"] = labelling.to_json()
    flatbuffer = convert.convert(network, hops=hops, target=target, tags=tagging, head=labelling)
    model_file.write(path, flatbuffer, metadata)


if __name__ == "__main__":
    DATA.mkdir(exist_ok=True)
    for kind in SPECS:
        make(kind, DATA / f"stub-{kind}.tflite")
