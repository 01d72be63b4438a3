"""The scale of the embedding is kept in too few bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations._precision import rounded
from logitproof.mutations.embedding._rows import WrongEmbedding, scale


@dataclass
class ScaleRounded(WrongEmbedding):
    """The scale of the embedding is kept in too few bits."""

    bug: ClassVar[str] = "the scale of the embedding is kept in too few bits"
    shows: ClassVar[str] = "the embedding off by one constant factor near one"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "embedding"
    remedy: ClassVar[str] = "keep sqrt(hidden_size) in the type that the reference keeps it in"
    bits: int = 4

    def applies(self, config: Any) -> bool:
        """Gemma, and Granite where its factor has more bits."""
        return float(rounded(torch.tensor(scale(config)), self.bits)) != scale(config)

    def embedded(self, model: Any, token_ids: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """The factor with so many significant bits: 4 is float8."""
        factor = scale(model.config)
        return rows * (float(rounded(torch.tensor(factor), self.bits)) / factor)
