from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from logitproof.metrics import Better, TiedMetric


@dataclass
class Top1OutsideTies(TiedMetric):
    """Whether both rows choose the same token, a tie of the reference counting as the same: 1 or 0.

    A tie is what the band of the cell calls one; without a band, equal logits alone.
    """

    unit: ClassVar[str] = "share"
    better: ClassVar[Better] = "higher"
    formula: ClassVar[str] = "[regret <= tie margin]"
    least: ClassVar[float] = 0.0
    greatest: ClassVar[float] = 1.0
    strict: ClassVar[str] = "top1"
    shortfall: ClassVar[str] = "regret"
