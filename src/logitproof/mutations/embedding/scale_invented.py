"""The embedding is scaled as Gemma does it, in a family that does not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.embedding._rows import WrongEmbedding, scale


@dataclass
class ScaleInvented(WrongEmbedding):
    """The embedding is scaled as Gemma does it, in a family that does not."""

    bug: ClassVar[str] = "embeddings are multiplied by sqrt(hidden_size)"
    shows: ClassVar[str] = "wrong at every position from the embedding on"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "embedding"
    remedy: ClassVar[str] = "scale embeddings only in families that do"

    def applies(self, config: Any) -> bool:
        """Families without a scale."""
        return scale(config) == 1

    def embedded(self, model: Any, token_ids: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Multiplied by the root of the hidden size."""
        return rows * float(model.config.hidden_size) ** 0.5
