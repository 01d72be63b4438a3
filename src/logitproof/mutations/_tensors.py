"""Tensors of a model that hold wrong values, as a loader or a converter leaves them."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch

from logitproof.mutations import Mutation
from logitproof.reference import parts
from logitproof.reference.patches import tensors_replaced, tensors_spoilt

Change = tuple[torch.Tensor, torch.Tensor]


class WrongTensors(Mutation):
    """Tensors with other values: subclasses give in `changes` each one and what it holds instead."""

    def applies(self, config: Any) -> bool:
        """Models with such tensors."""
        return any(True for _ in self.changes(parts.skeleton(config)))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Load the wrong values."""
        return tensors_replaced(list(self.changes(model)))

    def changes(self, model: Any) -> Iterable[Change]:
        """Each wrong tensor and its wrong values; of a skeleton the values have a shape only."""
        raise NotImplementedError


class SpoiltTensors(WrongTensors):
    """Tensors that are spoilt one by one: subclasses say in `affected` which, and in `spoilt` what becomes of one."""

    def applies(self, config: Any) -> bool:
        """Models with such tensors."""
        return bool(self.affected(parts.skeleton(config)))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Load the wrong values."""
        return tensors_spoilt(model, self.affected(model), self.spoilt)

    def changes(self, model: Any) -> Iterable[Change]:
        """Each of them and what becomes of it."""
        return [(tensor, self.spoilt(tensor.data)) for tensor in self.affected(model)]

    def affected(self, model: Any) -> list[torch.Tensor]:
        """The tensors that the bug is in."""
        raise NotImplementedError

    def spoilt(self, right: torch.Tensor) -> torch.Tensor:
        """The wrong values for the right ones."""
        raise NotImplementedError


class ZeroTensors(SpoiltTensors):
    """Tensors that are not loaded and are zero."""

    def spoilt(self, right: torch.Tensor) -> torch.Tensor:
        """Nothing."""
        return torch.zeros_like(right)
