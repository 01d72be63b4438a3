"""The rows that token ids become."""

from __future__ import annotations

from typing import Any

import torch

from logitproof.mutations import Record, swept
from logitproof.mutations._precision import rounded
from logitproof.mutations.embedding._rows import WrongEmbedding


class NextRow(WrongEmbedding, id="embedding.next_row"):
    """Rows of the embedding are read one too far: every token gets the row of the next id."""

    record = Record(
        shows="wrong at every position from the embedding on",
        first_tap="embedding",
        remedy="count token ids from zero",
    )

    def embedded(self, model: Any, token_ids: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        shifted = (token_ids + 1).clamp(max=model.config.vocab_size - 1)
        return type(model.get_input_embeddings()).forward(model.get_input_embeddings(), shifted)


class FirstTokenRepeated(WrongEmbedding, id="embedding.first_token_repeated"):
    """The token at position 1 is fed as that of position 0."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on",
        first_tap="embedding",
        remedy="advance the ids with the position",
    )

    def embedded(self, model: Any, token_ids: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Row 0 in place of row 1 where there are more than one."""
        if rows.shape[1] < 2:
            return rows
        return torch.cat([rows[:, :1], rows[:, :1], rows[:, 2:]], dim=1)


class Normalized(WrongEmbedding, id="embedding.normalized"):
    """Rows of the embedding are brought to one length before the first layer."""

    record = Record(
        shows="wrong at every position from the embedding on",
        first_tap="embedding",
        remedy="leave rows as they are",
    )

    def embedded(self, model: Any, token_ids: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        size = rows.square().mean(-1, keepdim=True).sqrt()
        return rows / size * model.get_input_embeddings().weight.square().mean().sqrt()


class LowPrecision(WrongEmbedding, id="embedding.low_precision"):
    """The embedding is rounded when it is looked up, to fewer bits than the file has."""

    record = Record(
        shows="slow noise from the embedding on",
        first_tap="embedding",
        remedy="look rows up in the type that they are stored in",
    )
    bits: int = swept(4, grid=(4, 7))

    def embedded(self, model: Any, token_ids: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """So many significant bits: 4 is float8, 7 an integer of eight."""
        return rounded(rows, self.bits)
