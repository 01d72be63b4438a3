"""The L2 norm of Q is left out."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from torch.nn import functional

from logitproof.mutations import Mutation
from logitproof.mutations.deltanet._rule import given, has_delta_net


@dataclass
class QL2normMissing(Mutation):
    """Q is not divided by its length."""

    bug: ClassVar[str] = "the L2 norm of Q is left out"
    shows: ClassVar[str] = "slight: the norm that follows undoes any factor but its eps"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.linear_attn.core"
    remedy: ClassVar[str] = "normalize Q and K"

    def applies(self, config: Any) -> bool:
        """Models with gated delta-net layers."""
        return has_delta_net(config)

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Change what the rule of every gated delta-net layer gets."""
        return given(model, _change)


def _change(layer: Any, options: dict[str, Any]) -> dict[str, Any]:
    query, key = options["query"].float(), functional.normalize(options["key"].float(), dim=-1)
    made = {"query": query, "key": key, "value": options["value"].float()}
    return {**options, **made, "use_qk_l2norm_in_kernel": False}
