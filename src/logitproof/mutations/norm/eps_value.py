"""RMS norms use another epsilon than the model's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.norm._norms import WrongNorm, scale


@dataclass
class EpsValue(WrongNorm):
    """RMS norms use another epsilon than the model's."""

    bug: ClassVar[str] = "the epsilon of RMS norms is not the config's"
    shows: ClassVar[str] = "slow: at most 1e-3 in the middle, largest for tokens of small norm such as the first"
    seen_in: ClassVar[tuple[str, ...]] = ("tvm #15856", "llama.cpp #23815", "torchtitan #4395", "FastDeploy #2797")
    first_tap: ClassVar[str] = "layers.0.attn_norm"
    needs: ClassVar[str] = "small activations"
    remedy: ClassVar[str] = "read rms_norm_eps from the config"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"eps": (1e-5, 1e-6, 1e-8, 1e-3)}
    ranges: ClassVar[dict[str, tuple[float, float]]] = {"eps": (1e-9, 1e-1)}

    eps: float = 1e-3

    def applies(self, config: Any) -> bool:
        """Where the model's own epsilon is another."""
        return super().applies(config) and getattr(config, "rms_norm_eps", self.eps) != self.eps

    def normed(self, norm: Any, x: torch.Tensor) -> torch.Tensor:
        """The right norm with another epsilon."""
        wide = x.float()
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps) * scale(norm)).to(x.dtype)
