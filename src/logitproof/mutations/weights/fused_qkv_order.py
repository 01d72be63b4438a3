"""The fused qkv tensor is split in a wrong order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch

from logitproof.mutations import Mutation
from logitproof.reference import parts
from logitproof.reference.patches import tensors_replaced


@dataclass
class FusedQkvOrder(Mutation):
    """The fused projection of Q, K and V is split in the wrong order."""

    bug: ClassVar[str] = "the fused qkv tensor is split in a wrong order"
    shows: ClassVar[str] = "gibberish, every position, from the first layer on"
    seen_in: ClassVar[tuple[str, ...]] = ("nnsight #719", "quack #133")
    first_tap: ClassVar[str] = "layers.0.linear_attn.qkv"
    remedy: ClassVar[str] = "split qkv as the family stores it: Q, K, V, each with all of its heads"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"order": ("kqv", "qvk", "vkq", "by_group")}

    order: Literal["kqv", "qvk", "vkq", "by_group"] = "qvk"

    def applies(self, config: Any) -> bool:
        """Whether a model of this config has the part that the bug is in."""
        return any(True for _ in self._resplit(parts.skeleton(config)))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Plant the bug in every layer of `model`."""
        return tensors_replaced(list(self._resplit(model)))

    def _resplit(self, model: Any) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        config = model.config
        for one in parts.projections(model, "qkv_proj"):
            size = one.out_features // (config.num_attention_heads + 2 * config.num_key_value_heads)
            q, k = config.num_attention_heads * size, config.num_key_value_heads * size
            yield one.weight, self._read(one.weight.data, (q, k, k), config.num_key_value_heads)
        for one in parts.delta_nets(model):
            if "in_proj_qkv" in one._modules:
                sizes = (one.key_dim, one.key_dim, one.value_dim)
                yield one.in_proj_qkv.weight, self._read(one.in_proj_qkv.weight.data, sizes, one.num_k_heads)

    def _read(self, rows: torch.Tensor, sizes: tuple[int, int, int], groups: int) -> torch.Tensor:
        """Rows [q + k + v, E] as a reader of the wrong order takes them, put as Q, K, V."""
        if self.order == "by_group":
            grouped = rows.reshape(groups, -1, rows.shape[-1]).split([size // groups for size in sizes], dim=1)
            return torch.cat([part.flatten(0, 1) for part in grouped])
        named = dict(zip("qkv", sizes, strict=True))
        read = dict(zip(self.order, rows.split([named[letter] for letter in self.order]), strict=True))
        return torch.cat([read[letter] for letter in "qkv"])
