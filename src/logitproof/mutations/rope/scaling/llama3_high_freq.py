"""The high frequency factor of llama3 scaling is another one than the model's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations.rope._tables import Parameters, WrongParameters


@dataclass
class Llama3HighFreq(WrongParameters):
    """The high frequency factor of llama3 scaling is another one than the model's."""

    bug: ClassVar[str] = "RoPE's llama3 scaling uses another high frequency factor than the model's"
    shows: ClassVar[str] = "position 0 exact, wrong from position 1 on, growing with position; only the slow dimensions"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.attn.q_rope"
    remedy: ClassVar[str] = "read high_freq_factor from the model's rope_parameters"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"high_freq": (2.0, 8.0, 16.0)}
    ranges: ClassVar[dict[str, tuple[float, float]]] = {"high_freq": (1.1, 64.0)}

    high_freq: float = 2.0

    def parameters(self, right: Parameters, config: Any) -> Parameters | None:
        """The other value, in llama3 scaling only."""
        if right.get("rope_type") != "llama3":
            return None
        return right | {"high_freq_factor": self.high_freq}
