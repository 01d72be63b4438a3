"""One section of the report, and the bars that release notes quote."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Met = Literal["met", "missed", "not measured"]
WIDE = ("original", "F32", "F16", "BF16")


@dataclass(frozen=True)
class Bar:
    """What must hold.

    `greedy10` is the share of the first ten tokens that agree, tie flips apart; `kl` in nats.
    """

    name: str
    greedy10: float
    kl: float
    tv: float
    alpha: float = 0.01

    @classmethod
    def of(cls, quantization: str) -> Bar:
        """The bar of a release note: 16 bits or more, or fewer."""
        return FP16 if quantization in WIDE else Q4


FP16 = Bar("16-bit", 0.99, 0.01, 0.02)
Q4 = Bar("4-bit", 0.95, 0.15, 0.2)


@dataclass(frozen=True)
class Section:
    """One question: its figures, whether it is met, and one sentence that says so."""

    name: str
    met: Met
    said: str
    figures: dict[str, Any] = field(default_factory=dict)
