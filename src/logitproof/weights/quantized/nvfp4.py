"""NVFP4 as ModelOpt publishes it: `weight`, `weight_scale` and `weight_scale_2`; its FP8 matrices beside them.

The document is NVIDIA's description of NVFP4 and ModelOpt's NVFP4QTensor
(modelopt/torch/quantization/qtensor/nvfp4_tensor.py): 16 inputs share a scale in E4M3, all of a matrix a scale in float32; a
byte holds two numbers of E2M1, the lower half first. The weight is number × scale × scale_2. What AWQ could not fold into the
layer before stands as `pre_quant_scale` [in], by which the inputs are multiplied
(modelopt/torch/quantization/nn/modules/tensor_quantizer.py): here the weight's columns are. compressed-tensors stores
1 / scale_2 as `weight_global_scale`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from logitproof.weights.quantized import fp8
from logitproof.weights.quantized.held import Held, Matrix, Settings
from logitproof.weights.quantized.numbers import E2M1, Array, nibbles

METHODS = ("modelopt", "modelopt_fp4")
GROUP = 16


def matrices(held: Held, settings: Settings) -> list[Matrix]:
    """Every matrix of two numbers a byte with a second scale, and every one of FP8."""
    size = settings.values.get("group_size")
    if size not in (None, GROUP):
        raise settings.refused(f"is {size!a}, and NVFP4 has groups of {GROUP}", "group_size")
    halves = [_matrix(held, stem) for stem in held.stems(".weight", "U8")]
    eights = fp8.matrices(held, settings)
    return halves + [scaled_inputs(held, matrix.name.removesuffix(".weight"), matrix) for matrix in eights]


def decoded(packed: Array, scales: Array) -> Array:
    """float32 [.., 2n] of bytes [.., n] and scales [.., 2n / 16]: exact, for a product has 6 bits."""
    numbers = E2M1[nibbles(packed)].reshape(*scales.shape, GROUP)
    return np.asarray(numbers * scales[..., None], np.float32).reshape(*scales.shape[:-1], -1)


def _matrix(held: Held, stem: str) -> Matrix:
    packed, scales, whole = f"{stem}.weight", f"{stem}.weight_scale", f"{stem}.weight_scale_2"
    shape = held.shape(packed)
    if len(shape) < 2 or shape[-1] * 2 % GROUP:
        raise held.refused(packed, f"has the shape {list(shape)}, and rows hold whole groups of {GROUP}")
    columns = shape[-1] * 2
    held.check(scales, ("F8_E4M3",), (*shape[:-1], columns // GROUP), packed)
    if whole not in held:
        held.check(whole, ("F32",), (), packed)
    own = held.check(whole, ("F32",), held.shape(whole), packed)
    if own not in ((), (1,), shape[:-2]):
        raise held.refused(whole, f"has the shape {list(own)}, and a matrix has one")

    def values() -> Array:
        second = held.scales(whole)
        second = second.reshape(*shape[:-2], 1, 1) if own == shape[:-2] else second.reshape(())
        return decoded(held.whole(packed), held.scales(scales)) * second

    return scaled_inputs(held, stem, Matrix(packed, (*shape[:-1], columns), "NVFP4", (packed, scales, whole), values))


def scaled_inputs(held: Held, stem: str, matrix: Matrix) -> Matrix:
    """The matrix of a layer whose inputs are multiplied first, where that is there."""
    inputs = f"{stem}.pre_quant_scale"
    if inputs not in held:
        return matrix
    held.check(inputs, fp8.SCALES[:3], matrix.shape[-1:], matrix.name)
    return replace(matrix, sources=(*matrix.sources, inputs), values=lambda: matrix.values() * held.scales(inputs))
