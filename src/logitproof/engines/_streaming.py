"""`offload: stream` of the engine transformers: many sequences asked, each answered when its pass has ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from logitproof.engines import Answered, Asked, Working
from logitproof.errors import Refusal
from logitproof.reference.layerwise import Entered
from logitproof.reference.streamed import Streamed

BLOCK = 64
"""Positions whose logits are written at a time."""


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse options that need a whole model or a cache, by name."""
    for name, value in options.items():
        if value:
            text = f"offload: stream computes whole prompts in one pass without cache, and knows no {name}"
            raise Refusal(text, field=name, remedy=f"leave {name} out, or `offload`")


def answers(
    streamed: Streamed, asked: Sequence[Asked], checked: Callable[[Sequence[int]], torch.Tensor]
) -> Iterator[Answered | Working]:
    """Rows of every sequence, written as they come; one that is refused is answered first and delays no other."""
    sequences: dict[int, torch.Tensor] = {}
    for index, sequence in enumerate(asked):
        try:
            sequences[index] = checked(sequence.token_ids)
        except Exception as error:
            yield Answered(index, error=error)
    indices = list(sequences)
    for news in streamed.passes(list(sequences.values())) if indices else ():
        if isinstance(news, Entered):
            yield Working(news.part)
            continue
        index = indices[news.sequence]
        try:
            if news.error is not None:
                raise news.error
            for block in news.result[0].split(BLOCK):
                asked[index].rows.write(_array(block))
        except Exception as error:
            yield Answered(index, error=error)
        else:
            yield Answered(index)


def rows(streamed: Streamed, ids: torch.Tensor) -> np.ndarray:
    """Logits [T, V] of one sequence."""
    for news in streamed.passes([ids]):
        if not isinstance(news, Entered):
            if news.error is not None:
                raise news.error
            return _array(news.result[0])
    raise RuntimeError("the pass did not end")


def _array(logits: torch.Tensor) -> np.ndarray:
    kept = logits if logits.dtype == torch.float64 else logits.to(torch.float32)
    return np.asarray(kept.cpu().numpy())
