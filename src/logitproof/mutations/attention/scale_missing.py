"""Scores are not scaled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.attention._interface import Out, WrongAttention


@dataclass
class ScaleMissing(WrongAttention):
    """Scores are not divided by the root of the head size."""

    bug: ClassVar[str] = "the scale of attention scores is missing"
    shows: ClassVar[str] = "position 0 exact, far too sharp from position 1 on"
    seen_in: ClassVar[tuple[str, ...]] = ("kekzl/imp M04",)
    first_tap: ClassVar[str] = "layers.0.attn.scores"
    remedy: ClassVar[str] = "multiply scores by 1/sqrt(head size)"

    def attend(
        self, right: Callable[..., Out], module: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any, **rest: Any
    ) -> Out:
        """Scaled by one."""
        return right(module, q, k, v, mask, **{**rest, "scaling": 1.0})
