"""A text cut into windows, and which rows of each count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from logitproof.errors import ContractError
from logitproof.files.untrusted import read_text

LEAST = 4
"""Tokens of the smallest window whose second half holds a row that predicts a token of it, beside its last."""


@dataclass(frozen=True)
class Windows:
    """Windows of a text, int64 [windows, context], next to one another; `bos` replaces the first token of each where it is set.

    As in llama-perplexity: of each window the rows of its second half count, without the last, whose next token is not in it.
    """

    token_ids: np.ndarray
    bos: int | None = None

    def __len__(self) -> int:
        return len(self.token_ids)

    @property
    def context(self) -> int:
        """Tokens of a window."""
        return int(self.token_ids.shape[1])

    @property
    def first(self) -> int:
        """Position of the first row that counts."""
        return self.context // 2

    @property
    def rows(self) -> int:
        """Rows of a window that count."""
        return self.context - 1 - self.first

    def fed(self, index: int) -> list[int]:
        """What engines are given of a window."""
        ids: list[int] = self.token_ids[index].tolist()
        return ids if self.bos is None else [self.bos, *ids[1:]]

    def labels(self, index: int) -> np.ndarray:
        """The token [rows] that each row that counts is to predict."""
        return np.asarray(self.token_ids[index, self.first + 1 :])


def cut(token_ids: Sequence[int], context: int, most: int | None, bos: int | None) -> Windows:
    """The windows of a text, `most` of them at most; raises ContractError where there is none."""
    if context < LEAST:
        raise ContractError(f"a window of {context} tokens has no second half", where="--context", remedy=f"{LEAST} and more")
    count = len(token_ids) // context
    if count == 0:
        text = f"the text has {len(token_ids)} tokens, a window {context}"
        raise ContractError(text, where="--text", remedy="give a longer text or a smaller --context")
    count = min(count, most or count)
    return Windows(np.array(token_ids[: count * context], np.int64).reshape(count, context), bos)


def text_of(path: Path) -> str:
    """The text of a file, without the one line end that it closes with, which llama-perplexity drops too."""
    return read_text(path, remedy="give a text file in UTF-8").removesuffix("\n")
