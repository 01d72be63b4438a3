"""QK-norm: the norms on the heads of Q and K."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch

from logitproof.mutations import Mutation, Record, swept
from logitproof.mutations._tensors import Change
from logitproof.mutations.attention._interface import Out, WrongAttention
from logitproof.mutations.norm._norms import (
    HEADS,
    MissingNorm,
    WrongFormula,
    divided,
    eps,
    forward_replaced,
    normalized,
    norms,
    scale,
)
from logitproof.reference import parts
from logitproof.reference.patches import tensors_replaced


class _WrongWeights(Mutation):
    """A bug in the weights of both norms: subclasses say in `changed` what each of a layer's two is."""

    def applies(self, config: Any) -> bool:
        """Models that normalize the heads of Q and K with weights of one size."""
        head_norms = norms(parts.skeleton(config), HEADS)
        return bool(head_norms) and len({norm.weight.shape for norm in head_norms}) == 1

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Load the wrong weights in every layer."""
        head_norms = norms(model, HEADS)
        pairs = zip(head_norms[::2], head_norms[1::2], strict=True)
        return tensors_replaced([change for q, k in pairs for change in self.changed(q.weight, k.weight)])

    def changed(self, q: torch.Tensor, k: torch.Tensor) -> list[Change]:
        """The wrong weights [D] for the right ones."""
        raise NotImplementedError


class QkMissing(MissingNorm, id="norm.qk_missing"):
    """QK-norm is left out."""

    record = Record(
        shows="position 0 of attention exact, wrong from position 1 on",
        first_tap="layers.0.attn.q",
        remedy="normalize every head of Q and K before RoPE",
        seen_in=("vllm-metal #659",),
    )
    names = HEADS


class QMissing(MissingNorm, id="norm.q_missing"):
    """K is normalized and Q is not."""

    record = Record(
        shows="position 0 of attention exact, wrong from position 1 on",
        first_tap="layers.0.attn.q",
        remedy="normalize every head of Q and of K before RoPE",
        seen_in=("MegaVIT #17",),
    )
    names = ("q_norm",)


class KMissing(MissingNorm, id="norm.k_missing"):
    """Q is normalized and K is not."""

    record = Record(
        shows="position 0 of attention exact, wrong from position 1 on",
        first_tap="layers.0.attn.k",
        remedy="normalize every head of Q and of K before RoPE",
    )
    names = ("k_norm",)


class QkOneWeight(_WrongWeights, id="norm.qk_one_weight"):
    """One of the weights of the QK-norm is used for both."""

    record = Record(
        shows="position 0 of attention exact, wrong from position 1 on",
        first_tap="layers.0.attn.k",
        remedy="load q_norm for Q and k_norm for K",
    )
    of: str = swept("q", grid=("q", "k"))

    def changed(self, q: torch.Tensor, k: torch.Tensor) -> list[Change]:
        return [(k, q) if self.of == "q" else (q, k)]


class QkSwapped(_WrongWeights, id="norm.qk_swapped"):
    """Q is normalized with the weight of K and K with that of Q."""

    record = Record(
        shows="position 0 of attention exact, wrong from position 1 on",
        first_tap="layers.0.attn.q",
        remedy="load q_norm for Q and k_norm for K",
    )

    def changed(self, q: torch.Tensor, k: torch.Tensor) -> list[Change]:
        return [(q, k.clone()), (k, q.clone())]


class QkOverAllHeads(WrongFormula, id="norm.qk_over_all_heads"):
    """QK-norm is taken over the whole width of Q or K, not over each head."""

    record = Record(
        shows="position 0 of attention exact, moderate from position 1 on",
        first_tap="layers.0.attn.q",
        remedy="normalize each head by itself",
        seen_in=("vLLM #16311", "mlxcel #317"),
    )
    names = HEADS

    def affected(self, model: Any) -> list[Any]:
        """Norms whose weight is as wide as a head."""
        return [norm for norm in super().affected(model) if len(norm.weight) == getattr(model.config, "head_dim", None)]

    def formula(self, norm: Any, x: torch.Tensor) -> torch.Tensor:
        """x [B, T, H, D] divided by one number for all heads of a position."""
        return divided(x, eps(norm), (-1, -2)) * scale(norm)


class QkAfterRope(WrongAttention, id="norm.qk_after_rope"):
    """QK-norm is applied after RoPE, where the model has it before."""

    record = Record(
        shows="position 0 exact, small from position 1 on: only the weight does not commute with the rotation",
        first_tap="layers.0.attn.q",
        remedy="normalize the heads of Q and K before they are rotated, unless the family does it after",
        seen_in=("vllm-metal #660",),
    )

    def applies(self, config: Any) -> bool:
        """Models that normalize each head before RoPE."""
        model = parts.skeleton(config)
        head_norms, size = norms(model, HEADS), getattr(config, "head_dim", None)
        return bool(head_norms) and all(len(norm.weight) == size for norm in head_norms) and super().applies(config)

    @contextmanager
    def applied_to(self, model: Any) -> Iterator[None]:
        """Pass Q and K on as they are, and normalize what comes to attention."""
        with forward_replaced(norms(model, HEADS), lambda _, x: x), super().applied_to(model):
            yield

    def attend(
        self, right: Callable[..., Out], module: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any, **rest: Any
    ) -> Out:
        return right(module, normalized(module.q_norm, q), normalized(module.k_norm, k), v, mask, **rest)
