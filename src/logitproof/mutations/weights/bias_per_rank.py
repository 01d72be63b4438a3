"""A bias is added once per rank."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations import Mutation
from logitproof.reference import parts
from logitproof.reference.patches import tensors_replaced


@dataclass
class BiasPerRank(Mutation):
    """Every rank adds the bias of a row-parallel projection before the sum over ranks."""

    bug: ClassVar[str] = "a bias is added once per rank"
    shows: ClassVar[str] = "the same error added at every position"
    seen_in: ClassVar[tuple[str, ...]] = ("TGI #1036",)
    first_tap: ClassVar[str] = "layers.0.attn.out"
    remedy: ClassVar[str] = "add the bias on one rank only"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"ranks": (2, 4, 8)}

    ranks: int = 2

    def applies(self, config: Any) -> bool:
        """Models with a bias on a row-parallel projection."""
        return bool(self._found(parts.skeleton(config)))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Plant the bug in every layer of `model`."""
        return tensors_replaced([(bias, bias.data * self.ranks) for bias in self._found(model)])

    def _found(self, model: Any) -> list[torch.Tensor]:
        found = parts.projections(model, "o_proj") + parts.projections(model, "down_proj")
        return [one.bias for one in found if one.bias is not None]
