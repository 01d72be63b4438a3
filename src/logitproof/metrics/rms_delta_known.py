from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from logitproof.metrics.rms_delta_logit import RmsDeltaLogit


@dataclass
class RmsDeltaKnown(RmsDeltaLogit):
    """Root mean square of the log-probability difference over the tokens that both rows name.

    Where both rows are whole, `rms_delta_logit` itself; of an engine that gives the best K tokens only, what these settle.
    """

    formula: ClassVar[str] = "sqrt(mean (log q_i - log p_i)^2) over the i that both name"
