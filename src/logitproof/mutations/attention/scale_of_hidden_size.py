"""The scale is taken from the hidden size divided by the heads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.attention._interface import Out, WrongAttention


@dataclass
class ScaleOfHiddenSize(WrongAttention):
    """The scale is 1/sqrt(hidden size / heads) where the head size is another."""

    bug: ClassVar[str] = "the scale is computed from hidden_size / num_heads and not from head_dim"
    shows: ClassVar[str] = "position 0 exact, wrong from position 1 on"
    seen_in: ClassVar[tuple[str, ...]] = ("llama.cpp #8444", "TransformerLens #694")
    first_tap: ClassVar[str] = "layers.0.attn.scores"
    remedy: ClassVar[str] = "use head_dim or query_pre_attn_scalar of the config"

    def applies(self, config: Any) -> bool:
        """Where the two differ."""
        size = config.hidden_size / config.num_attention_heads
        own = getattr(config, "query_pre_attn_scalar", None) or getattr(config, "head_dim", None) or size
        return super().applies(config) and own != size and not {"attention_multiplier", "kv_lora_rank"} & set(vars(config))

    def attend(
        self, right: Callable[..., Out], module: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any, **rest: Any
    ) -> Out:
        """Scaled by the wrong size."""
        size = module.config.hidden_size / module.config.num_attention_heads
        return right(module, q, k, v, mask, **{**rest, "scaling": size**-0.5})
