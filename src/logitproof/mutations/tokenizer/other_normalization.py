"""NFC is applied where the tokenizer has none, or left out where it has it."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from tokenizers import Tokenizer

from logitproof.mutations.tokenizer._text import WrongTokenizer, encoded, text_of


@dataclass
class OtherNormalization(WrongTokenizer):
    """NFC is applied where the tokenizer has none, or left out where it has it."""

    bug: ClassVar[str] = "the normalizer is not the tokenizer's"
    shows: ClassVar[str] = "only texts with combining marks give other ids"
    seen_in: ClassVar[tuple[str, ...]] = ()
    remedy: ClassVar[str] = "read the normalizer from the tokenizer's file"

    def tokens(self, token_ids: Sequence[int], tokenizer: Any) -> list[int]:
        """Composed where nothing composes; else by rules without a normalizer."""
        text = text_of(token_ids, tokenizer)
        if tokenizer.backend_tokenizer.normalizer is None:
            return encoded(tokenizer, unicodedata.normalize("NFC", text))
        bare = Tokenizer.from_str(json.dumps(json.loads(tokenizer.backend_tokenizer.to_str()) | {"normalizer": None}))
        return list(bare.encode(text).ids)
