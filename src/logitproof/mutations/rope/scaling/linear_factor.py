"""The factor of linear scaling is another one than the model's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations.rope._tables import Parameters, WrongParameters


@dataclass
class LinearFactor(WrongParameters):
    """The factor of linear scaling is another one than the model's."""

    bug: ClassVar[str] = "RoPE's linear scaling uses another factor than the model's"
    shows: ClassVar[str] = "position 0 exact, wrong from position 1 on, growing with position; layers with scaling only"
    seen_in: ClassVar[tuple[str, ...]] = ("ollama #12348",)
    first_tap: ClassVar[str] = "layers.0.attn.q_rope"
    remedy: ClassVar[str] = "read the factor from the model's rope_parameters"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"factor": (2.0, 4.0, 8.0, 16.0)}
    ranges: ClassVar[dict[str, tuple[float, float]]] = {"factor": (1.01, 256.0)}

    factor: float = 4.0

    def parameters(self, right: Parameters, config: Any) -> Parameters | None:
        """The other factor, in linear scaling only."""
        return right | {"factor": self.factor} if right.get("rope_type") == "linear" else None
