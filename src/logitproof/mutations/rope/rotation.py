"""How Q and K are turned by angles that are right: which pairs, which way, how often, in which layers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch

from logitproof.mutations import Mutation, Record
from logitproof.mutations.rope._function import Pair, WrongRotation, is_split_half, rotary_dimensions
from logitproof.reference.parts import attentions
from logitproof.reference.patches import attributes_replaced


class Interleaved(WrongRotation, id="rope.pairing.interleaved"):
    """RoPE rotates interleaved pairs (2i, 2i+1) instead of split-half pairs (i, i+D/2).

    Position 0 is exact, because its angle is 0; the error grows with the distance between positions.
    """

    record = Record(
        shows="position 0 exact, wrong from position 1 on, growing with position; Q and K both",
        first_tap="layers.0.attn.q_rope",
        remedy="rotate (i, i+D/2), or permute the rows of the Q and K weights at conversion, not both",
        seen_in=(
            "candle #3410",
            "meganeura #38",
            "shainet #111",
            "lattice #96",
            "vLLM #28968",
            "xllm #853",
            "optimum-intel #1877",
        ),
    )

    def applies(self, config: Any) -> bool:
        """Split-half families with at least two pairs: a single pair is the same either way."""
        return is_split_half(config) and rotary_dimensions(config) > 2

    def rotate(self, right: Callable[..., Pair], q: torch.Tensor, k: torch.Tensor, cos: Any, sin: Any) -> Pair:
        return rotate_interleaved(q, k, cos, sin)


class Missing(WrongRotation, id="rope.missing"):
    """RoPE is not applied at all: neither Q nor K is rotated."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on; the order of the earlier tokens is not seen",
        first_tap="layers.0.attn.q_rope",
        remedy="rotate Q and K in every layer that has RoPE",
        seen_in=("sqliteai/warp #27",),
    )

    def rotate(self, right: Callable[..., Pair], q: torch.Tensor, k: torch.Tensor, cos: Any, sin: Any) -> Pair:
        return q, k


class QOnly(WrongRotation, id="rope.q_only"):
    """RoPE is applied to Q and not to K."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on, large",
        first_tap="layers.0.attn.k_rope",
        remedy="rotate K before it is written to the cache and before it is used",
        seen_in=("imp M18", "kvcache-ai/sglang #31"),
    )

    def rotate(self, right: Callable[..., Pair], q: torch.Tensor, k: torch.Tensor, cos: Any, sin: Any) -> Pair:
        return right(q, k, cos, sin)[0], k


class KOnly(WrongRotation, id="rope.k_only"):
    """RoPE is applied to K and not to Q."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on, large",
        first_tap="layers.0.attn.q_rope",
        remedy="rotate Q as well as K",
        seen_in=("PaddleFleet #1210",),
    )

    def rotate(self, right: Callable[..., Pair], q: torch.Tensor, k: torch.Tensor, cos: Any, sin: Any) -> Pair:
        return q, right(q, k, cos, sin)[1]


class Twice(WrongRotation, id="rope.twice"):
    """Q and K are rotated twice, as by a fused kernel and the layer around it."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on; as if positions were doubled",
        first_tap="layers.0.attn.q_rope",
        remedy="rotate in the attention kernel or before it, not both",
        seen_in=("TensorRT-LLM #4040",),
    )

    def rotate(self, right: Callable[..., Pair], q: torch.Tensor, k: torch.Tensor, cos: Any, sin: Any) -> Pair:
        return right(*right(q, k, cos, sin), cos, sin)


class Sign(WrongRotation, id="rope.sign"):
    """RoPE turns by the negative angle."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on, growing with position",
        first_tap="layers.0.attn.q_rope",
        remedy="the second half of a pair gets +sin, the first -sin",
        seen_in=("ngxson/llama.cpp #59",),
    )

    def rotate(self, right: Callable[..., Pair], q: torch.Tensor, k: torch.Tensor, cos: Any, sin: Any) -> Pair:
        return right(q, k, cos, -sin)


class CosSinSwapped(WrongRotation, id="rope.cos_sin_swapped"):
    """The tables of cosine and sine are swapped."""

    record = Record(
        shows="position 0 exact at the logits, its rotated Q and K already wrong; later positions wrong",
        first_tap="layers.0.attn.q_rope",
        remedy="hand cosine first",
    )

    def rotate(self, right: Callable[..., Pair], q: torch.Tensor, k: torch.Tensor, cos: Any, sin: Any) -> Pair:
        return right(q, k, sin, cos)


class NopeLayersRotated(Mutation, id="rope.nope_layers_rotated"):
    """RoPE is applied in layers that have no positions (NoPE)."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on; every fourth layer of SmolLM3",
        first_tap="layers.3.attn.scores",
        remedy="read no_rope_layers: 1 rotates, 0 does not",
        seen_in=("Camelid #535",),
    )

    def applies(self, config: Any) -> bool:
        """Models that say of each layer whether it rotates, where one does not."""
        return any(not rotates for rotates in getattr(config, "no_rope_layers", None) or ())

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Rotate in every layer."""
        return attributes_replaced([(layer, "use_rope", 1) for layer in attentions(model)])


def rotate_interleaved(
    q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, unsqueeze_dim: int = 1
) -> tuple[torch.Tensor, torch.Tensor]:
    """q [1, H, T, D] and k [1, K, T, D] rotated; cos and sin [1, T, R] hold R/2 angles twice, R <= D."""
    half = cos.shape[-1] // 2
    cos, sin = cos[..., :half].unsqueeze(unsqueeze_dim), sin[..., :half].unsqueeze(unsqueeze_dim)
    return _rotate(q, cos, sin), _rotate(k, cos, sin)


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    size = 2 * cos.shape[-1]
    even, odd = x[..., 0:size:2], x[..., 1:size:2]
    turned = torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=-1).flatten(-2)
    return torch.cat((turned, x[..., size:]), dim=-1)
