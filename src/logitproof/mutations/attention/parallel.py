"""Attention and feed-forward block side by side behind one norm, as in Cohere 2."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from logitproof.mutations import Mutation, Record
from logitproof.reference import parts


class _WrongBranch(Mutation):
    """Another input of the feed-forward block than the norm's output: said in `read`."""

    def applies(self, config: Any) -> bool:
        """Models whose layers have one norm for both."""
        return config.model_type in ("cohere", "cohere2")

    @contextmanager
    def applied_to(self, model: Any) -> Iterator[None]:
        handles = []
        for layer in parts.layers(model):
            kept: dict[str, torch.Tensor] = {}
            handles += self._watched(layer, kept)
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def read(self, layer: Any, stream: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        """What the block reads, of the residual stream [B, T, E] and of what attention adds."""
        raise NotImplementedError

    def _watched(self, layer: Any, kept: dict[str, torch.Tensor]) -> list[Any]:
        def norm(module: Any, given: tuple[Any, ...]) -> None:
            kept.setdefault("stream", given[0])

        def attention(module: Any, given: Any, out: Any) -> None:
            kept["attended"] = out[0]

        def mlp(module: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
            return (self.read(layer, kept.pop("stream"), kept.pop("attended")), *given[1:])

        return [
            layer.input_layernorm.register_forward_pre_hook(norm),
            layer.self_attn.register_forward_hook(attention),
            layer.mlp.register_forward_pre_hook(mlp),
        ]


class AsSequential(_WrongBranch, id="attention.parallel_as_sequential"):
    """The feed-forward block reads the stream after attention was added, as in families with two norms."""

    record = Record(
        shows="wrong from position 0 on",
        first_tap="layers.0.mlp.gate",
        remedy="both blocks read the same norm of the layer's input",
    )

    def read(self, layer: Any, stream: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        return layer.input_layernorm.forward(stream + attended)


class WithoutNorm(_WrongBranch, id="attention.parallel_without_norm"):
    """The feed-forward block reads the residual stream without the norm."""

    record = Record(
        shows="wrong from position 0 on",
        first_tap="layers.0.mlp.gate",
        remedy="both blocks read the same norm of the layer's input",
    )

    def read(self, layer: Any, stream: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        return stream
