"""Changes the rows that token ids become."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch

from logitproof.mutations import Mutation
from logitproof.reference.patches import outputs_changed


class WrongEmbedding(Mutation):
    """A bug in the rows that token ids become: subclasses say in `embedded` what they are instead."""

    def applies(self, config: Any) -> bool:
        """Every model embeds."""
        return True

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Change what the embedding returns."""

        def change(module: Any, inputs: tuple[Any, ...], rows: torch.Tensor) -> torch.Tensor:
            return self.embedded(model, inputs[0], rows)

        return outputs_changed([model.get_input_embeddings()], change)

    def embedded(self, model: Any, token_ids: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """What becomes of the rows [B, T, E] of token ids [B, T]; the scale of Gemma is in them, Granite's is not yet."""
        raise NotImplementedError


def scale(config: Any) -> float:
    """What the family multiplies the embedding by."""
    if str(config.model_type).startswith("gemma"):
        return float(config.hidden_size) ** 0.5
    return float(getattr(config, "embedding_multiplier", 1.0) or 1.0)
