"""Writes benchmarks/ceilings/*.tflite: the convolutions that `python -m benchmarks.layers` measures an engine by.

    python -m benchmarks.make_ceilings

A 3x3 convolution with ReLU, int8 (a scale for each filter) and float32. Of sixteen shapes tried, 1x1 and 3x3, 64 to
1024 inputs, 96 to 4096 positions, int8 ran at 399 to 511 GMAC/s and float32 at 100 to 130 (LiteRT 2.3, x86-64 with
AVX512-VNNI; tflite-runtime 2.14: 84 to 92 and 82 to 105); these two are within 3 % of the fastest there, at a quarter
of its bytes. Kernels repeat eight inputs, so that they pack small. Needs the `train` extra, for the converter.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from export import convert, graph
from l3edge.layers import Conv
from training.backend import tf

FOLDER = Path(__file__).with_name("ceilings")
SHAPES = {"int8": (18, 128), "float32": (34, 64)}  # rows and columns of the input, and channels, in and out
REPEATED = 8  # inputs
RANGE = (-6.0, 6.0)


def make(dtype: str) -> bytes:
    """The flatbuffer of one."""
    size, channels = SHAPES[dtype]
    part = np.random.default_rng(0).normal(0, 1 / 3 / channels**0.5, (3, 3, REPEATED, channels)).astype(np.float32)
    kernel = np.tile(part, (1, 1, channels // REPEATED, 1))
    int8 = dtype == "int8"
    values = graph.quantised_kernel(kernel, Conv(channels)) if int8 else kernel
    quantise = graph.fake_quant(RANGE) if int8 else tf.identity

    @tf.function(input_signature=[tf.TensorSpec([1, size, size, channels], tf.float32, "x")])
    def convolve(x):
        made = tf.nn.conv2d(quantise(x), values, 1, "VALID")
        return quantise(tf.nn.relu(tf.nn.bias_add(made, np.zeros(channels, np.float32))))

    converter = tf.lite.TFLiteConverter.from_concrete_functions([convolve.get_concrete_function()], convolve)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it misses ranges, which the graph has
        return convert.run(converter, int8=int8)


def main() -> None:
    """Write both."""
    FOLDER.mkdir(exist_ok=True)
    for dtype in SHAPES:
        path = FOLDER / f"{dtype}.tflite"
        path.write_bytes(make(dtype))
        print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
