"""QK-norm is taken over all heads together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.norm._norms import HEADS, WrongNorm, eps, scale


@dataclass
class QkOverAllHeads(WrongNorm):
    """QK-norm divides by the root mean square of all heads together."""

    bug: ClassVar[str] = "QK-norm is taken over the whole width of Q or K, not over each head"
    shows: ClassVar[str] = "position 0 of attention exact, moderate from position 1 on"
    seen_in: ClassVar[tuple[str, ...]] = ("vLLM #16311", "mlxcel #317")
    first_tap: ClassVar[str] = "layers.0.attn.q"
    remedy: ClassVar[str] = "normalize each head by itself"

    names: ClassVar[tuple[str, ...]] = HEADS

    def found(self, model: Any) -> list[Any]:
        """Norms whose weight is as wide as a head."""
        return [one for one in super().found(model) if len(one.weight) == getattr(model.config, "head_dim", None)]

    def normed(self, norm: Any, x: torch.Tensor) -> torch.Tensor:
        """x [B, T, H, D] divided by one number for all heads of a position."""
        wide = x.float()
        return (wide * torch.rsqrt(wide.square().mean((-1, -2), keepdim=True) + eps(norm)) * scale(norm)).to(x.dtype)
