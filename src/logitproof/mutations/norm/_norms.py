"""The RMS norms of a model, by what they stand before, and another forward in their place."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import torch

from logitproof.mutations import Mutation
from logitproof.reference import parts
from logitproof.reference.parts import is_rms, roles
from logitproof.reference.patches import attributes_replaced

BLOCK = ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm")
HEADS = ("q_norm", "k_norm")
Forward = Callable[[Any, torch.Tensor], torch.Tensor]


class WrongNorm(Mutation):
    """A bug in some norms of a model: subclasses name them in `names` and say what they do instead in `normed`."""

    names: ClassVar[tuple[str, ...]] = (*BLOCK, *HEADS, "norm")

    def applies(self, config: Any) -> bool:
        """Models that have such norms."""
        return bool(self.affected(parts.skeleton(config)))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Replace the forward of each of the norms."""
        return forward_replaced(self.affected(model), self.normed)

    def affected(self, model: Any) -> list[Any]:
        """The norms that the bug is in."""
        return norms(model, self.names)

    def normed(self, norm: Any, x: torch.Tensor) -> torch.Tensor:
        """What the norm makes of `x` [..., D] instead."""
        raise NotImplementedError


class WrongRole(WrongNorm):
    """A bug in the norms that do one thing in a layer, whatever the family calls them."""

    role: ClassVar[str]

    def affected(self, model: Any) -> list[Any]:
        """The norms of that role."""
        return [norms_of[self.role] for norms_of in map(roles, parts.layers(model)) if self.role in norms_of]


class MissingNorm(WrongNorm):
    """Norms that are left out."""

    def normed(self, norm: Any, x: torch.Tensor) -> torch.Tensor:
        """Its input."""
        return x


class WrongFormula(WrongNorm):
    """A bug in what norms compute: subclasses say in `formula`."""

    def normed(self, norm: Any, x: torch.Tensor) -> torch.Tensor:
        """The wrong formula in float32, in the type of `x`."""
        return self.formula(norm, x.float()).to(x.dtype)

    def formula(self, norm: Any, x: torch.Tensor) -> torch.Tensor:
        """What the norm makes of `x` [..., D] instead, float32."""
        raise NotImplementedError


def each_layer_has(config: Any, *wanted: str) -> bool:
    """Whether every decoder layer of `config` has norms in these roles."""
    return all(set(wanted) <= set(roles(layer)) for layer in parts.layers(parts.skeleton(config)))


def norms(model: Any, names: Iterable[str]) -> list[Any]:
    """RMS norms with a weight, by the attribute's name; `norm` is the last one of the decoder."""
    wanted, decoder = set(names), parts.decoder(model)
    modules = [
        module
        for layer in parts.layers(model)
        for name, module in layer.named_modules()
        if name.rpartition(".")[2] in wanted - {"norm"}
    ]
    last = [decoder.norm] if "norm" in wanted and hasattr(decoder, "norm") else []
    return [module for module in [*modules, *last] if is_rms(module)]


def eps(norm: Any) -> float:
    """The norm's epsilon."""
    return float(norm.variance_epsilon if hasattr(norm, "variance_epsilon") else norm.eps)


def is_one_centred(norm: Any) -> bool:
    """Whether the norm multiplies by one plus its weight."""
    return type(norm).__name__.startswith(("Gemma", "Qwen3_5RMSNorm", "Qwen3_5MoeRMSNorm", "Qwen3NextRMSNorm"))


def scale(norm: Any) -> torch.Tensor:
    """What the norm multiplies by, float32."""
    weight = norm.weight.float()
    return 1.0 + weight if is_one_centred(norm) else weight


def divided(x: torch.Tensor, eps: float, over: int | tuple[int, ...] = -1) -> torch.Tensor:
    """`x` over its root mean square, the mean taken over these axes."""
    return x * torch.rsqrt(x.square().mean(over, keepdim=True) + eps)


def normalized(norm: Any, x: torch.Tensor) -> torch.Tensor:
    """What the right norm makes of `x`, also while its forward is replaced."""
    return torch.as_tensor(type(norm).forward(norm, x))


def forward_replaced(modules: Iterable[Any], normed: Forward) -> AbstractContextManager[None]:
    """While open, each norm computes `normed(norm, x)`."""
    return attributes_replaced([(norm, "forward", functools.partial(normed, norm)) for norm in modules])
