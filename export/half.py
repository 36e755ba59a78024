"""Weights of a float32 flatbuffer as float16, widened again where they are used.

The converter has an option of that name. It takes every constant it finds, the front end's window, mel matrix and
offset among them, and log-mel would be off by up to 5e-4 nats. Here only the kernels of convolutions change.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_WIDENS_FLOAT16 = 3  # version of DEQUANTIZE


def halve(flatbuffer: bytes) -> bytes:
    """The same graphs with the constant kernels of their convolutions in float16; the arithmetic stays float32.

    In front of a subgraph's operators stands a DEQUANTIZE for each kernel, which engines run once. Graphs that shared
    a kernel share it still.
    """
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(flatbuffer))
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE
    code.version = _WIDENS_FLOAT16
    model.operatorCodes.append(code)
    convolutions = (schema.BuiltinOperator.CONV_2D, schema.BuiltinOperator.DEPTHWISE_CONV_2D)
    halves: dict[int, int] = {}  # buffer: the one that takes its place
    for graph in model.subgraphs:
        kernels = {
            operator.inputs[1]: None
            for operator in graph.operators
            if model.operatorCodes[operator.opcodeIndex].builtinCode in convolutions
        }
        for index in reversed(kernels):
            kernel = graph.tensors[index]
            if kernel.type != schema.TensorType.FLOAT32 or model.buffers[kernel.buffer].data is None:
                raise ValueError(f"{kernel.name.decode()} is no float32 constant")
            if kernel.buffer not in halves:
                halves[kernel.buffer] = len(model.buffers)
                model.buffers.append(_half_buffer(schema, model.buffers[kernel.buffer]))
            graph.tensors.append(_half_tensor(schema, kernel, halves[kernel.buffer]))
            operator = schema.OperatorT()
            operator.opcodeIndex = len(model.operatorCodes) - 1
            operator.inputs, operator.outputs = [len(graph.tensors) - 1], [index]
            operator.builtinOptionsType = schema.BuiltinOptions.DequantizeOptions
            operator.builtinOptions = schema.DequantizeOptionsT()
            graph.operators.insert(0, operator)
            kernel.buffer = 0  # the empty one
    for buffer in halves:
        model.buffers[buffer].data = None
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _half_buffer(schema: Any, buffer: Any) -> Any:
    made = schema.BufferT()
    values = np.frombuffer(np.asarray(buffer.data, np.uint8).tobytes(), "<f4")
    made.data = np.frombuffer(values.astype("<f2").tobytes(), np.uint8)
    return made


def _half_tensor(schema: Any, kernel: Any, buffer: int) -> Any:
    made = schema.TensorT()
    made.name, made.shape, made.buffer = kernel.name + b"/float16", kernel.shape, buffer
    made.type = schema.TensorType.FLOAT16
    return made
