"""A token is put before every text of a model that has none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations.tokenizer._text import WrongTokenizer, beginning


@dataclass
class BosInvented(WrongTokenizer):
    """A token is put before every text of a model that has none."""

    bug: ClassVar[str] = "a begin-of-text token is added although the tokenizer adds none"
    shows: ClassVar[str] = "all positions off by one"
    seen_in: ClassVar[tuple[str, ...]] = ()
    remedy: ClassVar[str] = "read add_bos_token from the tokenizer"

    def tokens(self, token_ids: Sequence[int], tokenizer: Any) -> list[int]:
        """The end-of-text token in front where nothing stands there."""
        return list(token_ids) if beginning(tokenizer) else [int(tokenizer.eos_token_id), *token_ids]
