"""The embedding is scaled twice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.embedding._rows import WrongEmbedding, scale


@dataclass
class ScaleTwice(WrongEmbedding):
    """The embedding is scaled twice."""

    bug: ClassVar[str] = "the factor that the family multiplies embeddings by is in the file and in the engine"
    shows: ClassVar[str] = "wrong at every position from the embedding on"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "embedding"
    remedy: ClassVar[str] = "scale on loading or in the graph, once"

    def applies(self, config: Any) -> bool:
        """Gemma and Granite."""
        return scale(config) != 1

    def embedded(self, model: Any, token_ids: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """The factor once more."""
        return rows * scale(model.config)
