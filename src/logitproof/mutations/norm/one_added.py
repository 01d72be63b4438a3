"""A plain norm multiplies by one plus its weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.norm._norms import WrongNorm, eps, is_one_centred


@dataclass
class OneAdded(WrongNorm):
    """A plain norm multiplies by one plus its weight, as Gemma's do."""

    bug: ClassVar[str] = "one is added to a norm's weight that already holds it"
    shows: ClassVar[str] = "wrong at the first layer and every position"
    seen_in: ClassVar[tuple[str, ...]] = ("llama.cpp's converter, which adds it on conversion",)
    first_tap: ClassVar[str] = "layers.0.attn_norm"
    remedy: ClassVar[str] = "add one only where the family stores the weight less one"

    def found(self, model: Any) -> list[Any]:
        """Norms that store their whole weight."""
        return [one for one in super().found(model) if not is_one_centred(one)]

    def normed(self, norm: Any, x: torch.Tensor) -> torch.Tensor:
        """Multiplied by one plus the weight."""
        wide = x.float()
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps(norm)) * (1.0 + norm.weight.float())).to(x.dtype)
