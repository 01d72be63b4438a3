"""Models that rotate only a part of each head."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from logitproof.mutations import Record
from logitproof.mutations.rope._function import Pair, WrongRotation, head_size, is_split_half, rotary_dimensions
from logitproof.mutations.rope._tables import Parameters, WrongFrequencies, WrongParameters, WrongScaling, is_plain


class Ignored(WrongParameters, id="rope.partial.ignored"):
    """partial_rotary_factor is ignored: every dimension of a head is rotated."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on; small on short prompts, the dimensions beyond the rotated ones",
        first_tap="layers.0.attn.q_rope",
        remedy="rotate head size x partial_rotary_factor dimensions and pass the others through",
        seen_in=("MaxText 942563445", "llama.cpp #12957"),
    )

    def parameters(self, right: Parameters, config: Any) -> Parameters | None:
        return right | {"partial_rotary_factor": 1.0} if right.get("rope_type") == "default" else None


class WrongTail(WrongRotation, id="rope.partial.wrong_tail"):
    """Partial RoPE rotates the last dimensions of a head instead of the first."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on, growing with position; Q and K both",
        first_tap="layers.0.attn.q_rope",
        remedy="rotate the first dimensions and pass the tail through",
        seen_in=("MaxText 942563445", "llama.cpp #12957"),
    )

    def applies(self, config: Any) -> bool:
        """Split-half models that rotate a part of each head."""
        return is_split_half(config) and rotary_dimensions(config) < head_size(config)

    def rotate(self, right: Callable[..., Pair], q: torch.Tensor, k: torch.Tensor, cos: Any, sin: Any) -> Pair:
        at = q.shape[-1] - cos.shape[-1]
        turned = right(q[..., at:], k[..., at:], cos, sin)
        return torch.cat((q[..., :at], turned[0]), -1), torch.cat((k[..., :at], turned[1]), -1)


class FrequenciesOfFullHead(WrongFrequencies, id="rope.partial.frequencies_of_full_head"):
    """The exponents of partial RoPE are divided by the head size instead of the rotated size."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on, growing with position",
        first_tap="layers.0.attn.q_rope",
        remedy="divide the exponents by the number of rotated dimensions",
        seen_in=("pie #602",),
    )

    def frequencies(self, right: torch.Tensor, config: Any) -> torch.Tensor:
        """b^(-2i/R) is b^(-2i/D) to the power of D/R."""
        return right ** (rotary_dimensions(config) / head_size(config)) if is_plain(config) else right


class _WrongProportion(WrongScaling):
    """Proportional rotary positions: a part of each head turns, by frequencies that are counted over all of it (Gemma 4)."""

    scaling = "proportional"


class AllRotated(_WrongProportion, id="rope.proportional_all_rotated"):
    """All of each head turns where a part of it should."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on in the layers without a window",
        first_tap="layers.0.attn.q_rope",
        remedy="read partial_rotary_factor of the layers without a window",
        seen_in=("nexusquant #12",),
    )

    def scaled(self, right: Parameters, config: object) -> Parameters:
        return {"partial_rotary_factor": 1.0}
