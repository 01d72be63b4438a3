"""K and V of the step are written after they are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from logitproof.mutations.kv._cache import Pair, WrongCache


@dataclass
class NewestNotWritten(WrongCache):
    """K and V of the step are written after they are read."""

    bug: ClassVar[str] = "the newest slot is empty when attention reads it"
    shows: ClassVar[str] = "decode only, every step"
    seen_in: ClassVar[tuple[str, ...]] = ("kekzl/imp M25",)
    first_tap: ClassVar[str] = "layers.0.attn.k_rope"
    remedy: ClassVar[str] = "write before reading"
    needs: ClassVar[str] = "decode"

    def read(self, keys: torch.Tensor, values: torch.Tensor, new: int) -> Pair:
        """The newest slot holds zeros."""
        if new == 1 and keys.shape[2] > 1:
            keys[:, :, -1], values[:, :, -1] = 0.0, 0.0
        return keys, values
