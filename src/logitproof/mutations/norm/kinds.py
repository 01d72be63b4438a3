"""Norms of another kind than the family's: LayerNorm, norms of length, norms over all heads, norms after the rotation."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import torch

from logitproof.mutations import Mutation, Record
from logitproof.mutations.norm._norms import WrongNorm
from logitproof.reference import parts
from logitproof.reference.patches import attributes_replaced, outputs_changed


class MeanKept(Mutation, id="norm.layer_norm_mean_kept"):
    """LayerNorm is computed as an RMS norm: the mean is not taken off."""

    record = Record(
        shows="wrong from position 0 on", first_tap="layers.0.attn_norm", remedy="subtract the mean before the division"
    )

    def applies(self, config: Any) -> bool:
        """Models with LayerNorm."""
        return bool(_layer_norms(parts.skeleton(config)))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        return attributes_replaced([(norm, "forward", functools.partial(_divided, norm)) for norm in _layer_norms(model)])


class LengthNormMissing(Mutation, id="norm.length_norm_missing"):
    """Q and K are not divided by their length."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on",
        first_tap="layers.0.attn.scores",
        remedy="norm q and k after the rotation",
    )

    def applies(self, config: Any) -> bool:
        """Models with such norms."""
        return bool(_length_norms(parts.skeleton(config)))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        return attributes_replaced([(norm, "forward", lambda x: x) for norm in _length_norms(model)])


class EachHead(WrongNorm, id="norm.qk_over_each_head"):
    """The norms of q and of k, which go over all heads, are computed for each head by itself."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on",
        first_tap="layers.0.attn.q",
        remedy="norm all of q, and all of k, before they are parted",
    )
    names = ("q_norm", "k_norm")

    def applies(self, config: Any) -> bool:
        """Models whose norms go over all heads."""
        return any(self._heads(norm, config) > 1 for norm in self.affected(parts.skeleton(config)))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        self._config = model.config
        return super().applied_to(model)

    def normed(self, norm: Any, x: torch.Tensor) -> torch.Tensor:
        heads = x.float().unflatten(-1, (self._heads(norm, self._config), -1))
        mean = heads.square().mean(-1, keepdim=True)
        return ((heads * torch.rsqrt(mean + norm.variance_epsilon)).flatten(-2) * norm.weight).to(x.dtype)

    def _heads(self, norm: Any, config: Any) -> int:
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return int(norm.weight.numel() // size)


class BeforeRotation(Mutation, id="norm.qk_before_rotation"):
    """The norms on the heads of q and k are applied before the rotation and not after it."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on", first_tap="layers.0.attn.q_rope", remedy="rotate, then norm"
    )

    def applies(self, config: Any) -> bool:
        """Models that norm after the rotation."""
        return bool(self._attentions(parts.skeleton(config)))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        stack = ExitStack()
        for attention in self._attentions(model):
            for projection, norm in (
                (attention.q_proj, attention.query_layernorm),
                (attention.k_proj, attention.key_layernorm),
            ):
                stack.enter_context(outputs_changed([projection], functools.partial(self._early, norm, norm.forward)))
                stack.enter_context(attributes_replaced([(norm, "forward", lambda x: x)]))
        return stack

    def _early(self, norm: Any, right: Any, module: Any, given: Any, out: torch.Tensor) -> torch.Tensor:
        return right(out.unflatten(-1, (-1, norm.weight.numel()))).flatten(-2)

    def _attentions(self, model: Any) -> list[Any]:
        return [module for module in parts.attentions(model) if "query_layernorm" in module._modules]


def _layer_norms(model: Any) -> list[Any]:
    modules = [
        module for module in model.modules() if type(module).__name__ in ("LayerNorm", "CohereLayerNorm", "Cohere2LayerNorm")
    ]
    return [module for module in modules if getattr(module, "weight", None) is not None]


def _length_norms(model: Any) -> list[Any]:
    return [module for module in model.modules() if type(module).__name__.endswith("L2Norm")]


def _divided(norm: Any, x: torch.Tensor) -> torch.Tensor:
    eps = getattr(norm, "variance_epsilon", None) or norm.eps
    wide = x.float()
    out = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps) * norm.weight
    return (out if getattr(norm, "bias", None) is None else out + norm.bias).to(x.dtype)
