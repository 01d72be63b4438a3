"""Rows are normalized before the first layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.embedding._rows import WrongEmbedding


@dataclass
class Normalized(WrongEmbedding):
    """Rows are normalized before the first layer."""

    bug: ClassVar[str] = "rows of the embedding are brought to one length"
    shows: ClassVar[str] = "wrong at every position from the embedding on"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "embedding"
    remedy: ClassVar[str] = "leave rows as they are"

    def embedded(self, model: Any, token_ids: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Each with a root mean square of the whole embedding's mean."""
        size = rows.square().mean(-1, keepdim=True).sqrt()
        return rows / size * model.get_input_embeddings().weight.square().mean().sqrt()
