"""Special tokens are read as text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations.tokenizer._text import WrongRules


@dataclass
class SpecialTokensAsText(WrongRules):
    """Special tokens are read as text."""

    bug: ClassVar[str] = "the text of a special token is split into ordinary tokens"
    shows: ClassVar[str] = "chat prompts wrong, plain text exact"
    seen_in: ClassVar[tuple[str, ...]] = ()
    remedy: ClassVar[str] = "parse special tokens in templates, and only there"

    def changed(self, rules: dict[str, Any]) -> dict[str, Any]:
        """Without any added token."""
        return rules | {"added_tokens": []}
