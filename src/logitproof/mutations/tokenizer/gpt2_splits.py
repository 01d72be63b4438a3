"""Text is split as GPT-2 does it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations.tokenizer._text import WrongRules, patterns


@dataclass
class Gpt2Splits(WrongRules):
    """Text is split as GPT-2 does it."""

    bug: ClassVar[str] = "the default regular expression stands for the model's own"
    shows: ClassVar[str] = "numbers, contractions and line breaks give other ids"
    seen_in: ClassVar[tuple[str, ...]] = ("llama.cpp #6809",)
    remedy: ClassVar[str] = "choose the pre-tokenizer by the model"

    def changed(self, rules: dict[str, Any]) -> dict[str, Any]:
        """GPT-2's expression in place of the model's own."""
        for one in patterns(rules):
            one["pattern"]["Regex"] = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
        return rules
