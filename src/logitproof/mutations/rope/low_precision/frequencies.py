"""The inverse frequencies are kept in bfloat16, as after a cast of the whole model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations._precision import rounded
from logitproof.mutations.rope._tables import WrongFrequencies


@dataclass
class Frequencies(WrongFrequencies):
    """The inverse frequencies are kept in bfloat16, as after a cast of the whole model."""

    bug: ClassVar[str] = "RoPE's inverse frequencies are rounded to bfloat16"
    shows: ClassVar[str] = "position 0 exact, wrong from position 1 on, growing with position"
    seen_in: ClassVar[tuple[str, ...]] = ("Automodel pitfalls 5",)
    first_tap: ClassVar[str] = "layers.0.attn.q_rope"
    remedy: ClassVar[str] = "keep the table in float32 when the model is cast"

    def frequencies(self, right: torch.Tensor, config: Any) -> torch.Tensor:
        """Eight significant bits."""
        return rounded(right)
