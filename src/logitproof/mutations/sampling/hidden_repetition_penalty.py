"""A repetition penalty is on although nobody asked for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from logitproof.mutations.sampling._sampler import WrongSampler
from logitproof.protocol.sampler import Sampling, probabilities


@dataclass
class HiddenRepetitionPenalty(WrongSampler):
    """A repetition penalty is on although nobody asked for it, also in greedy decoding."""

    bug: ClassVar[str] = "a default repetition penalty is applied"
    shows: ClassVar[str] = "logits exact, greedy text parts where a token would repeat"
    seen_in: ClassVar[tuple[str, ...]] = ("set-up faults of several parity reports",)
    remedy: ClassVar[str] = "switch every penalty off, or apply it on both sides"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"penalty": (1.1, 1.05, 1.3)}

    penalty: float = 1.1

    def drawn_from(self, logits: np.ndarray, token_ids: Sequence[int], sampling: Sampling) -> np.ndarray:
        """The right sampler with the penalty."""
        return probabilities(logits, token_ids, replace(sampling, repetition_penalty=self.penalty))
