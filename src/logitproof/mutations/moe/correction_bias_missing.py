"""The correction bias is left out of the choice."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations import Mutation
from logitproof.reference import parts
from logitproof.reference.patches import tensors_replaced


@dataclass
class CorrectionBiasMissing(Mutation):
    """The experts are chosen without the correction bias."""

    bug: ClassVar[str] = "the correction bias is left out of the choice"
    shows: ClassVar[str] = "discrete: other experts where scores are close, heavy tail"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.moe.index"
    remedy: ClassVar[str] = "add e_score_correction_bias to the scores before the choice"

    def applies(self, config: Any) -> bool:
        """Whether a model of this config has the part that the bug is in."""
        return any(hasattr(router, "e_score_correction_bias") for router in parts.routers(parts.skeleton(config)))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Set every router's correction bias to zero."""
        found = [router.e_score_correction_bias for router in parts.routers(model)]
        return tensors_replaced([(bias, torch.zeros_like(bias)) for bias in found])
