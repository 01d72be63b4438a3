"""Activations are quantized to eight bits in blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.numerics._linear import WrongProduct, in_blocks


@dataclass
class Int8Activations(WrongProduct):
    """Activations are quantized to eight bits in blocks."""

    bug: ClassVar[str] = "matrix products read their activations as blocks of int8 with one scale"
    shows: ClassVar[str] = "slow noise at every position, largest where one activation of a block is huge"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.attn.q_proj"
    remedy: ClassVar[str] = "compute with activations in float, or judge against a reference that quantizes them too"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"block": (32, 256, 0)}

    block: int = 32
    """Values with one scale; 0 is a whole row."""

    def product(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """One scale for each block, so that the largest becomes 127."""
        blocks = in_blocks(x, self.block or x.shape[-1])
        scale = blocks.abs().amax(-1, keepdim=True).clamp(min=1e-30) / 127
        return (torch.round(blocks / scale) * scale).flatten(-2)[..., : x.shape[-1]] @ weight.mT
