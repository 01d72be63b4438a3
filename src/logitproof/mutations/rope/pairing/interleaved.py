"""RoPE rotates the dimensions (2i, 2i+1) together where the model means (i, i+D/2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.rope._function import WrongRotation, is_split_half, rotary_dimensions


@dataclass
class Interleaved(WrongRotation):
    """Split-half RoPE pairs (i, i+D/2) computed as interleaved pairs (2i, 2i+1), in Q and K.

    Position 0 is exact, because its angle is 0; the error grows with the distance between positions.
    """

    bug: ClassVar[str] = "RoPE rotates interleaved pairs (2i, 2i+1) instead of split-half pairs (i, i+D/2)"
    shows: ClassVar[str] = "position 0 exact, wrong from position 1 on, growing with position; Q and K both"
    seen_in: ClassVar[tuple[str, ...]] = (
        "candle #3410",
        "meganeura #38",
        "shainet #111",
        "lattice #96",
        "vLLM #28968",
        "xllm #853",
        "optimum-intel #1877",
    )
    first_tap: ClassVar[str] = "layers.0.attn.q_rope"
    remedy: ClassVar[str] = "rotate (i, i+D/2), or permute the rows of the Q and K weights at conversion, not both"

    def applies(self, config: Any) -> bool:
        """Split-half families with at least two pairs: a single pair is the same either way."""
        return is_split_half(config) and rotary_dimensions(config) > 2

    def rotate(self, right: Any, q: torch.Tensor, k: torch.Tensor, cos: Any, sin: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Interleaved pairs; `right` rotates the halves."""
        return rotate_interleaved(q, k, cos, sin)


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
