"""Beta is doubled."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations import Mutation
from logitproof.mutations.deltanet._rule import given, has_delta_net


@dataclass
class BetaDoubled(Mutation):
    """2·sigmoid(b), as variants with negative eigenvalues have."""

    bug: ClassVar[str] = "beta is doubled"
    shows: ClassVar[str] = "wrong from position 1 on"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.linear_attn.core"
    remedy: ClassVar[str] = "double beta only where the family allows negative eigenvalues"

    def applies(self, config: Any) -> bool:
        """Models with gated delta-net layers."""
        return has_delta_net(config)

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Change what the rule of every gated delta-net layer gets."""
        return given(model, _change)


def _change(layer: Any, options: dict[str, Any]) -> dict[str, Any]:
    return {**options, "beta": 2 * options["beta"]}
