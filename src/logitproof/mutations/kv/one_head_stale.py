"""One head of the cache is not written in decode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from logitproof.mutations.kv._cache import Pair, WrongCache


@dataclass
class OneHeadStale(WrongCache):
    """One K head keeps the first position's entries in decode."""

    bug: ClassVar[str] = "a head of the cache is not written after prefill"
    shows: ClassVar[str] = "decode only, every step"
    seen_in: ClassVar[tuple[str, ...]] = ("tenstorrent/vllm #415",)
    first_tap: ClassVar[str] = "layers.0.attn.k_rope"
    remedy: ClassVar[str] = "write all heads"
    needs: ClassVar[str] = "decode"

    def read(self, keys: torch.Tensor, values: torch.Tensor, new: int) -> Pair:
        """The last head repeats its first entry."""
        if new == 1:
            keys[:, -1], values[:, -1] = keys[:, -1, :1], values[:, -1, :1]
        return keys, values
