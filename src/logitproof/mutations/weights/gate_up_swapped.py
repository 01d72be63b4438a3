"""Gate and up are exchanged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations import Mutation
from logitproof.reference import parts
from logitproof.reference.patches import tensors_replaced


@dataclass
class GateUpSwapped(Mutation):
    """Gate and up of the dense MLP are exchanged."""

    bug: ClassVar[str] = "gate and up are exchanged"
    shows: ClassVar[str] = "the MLP's output wrong, every position, from the first layer on"
    seen_in: ClassVar[tuple[str, ...]] = ("quack #133",)
    first_tap: ClassVar[str] = "layers.0.mlp.gate"
    exchanges: ClassVar[tuple[str, str]] = ("mlp.gate", "mlp.up")
    remedy: ClassVar[str] = "load gate_proj as the activated one; fused tensors hold gate first"

    def applies(self, config: Any) -> bool:
        """Whether a model of this config has the part that the bug is in."""
        return any(True for _ in _swapped(parts.skeleton(config)))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Plant the bug in every layer of `model`."""
        return tensors_replaced(list(_swapped(model)))


def _swapped(model: Any) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for mlp in parts.gated_mlps(model):
        if "gate_proj" in mlp._modules:
            yield mlp.gate_proj.weight, mlp.up_proj.weight.data
            yield mlp.up_proj.weight, mlp.gate_proj.weight.data
        elif "gate_up_proj" in mlp._modules:
            yield mlp.gate_up_proj.weight, torch.cat(mlp.gate_up_proj.weight.data.chunk(2)[::-1])
