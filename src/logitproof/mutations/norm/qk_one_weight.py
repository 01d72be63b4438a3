"""Q and K are normalized with one weight."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations import Mutation
from logitproof.mutations.norm._norms import HEADS, norms
from logitproof.reference import parts
from logitproof.reference.patches import tensors_replaced


@dataclass
class QkOneWeight(Mutation):
    """Q and K are normalized with the weight of one of them."""

    bug: ClassVar[str] = "one of the weights of the QK-norm is used for both"
    shows: ClassVar[str] = "position 0 of attention exact, wrong from position 1 on"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.attn.k"
    remedy: ClassVar[str] = "load q_norm for Q and k_norm for K"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"of": ("q", "k")}

    of: str = "q"

    def applies(self, config: Any) -> bool:
        """Models that normalize the heads of Q and K with weights of one size."""
        found = norms(parts.skeleton(config), HEADS)
        return bool(found) and len({one.weight.shape for one in found}) == 1

    def applied_to(self, model: Any) -> AbstractContextManager[None]:
        """Give both norms of every layer the one weight."""
        found = norms(model, HEADS)
        pairs = zip(found[::2], found[1::2], strict=True)
        return tensors_replaced([(k.weight, q.weight) if self.of == "q" else (q.weight, k.weight) for q, k in pairs])
