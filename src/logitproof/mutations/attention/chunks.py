"""Attention in chunks, and queries that grow with their position in layers without positions (Llama 4)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch

from logitproof.mutations import Mutation, Record, swept
from logitproof.mutations.attention._interface import Out, WrongAttention, additive, visible
from logitproof.reference import parts
from logitproof.reference.patches import attributes_replaced


class _WrongChunks(WrongAttention):
    """Which keys a query of a chunked layer sees: said in `seen`, for one pass over all positions."""

    def applies(self, config: Any) -> bool:
        """Models with chunked layers."""
        return super().applies(config) and "chunked_attention" in (getattr(config, "layer_types", None) or ())

    def attend(
        self, right: Callable[..., Out], module: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any, **rest: Any
    ) -> Out:
        chunked = module.config.layer_types[module.layer_idx] == "chunked_attention"
        if not chunked or q.shape[2] < k.shape[2]:
            return right(module, q, k, v, mask, **rest)
        places = torch.arange(q.shape[2], device=q.device)
        causal = places[:, None] >= places[None]
        seen = causal & self.seen(places, module.config.attention_chunk_size)
        return right(module, q, k, v, additive(seen.expand_as(visible(mask, q, k)), q), **rest)

    def seen(self, places: torch.Tensor, size: int) -> torch.Tensor:
        """bool [T, S] of the places [T], of which causality is not asked."""
        raise NotImplementedError


class ChunksIgnored(_WrongChunks, id="attention.chunks_ignored"):
    """Chunked layers attend to everything before."""

    record = Record(
        shows="exact within the first chunk, wrong after",
        first_tap="layers.0.attn.probs",
        remedy="a query sees the keys of its own chunk alone",
    )

    def seen(self, places: torch.Tensor, size: int) -> torch.Tensor:
        return torch.ones(len(places), len(places), dtype=torch.bool, device=places.device)


class ChunksAsWindow(_WrongChunks, id="attention.chunks_as_window"):
    """Chunked layers attend within a window of the chunk's size that moves with the query."""

    record = Record(
        shows="exact within the first chunk, wrong after",
        first_tap="layers.0.attn.probs",
        remedy="chunks have fixed boundaries",
    )

    def seen(self, places: torch.Tensor, size: int) -> torch.Tensor:
        return places[:, None] - places[None] < size


class ChunkBoundaryLate(_WrongChunks, id="attention.chunk_boundary_late"):
    """Chunks begin one position late."""

    record = Record(
        shows="wrong at the first position of each chunk",
        first_tap="layers.0.attn.probs",
        remedy="position p belongs to chunk p // size",
    )

    def seen(self, places: torch.Tensor, size: int) -> torch.Tensor:
        chunks = (places - 1).clamp(min=0) // size
        return chunks[:, None] == chunks[None]


class ChunkSize(_WrongChunks, id="attention.chunk_size"):
    """Chunks are of another size than the config's."""

    record = Record(
        shows="exact within the smaller of both first chunks, wrong after",
        first_tap="layers.0.attn.probs",
        remedy="read attention_chunk_size of the config",
    )
    size: int = swept(16, grid=(16, 24, 64), between=(1, 8192))

    def applies(self, config: Any) -> bool:
        """Models whose chunks are of another size."""
        return super().applies(config) and self.size != config.attention_chunk_size

    def seen(self, places: torch.Tensor, size: int) -> torch.Tensor:
        chunks = places // self.size
        return chunks[:, None] == chunks[None]


class _Tempered(Mutation):
    """The factor by which queries of layers without positions grow."""

    def applies(self, config: Any) -> bool:
        """Models that have it within a few hundred positions."""
        tuned = getattr(config, "attn_temperature_tuning", False)
        return bool(tuned) and config.floor_scale < 256 and 0 in config.no_rope_layers


class TemperatureMissing(_Tempered, id="attention.temperature_missing"):
    """Queries of layers without positions are not scaled by their position."""

    record = Record(
        shows="exact at first, wrong after the first step",
        first_tap="layers.0.attn.probs",
        remedy="multiply q by 1 + a * log(1 + floor((p + 1) / f))",
    )

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        return attributes_replaced([(layer, "attn_temperature_tuning", False) for layer in parts.attentions(model)])


class TemperatureStep(_Tempered, id="attention.temperature_step_doubled"):
    """Queries grow in steps of another length than the config's."""

    record = Record(
        shows="exact at first, wrong after the first step",
        first_tap="layers.0.attn.probs",
        remedy="read floor_scale of the config",
    )

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        return attributes_replaced([(layer, "floor_scale", 2 * layer.floor_scale) for layer in parts.attentions(model)])


class _WrongTemperature(_Tempered, WrongAttention):
    """Queries [B, H, T, D] that are scaled otherwise: said in `factor` for each layer and position."""

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Change queries where they meet keys."""
        return WrongAttention.applied_to(self, model)

    def attend(
        self, right: Callable[..., Out], module: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any, **rest: Any
    ) -> Out:
        if not module.use_rope or self.in_all:
            known = k.shape[2] - q.shape[2]
            places = torch.arange(known, k.shape[2], device=q.device, dtype=torch.float32)
            q = (q * self.factor(module, places, known)[:, None]).to(q.dtype)
        return right(module, q, k, v, mask, **rest)

    in_all = False

    def factor(self, layer: Any, places: torch.Tensor, known: int) -> torch.Tensor:
        """[T]: what queries at `places` are multiplied by beside the right factor; `known` positions are in the cache."""
        raise NotImplementedError


class TemperaturePosition(_WrongTemperature, id="attention.temperature_position_one_less"):
    """The step is counted from position p and not from p + 1."""

    record = Record(
        shows="wrong at the last position before each step", first_tap="layers.0.attn.scores", remedy="use floor((p + 1) / f)"
    )

    def factor(self, layer: Any, places: torch.Tensor, known: int) -> torch.Tensor:
        return tempered(layer, places - 1) / tempered(layer, places)


class TemperatureLinear(_WrongTemperature, id="attention.temperature_not_logarithmic"):
    """Queries grow with the number of steps and not with its logarithm."""

    record = Record(
        shows="growing with position after the first step", first_tap="layers.0.attn.scores", remedy="use log(1 + steps)"
    )

    def factor(self, layer: Any, places: torch.Tensor, known: int) -> torch.Tensor:
        return (1 + layer.attn_scale * torch.floor((places + 1) / layer.floor_scale)) / tempered(layer, places)


class TemperatureRestarts(_WrongTemperature, id="attention.temperature_restarts_in_decode"):
    """In decode each query is scaled as the first position of a sequence."""

    record = Record(
        shows="prefill exact, decode wrong after the first step",
        first_tap="layers.0.attn.scores",
        remedy="count the positions in the cache",
        needs="decode",
    )

    def factor(self, layer: Any, places: torch.Tensor, known: int) -> torch.Tensor:
        return tempered(layer, places - known) / tempered(layer, places)


def tempered(layer: Any, places: torch.Tensor) -> torch.Tensor:
    """1 + a · log(1 + floor((p + 1) / f)) at each of the places [T]."""
    return torch.log1p(torch.floor((places + 1) / layer.floor_scale)) * layer.attn_scale + 1.0
