"""Digits are split one by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations.tokenizer._text import WrongRules, pattern_replaced


@dataclass
class DigitsOneByOne(WrongRules):
    """Digits are split one by one."""

    bug: ClassVar[str] = "numbers are not split into groups of three"
    shows: ClassVar[str] = "numbers of two or more digits give other ids"
    seen_in: ClassVar[tuple[str, ...]] = ("llama.cpp #6809",)
    remedy: ClassVar[str] = "choose the pre-tokenizer by the model"

    def changed(self, rules: dict[str, Any]) -> dict[str, Any]:
        r"""`\p{N}` in place of `\p{N}{1,3}`."""
        return pattern_replaced(rules, r"\p{N}{1,3}", r"\p{N}")
