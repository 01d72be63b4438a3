"""The bounds of YaRN's ramp are rounded to whole dimensions where the model does not, or not where it does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations.rope._tables import Parameters, WrongParameters


@dataclass
class YarnTruncate(WrongParameters):
    """The bounds of YaRN's ramp are rounded to whole dimensions where the model does not, or not where it does."""

    bug: ClassVar[str] = "the bounds of YaRN's ramp are rounded where the model's are not, or the other way round"
    shows: ClassVar[str] = "position 0 exact, wrong from position 1 on; small, only the dimensions in the ramp"
    seen_in: ClassVar[tuple[str, ...]] = ("vLLM #28244", "sglang #14270")
    first_tap: ClassVar[str] = "layers.0.attn.q_rope"
    remedy: ClassVar[str] = "read truncate from the model's rope_parameters; it is true where it is absent"

    def parameters(self, right: Parameters, config: Any) -> Parameters | None:
        """The other way to round."""
        return right | {"truncate": not right.get("truncate", True)} if right.get("rope_type") == "yarn" else None
