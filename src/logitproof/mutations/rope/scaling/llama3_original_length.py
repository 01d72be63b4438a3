"""The original length of llama3 scaling is another one than the model's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations.rope._tables import Parameters, WrongParameters


@dataclass
class Llama3OriginalLength(WrongParameters):
    """The original length of llama3 scaling is another one than the model's."""

    bug: ClassVar[str] = "RoPE's llama3 scaling uses another original length than the model's"
    shows: ClassVar[str] = "position 0 exact, wrong from position 1 on, growing with position; only the slow dimensions"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.attn.q_rope"
    remedy: ClassVar[str] = "read original_max_position_embeddings from the model's rope_parameters"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"original_length": (256, 2048, 4096, 8192, 32768, 131072)}

    original_length: int = 2048

    def parameters(self, right: Parameters, config: Any) -> Parameters | None:
        """The other value, in llama3 scaling only."""
        if right.get("rope_type") != "llama3":
            return None
        return right | {"original_max_position_embeddings": self.original_length}
