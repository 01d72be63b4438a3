"""The permutation of Q and K is left out in conversion."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations import Mutation
from logitproof.mutations.weights._permutation import is_permuted, permuted, to_split_half
from logitproof.reference.patches import tensors_replaced


@dataclass
class QkUnpermuted(Mutation):
    """The rows of Q and K stay in split-half order for an engine that rotates interleaved pairs.

    The same model as `rope.pairing.interleaved`: logits cannot tell the two apart.
    """

    bug: ClassVar[str] = "the permutation of Q and K is left out in conversion"
    shows: ClassVar[str] = "position 0 exact, wrong from position 1 on"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.attn.q_proj"
    remedy: ClassVar[str] = "permute the rows of Q and K in conversion if the engine rotates interleaved pairs"

    def applies(self, config: Any) -> bool:
        """Families whose GGUF conversion permutes Q and K."""
        return is_permuted(config)

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Reorder the rows of Q and K of every layer."""
        q, k = model.config.num_attention_heads, model.config.num_key_value_heads
        return tensors_replaced([*permuted(model, "q_proj", q, to_split_half), *permuted(model, "k_proj", k, to_split_half)])
