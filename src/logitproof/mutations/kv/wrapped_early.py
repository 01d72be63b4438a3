"""The ring wraps before it is full."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.attention._interface import has_window
from logitproof.mutations.kv._cache import Pair, WrongCache


@dataclass
class WrappedEarly(WrongCache):
    """A ring for a window wraps before it is full, so that new keys overwrite old ones that are still needed."""

    bug: ClassVar[str] = "the cache is a ring that is shorter than what attention must see"
    shows: ClassVar[str] = "decode only: exact up to the ring's size, then wrong"
    seen_in: ClassVar[tuple[str, ...]] = ("kvcached #446",)
    first_tap: ClassVar[str] = "layers.0.attn.probs"
    remedy: ClassVar[str] = "make the ring as long as the window, or the context"
    needs: ClassVar[str] = "decode"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"size": (24, 32)}

    size: int = 24

    def applies(self, config: Any) -> bool:
        """Not where a window hides what is overwritten."""
        return super().applies(config) and not has_window(config)

    def read(self, keys: torch.Tensor, values: torch.Tensor, new: int) -> Pair:
        """Slots of old positions hold newer ones."""
        length = keys.shape[2]
        if new == 1 and length > self.size:
            over = length - self.size
            count = min(over, self.size)
            keys[:, :, :count], values[:, :, :count] = (
                keys[:, :, self.size :][:, :, :count],
                values[:, :, self.size :][:, :, :count],
            )
        return keys, values
