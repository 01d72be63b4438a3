"""The cached state is transposed."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations import Mutation
from logitproof.mutations.deltanet._rule import given, has_delta_net
from logitproof.reference.patches import RECURRENT


@dataclass
class StateTransposed(Mutation):
    """The state is stored with keys first and read with values first."""

    bug: ClassVar[str] = "the cached state is transposed"
    shows: ClassVar[str] = "prefill exact, decode wrong from position 1 on"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.linear_attn.out"
    remedy: ClassVar[str] = "store and read the state in one layout"
    needs: ClassVar[str] = "decode"

    def applies(self, config: Any) -> bool:
        """Models whose state is square."""
        return has_delta_net(config) and config.linear_key_head_dim == config.linear_value_head_dim

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Change what the rule of every gated delta-net layer gets."""
        return given(model, _change, (RECURRENT,))


def _change(layer: Any, options: dict[str, Any]) -> dict[str, Any]:
    state = options["initial_state"]
    return {**options, "initial_state": None if state is None else state.transpose(-1, -2).contiguous()}
