"""Only ASCII letters are letters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations.tokenizer._text import WrongRules, pattern_replaced


@dataclass
class AsciiLetters(WrongRules):
    """Only ASCII letters are letters."""

    bug: ClassVar[str] = "the regular expression engine has no Unicode classes"
    shows: ClassVar[str] = "words with other letters than A to Z give other ids"
    seen_in: ClassVar[tuple[str, ...]] = ()
    remedy: ClassVar[str] = "use an engine with Unicode classes"

    def changed(self, rules: dict[str, Any]) -> dict[str, Any]:
        r"""`A-Za-z` for `\p{L}`, `0-9` for `\p{N}`."""
        rules = pattern_replaced(rules, r"[^\s\p{L}\p{N}]", r"[^\sA-Za-z0-9]")
        rules = pattern_replaced(rules, r"[^\r\n\p{L}\p{N}]", r"[^\r\nA-Za-z0-9]")
        return pattern_replaced(pattern_replaced(rules, r"\p{L}", "[A-Za-z]"), r"\p{N}", "[0-9]")
