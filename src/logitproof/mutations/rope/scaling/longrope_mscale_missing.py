"""LongRoPE's attention factor is left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations.rope._tables import Parameters, WrongParameters


@dataclass
class LongropeMscaleMissing(WrongParameters):
    """LongRoPE's attention factor is left out."""

    bug: ClassVar[str] = "LongRoPE's attention factor is not applied"
    shows: ClassVar[str] = "scores too small from position 1 on; position 0 exact; does not grow with position"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.attn.q_rope"
    remedy: ClassVar[str] = "multiply cos and sin by sqrt(1 + ln(factor) / ln(original length))"

    def parameters(self, right: Parameters, config: Any) -> Parameters | None:
        """No attention factor."""
        return right | {"attention_factor": 1.0} if right.get("rope_type") == "longrope" else None
