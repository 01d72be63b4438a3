from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from logitproof.metrics.kl_divergence import KlDivergence


@dataclass
class KlDivergenceLower(KlDivergence):
    """The least KL divergence that fits what is known of both rows: KL itself where both are whole, less from top-k values."""

    formula: ClassVar[str] = "inf of sum p (log p - log q) over all p, q that fit"
