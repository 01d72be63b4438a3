"""The biases of linear modules are dropped."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations import Mutation
from logitproof.reference import parts
from logitproof.reference.patches import tensors_replaced


@dataclass
class BiasDropped(Mutation):
    """Biases of linear modules are not loaded."""

    bug: ClassVar[str] = "the biases of linear modules are dropped"
    shows: ClassVar[str] = "large from the first layer on, every position, from the first layer on"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.attn.q_proj"
    remedy: ClassVar[str] = "load every bias of the checkpoint; refuse unused tensors"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"projection": ("", "q_proj", "k_proj", "v_proj", "o_proj", "down_proj")}

    projection: str = ""

    def applies(self, config: Any) -> bool:
        """Whether a model of this config has the part that the bug is in."""
        return bool(self._found(parts.skeleton(config)))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Set the biases of one projection, or of all, to zero."""
        return tensors_replaced([(bias, torch.zeros_like(bias)) for bias in self._found(model)])

    def _found(self, model: Any) -> list[torch.Tensor]:
        named = [(name.rpartition(".")[2], one) for name, one in parts.linears(model)]
        return [one.bias for leaf, one in named if one.bias is not None and self.projection in ("", leaf)]
