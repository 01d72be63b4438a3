"""Min-p is taken as a probability, not as a share of the best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from logitproof.mutations.sampling._sampler import WrongSampler
from logitproof.protocol.sampler import Sampling, probabilities


@dataclass
class MinPAbsolute(WrongSampler):
    """Min-p cuts at a probability, not at a share of the best token's."""

    bug: ClassVar[str] = "min-p is compared with the probability itself"
    shows: ClassVar[str] = "logits exact, fewer tokens can be drawn where the best is unlikely"
    seen_in: ClassVar[tuple[str, ...]] = ("kekzl/imp M21",)
    remedy: ClassVar[str] = "compare with min_p times the largest probability"

    def drawn_from(self, logits: np.ndarray, token_ids: Sequence[int], sampling: Sampling) -> np.ndarray:
        """Cut at min_p itself; the best token stays."""
        p = probabilities(logits, token_ids, replace(sampling, min_p=0.0))
        p = np.where((p < sampling.min_p) & (p < p.max()), 0.0, p)
        return np.asarray(p / p.sum())
