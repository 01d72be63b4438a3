"""Angles (position x frequency) are computed in bfloat16."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations import Mutation
from logitproof.mutations._precision import rounded
from logitproof.mutations.rope._function import rotary_class, rotary_embedding
from logitproof.mutations.rope._tables import RECOMPUTED, angles_replaced, by_kind


@dataclass
class Angles(Mutation):
    """Angles (position x frequency) are computed in bfloat16."""

    bug: ClassVar[str] = "RoPE's angles are rounded to bfloat16 before their cosine and sine"
    shows: ClassVar[str] = (
        "position 0 exact, wrong from position 1 on, growing with position: beyond 256 neighbours share an angle"
    )
    seen_in: ClassVar[tuple[str, ...]] = ("NxDI guide", "Automodel pitfalls 5")
    first_tap: ClassVar[str] = "layers.0.attn.q_rope"
    remedy: ClassVar[str] = "compute positions, angles, cosine and sine in float32 and cast the result"

    def applies(self, config: Any) -> bool:
        """Models that compute their frequencies once."""
        kinds = {one.get("rope_type") for one in by_kind(config).values()}
        return rotary_class(config) is not None and not kinds & set(RECOMPUTED)

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Round the angles."""
        return angles_replaced(rotary_embedding(model), rounded)
