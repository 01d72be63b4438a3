"""A tied head is left with its initial random weights."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from logitproof.mutations import Mutation
from logitproof.reference import parts
from logitproof.reference.patches import attributes_replaced


@dataclass
class TiedHeadIgnored(Mutation):
    """The head of a tied model is not the embedding but was left as it was initialized."""

    bug: ClassVar[str] = "a tied head is left with its initial random weights"
    shows: ClassVar[str] = "hidden states exact, logits gibberish"
    seen_in: ClassVar[tuple[str, ...]] = ("transformers #43429", "vLLM #5621")
    first_tap: ClassVar[str] = "logits"
    remedy: ClassVar[str] = "use the embedding as the head where tie_word_embeddings is true"

    seed: int = 0

    def applies(self, config: Any) -> bool:
        """Whether a model of this config has the part that the bug is in."""
        return parts.is_tied(parts.skeleton(config))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Give the head weights of its own."""
        head = model.get_output_embeddings()
        generator = torch.Generator().manual_seed(self.seed)
        values = torch.randn(head.weight.shape, generator=generator) * getattr(model.config, "initializer_range", 0.02)
        return attributes_replaced([(head, "weight", nn.Parameter(values.to(head.weight), requires_grad=False))])
