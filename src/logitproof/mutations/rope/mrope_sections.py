"""The sections of M-RoPE (time, height, width) are laid one after the other where the model interleaves them."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations import Mutation
from logitproof.mutations.rope._function import rotary_class, rotary_embedding
from logitproof.reference.patches import attributes_replaced


@dataclass
class MropeSections(Mutation):
    """The sections of M-RoPE (time, height, width) are laid one after the other where the model interleaves them."""

    bug: ClassVar[str] = "the sections of M-RoPE are concatenated instead of interleaved"
    shows: ClassVar[str] = "nothing for text; image tokens are wrong"
    seen_in: ClassVar[tuple[str, ...]] = ("candle #3515", "verl-omni #254", "vllm.cpp #41")
    first_tap: ClassVar[str] = "layers.0.attn.q_rope"
    remedy: ClassVar[str] = "interleave time, height and width frequencies where mrope_interleaved is set"
    equivalent: ClassVar[str] = (
        "text tokens have the same position in time, height and width, so all three sections hold the same angles "
        "and any order of them gives one table"
    )

    def applies(self, config: Any) -> bool:
        """Models that interleave sections."""
        return hasattr(rotary_class(config), "recomposition_frequencies")

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Lay the sections one after the other."""
        module = rotary_embedding(model)
        sizes = list(module.mrope_section)

        def concatenated(table: torch.Tensor) -> torch.Tensor:
            parts = torch.split(table, [*sizes[:-1], table.shape[-1] - sum(sizes[:-1])], dim=-1)
            half = torch.cat([part[section] for section, part in enumerate(parts)], dim=-1)
            return torch.cat((half, half), dim=-1)

        return attributes_replaced([(module, "recomposition_frequencies", concatenated)])
