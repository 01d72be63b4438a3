"""Layers with a window rotate by the global base and the others by the local one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations.rope._tables import Parameters, WrongParameters


@dataclass
class LocalGlobalSwapped(WrongParameters):
    """Layers with a window rotate by the global base and the others by the local one."""

    bug: ClassVar[str] = "the RoPE parameters of local and global layers are swapped"
    shows: ClassVar[str] = "position 0 exact, wrong from position 1 on, in the pattern of the layer kinds"
    seen_in: ClassVar[tuple[str, ...]] = ("atlas #276",)
    first_tap: ClassVar[str] = "layers.0.attn.q_rope"
    remedy: ClassVar[str] = "take RoPE's parameters by the kind of the layer, not by the order in the config"

    def all_parameters(self, right: dict[str, Parameters], config: Any) -> dict[str, Parameters] | None:
        """Each kind of layer has the other's parameters."""
        if set(right) != {"full_attention", "sliding_attention"}:
            return None
        return {"full_attention": right["sliding_attention"], "sliding_attention": right["full_attention"]}
