"""Sparse gates (Gemma 3n): a gate counts by how far it is above a quantile of the normal distribution of all."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch

from logitproof.mutations import Mutation, Record
from logitproof.reference import parts
from logitproof.reference.patches import attributes_replaced


class _WrongSparsity(Mutation):
    """A bug of gates that are made sparse: subclasses say in `cut` what becomes of gates [.., F]."""

    def applies(self, config: Any) -> bool:
        """Models with sparse gates."""
        return bool(_sparse(parts.skeleton(config)))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        changes = [(block, "_gaussian_topk", self._of(block._gaussian_topk)) for block in _sparse(model)]
        return attributes_replaced(changes)

    def _of(self, right: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda gates: self.cut(gates, right(gates))

    def cut(self, gates: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """Wrong gates for the right ones."""
        raise NotImplementedError


class SparsitySkipped(_WrongSparsity, id="mlp.sparsity_skipped"):
    """Gates stay as they are in every layer."""

    record = Record(
        shows="wrong from position 0 on, from the first sparse layer on",
        first_tap="layers.0.mlp.activation",
        remedy="subtract the border from the gates and take nothing below it, where activation_sparsity_pattern is above 0",
    )

    def cut(self, gates: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return gates


class BorderNotSubtracted(_WrongSparsity, id="mlp.sparsity_masks_alone"):
    """Gates above the border keep their value, those below it are zero."""

    record = Record(
        shows="wrong from position 0 on, from the first sparse layer on",
        first_tap="layers.0.mlp.activation",
        remedy="a gate counts by how far it is above the border",
    )

    def cut(self, gates: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return torch.where(right > 0, gates, torch.zeros_like(gates))


class DeviationOfSample(_WrongSparsity, id="mlp.sparsity_of_sample"):
    """The deviation is that of a sample: the sum of squares is divided by one less than there are gates."""

    record = Record(
        shows="slight, from the first sparse layer on",
        first_tap="layers.0.mlp.activation",
        remedy="divide the sum of squares by the number of gates",
    )

    def cut(self, gates: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        top = gates.argmax(-1, keepdim=True)
        mean, deviation = gates.mean(-1, keepdim=True), gates.std(-1, keepdim=True, unbiased=False)
        border = gates.gather(-1, top) - right.gather(-1, top)
        wider = mean + (border - mean) * gates.std(-1, keepdim=True) / deviation
        return torch.where(right.gather(-1, top) > 0, (gates - wider).relu(), right)


def _sparse(model: Any) -> list[Any]:
    blocks = [layer.mlp for layer in parts.layers(model) if hasattr(layer, "mlp")]
    return [block for block in blocks if getattr(block, "activation_sparsity", 0.0) > 0.0]
