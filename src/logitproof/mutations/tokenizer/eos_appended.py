"""The end-of-text token is put after every prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations.tokenizer._text import WrongTokenizer


@dataclass
class EosAppended(WrongTokenizer):
    """The end-of-text token is put after every prompt."""

    bug: ClassVar[str] = "the prompt is closed before the model may continue it"
    shows: ClassVar[str] = "all positions exact but the one that matters; the continuation begins a new text"
    seen_in: ClassVar[tuple[str, ...]] = ()
    remedy: ClassVar[str] = "add the end-of-text token in training only"

    def tokens(self, token_ids: Sequence[int], tokenizer: Any) -> list[int]:
        """One more id."""
        return [*token_ids, int(tokenizer.eos_token_id)]
