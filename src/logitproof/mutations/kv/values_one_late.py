"""V is written one slot late."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from logitproof.mutations.kv._cache import Pair, WrongCache


@dataclass
class ValuesOneLate(WrongCache):
    """V of a step lands one slot behind its K."""

    bug: ClassVar[str] = "V is written at another position than K"
    shows: ClassVar[str] = "decode only, from the second step on"
    seen_in: ClassVar[tuple[str, ...]] = ("kekzl/imp M24",)
    first_tap: ClassVar[str] = "layers.0.attn.context"
    remedy: ClassVar[str] = "use one position for K and V of a step"
    needs: ClassVar[str] = "decode"

    def read(self, keys: torch.Tensor, values: torch.Tensor, new: int) -> Pair:
        """Values stand one slot further than keys."""
        return (keys, values.roll(1, dims=2)) if new == 1 else (keys, values)
