"""The recurrent state is stored in low precision."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations import Mutation
from logitproof.mutations.deltanet._rule import given, has_delta_net
from logitproof.reference.patches import RECURRENT


@dataclass
class StateLowPrecision(Mutation):
    """The state is kept in bfloat16 between tokens."""

    bug: ClassVar[str] = "the recurrent state is stored in low precision"
    shows: ClassVar[str] = "prefill exact, decode drifts with position"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.linear_attn.out"
    remedy: ClassVar[str] = "keep the state in float32"
    needs: ClassVar[str] = "decode"

    def applies(self, config: Any) -> bool:
        """Models with gated delta-net layers."""
        return has_delta_net(config)

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Change what the rule of every gated delta-net layer gets."""
        return given(model, _change, (RECURRENT,))


def _change(layer: Any, options: dict[str, Any]) -> dict[str, Any]:
    state = options["initial_state"]
    return {**options, "initial_state": None if state is None else state.bfloat16().float()}
