"""An untied head is replaced by the embedding."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations import Mutation
from logitproof.reference import parts
from logitproof.reference.patches import tensors_replaced


@dataclass
class TiedHeadInvented(Mutation):
    """The embedding is used as the head of a model that has a head of its own."""

    bug: ClassVar[str] = "an untied head is replaced by the embedding"
    shows: ClassVar[str] = "hidden states exact, logits gibberish"
    seen_in: ClassVar[tuple[str, ...]] = ("transformers #43429", "vLLM #5621")
    first_tap: ClassVar[str] = "logits"
    remedy: ClassVar[str] = "load lm_head.weight where tie_word_embeddings is false"

    def applies(self, config: Any) -> bool:
        """Whether a model of this config has the part that the bug is in."""
        return not parts.is_tied(parts.skeleton(config))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Give the head the embedding's values."""
        values = model.get_input_embeddings().weight.data
        return tensors_replaced([(model.get_output_embeddings().weight, values)])
