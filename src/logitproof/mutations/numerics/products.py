"""Right formulas, computed too coarsely or out of range: the products of linear layers, and what they are added to."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch

from logitproof.mutations import Mutation, Record, swept
from logitproof.mutations._precision import rounded
from logitproof.mutations.numerics._linear import WrongProduct, in_blocks
from logitproof.reference import parts
from logitproof.reference.patches import outputs_changed


class NarrowInputs(WrongProduct, id="numerics.narrow_inputs"):
    """Activations are rounded to a narrow type before every matrix product."""

    record = Record(
        shows="slow noise at every position, the same with any batch size",
        first_tap="layers.0.attn.q_proj",
        remedy="switch TF32 and reduced-precision products off",
        seen_in=("vLLM #2679",),
    )
    bits: int = swept(8, grid=(8, 11, 4))

    def product(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """So many significant bits: 8 is bfloat16, 11 is TF32 and float16, 4 is float8."""
        return rounded(x, self.bits) @ weight.mT


class Int8Activations(WrongProduct, id="numerics.int8_activations"):
    """Matrix products read their activations as blocks of int8 with one scale."""

    record = Record(
        shows="slow noise at every position, largest where one activation of a block is huge",
        first_tap="layers.0.attn.q_proj",
        remedy="compute with activations in float, or judge against a reference that quantizes them too",
        seen_in=("onnxruntime #29849",),
    )
    block: int = swept(32, grid=(32, 256, 0))

    def product(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """One scale for each block, so that the largest becomes 127."""
        blocks = in_blocks(x, self.block or x.shape[-1])
        scale = blocks.abs().amax(-1, keepdim=True).clamp(min=1e-30) / 127
        return (torch.round(blocks / scale) * scale).flatten(-2)[..., : x.shape[-1]] @ weight.mT


class ActivationsClipped(WrongProduct, id="numerics.activations_clipped"):
    """Static quantization clips the largest activations, by a scale that was calibrated elsewhere."""

    record = Record(
        shows="exact for most tokens, wrong where an activation passes the clip",
        first_tap="layers.0.attn.q_proj",
        remedy="calibrate on the model and the data that are used, or scale each row by its own largest value",
        seen_in=("1bit-MONSTER #672",),
    )
    deviations: float = 2.5

    def product(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        limit = self.deviations * x.square().mean(-1, keepdim=True).sqrt()
        return x.clamp(-limit, limit) @ weight.mT


class F16Overflow(WrongProduct, id="numerics.f16_overflow"):
    """Activations beyond the range of float16 become infinite."""

    record = Record(
        shows="exact until an activation passes 65504, then NaN",
        first_tap="layers.0.mlp.out",
        remedy="keep the products of a gated MLP in bfloat16 or float32",
        needs="outliers",
        seen_in=("mlc #1870", "transformers #36832", "llama.cpp #27016", "openvino #37041"),
    )
    limit: float = 65504.0

    def product(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """What goes into a product is kept in float16's range."""
        return torch.where(x.abs() > self.limit, torch.copysign(torch.full_like(x, torch.inf), x), x) @ weight.mT


class F16Saturation(WrongProduct, id="numerics.f16_saturation"):
    """Activations beyond the range of float16 are cut off."""

    record = Record(
        shows="exact until an activation passes 65504",
        first_tap="layers.0.mlp.out",
        remedy="keep the products of a gated MLP in bfloat16 or float32",
        needs="outliers",
        seen_in=("mlx-vlm #293",),
    )
    limit: float = 65504.0

    def product(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """What goes into a product is kept in float16's range."""
        return x.clamp(-self.limit, self.limit) @ weight.mT


class LowPrecisionAccumulation(WrongProduct, id="numerics.low_precision_accumulation"):
    """Matrix products accumulate in a narrow type."""

    record = Record(
        shows="slow, grows with the inner size of matrices and with depth",
        first_tap="layers.0.attn.q_proj",
        remedy="accumulate in float32",
        seen_in=("vLLM #2679",),
    )
    bits: int = swept(8, grid=(8, 11))

    def product(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Partial sums over blocks of sixteen, the running sum rounded to so many bits: 8 is bfloat16, 11 float16."""
        total = torch.zeros((*x.shape[:-1], len(weight)), dtype=x.dtype, device=x.device)
        for left, right in zip(x.split(16, dim=-1), weight.split(16, dim=-1), strict=True):
            total = rounded(total + left @ right.mT, self.bits)
        return total


class LastProductLost(WrongProduct, id="numerics.last_product_lost"):
    """A kernel's inner loop stops before a remainder that does not fill a vector: the last products of a sum are left out."""

    record = Record(
        shows="wrong at every position where inner sizes are no multiple of the vector",
        first_tap="layers.0.attn.q_proj",
        remedy="add the remainder after the loop",
        seen_in=("cutlass #3536",),
    )

    def product(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """The remainder over blocks of eight; one product where there is none."""
        kept = x.shape[-1] - (x.shape[-1] % 8 or 1)
        return x[..., :kept] @ weight[:, :kept].mT


class ResidualLowPrecision(Mutation, id="numerics.residual_low_precision"):
    """The residual stream is kept in bfloat16, so that what a layer adds is lost in its rounding."""

    record = Record(
        shows="slow, grows with depth",
        first_tap="layers.0.out",
        remedy="keep the residual stream in float32",
    )
    bits: int = 8

    def applies(self, config: Any) -> bool:
        """Every decoder."""
        return True

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Round what every layer returns to so many significant bits: 8 is bfloat16, 11 float16."""

        def change(layer: Any, inputs: tuple[Any, ...], out: Any) -> Any:
            return (rounded(out[0], self.bits), *out[1:]) if isinstance(out, tuple) else rounded(out, self.bits)

        return outputs_changed(parts.layers(model), change)
