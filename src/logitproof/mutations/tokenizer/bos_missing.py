"""The begin-of-text token is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations.tokenizer._text import WrongTokenizer, beginning


@dataclass
class BosMissing(WrongTokenizer):
    """The begin-of-text token is missing."""

    bug: ClassVar[str] = "the token that belongs before every text is not put there"
    shows: ClassVar[str] = "all positions wrong, the first ones most"
    seen_in: ClassVar[tuple[str, ...]] = ("InfiniLM #388", "llama.cpp #8650")
    remedy: ClassVar[str] = "read add_bos_token from the tokenizer"

    def tokens(self, token_ids: Sequence[int], tokenizer: Any) -> list[int]:
        """Without what stands before every text."""
        return list(token_ids)[len(beginning(tokenizer)) :]
