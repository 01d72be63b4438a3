"""Logits are capped in a family that does not cap them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.head._logits import WrongLogits


@dataclass
class SoftcapInvented(WrongLogits):
    """Logits are capped in a family that does not cap them."""

    bug: ClassVar[str] = "a soft-cap is applied to the logits"
    shows: ClassVar[str] = "large logits too small, the order of tokens kept: greedy text is exact"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "logits"
    remedy: ClassVar[str] = "cap logits only where the config has final_logit_softcapping"
    ranges: ClassVar[dict[str, tuple[float, float]]] = {"cap": (2.0, 200.0)}

    cap: float = 30.0

    def applies(self, config: Any) -> bool:
        """Families without a cap."""
        return not getattr(config, "final_logit_softcapping", None)

    def reported(self, model: Any, logits: torch.Tensor) -> torch.Tensor:
        """Capped as Gemma 2 caps them."""
        return self.cap * torch.tanh(logits / self.cap)
