"""What the operators of a TFLite graph cost: multiply-accumulates, and bytes in and out."""

from __future__ import annotations

import math

import numpy as np

from l3edge.flatbuffer import CONVOLUTIONS, Operator, Subgraph, Tensor, parse

# Of the kernel's dimensions, those that one value of the output takes a product for each element of. Kernels are
# [filters, height, width, inputs]; depthwise [1, height, width, filters]; fully connected [filters, inputs].
SUMMED = {"CONV_2D": slice(1, None), "DEPTHWISE_CONV_2D": slice(1, 3), "FULLY_CONNECTED": slice(1, None)}


def macs(graph: Subgraph, operator: Operator) -> int:
    """Multiply-accumulates of one run; 0 of operators that are not convolutions or fully connected."""
    if operator.name not in SUMMED:
        return 0
    kernel = graph.tensors[operator.inputs[1]].shape[SUMMED[operator.name]]
    return math.prod(graph.tensors[operator.outputs[0]].shape) * math.prod(kernel)


def convolution_macs(content: bytes) -> int:
    """Multiply-accumulates of the convolutions in one run of a TFLite file's first graph: the network, no front end."""
    graph = parse(content).subgraphs[0]
    return sum(macs(graph, operator) for operator in graph.operators if operator.name in CONVOLUTIONS)


def size(tensor: Tensor) -> int:
    """Bytes of its values."""
    return tensor.buffer_bytes or math.prod(tensor.shape) * np.dtype(tensor.dtype).itemsize
