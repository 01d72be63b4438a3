"""The temperature is ignored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from logitproof.mutations.sampling._sampler import WrongSampler
from logitproof.protocol.sampler import Sampling, probabilities


@dataclass
class TemperatureIgnored(WrongSampler):
    """Tokens are drawn at temperature one."""

    bug: ClassVar[str] = "the temperature is not applied"
    shows: ClassVar[str] = "logits exact, text wilder than asked for below temperature 1"
    seen_in: ClassVar[tuple[str, ...]] = ("vLLM #5334",)
    remedy: ClassVar[str] = "divide logits by the temperature"

    def drawn_from(self, logits: np.ndarray, token_ids: Sequence[int], sampling: Sampling) -> np.ndarray:
        """Drawn at temperature one, unless greedy."""
        return probabilities(logits, token_ids, replace(sampling, temperature=min(sampling.temperature, 1.0) and 1.0))
