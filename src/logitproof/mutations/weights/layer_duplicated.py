"""A layer has the weights of an earlier layer."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations import Mutation
from logitproof.reference import parts
from logitproof.reference.patches import tensors_replaced


@dataclass
class LayerDuplicated(Mutation):
    """A layer is loaded with the weights of an earlier one, as when a shard is read twice."""

    bug: ClassVar[str] = "a layer has the weights of an earlier layer"
    shows: ClassVar[str] = "exact before the layer, wrong from there on"
    seen_in: ClassVar[tuple[str, ...]] = ("vllm-gguf-plugin #103",)
    first_tap: ClassVar[str] = "layers.1.attn_norm"
    remedy: ClassVar[str] = "read every shard once and check every tensor's name"

    def applies(self, config: Any) -> bool:
        """Models with two layers of the same shapes."""
        return _twins(parts.skeleton(config)) is not None

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Give the second of two like layers the weights of the first."""
        twins = _twins(model)
        if twins is None:
            return nullcontext()
        first, second = twins
        pairs = zip(second.parameters(), first.parameters(), strict=True)
        return tensors_replaced([(mine, other.data) for mine, other in pairs])


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
