"""The recurrent state is not carried from token to token."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations import Mutation
from logitproof.mutations.deltanet._rule import given, has_delta_net
from logitproof.reference.patches import RECURRENT


@dataclass
class StateReset(Mutation):
    """Every token begins with an empty state."""

    bug: ClassVar[str] = "the recurrent state is not carried from token to token"
    shows: ClassVar[str] = "prefill exact, decode wrong from position 1 on"
    seen_in: ClassVar[tuple[str, ...]] = ("vLLM #34587", "transformers #46190")
    first_tap: ClassVar[str] = "layers.0.linear_attn.out"
    remedy: ClassVar[str] = "keep the state in the cache"
    needs: ClassVar[str] = "decode"

    def applies(self, config: Any) -> bool:
        """Models with gated delta-net layers."""
        return has_delta_net(config)

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Change what the rule of every gated delta-net layer gets."""
        return given(model, _change, (RECURRENT,))


def _change(layer: Any, options: dict[str, Any]) -> dict[str, Any]:
    return {**options, "initial_state": None}
