"""The llama3 scaling of RoPE's frequencies is not applied."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations.rope._tables import Parameters, WrongParameters


@dataclass
class Llama3Missing(WrongParameters):
    """The llama3 scaling of RoPE's frequencies is not applied."""

    bug: ClassVar[str] = "RoPE turns by unscaled frequencies where the model has llama3 scaling"
    shows: ClassVar[str] = (
        "position 0 exact, wrong from position 1 on; small on short prompts, large far beyond the original length; "
        "only the slow dimensions"
    )
    seen_in: ClassVar[tuple[str, ...]] = ("TransformerLens #910", "shainet #111")
    first_tap: ClassVar[str] = "layers.0.attn.q_rope"
    remedy: ClassVar[str] = "apply llama3 scaling when the table is built, or store the factors with the weights"

    def parameters(self, right: Parameters, config: Any) -> Parameters | None:
        """Frequencies without scaling."""
        return right | {"rope_type": "default"} if right.get("rope_type") == "llama3" else None
