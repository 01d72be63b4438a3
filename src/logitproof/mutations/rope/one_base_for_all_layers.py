"""Layers with a window of their own base rotate by the base and the scaling of the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations.rope._tables import Parameters, WrongParameters


@dataclass
class OneBaseForAllLayers(WrongParameters):
    """Layers with a window of their own base rotate by the base and the scaling of the others."""

    bug: ClassVar[str] = "layers with a sliding window rotate by the base and scaling of the layers that see everything"
    shows: ClassVar[str] = "position 0 exact, wrong from position 1 on; only the layers with a window are wrong"
    seen_in: ClassVar[tuple[str, ...]] = ("llama.cpp #14367",)
    first_tap: ClassVar[str] = "layers.0.attn.q_rope"
    remedy: ClassVar[str] = "take RoPE's parameters by the kind of the layer"

    def all_parameters(self, right: dict[str, Parameters], config: Any) -> dict[str, Parameters] | None:
        """The parameters of the layers that see everything, in every layer."""
        if "full_attention" not in right:
            return None
        return dict.fromkeys(right, right["full_attention"])
