"""All heads use the first head's decay."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations import Mutation
from logitproof.mutations.deltanet._rule import given, has_delta_net


@dataclass
class DecayUniform(Mutation):
    """Every head decays as the first one does."""

    bug: ClassVar[str] = "all heads use the first head's decay"
    shows: ClassVar[str] = "the first value head exact, position 0 exact"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.linear_attn.core"
    remedy: ClassVar[str] = "keep one decay for each value head"

    def applies(self, config: Any) -> bool:
        """Models with gated delta-net layers."""
        return has_delta_net(config)

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Change what the rule of every gated delta-net layer gets."""
        return given(model, _change)


def _change(layer: Any, options: dict[str, Any]) -> dict[str, Any]:
    return {**options, "g": options["g"][..., :1].expand_as(options["g"]).contiguous()}
