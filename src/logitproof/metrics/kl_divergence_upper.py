from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from logitproof.metrics.kl_divergence import KlDivergence


@dataclass
class KlDivergenceUpper(KlDivergence):
    """The greatest KL divergence that fits what is known of both rows: KL itself where both are whole, infinite where the
    candidate's tail is not known."""

    formula: ClassVar[str] = "sup of sum p (log p - log q) over all p, q that fit"
