from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from logitproof.errors import ContractError
from logitproof.metrics import Better, RowMetric


@dataclass
class KlDivergenceFirst100(RowMetric):
    """KL divergence of the first `count` logits of a row alone, as if the vocabulary ended there (100 unless given).

    Harnesses that dump so many logits of a row measure this; of `first 100 tokens` speaks a gate's scope, which counts
    positions. Entries that both sides mask count in neither; not measured where one side alone masks one or holds no whole row.
    """

    unit: ClassVar[str] = "nats"
    better: ClassVar[Better] = "lower"
    formula: ClassVar[str] = "sum p log(p/q), p = softmax(z_r[:count]), q = softmax(z_t[:count])"
    least: ClassVar[float] = 0.0

    count: int = 100

    def __post_init__(self) -> None:
        if self.count < 2:
            raise ContractError(f"count is {self.count}", remedy="give two logits at least")

    def compute_rows(self, reference: np.ndarray, candidate: np.ndarray) -> np.ndarray:
        log_p, log_q = (_log_softmax(np.asarray(rows[:, : self.count], np.float64)) for rows in (reference, candidate))
        masked = np.isneginf(log_p) & np.isneginf(log_q)
        with np.errstate(invalid="ignore"):
            terms = np.exp(log_p) * (log_p - log_q)
        values = np.where(masked, 0.0, terms).sum(axis=1)
        return np.where(np.isfinite(values), np.maximum(values, 0.0), np.nan)


def _log_softmax(rows: np.ndarray) -> np.ndarray:
    """float64 [T, n] of logits [T, n]; a row of nothing but -inf is NaN."""
    with np.errstate(invalid="ignore", divide="ignore"):
        shifted = rows - rows.max(axis=1, keepdims=True)
        return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))
