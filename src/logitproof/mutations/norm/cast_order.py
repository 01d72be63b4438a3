"""RMS norms round before the weight where the model rounds after it, or the other way round."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.norm._norms import WrongNorm, eps, is_one_centred, scale


@dataclass
class CastOrder(WrongNorm):
    """RMS norms round before the weight where the model rounds after it, or the other way round."""

    bug: ClassVar[str] = "the norm is rounded to the type of the model on the other side of its weight"
    shows: ClassVar[str] = "in bfloat16 at most one unit in the last place of a norm"
    seen_in: ClassVar[tuple[str, ...]] = ("transformers #33133", "TransformerEngine #1132")
    first_tap: ClassVar[str] = "layers.0.attn_norm"
    remedy: ClassVar[str] = "round where the family does: Llama before the weight, Gemma after it"
    equivalent: ClassVar[str] = (
        "float32 has nothing to round to, so that both orders are one product; a narrower type moves a norm by one unit in "
        "the last place, which is less than its own noise"
    )

    def normed(self, norm: Any, x: torch.Tensor) -> torch.Tensor:
        """The same three factors, rounded at the other place."""
        wide = x.float()
        root = torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps(norm))
        if is_one_centred(norm):
            return (wide * root).to(x.dtype) * scale(norm).to(x.dtype)
        return (wide * root * scale(norm)).to(x.dtype)
