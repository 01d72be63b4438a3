"""The token that reaches top-p is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from logitproof.mutations.sampling._sampler import WrongSampler
from logitproof.protocol.sampler import Sampling, probabilities


@dataclass
class TopPBoundaryLeftOut(WrongSampler):
    """The token that reaches top-p is left out of the nucleus."""

    bug: ClassVar[str] = "the nucleus ends before the token that reaches top-p"
    shows: ClassVar[str] = "logits exact, the least likely token of the nucleus never drawn"
    seen_in: ClassVar[tuple[str, ...]] = ("kekzl/imp M21",)
    remedy: ClassVar[str] = "keep the token whose mass reaches top-p"

    def drawn_from(self, logits: np.ndarray, token_ids: Sequence[int], sampling: Sampling) -> np.ndarray:
        """The last token of the nucleus has no mass, unless it is alone."""
        p = probabilities(logits, token_ids, sampling)
        kept = np.flatnonzero(p)
        if sampling.top_p < 1.0 and len(kept) > 1:
            p[kept[np.argmin(p[kept])]] = 0.0
        return np.asarray(p / p.sum())
