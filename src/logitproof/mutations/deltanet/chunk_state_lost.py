"""The recurrent state is lost between chunks of a prefill."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations import Mutation
from logitproof.mutations.deltanet._rule import given, has_delta_net
from logitproof.reference.patches import CHUNKED


@dataclass
class ChunkStateLost(Mutation):
    """Each chunk of a prefill begins with an empty state."""

    bug: ClassVar[str] = "the recurrent state is lost between chunks of a prefill"
    shows: ClassVar[str] = "exact in the first chunk, wrong from the second on"
    seen_in: ClassVar[tuple[str, ...]] = ("realizar #94", "sglang #38319")
    first_tap: ClassVar[str] = "layers.0.linear_attn.out"
    remedy: ClassVar[str] = "carry the state from chunk to chunk"
    needs: ClassVar[str] = "chunked prefill"

    def applies(self, config: Any) -> bool:
        """Models with gated delta-net layers."""
        return has_delta_net(config)

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Change what the rule of every gated delta-net layer gets."""
        return given(model, _change, (CHUNKED,))


def _change(layer: Any, options: dict[str, Any]) -> dict[str, Any]:
    return {**options, "initial_state": None}
