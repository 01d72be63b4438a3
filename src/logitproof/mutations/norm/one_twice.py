"""One is added twice to the weight of a norm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.norm._norms import WrongNorm, eps, is_one_centred


@dataclass
class OneTwice(WrongNorm):
    """One is added twice to the weight of a norm that stores it less one (Gemma, Qwen3.5)."""

    bug: ClassVar[str] = "one is added to a weight to which the converter had added it already"
    shows: ClassVar[str] = "wrong at the first layer and every position; outputs depend little on the prompt"
    seen_in: ClassVar[tuple[str, ...]] = ("mold #1078", "vLLM #31464", "meganeura #188")
    first_tap: ClassVar[str] = "layers.0.attn_norm"
    remedy: ClassVar[str] = "add one to the weight, on loading or in the norm, once"

    def found(self, model: Any) -> list[Any]:
        """Norms that store their weight less one."""
        return [one for one in super().found(model) if is_one_centred(one)]

    def normed(self, norm: Any, x: torch.Tensor) -> torch.Tensor:
        """Multiplied by two plus the stored weight."""
        wide = x.float()
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps(norm)) * (2.0 + norm.weight.float())).to(x.dtype)
