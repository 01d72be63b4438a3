"""The bias of the MLP's down projection is dropped."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations import Mutation
from logitproof.reference import parts
from logitproof.reference.patches import tensors_replaced


@dataclass
class DownBiasDropped(Mutation):
    """The bias of the down projection is not loaded."""

    bug: ClassVar[str] = "the bias of the MLP's down projection is dropped"
    shows: ClassVar[str] = "the same error added at every position, from the first MLP on"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.mlp.out"
    remedy: ClassVar[str] = "load the bias of down_proj where the checkpoint has one"

    def applies(self, config: Any) -> bool:
        """Whether a model of this config has the part that the bug is in."""
        return bool(_biases(parts.skeleton(config)))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Plant the bug in every layer of `model`."""
        return tensors_replaced([(bias, torch.zeros_like(bias)) for bias in _biases(model)])


def _biases(model: Any) -> list[torch.Tensor]:
    found = parts.parameters(model, "down_proj.bias") + parts.parameters(model, "experts.down_proj_bias")
    return [bias for _, bias in found]
