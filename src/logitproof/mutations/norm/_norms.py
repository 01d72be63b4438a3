"""The RMS norms of a model, by what they stand before, and another forward in their place."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations import Mutation, swept
from logitproof.reference import parts
from logitproof.reference.parts import is_rms, roles
from logitproof.reference.patches import attributes_replaced

BLOCK = ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm")
HEADS = ("q_norm", "k_norm")
BY_NAME: dict[str, tuple[str, ...]] = {
    "layers": BLOCK,
    "heads": HEADS,
    "final": ("norm",),
    "all but heads": (*BLOCK, "norm"),
    "all but final": (*BLOCK, *HEADS),
    "queries": ("q_norm",),
    "keys": ("k_norm",),
}
BY_ROLE: dict[str, tuple[str, ...]] = {
    "before blocks": ("before_attention", "before_mlp"),
    "after blocks": ("after_attention", "after_mlp"),
    "before attention": ("before_attention",),
    "after attention": ("after_attention",),
    "before the mlp": ("before_mlp",),
    "after the mlp": ("after_mlp",),
}
"""Kinds of norms, which engines compute by code of their own: by their attributes' names, and by what they stand before."""
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


@dataclass
class WrongKind(WrongFormula):
    """A bug in what all norms compute, or in that of one kind of norms alone, which `which` names."""

    which: str = ""

    def applies(self, config: Any) -> bool:
        """Models that have such norms; a kind that is all of them, or the norms of one before it, is no kind of its own."""
        model = parts.skeleton(config)
        if not self.which:
            return super().applies(config)
        chosen = self._chosen(model, self.which)
        before = ("", *KINDS[: KINDS.index(self.which)])
        return bool(chosen) and not any(chosen == self._chosen(model, kind) for kind in before)

    def affected(self, model: Any) -> list[Any]:
        """The norms of the kind."""
        chosen = self._chosen(model, self.which)
        return [norm for norm in self._all(model) if id(norm) in chosen]

    def instances(self, config: Any, token_ids: Sequence[int]) -> Iterator[dict[str, Any]]:
        """Every kind of norms that the grid has not."""
        grid = type(self).grid.get("which", ("",))
        kinds = [kind for kind in KINDS if kind not in grid]
        yield from ({"which": kind} for kind in kinds if type(self)(which=kind).applies(config))

    def _all(self, model: Any) -> list[Any]:
        return super().affected(model)

    def _chosen(self, model: Any, kind: str) -> set[int]:
        """By identity, the norms of a kind that can have the bug."""
        every = {id(norm) for norm in self._all(model)}
        if not kind:
            return every
        if kind in BY_NAME:
            return every & {id(norm) for norm in norms(model, BY_NAME[kind])}
        wanted = BY_ROLE[kind]
        return every & {id(norm) for layer in parts.layers(model) for role, norm in roles(layer).items() if role in wanted}


@dataclass
class WrongKinds(WrongKind):
    """The same, tried with the kinds that are most often apart; with all others where a single place is looked for."""

    which: str = swept("", grid=("", "layers", "heads", "final", "all but heads"))


KINDS = (*BY_NAME, *BY_ROLE)


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
