"""The norm of the output is left out."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch.nn import functional

from logitproof.mutations import Mutation
from logitproof.mutations.deltanet._rule import has_delta_net
from logitproof.reference import parts
from logitproof.reference.patches import attributes_replaced


@dataclass
class NormMissing(Mutation):
    """The output is gated but not normalized."""

    bug: ClassVar[str] = "the norm of the output is left out"
    shows: ClassVar[str] = "wrong from position 0 on"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.linear_attn.norm"
    remedy: ClassVar[str] = "normalize each value head before the gate"

    def applies(self, config: Any) -> bool:
        """Models with gated delta-net layers."""
        return has_delta_net(config)

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Plant the bug in every layer of `model`."""
        norms = [one.norm for one in parts.delta_nets(model)]
        return attributes_replaced([(norm, "forward", functools.partial(_forward, norm)) for norm in norms])


def _forward(norm: Any, x: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
    return (norm.weight * x.float() * functional.silu(gate.float())).to(x.dtype)
