"""Linear scaling that belongs to the global layers is applied to those with a window too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations.rope._tables import Parameters, WrongParameters


@dataclass
class LinearOnAllLayers(WrongParameters):
    """Linear scaling that belongs to the global layers is applied to those with a window too."""

    bug: ClassVar[str] = "linear RoPE scaling of the global layers is applied to the layers with a window too"
    shows: ClassVar[str] = "position 0 exact, wrong from position 1 on, growing with position; the layers with a window"
    seen_in: ClassVar[tuple[str, ...]] = ("ferrox #39", "ollama #13452", "llama.cpp #14367")
    first_tap: ClassVar[str] = "layers.0.attn.q_rope"
    remedy: ClassVar[str] = "keep the scaling, like the base, by the kind of the layer"

    def all_parameters(self, right: dict[str, Parameters], config: Any) -> dict[str, Parameters] | None:
        """The scaling of one kind of layer, in the unscaled kinds too."""
        factors = [one["factor"] for one in right.values() if one.get("rope_type") == "linear"]
        if not factors:
            return None
        scaled = {"rope_type": "linear", "factor": factors[0]}
        return {kind: one | scaled if one.get("rope_type") == "default" else one for kind, one in right.items()}
