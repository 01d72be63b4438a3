"""The linear scaling of RoPE's frequencies is not applied."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations.rope._tables import Parameters, WrongParameters


@dataclass
class LinearMissing(WrongParameters):
    """The linear scaling of RoPE's frequencies is not applied."""

    bug: ClassVar[str] = "RoPE turns by unscaled frequencies where the model has linear scaling"
    shows: ClassVar[str] = (
        "position 0 exact, wrong from position 1 on, growing with position; only the layers with scaling (every sixth "
        "of Gemma 3)"
    )
    seen_in: ClassVar[tuple[str, ...]] = ("mlx-vlm #1709", "mlxcel #1340", "ollama #13452")
    first_tap: ClassVar[str] = "layers.0.attn.q_rope"
    remedy: ClassVar[str] = "divide the positions by the factor in the layers that have linear scaling"

    def parameters(self, right: Parameters, config: Any) -> Parameters | None:
        """Frequencies without scaling."""
        return right | {"rope_type": "default"} if right.get("rope_type") == "linear" else None
