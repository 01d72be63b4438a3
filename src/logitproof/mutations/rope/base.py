"""RoPE's base (theta) is another one than the model's, in every layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations.rope._tables import Parameters, WrongParameters


@dataclass
class Base(WrongParameters):
    """RoPE's base (theta) is another one than the model's, in every layer."""

    bug: ClassVar[str] = "RoPE turns by the frequencies of another base (theta) than the model's"
    shows: ClassVar[str] = (
        "position 0 exact, wrong from position 1 on, growing smoothly with position; the slow dimensions of Q and K "
        "are wrong most"
    )
    seen_in: ClassVar[tuple[str, ...]] = ("litgpt #2217", "ANEForge #206", "Modular #8")
    first_tap: ClassVar[str] = "layers.0.attn.q_rope"
    remedy: ClassVar[str] = (
        "read rope_theta from rope_parameters as well as from the top of the config, and refuse a config that has neither"
    )
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"base": (1e4, 1e5, 5e5, 1e6, 1e7)}
    ranges: ClassVar[dict[str, tuple[float, float]]] = {"base": (1e3, 1e8)}

    base: float = 1e4

    def parameters(self, right: Parameters, config: Any) -> Parameters | None:
        """The other base."""
        return right | {"rope_theta": self.base}
