"""Every token gets the row of the next id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.embedding._rows import WrongEmbedding


@dataclass
class NextRow(WrongEmbedding):
    """Every token gets the row of the next id."""

    bug: ClassVar[str] = "rows of the embedding are read one too far"
    shows: ClassVar[str] = "wrong at every position from the embedding on"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "embedding"
    remedy: ClassVar[str] = "count token ids from zero"

    def embedded(self, model: Any, token_ids: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """The row of the id after it; the last id has its own."""
        shifted = (token_ids + 1).clamp(max=model.config.vocab_size - 1)
        return type(model.get_input_embeddings()).forward(model.get_input_embeddings(), shifted)
