from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from logitproof.errors import ContractError
from logitproof.metrics import Better, RowMetric


@dataclass
class Logit(RowMetric):
    """The candidate's logit of one token less the reference's, as both are written: no shift is removed.

    `token` is 0 unless another is named; not measured where a side does not hold it.
    """

    unit: ClassVar[str] = "logits"
    better: ClassVar[Better] = "zero"
    formula: ClassVar[str] = "z_t[token] - z_r[token]"

    token: int = 0

    def __post_init__(self) -> None:
        if self.token < 0:
            raise ContractError(f"token is {self.token}", remedy="give the id of a token")

    def compute_rows(self, reference: np.ndarray, candidate: np.ndarray) -> np.ndarray:
        if self.token >= reference.shape[1]:
            return np.full(len(reference), np.nan)
        # A token that both mask has no difference.
        with np.errstate(invalid="ignore"):
            return np.asarray(candidate[:, self.token], np.float64) - np.asarray(reference[:, self.token], np.float64)
