"""The function that rotates queries and keys, in whichever form a model calls it: both at once, or one after the other.

Most families call `apply_rotary_pos_emb(q, k, cos, sin)` with heads before positions. Gemma 3n and 4 call it for one tensor
at a time, `(x, cos, sin, unsqueeze_dim=2)`, with positions before heads; layers that share keys call it for queries alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Pair = tuple[torch.Tensor, torch.Tensor]
Rotate = Callable[..., Pair]
"""q [B, H, T, D], k [B, K, T, D], cos and sin to both after the rotation."""
Change = Callable[[Rotate, torch.Tensor, torch.Tensor, Any, Any], Pair]
"""What is done instead of a rotation, which comes first."""


def in_pairs(original: Callable[..., Any], change: Change) -> Callable[..., Any]:
    """A function in the place of `original` for one layer, in whichever form it is called: what `change` makes of a pair.

    Of one tensor the pair is that tensor twice, and of the result the part is taken that the tensor is: queries come first.
    """
    calls = Calls()

    def rotate(first: torch.Tensor, second: torch.Tensor, *rest: Any, **named: Any) -> Any:
        if is_pair(first, second):
            cos, sin, *more = rest
            return change(lambda *four: original(*four, *more, **named), first, second, cos, sin)
        place = calls.place()
        heads_first = first.transpose(1, 2)

        def right(q: torch.Tensor, k: torch.Tensor, cos: Any, sin: Any) -> Pair:
            turned = [original(x.transpose(1, 2), cos, sin, *rest[1:], **named).transpose(1, 2) for x in (q, k)]
            return turned[0], turned[1]

        return change(right, heads_first, heads_first, second, rest[0])[place].transpose(1, 2)

    return rotate


def is_pair(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Whether the first two arguments of a rotation are queries and keys, and not a tensor and its cosines [B, T, D]."""
    return first.ndim == second.ndim


class Calls:
    """Which of queries and keys a tensor is that one layer rotates: queries come first, and some layers have no keys."""

    def __init__(self) -> None:
        self._count = 0

    def place(self) -> int:
        """0 for queries and 1 for keys."""
        self._count += 1
        return (self._count - 1) % 2
