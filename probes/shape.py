"""What a probe is made of: a config in which no two sizes, and no two tensors, can be mistaken for each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SIZES: dict[str, Any] = {
    "hidden_size": 60, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 6, "head_dim": 16,
    "num_key_value_heads": 2, "max_position_embeddings": 1024, "tie_word_embeddings": False, "attention_dropout": 0.0,
}  # fmt: skip
LOCAL = ["sliding_attention", "full_attention", "sliding_attention"]


@dataclass(frozen=True)
class Shape:
    """One probe: transformers config class and arguments, tokenizer rules, and what it shows.

    `tokenizer` is one of `words.VOCABULARIES`. Weights have `bits` significant bits: 8 fit bfloat16 and float16, 11 only
    float16, in which they are then kept.
    """

    config_class: str
    config: dict[str, Any]
    tokenizer: str
    exposes: str
    seed: int
    window: int = 0
    padded_rows: int = 0
    outliers: bool = False
    bits: int = 8
