"""The begin-of-text token stands there twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations.tokenizer._text import WrongTokenizer, beginning


@dataclass
class BosDoubled(WrongTokenizer):
    """The begin-of-text token stands there twice."""

    bug: ClassVar[str] = "the template writes the begin-of-text token and the tokenizer adds another"
    shows: ClassVar[str] = "all positions off by one, worse perplexity"
    seen_in: ClassVar[tuple[str, ...]] = ("llama-cpp-python #1501", "llama-cpp-python #1537")
    remedy: ClassVar[str] = "add special tokens once: by the template or by the tokenizer"

    def tokens(self, token_ids: Sequence[int], tokenizer: Any) -> list[int]:
        """Once more."""
        return [*beginning(tokenizer), *token_ids]
