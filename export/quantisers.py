"""Quantisation-aware training by tensorflow-model-optimization, of rows that it would else quantise in its own way.

Its default gives a depthwise kernel [time, frequency, filters, 1] a scale for each element of the last axis, of which
there is one: one scale for all filters. TFLite has one for each filter, and so has `export.graph`. And it gives what a
mean pool makes a range of its own; in TFLite that has the scale of what the pool reads.
"""

from __future__ import annotations

from typing import Any

from tensorflow_model_optimization.python.core.quantization.keras import quantize
from tensorflow_model_optimization.python.core.quantization.keras.collab_opts.cluster_preserve import (
    default_8bit_cluster_preserve_quantize_scheme as clusters,
)
from tensorflow_model_optimization.python.core.quantization.keras.collab_opts.prune_preserve import (
    default_8bit_prune_preserve_quantize_scheme as zeros,
)
from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
    default_8bit_quantize_configs,
    default_8bit_quantize_registry,
    default_8bit_quantize_scheme,
    default_8bit_quantizers,
)

from training.backend import tf, tf_keras


class DepthwiseKernelQuantizer(default_8bit_quantizers.Default8BitConvWeightsQuantizer):
    """A scale for each filter of a kernel [time, frequency, filters, 1]."""

    def build(self, tensor_shape: Any, name: str, layer: Any) -> Any:
        return super().build(_filters_last(tensor_shape), name, layer)

    def __call__(self, inputs: Any, training: bool, weights: Any, **kwargs: Any) -> Any:
        made = super().__call__(tf.reshape(inputs, _filters_last(inputs.shape)), training, weights, **kwargs)
        return tf.reshape(made, inputs.shape)


def _filters_last(shape: Any) -> list[int]:
    time, frequency, filters, one = shape
    return [time, frequency, one, filters]


class DepthwiseConfig(default_8bit_quantize_registry.Default8BitQuantizeConfig):
    """How a depthwise convolution is quantised."""

    def __init__(self) -> None:
        super().__init__(["depthwise_kernel"], ["activation"], False)
        self.weight_quantizer = DepthwiseKernelQuantizer()

    def get_config(self) -> dict[str, Any]:
        return {}


CONFIGS = {
    tf_keras.layers.DepthwiseConv2D: DepthwiseConfig,
    tf_keras.layers.AveragePooling2D: default_8bit_quantize_configs.NoOpQuantizeConfig,
}


def wrapped(model: Any, keep: str | None) -> Any:
    """A tf_keras model of stock layers, quantised in 8 bits as it is trained.

    keep: "zeros" (weights that are zero stay zero), "clusters" (as many different values in each filter as there are
    in the kernel, at most) or None.
    """

    def annotate(layer: Any) -> Any:
        config = CONFIGS.get(type(layer))
        return layer if config is None else quantize.quantize_annotate_layer(layer, config())

    annotated = tf_keras.models.clone_model(model, clone_function=annotate)
    with quantize.quantize_scope({"DepthwiseConfig": DepthwiseConfig}):
        return quantize.quantize_apply(quantize.quantize_annotate_model(annotated), _scheme(keep))


def _scheme(keep: str | None) -> Any:
    if keep == "zeros":
        return zeros.Default8BitPrunePreserveQuantizeScheme()
    if keep == "clusters":
        return clusters.Default8BitClusterPreserveQuantizeScheme(preserve_sparsity=False)
    return default_8bit_quantize_scheme.Default8BitQuantizeScheme()
