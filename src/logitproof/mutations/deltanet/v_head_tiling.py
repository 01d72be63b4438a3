"""Key heads are tiled over the value heads instead of repeated."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations import Mutation
from logitproof.mutations.deltanet._rule import given, has_delta_net


@dataclass
class VHeadTiling(Mutation):
    """Value head h uses key head h mod K instead of h·K/H."""

    bug: ClassVar[str] = "key heads are tiled over the value heads instead of repeated"
    shows: ClassVar[str] = "wrong from position 0 on; only where there are more value heads than key heads"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.linear_attn.core"
    remedy: ClassVar[str] = "repeat each key head for the value heads that follow each other"

    def applies(self, config: Any) -> bool:
        """Models with more value heads than key heads, and more than one of these."""
        return has_delta_net(config) and config.linear_num_value_heads > config.linear_num_key_heads > 1

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Change what the rule of every gated delta-net layer gets."""
        return given(model, _change)


def _change(layer: Any, options: dict[str, Any]) -> dict[str, Any]:
    times = layer.num_v_heads // layer.num_k_heads
    return {**options, "query": options["query"].repeat(1, 1, times, 1), "key": options["key"].repeat(1, 1, times, 1)}
