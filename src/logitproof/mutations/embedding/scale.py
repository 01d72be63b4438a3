"""The factors of a family on its embedding and on its residual stream."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch

from logitproof.mutations import Mutation, Record
from logitproof.mutations._precision import rounded
from logitproof.mutations.embedding._rows import WrongEmbedding, scale
from logitproof.reference import parts
from logitproof.reference.patches import attributes_replaced


class ScaleMissing(WrongEmbedding, id="embedding.scale_missing"):
    """The factor that the family multiplies embeddings by is left out."""

    record = Record(
        shows="wrong at every position from the embedding on",
        first_tap="embedding",
        remedy="multiply by sqrt(hidden_size), or by embedding_multiplier",
        seen_in=("tt-metal #22812",),
    )

    def applies(self, config: Any) -> bool:
        """Gemma and Granite."""
        return scale(config) != 1

    def embedded(self, model: Any, token_ids: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return rows / scale(model.config)


class ScaleTwice(WrongEmbedding, id="embedding.scale_twice"):
    """The factor that the family multiplies embeddings by is in the file and in the engine."""

    record = Record(
        shows="wrong at every position from the embedding on",
        first_tap="embedding",
        remedy="scale on loading or in the graph, once",
        seen_in=("OpenTau #179",),
    )

    def applies(self, config: Any) -> bool:
        """Gemma and Granite."""
        return scale(config) != 1

    def embedded(self, model: Any, token_ids: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return rows * scale(model.config)


class ScaleRounded(WrongEmbedding, id="embedding.scale_rounded"):
    """The scale of the embedding is rounded where the reference's is not, or kept whole where that is rounded."""

    record = Record(
        shows="the embedding off by one constant factor near one",
        first_tap="embedding",
        remedy="keep sqrt(hidden_size) in the type that the reference keeps it in",
        seen_in=("transformers #37109", "transformers #38702"),
    )
    bits: int = 4

    def applies(self, config: Any) -> bool:
        """Gemma, and Granite where its factor has more bits."""
        return float(rounded(torch.tensor(scale(config)), self.bits)) != scale(config)

    def embedded(self, model: Any, token_ids: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """The factor with so many significant bits: 4 is float8."""
        factor = scale(model.config)
        return rows * (float(rounded(torch.tensor(factor), self.bits)) / factor)


class ScaleInvented(WrongEmbedding, id="embedding.scale_invented"):
    """Embeddings are multiplied by sqrt(hidden_size), as Gemma does it, in a family that does not."""

    record = Record(
        shows="wrong at every position from the embedding on",
        first_tap="embedding",
        remedy="scale embeddings only in families that do",
    )

    def applies(self, config: Any) -> bool:
        """Families without a scale."""
        return scale(config) == 1

    def embedded(self, model: Any, token_ids: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return rows * float(model.config.hidden_size) ** 0.5


class ResidualScaleMissing(Mutation, id="embedding.residual_scale_missing"):
    """What a block adds to the residual stream is not scaled: residual_multiplier is left out."""

    record = Record(
        shows="wrong at every position from the first layer on",
        first_tap="layers.0.residual",
        remedy="multiply what attention and MLP return by residual_multiplier before it is added",
        seen_in=("Jlama #98", "CTranslate2 #1882"),
    )

    def applies(self, config: Any) -> bool:
        """Granite."""
        return float(getattr(config, "residual_multiplier", 1.0)) != 1.0

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """A factor of one in every layer."""
        return attributes_replaced([(layer, "residual_multiplier", 1.0) for layer in parts.layers(model)])
