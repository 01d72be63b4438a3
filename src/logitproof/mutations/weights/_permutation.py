"""The permutation of Q and K rows between split-half and interleaved RoPE, which GGUF files of Llama models have."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from logitproof.reference import parts

PERMUTED_FAMILIES = ("llama", "mistral", "mixtral", "granite")


def is_permuted(config: Any) -> bool:
    """Whether the conversion of this family permutes Q and K, and a head is wide enough for it to matter."""
    return config.model_type in PERMUTED_FAMILIES and head_size(config) > 2


def head_size(config: Any) -> int:
    """Dimensions of a head."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def to_interleaved(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows [H·D, …] of split-half heads in the order of interleaved pairs."""
    halves = rows.reshape(heads, 2, -1, *rows.shape[1:])
    return halves.transpose(1, 2).reshape(rows.shape)


def to_split_half(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """The inverse of `to_interleaved`."""
    pairs = rows.reshape(heads, -1, 2, *rows.shape[1:])
    return pairs.transpose(1, 2).reshape(rows.shape)


def permuted(
    model: Any, leaf: str, heads: int, order: Callable[[torch.Tensor, int], torch.Tensor]
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The projection `leaf` of every layer, and its bias, with the new order of rows."""
    for projection in parts.projections(model, leaf):
        for tensor in (projection.weight, projection.bias):
            if tensor is not None:
                yield tensor, order(tensor.data, heads)
