"""The weights of the two QK-norms are exchanged."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations import Mutation
from logitproof.mutations.norm._norms import HEADS, norms
from logitproof.reference import parts
from logitproof.reference.patches import tensors_replaced


@dataclass
class QkSwapped(Mutation):
    """The weights of the two QK-norms are exchanged."""

    bug: ClassVar[str] = "Q is normalized with the weight of K and K with that of Q"
    shows: ClassVar[str] = "position 0 of attention exact, wrong from position 1 on"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.attn.q"
    remedy: ClassVar[str] = "load q_norm for Q and k_norm for K"

    def applies(self, config: Any) -> bool:
        """Models that normalize the heads of Q and K with weights of one size."""
        found = norms(parts.skeleton(config), HEADS)
        return bool(found) and len({one.weight.shape for one in found}) == 1

    def applied_to(self, model: Any) -> AbstractContextManager[None]:
        """Exchange the two weights of every layer."""
        found = norms(model, HEADS)
        pairs = zip(found[::2], found[1::2], strict=True)
        return tensors_replaced(
            [change for q, k in pairs for change in ((q.weight, k.weight.clone()), (k.weight, q.weight.clone()))]
        )
