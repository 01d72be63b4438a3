"""V heads stand one head too far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.attention._interface import Out, WrongAttention


@dataclass
class ValuesRolled(WrongAttention):
    """V heads stand one head too far against K's."""

    bug: ClassVar[str] = "V heads are shifted against K heads"
    shows: ClassVar[str] = "wrong at every position and layer, position 0 too"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.attn.context"
    remedy: ClassVar[str] = "read the heads of V in the order of K's"

    def applies(self, config: Any) -> bool:
        """Where there are several K heads."""
        return super().applies(config) and getattr(config, "num_key_value_heads", config.num_attention_heads) > 1

    def attend(
        self, right: Callable[..., Out], module: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any, **rest: Any
    ) -> Out:
        """V rolled by one head."""
        return right(module, q, k, v.roll(1, dims=1), mask, **rest)
