"""The last tile of keys is not read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.attention._interface import Out, WrongAttention, additive, ages, visible


@dataclass
class NewestKeysLost(WrongAttention):
    """A loop over tiles of keys ends one tile early once there are several."""

    bug: ClassVar[str] = "the last tile of keys is not read where the length is no multiple of the tile"
    shows: ClassVar[str] = "exact up to the size of a tile, then wrong except at its multiples"
    seen_in: ClassVar[tuple[str, ...]] = ("kekzl/imp M06", "vLLM #50702")
    first_tap: ClassVar[str] = "layers.0.attn.probs"
    remedy: ClassVar[str] = "round the number of tiles up"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"tile": (16, 32)}

    tile: int = 16

    def attend(
        self, right: Callable[..., Out], module: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any, **rest: Any
    ) -> Out:
        """Keys of a tile that is not full are hidden, if there is a full one."""
        seen = visible(mask, q, k)
        positions = torch.arange(seen.shape[-1], device=q.device)
        ends = ages(seen)[:, :1] + 1
        kept = positions[None] < torch.where(ends > self.tile, ends // self.tile * self.tile, ends)
        return right(module, q, k, v, additive(seen & kept, q), **rest)
