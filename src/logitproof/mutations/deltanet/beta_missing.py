"""Beta is left out."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations import Mutation
from logitproof.mutations.deltanet._rule import given, has_delta_net


@dataclass
class BetaMissing(Mutation):
    """Every token is written in full."""

    bug: ClassVar[str] = "beta is left out"
    shows: ClassVar[str] = "wrong from position 0 on"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.linear_attn.core"
    remedy: ClassVar[str] = "multiply each update by sigmoid(b)"

    def applies(self, config: Any) -> bool:
        """Models with gated delta-net layers."""
        return has_delta_net(config)

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Change what the rule of every gated delta-net layer gets."""
        return given(model, _change)


def _change(layer: Any, options: dict[str, Any]) -> dict[str, Any]:
    return {**options, "beta": torch.ones_like(options["beta"])}
