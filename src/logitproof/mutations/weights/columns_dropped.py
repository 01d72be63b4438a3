"""The last columns of a matrix are not multiplied."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations import Mutation
from logitproof.reference import parts
from logitproof.reference.patches import tensors_replaced


@dataclass
class ColumnsDropped(Mutation):
    """The kernel's loop over a row ends before the row does, at a whole number of blocks."""

    bug: ClassVar[str] = "the last columns of a matrix are not multiplied"
    shows: ClassVar[str] = "wrong every position, from the first layer on, by a few percent"
    seen_in: ClassVar[tuple[str, ...]] = ("xinfer #467",)
    first_tap: ClassVar[str] = "layers.0.mlp.out"
    remedy: ClassVar[str] = "run the kernel over the whole row, also the tail that fills no block"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"columns": (16, 32, 64)}

    projection: str = "down_proj"
    columns: int = 16

    def applies(self, config: Any) -> bool:
        """Whether a model of this config has the part that the bug is in."""
        return any(one.in_features > self.columns for one in parts.projections(parts.skeleton(config), self.projection))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Plant the bug in every layer of `model`."""
        found = [one.weight for one in parts.projections(model, self.projection)]
        return tensors_replaced([(one, self._cut(one.data)) for one in found])

    def _cut(self, weight: torch.Tensor) -> torch.Tensor:
        kept = weight.clone()
        kept[:, -self.columns :] = 0
        return kept
