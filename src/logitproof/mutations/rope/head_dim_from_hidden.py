"""The exponents are divided by hidden size / heads where the model's heads have another size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.rope._function import head_size
from logitproof.mutations.rope._tables import WrongFrequencies, is_plain


@dataclass
class HeadDimFromHidden(WrongFrequencies):
    """The exponents are divided by hidden size / heads where the model's heads have another size."""

    bug: ClassVar[str] = "RoPE's exponents are divided by hidden_size / num_attention_heads instead of head_dim"
    shows: ClassVar[str] = "position 0 exact, wrong from position 1 on, growing with position"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.attn.q_rope"
    remedy: ClassVar[str] = "read head_dim from the config; it is hidden_size / num_attention_heads only where it is absent"

    def frequencies(self, right: torch.Tensor, config: Any) -> torch.Tensor:
        """b^(-2i/R) with R as it would be in a head of E/H dimensions."""
        if not is_plain(config):
            return right
        return right ** (head_size(config) * config.num_attention_heads / config.hidden_size)
