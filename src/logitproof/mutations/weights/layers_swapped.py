"""Two layers are exchanged."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations import Mutation
from logitproof.reference import parts
from logitproof.reference.patches import tensors_replaced


@dataclass
class LayersSwapped(Mutation):
    """Two layers are loaded in each other's place, as when names are sorted as text."""

    bug: ClassVar[str] = "two layers are exchanged"
    shows: ClassVar[str] = "wrong from the first of the two on"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.attn_norm"
    remedy: ClassVar[str] = "sort layers by number, not by text"

    def applies(self, config: Any) -> bool:
        """Models with two layers of the same shapes."""
        return _twins(parts.skeleton(config)) is not None

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Exchange the weights of two like layers."""
        twins = _twins(model)
        if twins is None:
            return nullcontext()
        first, second = twins
        pairs = list(zip(first.parameters(), second.parameters(), strict=True))
        changes = [(mine, other.data) for mine, other in pairs] + [(other, mine.data) for mine, other in pairs]
        return tensors_replaced(changes)


def _twins(model: Any) -> tuple[Any, Any] | None:
    """The first two layers of the same shapes."""
    found = parts.layers(model)
    for index, first in enumerate(found):
        for second in found[index + 1 :]:
            if _shapes(first) == _shapes(second):
                return first, second
    return None


def _shapes(layer: Any) -> dict[str, torch.Size]:
    return {name: one.shape for name, one in layer.named_parameters()}
