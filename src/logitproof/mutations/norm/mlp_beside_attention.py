"""The MLP reads what attention reads."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations import Mutation
from logitproof.mutations.norm._norms import normalized
from logitproof.reference import parts
from logitproof.reference.parts import roles
from logitproof.reference.patches import attributes_replaced


@dataclass
class MlpBesideAttention(Mutation):
    """The norm before the MLP reads the layer's input, not the sum after attention."""

    bug: ClassVar[str] = "attention and MLP stand side by side where the MLP must come after attention"
    shows: ClassVar[str] = "attention of the first layer exact, wrong from its MLP on, at every position"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.ffn_norm"
    remedy: ClassVar[str] = "add attention to the residual stream before the MLP's norm reads it"

    def applies(self, config: Any) -> bool:
        """Layers that have a norm before attention and one before the MLP."""
        return all({"before_attention", "before_mlp"} <= set(roles(layer)) for layer in parts.layers(parts.skeleton(config)))

    def applied_to(self, model: Any) -> AbstractContextManager[None]:
        """Hand what the first norm reads to the second."""
        return attributes_replaced([one for layer in parts.layers(model) for one in _side_by_side(roles(layer))])


def _side_by_side(norms: Mapping[str, Any]) -> list[tuple[Any, str, Any]]:
    kept: list[torch.Tensor] = []

    def first(x: torch.Tensor) -> torch.Tensor:
        kept[:] = [x]
        return normalized(norms["before_attention"], x)

    def second(x: torch.Tensor) -> torch.Tensor:
        return normalized(norms["before_mlp"], kept[0])

    return [(norms["before_attention"], "forward", first), (norms["before_mlp"], "forward", second)]
