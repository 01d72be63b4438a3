"""K is permuted with Q's number of heads."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations import Mutation
from logitproof.mutations.weights._permutation import head_size, is_permuted, permuted, to_interleaved, to_split_half
from logitproof.reference.patches import tensors_replaced


@dataclass
class KPermutedWithQHeads(Mutation):
    """K is permuted as if it had as many heads as Q."""

    bug: ClassVar[str] = "K is permuted with Q's number of heads"
    shows: ClassVar[str] = "V exact, K wrong: position 0 exact, wrong from position 1 on, only with grouped queries"
    seen_in: ClassVar[tuple[str, ...]] = ("TinyLlama #24",)
    first_tap: ClassVar[str] = "layers.0.attn.k_proj"
    remedy: ClassVar[str] = "permute K with num_key_value_heads"

    def applies(self, config: Any) -> bool:
        """Families whose GGUF conversion permutes, with grouped queries."""
        q, k = config.num_attention_heads, config.num_key_value_heads
        return is_permuted(config) and q != k and k * head_size(config) % (2 * q) == 0

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Permute K wrongly, undo it rightly."""
        q, k = model.config.num_attention_heads, model.config.num_key_value_heads
        return tensors_replaced(
            [*permuted(model, "k_proj", k, lambda rows, heads: to_split_half(to_interleaved(rows, q), heads))]
        )
