"""The permutation of the rows of Q and K that GGUF files of Llama models have."""

from __future__ import annotations

from typing import Any

from logitproof.mutations import Record
from logitproof.mutations._tensors import Change, WrongTensors
from logitproof.mutations.weights._permutation import head_size, is_permuted, permuted, to_interleaved, to_split_half


class _WrongPermutation(WrongTensors):
    def applies(self, config: Any) -> bool:
        """Families whose GGUF conversion permutes Q and K."""
        return is_permuted(config)


class QkUnpermuted(_WrongPermutation, id="weights.qk_unpermuted"):
    """The permutation of Q and K is left out in conversion.

    The same model as `rope.pairing.interleaved`: logits cannot tell the two apart.
    """

    record = Record(
        shows="position 0 exact, wrong from position 1 on",
        first_tap="layers.0.attn.q_proj",
        remedy="permute the rows of Q and K in conversion if the engine rotates interleaved pairs",
        seen_in=("llama2.c #286",),
    )

    def changes(self, model: Any) -> list[Change]:
        q, k = model.config.num_attention_heads, model.config.num_key_value_heads
        return [*permuted(model, "q_proj", q, to_split_half), *permuted(model, "k_proj", k, to_split_half)]


class QkPermutedTwice(_WrongPermutation, id="weights.qk_permuted_twice"):
    """The rows of Q and K are permuted twice, by the converter and by the loader."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on",
        first_tap="layers.0.attn.q_proj",
        remedy="permute the rows of Q and K once",
    )

    def changes(self, model: Any) -> list[Change]:
        q, k = model.config.num_attention_heads, model.config.num_key_value_heads
        return [*permuted(model, "q_proj", q, to_interleaved), *permuted(model, "k_proj", k, to_interleaved)]


class KPermutedWithQHeads(_WrongPermutation, id="weights.k_permuted_with_q_heads"):
    """K is permuted with Q's number of heads."""

    record = Record(
        shows="V exact, K wrong: position 0 exact, wrong from position 1 on, only with grouped queries",
        first_tap="layers.0.attn.k_proj",
        remedy="permute K with num_key_value_heads",
        seen_in=("TinyLlama #24",),
    )

    def applies(self, config: Any) -> bool:
        """Those of them with grouped queries."""
        q, k = config.num_attention_heads, config.num_key_value_heads
        return super().applies(config) and q != k and k * head_size(config) % (2 * q) == 0

    def changes(self, model: Any) -> list[Change]:
        """Permuted wrongly, undone rightly."""
        q, k = model.config.num_attention_heads, model.config.num_key_value_heads
        return list(permuted(model, "k_proj", k, lambda rows, heads: to_split_half(to_interleaved(rows, q), heads)))
