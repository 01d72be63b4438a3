"""The decay of the state is left out."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations import Mutation
from logitproof.mutations.deltanet._rule import given, has_delta_net


@dataclass
class DecayMissing(Mutation):
    """The state never decays."""

    bug: ClassVar[str] = "the decay of the state is left out"
    shows: ClassVar[str] = "position 0 exact, growing with position"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.linear_attn.core"
    remedy: ClassVar[str] = "multiply the state by exp(g) before each update"

    def applies(self, config: Any) -> bool:
        """Models with gated delta-net layers."""
        return has_delta_net(config)

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Change what the rule of every gated delta-net layer gets."""
        return given(model, _change)


def _change(layer: Any, options: dict[str, Any]) -> dict[str, Any]:
    return {**options, "g": torch.zeros_like(options["g"])}
