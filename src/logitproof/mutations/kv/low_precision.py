"""The cache holds fewer bits than was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations._precision import rounded
from logitproof.mutations.kv._cache import Pair, WrongCache


@dataclass
class LowPrecision(WrongCache):
    """K and V are rounded when they are written."""

    bug: ClassVar[str] = "the cache is kept in a narrower type than the computation"
    shows: ClassVar[str] = "decode only, slow noise at every position"
    seen_in: ClassVar[tuple[str, ...]] = ("llama.cpp's default of an f16 cache",)
    first_tap: ClassVar[str] = "layers.0.attn.k_rope"
    remedy: ClassVar[str] = "choose the cache's type, and say which it is"
    needs: ClassVar[str] = "decode"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"bits": (8, 5)}

    bits: int = 8

    def written(self, keys: torch.Tensor, values: torch.Tensor) -> Pair:
        """Rounded to so many significant bits: 8 is bfloat16, 5 less than any type in use."""
        return rounded(keys, self.bits), rounded(values, self.bits)
