"""Log-likelihoods of text under any engine: what evaluation harnesses ask of a model."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from logitproof.errors import ContractError
from logitproof.jobs.worker import Worker
from logitproof.protocol.messages import LoadResult
from logitproof.quality.mismatch import label_log_probabilities
from logitproof.rows.distance import first_difference


class Likelihood:
    """Scores continuations with a loaded worker; rows of a context that was just scored are used again.

    A text without a context follows the model's begin token, or its end token where it has no begin token, as in
    lm-evaluation-harness.
    """

    def __init__(self, worker: Worker, loaded: LoadResult) -> None:
        self._worker = worker
        self._prefix = loaded.bos_token_id if loaded.bos_token_id is not None else next(iter(loaded.eos_token_ids), None)
        self._folder = tempfile.TemporaryDirectory()
        self._last: tuple[list[int], np.ndarray] = ([], np.empty((0, 0)))

    def close(self) -> None:
        """Remove what was written."""
        self._folder.cleanup()

    def __call__(self, context: str, continuation: str) -> float:
        """Sum of the log-probabilities in nats of the tokens that `continuation` adds to `context`."""
        return self.of(context, continuation)[0]

    def of(self, context: str, continuation: str) -> tuple[float, bool]:
        """That sum, and whether greedy decoding would give the continuation."""
        if not context:
            return self.alone(continuation)
        before, whole = self._worker.tokenize(context), self._worker.tokenize(context + continuation)
        start = first_difference(before, whole)
        if start == 0 or start >= len(whole):
            text = f"the continuation {continuation[:40]!r} has no token of its own after {context[-40:]!r}"
            raise ContractError(text, remedy="give a context that ends a word, and a continuation that is not empty")
        return self._from(whole, start)

    def alone(self, text: str) -> tuple[float, bool]:
        """That sum of all tokens of a text without a context."""
        whole = self._worker.tokenize(text)
        if self._prefix is not None and whole[:1] != [self._prefix]:
            whole = [self._prefix, *whole]
        if len(whole) < 2:
            raise ContractError(f"{text[:40]!r} has no token that another one stands before", remedy="give a longer text")
        return self._from(whole, 1)

    def _from(self, whole: list[int], start: int) -> tuple[float, bool]:
        logits = self._rows(whole)
        log_probabilities = label_log_probabilities(logits, whole, start)
        greedy = (logits[start - 1 : len(whole) - 1].argmax(axis=1) == np.asarray(whole[start:])).all()
        return float(log_probabilities.sum()), bool(greedy)

    def _rows(self, token_ids: list[int]) -> np.ndarray:
        """Logits at every position; the row before a last token does not depend on it."""
        fed = token_ids[:-1]
        if self._last[0] != fed:
            path = Path(self._folder.name) / "logits.bin"
            self._last = (fed, np.array(self._worker.score(fed, "prefill", path).logits.open()))
        rows = self._last[1]
        return np.concatenate([rows, rows[-1:]])
