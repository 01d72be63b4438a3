from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from logitproof.metrics import Better, Metric

if TYPE_CHECKING:
    from logitproof.rows.statistics import RowStats


@dataclass
class DeltaP(Metric):
    """Change of the probability of the next token; its rms is llama.cpp's RMS delta p. Not measured without a next token."""

    unit: ClassVar[str] = "probability"
    better: ClassVar[Better] = "zero"
    formula: ClassVar[str] = "q(y) - p(y), llama.cpp perplexity --kl-divergence"
    least: ClassVar[float] = -1.0
    greatest: ClassVar[float] = 1.0

    def compute(self, stats: RowStats) -> np.ndarray:
        q = np.exp(stats.label_candidate - stats.max_candidate - stats.log_mass_candidate)
        p = np.exp(stats.label_reference - stats.max_reference - stats.log_mass_reference)
        return q - p
