"""LongRoPE uses the long factors for sequences within the original length (and the short ones beyond)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations.rope._tables import Parameters, WrongParameters


@dataclass
class LongropeSwapped(WrongParameters):
    """LongRoPE uses the long factors for sequences within the original length (and the short ones beyond)."""

    bug: ClassVar[str] = "LongRoPE takes the long factors where the sequence is within the original length"
    shows: ClassVar[str] = "position 0 exact, wrong from position 1 on, already on short prompts"
    seen_in: ClassVar[tuple[str, ...]] = ("mlxcel #1358", "mistral.rs #251")
    first_tap: ClassVar[str] = "layers.0.attn.q_rope"
    remedy: ClassVar[str] = (
        "choose the factors by the last position of the sequence: long ones beyond original_max_position_embeddings only"
    )

    def parameters(self, right: Parameters, config: Any) -> Parameters | None:
        """Long factors for short sequences and short ones for long."""
        if right.get("rope_type") != "longrope":
            return None
        return right | {"short_factor": right["long_factor"], "long_factor": right["short_factor"]}
