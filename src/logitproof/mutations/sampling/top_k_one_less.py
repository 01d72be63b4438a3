"""Top-k keeps one token less."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from logitproof.mutations.sampling._sampler import WrongSampler
from logitproof.protocol.sampler import Sampling, probabilities


@dataclass
class TopKOneLess(WrongSampler):
    """Top-k keeps k - 1 tokens."""

    bug: ClassVar[str] = "top-k is off by one"
    shows: ClassVar[str] = "logits exact, the k-th token never drawn"
    seen_in: ClassVar[tuple[str, ...]] = ("kekzl/imp M22",)
    remedy: ClassVar[str] = "keep k tokens"

    def drawn_from(self, logits: np.ndarray, token_ids: Sequence[int], sampling: Sampling) -> np.ndarray:
        """The right sampler with k - 1."""
        return probabilities(logits, token_ids, replace(sampling, top_k=max(sampling.top_k - 1, 1) if sampling.top_k else 0))
