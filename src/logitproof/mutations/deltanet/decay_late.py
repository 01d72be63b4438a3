"""The decay is taken from the previous token."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations import Mutation
from logitproof.mutations.deltanet._rule import given, has_delta_net


@dataclass
class DecayLate(Mutation):
    """The decay of the token before is used."""

    bug: ClassVar[str] = "the decay is taken from the previous token"
    shows: ClassVar[str] = "position 0 exact"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.linear_attn.core"
    remedy: ClassVar[str] = "decay the state with the gate of the token that is added"

    def applies(self, config: Any) -> bool:
        """Models with gated delta-net layers."""
        return has_delta_net(config)

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Change what the rule of every gated delta-net layer gets."""
        return given(model, _change)


def _change(layer: Any, options: dict[str, Any]) -> dict[str, Any]:
    g = options["g"]
    return {**options, "g": torch.cat((g[:, :1], g[:, :-1]), dim=1)}
