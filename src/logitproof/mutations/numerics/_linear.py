"""Changes how every linear layer of the decoder multiplies."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from logitproof.mutations import Mutation
from logitproof.reference import parts
from logitproof.reference.patches import attributes_replaced


class WrongProduct(Mutation):
    """A bug in the arithmetic of linear layers: subclasses say in `product` what x times a matrix is."""

    def applies(self, config: Any) -> bool:
        """Every decoder with linear layers."""
        return bool(parts.linears(parts.skeleton(config)))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Multiply wrongly in every linear layer of the decoder; fused experts and the head are left alone."""
        return attributes_replaced(
            [(linear, "forward", functools.partial(self._forward, linear)) for _, linear in parts.linears(model)]
        )

    def product(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """x [..., K] times the transposed weight [N, K]."""
        raise NotImplementedError

    def _forward(self, linear: nn.Linear, x: torch.Tensor) -> torch.Tensor:
        out = self.product(x.float(), linear.weight.float()).to(x.dtype)
        return out if linear.bias is None else out + linear.bias


def in_blocks(x: torch.Tensor, size: int) -> torch.Tensor:
    """x [..., K] as [..., K / size, size], padded with zeros."""
    short = -x.shape[-1] % size
    return nn.functional.pad(x, (0, short)).unflatten(-1, (-1, size))
