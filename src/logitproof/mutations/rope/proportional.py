"""Proportional rotary positions: a part of each head turns, by frequencies that are counted over all of it (Gemma 4)."""

from __future__ import annotations

from logitproof.mutations import Record
from logitproof.mutations.rope._tables import Parameters, WrongScaling


class _WrongProportion(WrongScaling):
    """Frequencies of layers with proportional rotation."""

    scaling = "proportional"


class AllRotated(_WrongProportion, id="rope.proportional_all_rotated"):
    """All of each head turns where a part of it should."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on in the layers without a window",
        first_tap="layers.0.attn.q_rope",
        remedy="read partial_rotary_factor of the layers without a window",
        seen_in=("nexusquant #12",),
    )

    def scaled(self, right: Parameters, config: object) -> Parameters:
        return {"partial_rotary_factor": 1.0}
