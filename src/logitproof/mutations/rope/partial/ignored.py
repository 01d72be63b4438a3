"""All dimensions of a head are rotated where the model rotates only the first of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations.rope._tables import Parameters, WrongParameters


@dataclass
class Ignored(WrongParameters):
    """All dimensions of a head are rotated where the model rotates only the first of them."""

    bug: ClassVar[str] = "partial_rotary_factor is ignored: every dimension of a head is rotated"
    shows: ClassVar[str] = (
        "position 0 exact, wrong from position 1 on; small on short prompts, the dimensions beyond the rotated ones"
    )
    seen_in: ClassVar[tuple[str, ...]] = ("MaxText 942563445", "llama.cpp #12957")
    first_tap: ClassVar[str] = "layers.0.attn.q_rope"
    remedy: ClassVar[str] = "rotate head size x partial_rotary_factor dimensions and pass the others through"

    def parameters(self, right: Parameters, config: Any) -> Parameters | None:
        """All dimensions."""
        return right | {"partial_rotary_factor": 1.0} if right.get("rope_type") == "default" else None
