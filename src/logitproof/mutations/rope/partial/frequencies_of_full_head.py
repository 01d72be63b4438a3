"""The frequencies of a partly rotated head are those of the first dimensions of a whole one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.rope._function import head_size, rotary_dimensions
from logitproof.mutations.rope._tables import WrongFrequencies, is_plain


@dataclass
class FrequenciesOfFullHead(WrongFrequencies):
    """The frequencies of a partly rotated head are those of the first dimensions of a whole one."""

    bug: ClassVar[str] = "the exponents of partial RoPE are divided by the head size instead of the rotated size"
    shows: ClassVar[str] = "position 0 exact, wrong from position 1 on, growing with position"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.attn.q_rope"
    remedy: ClassVar[str] = "divide the exponents by the number of rotated dimensions"

    def frequencies(self, right: torch.Tensor, config: Any) -> torch.Tensor:
        """b^(-2i/R) is b^(-2i/D) to the power of D/R."""
        return right ** (rotary_dimensions(config) / head_size(config)) if is_plain(config) else right
