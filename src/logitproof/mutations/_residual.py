"""The residual stream of each layer, as its norms read it."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from logitproof.mutations.norm._norms import normalized
from logitproof.reference.patches import attributes_replaced


@contextmanager
def remembered(norms: list[Any]) -> Iterator[dict[int, torch.Tensor]]:
    """While open, what each norm last read, by its place in `norms`. Its own result stays bit for bit the same."""
    kept: dict[int, torch.Tensor] = {}

    def reads(place: int, norm: Any, x: torch.Tensor) -> torch.Tensor:
        kept[place] = x
        return normalized(norm, x)

    with attributes_replaced([(norm, "forward", functools.partial(reads, place, norm)) for place, norm in enumerate(norms)]):
        yield kept


def less(output: Any, stream: torch.Tensor) -> Any:
    """A layer's output without the stream that was added to it."""
    return (output[0] - stream, *output[1:]) if isinstance(output, tuple) else output - stream
