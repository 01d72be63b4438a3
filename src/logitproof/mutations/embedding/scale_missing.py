"""The embedding is not scaled although the family scales it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.embedding._rows import WrongEmbedding, scale


@dataclass
class ScaleMissing(WrongEmbedding):
    """The embedding is not scaled although the family scales it."""

    bug: ClassVar[str] = "the factor that the family multiplies embeddings by is left out"
    shows: ClassVar[str] = "wrong at every position from the embedding on"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "embedding"
    remedy: ClassVar[str] = "multiply by sqrt(hidden_size), or by embedding_multiplier"

    def applies(self, config: Any) -> bool:
        """Gemma and Granite."""
        return scale(config) != 1

    def embedded(self, model: Any, token_ids: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """The rows as they are stored."""
        return rows / scale(model.config)
