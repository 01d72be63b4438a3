"""The residual stream is overwritten by what the norm computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.norm._norms import WrongNorm, eps, normalized
from logitproof.reference import parts
from logitproof.reference.parts import roles


@dataclass
class ResidualNormalized(WrongNorm):
    """The residual stream is overwritten by what the norm computes."""

    bug: ClassVar[str] = "a norm works in place, so that the residual is normalized too"
    shows: ClassVar[str] = (
        "wrong from the first layer on; float32 may be wrong where bfloat16 is right, because only that is copied first"
    )
    seen_in: ClassVar[tuple[str, ...]] = ("nano-vllm #170", "OLMo #680")
    first_tap: ClassVar[str] = "layers.0.residual"
    remedy: ClassVar[str] = "keep the residual as it was before the norm"

    def found(self, model: Any) -> list[Any]:
        """Norms before which the residual is kept."""
        kept = [roles(layer) for layer in parts.layers(model)]
        return [found[role] for found in kept for role in ("before_attention", "before_mlp") if role in found]

    def normed(self, norm: Any, x: torch.Tensor) -> torch.Tensor:
        """The right norm, and `x` without its length."""
        right, wide = normalized(norm, x), x.float()
        x.copy_(wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps(norm)))
        return right
