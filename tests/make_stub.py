"""Writes tests/data/stub-{int8,float32,edgetpu}.tflite: a few kB each, random weights, real graphs.

    python -m tests.make_stub

They are what the SDK's tests run on where there is no TensorFlow; a test checks that this script still makes them.
Two frame steps are covered: one column a hop (int8) and two (float32). The third is the int8 network for the Edge TPU.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from l3edge import frontend, model_file
from l3edge.spec import LogMel, Spec, l3_stack

DATA = Path(__file__).parent / "data"
SPECS = {
    "int8": Spec("stub", l3_stack((4, 4, 6, 8)), LogMel(bands=8)),
    "edgetpu": Spec("stub", l3_stack((4, 4, 6, 8)), LogMel(bands=8)),
    "float32": Spec("stub", l3_stack((4, 4, 6, 8)), LogMel(bands=8, frame_step=100)),
}


def make(kind: str, path: Path) -> None:
    """Write one of the stubs."""
    from export import convert, graph, quantise

    spec = SPECS[kind]
    rng = np.random.default_rng(20261120)
    network = graph.Network(spec, graph.random_weights(spec.layers, 20261120))
    if kind != "float32":
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
    model_file.write(path, convert.convert(network, target=target), metadata)


if __name__ == "__main__":
    DATA.mkdir(exist_ok=True)
    for kind in SPECS:
        make(kind, DATA / f"stub-{kind}.tflite")
