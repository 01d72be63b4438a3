from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from logitproof.metrics import Better, TiedMetric


@dataclass
class Top5SetOutsideTies(TiedMetric):
    """Whether both rows have the same five best tokens, ties of the reference at the edge counting as the same: 1 or 0.

    A tie is what the band of the cell calls one; without a band, equal logits alone.
    """

    unit: ClassVar[str] = "share"
    better: ClassVar[Better] = "higher"
    formula: ClassVar[str] = "[top5_set_regret <= tie margin]"
    least: ClassVar[float] = 0.0
    greatest: ClassVar[float] = 1.0
    strict: ClassVar[str] = "top5_set"
    shortfall: ClassVar[str] = "top5_set_regret"
