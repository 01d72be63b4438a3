"""Q and K are permuted twice."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations import Mutation
from logitproof.mutations.weights._permutation import is_permuted, permuted, to_interleaved
from logitproof.reference.patches import tensors_replaced


@dataclass
class QkPermutedTwice(Mutation):
    """The rows of Q and K are permuted by the converter and again by the loader."""

    bug: ClassVar[str] = "Q and K are permuted twice"
    shows: ClassVar[str] = "position 0 exact, wrong from position 1 on"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.attn.q_proj"
    remedy: ClassVar[str] = "permute the rows of Q and K once"

    def applies(self, config: Any) -> bool:
        """Families whose GGUF conversion permutes Q and K."""
        return is_permuted(config)

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Reorder the rows of Q and K of every layer."""
        q, k = model.config.num_attention_heads, model.config.num_key_value_heads
        return tensors_replaced([*permuted(model, "q_proj", q, to_interleaved), *permuted(model, "k_proj", k, to_interleaved)])
