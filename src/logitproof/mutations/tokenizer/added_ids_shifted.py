"""Ids of added tokens are off by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations.tokenizer._text import WrongTokenizer


@dataclass
class AddedIdsShifted(WrongTokenizer):
    """Ids of added tokens are off by one."""

    bug: ClassVar[str] = "added tokens are numbered from the wrong end of the vocabulary"
    shows: ClassVar[str] = "chat prompts wrong, plain text exact"
    seen_in: ClassVar[tuple[str, ...]] = ()
    remedy: ClassVar[str] = "take the ids of added tokens from the tokenizer's file"

    def tokens(self, token_ids: Sequence[int], tokenizer: Any) -> list[int]:
        """The id after it, for every id that is no word of the vocabulary."""
        size = tokenizer.backend_tokenizer.get_vocab_size(with_added_tokens=False)
        return [one + 1 if one >= size else one for one in token_ids]
