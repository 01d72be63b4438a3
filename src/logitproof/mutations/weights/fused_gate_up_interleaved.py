"""The fused gate_up tensor is split by alternating rows instead of halves, or the reverse."""

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
class FusedGateUpInterleaved(Mutation):
    """A fused gate and up tensor that is split in the wrong way.

    Concatenated rows are read as alternating ones, or alternating ones (GPT-OSS) as concatenated.
    """

    bug: ClassVar[str] = "the fused gate_up tensor is split by alternating rows instead of halves, or the reverse"
    shows: ClassVar[str] = "the MLP's output gibberish, every position, from the first layer on"
    seen_in: ClassVar[tuple[str, ...]] = ("quack #133",)
    first_tap: ClassVar[str] = "layers.0.moe.out"
    remedy: ClassVar[str] = "split gate_up_proj as the family stores it"

    def applies(self, config: Any) -> bool:
        """Whether a model of this config has the part that the bug is in."""
        return any(True for _ in _fused(parts.skeleton(config)))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Plant the bug in every layer of `model`."""
        return tensors_replaced(list(_fused(model)))


def _fused(model: Any) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for mlp in model.modules():
        if "gate_up_proj" in mlp._modules:
            yield mlp.gate_up_proj.weight, _concatenated(mlp.gate_up_proj.weight.data, 0)
    for mlp in parts.experts(model):
        if parts.activation_name(mlp):
            yield mlp.gate_up_proj, _concatenated(mlp.gate_up_proj.data, 1)
        else:
            halves = mlp.gate_up_proj.data.chunk(2, dim=-1)
            yield mlp.gate_up_proj, torch.stack(halves, dim=-1).flatten(-2)
            bias = mlp.gate_up_proj_bias.data.chunk(2, dim=-1)
            yield mlp.gate_up_proj_bias, torch.stack(bias, dim=-1).flatten(-2)


def _concatenated(rows: torch.Tensor, axis: int) -> torch.Tensor:
    """What a reader of alternating rows takes for gate, then what it takes for up."""
    order = torch.arange(rows.shape[axis], device=rows.device)
    return rows.index_select(axis, torch.cat((order[0::2], order[1::2])))
