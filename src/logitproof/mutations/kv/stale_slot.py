"""One slot of the cache keeps what the slot before it holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.kv._cache import Pair, WrongCache


@dataclass
class StaleSlot(WrongCache):
    """One slot of the cache keeps what the slot before it holds."""

    bug: ClassVar[str] = "a slot of the cache is stale: it was not written at its step"
    shows: ClassVar[str] = "decode only: exact up to the slot, wrong after it"
    seen_in: ClassVar[tuple[str, ...]] = ("kekzl/imp M23",)
    first_tap: ClassVar[str] = "layers.0.attn.k_rope"
    remedy: ClassVar[str] = "write K and V of each step into the slot of its position"
    needs: ClassVar[str] = "decode"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"slot": (3, 17)}

    slot: int = 3

    def read(self, keys: torch.Tensor, values: torch.Tensor, new: int) -> Pair:
        """The slot repeats the one before it once decoding has passed it."""
        if new == 1 and keys.shape[2] > self.slot + 1:
            keys[:, :, self.slot], values[:, :, self.slot] = keys[:, :, self.slot - 1], values[:, :, self.slot - 1]
        return keys, values
