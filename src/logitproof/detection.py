"""Detection power: the weakest known bug that a calculated band would catch in a model, and those that it would not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from logitproof import catalog
from logitproof.calibrate import METRIC, Calibration, calculated_band, scale, tokens_sha256
from logitproof.diagnose import PREFILL_NEEDS, load_reference

LONGEST = 96
SEQUENCES = 2


@dataclass(frozen=True)
class Power:
    """Bugs by the RMS of what each changes over that of the noise; infinite where a logit is no number."""

    caught: Mapping[str, float]
    missed: Mapping[str, float]

    @property
    def weakest(self) -> str:
        """The weakest bug that is caught, with its size; empty where none is."""
        name = min(self.caught, key=lambda one: self.caught[one], default="")
        return f"{name} ({self.caught[name]:.2g} times the noise)" if name else ""


def detection_power(
    model: Path, calibration: Calibration, sequences: Sequence[Sequence[int]], bugs: Sequence[str] | None = None
) -> Power:
    """Plant every bug that one pass can show in the HF model of the folder, and add the noise of the calibration to it.

    Only `bugs`, where they are named. Noise and bug are independent, so their squares add. Raises EnvironmentFailed without
    torch.
    """
    import torch

    band = calculated_band(calibration)
    reference = load_reference(model)
    chosen = [list(ids) for ids in sequences[:SEQUENCES]]
    names = [tokens_sha256(ids) for ids in chosen]
    noise = np.concatenate([scale(calibration.sequences[name].fixed[METRIC])[:LONGEST] for name in names])
    match = np.concatenate([band.match[name][:LONGEST] for name in names])

    def logits(mutation: Any = None) -> np.ndarray:
        with torch.inference_mode(), mutation.applied_to(reference) if mutation else nullcontext():
            rows = [reference(torch.tensor([ids[:LONGEST]]), use_cache=False).logits[0].double().numpy() for ids in chosen]
        return np.concatenate(rows)

    right, caught, missed = logits(), dict[str, float](), dict[str, float]()
    for name in catalog.entries("mutations") if bugs is None else bugs:
        kind = catalog.load("mutations", name)
        if kind.equivalent or kind.needs not in PREFILL_NEEDS or not (mutation := kind()).applies(reference.config):
            continue
        try:
            delta = logits(mutation) - right
        except RuntimeError:
            continue  # shapes that this bug cannot have in this model
        delta -= delta.mean(axis=1, keepdims=True)
        effect = np.sqrt((delta**2).mean(axis=1))
        outside = ~(np.sqrt(effect**2 + noise**2) <= match)
        size = float(np.sqrt(np.mean(effect**2)) / np.sqrt(np.mean(noise**2)))
        (caught if outside.mean() > band.beyond else missed)[name] = size if np.isfinite(size) else np.inf
    return Power(caught, missed)
