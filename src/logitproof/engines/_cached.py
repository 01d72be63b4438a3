"""An engine that feeds tokens to a cache: all at once is prefill, one by one is decode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from logitproof.engines import Engine, Generated, Mode, Scored
from logitproof.errors import Refusal
from logitproof.rows.top import best


@dataclass
class Cached(Engine):
    """`_begin` empties the cache, `_step` feeds tokens to it; `_vocab_size` and `_context_length` are set by `load`."""

    _vocab_size: int = field(default=0, init=False)
    _context_length: int | None = field(default=None, init=False)

    def score(self, token_ids: Sequence[int], mode: Mode) -> Scored:
        """Logits [T, V]: in one step, or in T steps of one token."""
        ids = self._checked(token_ids)
        self._begin(len(ids))
        parts = [ids] if mode == "prefill" else [[token] for token in ids]
        return Scored(np.concatenate([self._step(part) for part in parts]))

    def generate(self, token_ids: Sequence[int], max_new_tokens: int, stop: Sequence[int]) -> Generated:
        """The prompt in one step, then the argmax of each step; among equal logits the lowest id is taken."""
        part = self._checked(token_ids, more=max_new_tokens)
        self._begin(len(part) + max_new_tokens)
        chosen: list[int] = []
        rows: list[np.ndarray] = []
        while len(chosen) < max_new_tokens and not (chosen and chosen[-1] in stop):
            rows.append(self._step(part)[-1])
            chosen.append(best(rows[-1]))
            part = chosen[-1:]
        logits = np.stack(rows) if rows else np.empty((0, self._vocab_size), np.float32)
        return Generated(chosen, logits, "stop" if chosen and chosen[-1] in stop else "length")

    def _begin(self, positions: int) -> None:
        """Empty the cache; at most `positions` tokens will be fed."""
        raise NotImplementedError

    def _step(self, token_ids: Sequence[int]) -> np.ndarray:
        """Feed these tokens; their logits float32 [n, V]."""
        raise NotImplementedError

    def _checked(self, token_ids: Sequence[int], *, more: int = 0) -> list[int]:
        ids = [int(token) for token in token_ids]
        if not self._vocab_size:
            raise Refusal("no model is loaded", remedy="send load first")
        if max(ids) >= self._vocab_size:
            raise Refusal(f"token id {max(ids)} is outside the vocabulary of {self._vocab_size}", field="token_ids")
        if self._context_length and len(ids) + more > self._context_length:
            text = f"{len(ids) + more} positions are more than its {self._context_length}"
            raise Refusal(text, field="token_ids", remedy="give a shorter prompt")
        return ids
