"""Scores are multiplied by a wrong scale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.attention._interface import Out, WrongAttention


@dataclass
class ScaleFactor(WrongAttention):
    """Scores are multiplied by a wrong scale."""

    bug: ClassVar[str] = "the scale of attention scores is not the model's"
    shows: ClassVar[str] = "position 0 exact, wrong from position 1 on"
    seen_in: ClassVar[tuple[str, ...]] = ("ferrox #40",)
    first_tap: ClassVar[str] = "layers.0.attn.scores"
    remedy: ClassVar[str] = "multiply scores by 1/sqrt(head size), or by what the config says, once"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"factor": (0.5, 2.0, 0.25)}
    ranges: ClassVar[dict[str, tuple[float, float]]] = {"factor": (0.02, 50.0)}

    factor: float = 2.0

    def attend(
        self, right: Callable[..., Out], module: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any, **rest: Any
    ) -> Out:
        """Scaled by the factor more."""
        return right(module, q, k, v, mask, **{**rest, "scaling": rest["scaling"] * self.factor})
