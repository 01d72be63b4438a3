"""QK-norm is applied to rotated heads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.attention._interface import Out, WrongAttention
from logitproof.mutations.norm._norms import HEADS, forward_replaced, normalized, norms
from logitproof.reference import parts


@dataclass
class QkAfterRope(WrongAttention):
    """QK-norm is applied to rotated heads."""

    bug: ClassVar[str] = "QK-norm is applied after RoPE, where the model has it before"
    shows: ClassVar[str] = "position 0 exact, small from position 1 on: only the weight does not commute with the rotation"
    seen_in: ClassVar[tuple[str, ...]] = ("vllm-metal #660",)
    first_tap: ClassVar[str] = "layers.0.attn.q"
    remedy: ClassVar[str] = "normalize the heads of Q and K before they are rotated, unless the family does it after"

    def applies(self, config: Any) -> bool:
        """Models that normalize each head before RoPE."""
        model = parts.skeleton(config)
        found, size = norms(model, HEADS), getattr(config, "head_dim", None)
        return bool(found) and all(len(one.weight) == size for one in found) and super().applies(config)

    @contextmanager
    def applied_to(self, model: Any) -> Iterator[None]:
        """Pass Q and K on as they are, and normalize what comes to attention."""
        with forward_replaced(norms(model, HEADS), lambda _, x: x), super().applied_to(model):
            yield

    def attend(
        self, right: Callable[..., Out], module: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any, **rest: Any
    ) -> Out:
        """Rotated heads, normalized."""
        return right(module, normalized(module.q_norm, q), normalized(module.k_norm, k), v, mask, **rest)
