"""How large both parts of a quantized cell's divergence should be, from the arithmetics of reference and engine.

The weights' own error is calculated in float64. What the reference's rounding adds to it, and what the engine's rounding is on
the same dequantized weights, comes from repetitions under noise, as for the bands of a contract.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from logitproof.bands.calculated import METHOD, METRIC, Repeated, method_factor, one_more
from logitproof.calibration.repeat import repeat
from logitproof.errors import EnvironmentFailed
from logitproof.runs.calibrations import Sides

if TYPE_CHECKING:
    from logitproof.reference.predict import Predictor

Band = dict[str, tuple[float, float]]
"""The least and the most by metric: mean KL divergence in nats, RMS in logits."""
NARROWEST = 1e-3
"""Share of the expected value below which no band is narrower: float64 in place of the reference's own float32 weights."""


class Expected:
    """What one file should show, asked for several engines on the same sequences."""

    def __init__(self, original: Path, file: Path, config: Path | None, runs: int) -> None:
        try:
            from logitproof.reference.predict import Predictor
        except ImportError as error:
            remedy = "pip install 'logitproof[transformers]', or leave the bands out with --runs 0"
            raise EnvironmentFailed(f"bands are calculated with transformers: {error}", remedy=remedy) from None
        self._truth, self._own, self._runs = Predictor(original, config), Predictor(file, config), runs
        self._known: dict[tuple[Sides, tuple[int, ...]], Repeated] = {}

    def quantization(self, sides: Sides, sequences: Sequence[tuple[int, ...]]) -> Band:
        """The reference on the original weights against itself on the file: as large as the weights say, up to rounding."""
        rows = self._rows(self._truth, replace(sides, candidate=sides.reference), sequences)
        band = {}
        for name, values in rows.items():
            middle = float(values.mean())
            half = max(METHOD * (one_more(list(values)) - middle), NARROWEST * middle)
            band[name] = (max(middle - half, 0.0), middle + half)
        return band

    def engine(self, sides: Sides, sequences: Sequence[tuple[int, ...]]) -> Band:
        """The reference on the file against the candidate on it: at most what rounding makes."""
        rows = self._rows(self._own, replace(sides, truth=sides.label), sequences)
        return {name: (0.0, method_factor(name) * one_more(list(values))) for name, values in rows.items()}

    def _rows(self, truth: Predictor, sides: Sides, sequences: Sequence[tuple[int, ...]]) -> dict[str, np.ndarray]:
        """[N] of each metric over all sequences; the experts are free."""
        for ids in sequences:
            if (sides, ids) not in self._known:
                self._known[sides, ids] = repeat(truth, self._own, sides, ids, self._runs, 0)
        parts = [self._known[sides, ids].free for ids in sequences]
        kl = np.concatenate([part["kl_divergence"] for part in parts], axis=1)
        squares = np.concatenate([part[METRIC] ** 2 for part in parts], axis=1)
        return {"kl_divergence": kl.mean(axis=1), METRIC: np.sqrt(squares.mean(axis=1))}
