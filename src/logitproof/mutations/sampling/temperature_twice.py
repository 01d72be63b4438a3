"""The temperature is applied twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from logitproof.mutations.sampling._sampler import WrongSampler
from logitproof.protocol.sampler import Sampling, probabilities


@dataclass
class TemperatureTwice(WrongSampler):
    """The temperature is applied by the engine and by its caller."""

    bug: ClassVar[str] = "logits are divided by the temperature twice"
    shows: ClassVar[str] = "logits exact, text tamer than asked for below temperature 1"
    seen_in: ClassVar[tuple[str, ...]] = ("dynamo #12934",)
    remedy: ClassVar[str] = "divide once"

    def drawn_from(self, logits: np.ndarray, token_ids: Sequence[int], sampling: Sampling) -> np.ndarray:
        """Drawn at the square of the temperature."""
        return probabilities(logits, token_ids, replace(sampling, temperature=sampling.temperature**2))
