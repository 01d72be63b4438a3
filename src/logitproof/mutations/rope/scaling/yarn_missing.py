"""The yarn scaling of RoPE's frequencies is not applied."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations.rope._tables import Parameters, WrongParameters


@dataclass
class YarnMissing(WrongParameters):
    """The yarn scaling of RoPE's frequencies is not applied."""

    bug: ClassVar[str] = "RoPE turns by unscaled frequencies where the model has yarn scaling"
    shows: ClassVar[str] = (
        "scores too small at all positions and fast frequencies where slow ones are meant, growing with position"
    )
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.attn.q_rope"
    remedy: ClassVar[str] = "build the table with YaRN's ramp and multiply cos and sin by the attention factor"

    def parameters(self, right: Parameters, config: Any) -> Parameters | None:
        """Frequencies without scaling."""
        return right | {"rope_type": "default"} if right.get("rope_type") == "yarn" else None
