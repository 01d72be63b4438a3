"""A block that is full is read without its last slot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.kv._cache import Pair, WrongCache


@dataclass
class BlockTailLost(WrongCache):
    """Where the length is a multiple of the block, the last slot of every full block is not read."""

    bug: ClassVar[str] = "the last slot of a full block of the cache is lost"
    shows: ClassVar[str] = "decode only, from the first full block on"
    seen_in: ClassVar[tuple[str, ...]] = ("vLLM #50749",)
    first_tap: ClassVar[str] = "layers.0.attn.probs"
    remedy: ClassVar[str] = "a block of n slots holds n keys"
    needs: ClassVar[str] = "decode"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"block": (8, 16)}

    block: int = 16

    def read(self, keys: torch.Tensor, values: torch.Tensor, new: int) -> Pair:
        """Last slots of full blocks hold zeros."""
        if new == 1 and keys.shape[2] > self.block:
            last = slice(self.block - 1, keys.shape[2] // self.block * self.block, self.block)
            keys[:, :, last], values[:, :, last] = 0.0, 0.0
        return keys, values
