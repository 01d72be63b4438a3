"""Which K and V head a query head meets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from logitproof.mutations import Record
from logitproof.mutations.attention._interface import Out, WrongAttention


class HeadsTiled(WrongAttention, id="attention.heads_tiled"):
    """Grouped-query attention tiles its K and V heads instead of repeating each: query head h reads K head h mod K."""

    record = Record(
        shows="wrong at every position and layer",
        first_tap="layers.0.attn.scores",
        remedy="query heads of a group are neighbours: head h reads K head h // group",
        seen_in=("Modular's porting guide", "jax-js #180"),
    )

    def applies(self, config: Any) -> bool:
        """Where several query heads share several K heads."""
        heads, shared = config.num_attention_heads, getattr(config, "num_key_value_heads", config.num_attention_heads)
        return super().applies(config) and 1 < shared < heads

    def attend(
        self, right: Callable[..., Out], module: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any, **rest: Any
    ) -> Out:
        shared, groups = k.shape[1], q.shape[1] // k.shape[1]
        order = torch.arange(q.shape[1], device=q.device).reshape(groups, shared).T.reshape(-1)
        out, weights = right(module, q[:, order], k, v, mask, **rest)
        return out[:, :, torch.argsort(order)], weights


class ValuesRolled(WrongAttention, id="attention.values_rolled"):
    """V heads stand one head too far against K heads."""

    record = Record(
        shows="wrong at every position and layer, position 0 too",
        first_tap="layers.0.attn.context",
        remedy="read the heads of V in the order of K's",
    )

    def applies(self, config: Any) -> bool:
        """Where there are several K heads."""
        return super().applies(config) and getattr(config, "num_key_value_heads", config.num_attention_heads) > 1

    def attend(
        self, right: Callable[..., Out], module: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any, **rest: Any
    ) -> Out:
        return right(module, q, k, v.roll(1, dims=1), mask, **rest)
