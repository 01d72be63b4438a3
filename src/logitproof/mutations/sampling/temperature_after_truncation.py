"""Temperature comes after top-k, top-p and min-p."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from logitproof.mutations.sampling._sampler import WrongSampler
from logitproof.protocol.sampler import NEUTRAL, Sampling, probabilities, softmax


@dataclass
class TemperatureAfterTruncation(WrongSampler):
    """Truncation looks at the distribution before the temperature."""

    bug: ClassVar[str] = "temperature is applied after truncation, not before"
    shows: ClassVar[str] = "logits exact; above temperature 1 fewer tokens can be drawn, below it more"
    seen_in: ClassVar[tuple[str, ...]] = ("llama.cpp's default order of samplers",)
    remedy: ClassVar[str] = "agree on one order with the reference and pin it"

    def drawn_from(self, logits: np.ndarray, token_ids: Sequence[int], sampling: Sampling) -> np.ndarray:
        """Cut at temperature one, then tempered."""
        if sampling.temperature == 0:
            return probabilities(logits, token_ids, sampling)
        cut = probabilities(logits, token_ids, replace(sampling, temperature=NEUTRAL.temperature))
        with np.errstate(divide="ignore"):
            return softmax(np.log(cut) / sampling.temperature)
