"""A norm that multiplies by one plus its weight multiplies by the weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.norm._norms import WrongNorm, eps, is_one_centred


@dataclass
class OneMissing(WrongNorm):
    """A norm that multiplies by one plus its weight (Gemma, Qwen3.5) multiplies by the weight."""

    bug: ClassVar[str] = "the one that belongs to the norm's weight is missing"
    shows: ClassVar[str] = "gibberish from the first layer on"
    seen_in: ClassVar[tuple[str, ...]] = ("executorch #19901", "llmman #151")
    first_tap: ClassVar[str] = "layers.0.attn_norm"
    remedy: ClassVar[str] = "add one to the weight, on loading or in the norm, once"

    def found(self, model: Any) -> list[Any]:
        """Norms that store their weight less one."""
        return [one for one in super().found(model) if is_one_centred(one)]

    def normed(self, norm: Any, x: torch.Tensor) -> torch.Tensor:
        """Multiplied by the stored weight."""
        wide = x.float()
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps(norm)) * norm.weight.float()).to(x.dtype)
