"""Shared K and V heads are tiled and not repeated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.attention._interface import Out, WrongAttention


@dataclass
class HeadsTiled(WrongAttention):
    """Query head h reads K head h modulo the number of K heads."""

    bug: ClassVar[str] = "grouped-query attention tiles its K and V heads instead of repeating each"
    shows: ClassVar[str] = "wrong at every position and layer"
    seen_in: ClassVar[tuple[str, ...]] = ("Modular's porting guide", "jax-js #180")
    first_tap: ClassVar[str] = "layers.0.attn.scores"
    remedy: ClassVar[str] = "query heads of a group are neighbours: head h reads K head h // group"

    def applies(self, config: Any) -> bool:
        """Where several query heads share several K heads."""
        heads, shared = config.num_attention_heads, getattr(config, "num_key_value_heads", config.num_attention_heads)
        return super().applies(config) and 1 < shared < heads

    def attend(
        self, right: Callable[..., Out], module: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any, **rest: Any
    ) -> Out:
        """K and V heads stand in another order after they were repeated."""
        shared, groups = k.shape[1], q.shape[1] // k.shape[1]
        order = torch.arange(q.shape[1], device=q.device).reshape(groups, shared).T.reshape(-1)
        out, weights = right(module, q[:, order], k, v, mask, **rest)
        return out[:, :, torch.argsort(order)], weights
