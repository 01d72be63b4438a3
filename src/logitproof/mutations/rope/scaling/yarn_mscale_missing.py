"""YaRN's attention factor (mscale) is left out: cos and sin are not multiplied by it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations.rope._tables import Parameters, WrongParameters


@dataclass
class YarnMscaleMissing(WrongParameters):
    """YaRN's attention factor (mscale) is left out: cos and sin are not multiplied by it."""

    bug: ClassVar[str] = "YaRN's attention factor (mscale) is not applied"
    shows: ClassVar[str] = "scores too small from position 1 on; position 0 exact without sinks; does not grow with position"
    seen_in: ClassVar[tuple[str, ...]] = ("imp #880", "exllamav3 #259")
    first_tap: ClassVar[str] = "layers.0.attn.q_rope"
    remedy: ClassVar[str] = "multiply cos and sin by 0.1 ln(factor) + 1, or the scores by its square"

    def parameters(self, right: Parameters, config: Any) -> Parameters | None:
        """No attention factor."""
        return right | {"attention_factor": 1.0} if right.get("rope_type") == "yarn" else None
