"""What a calibration is of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from logitproof.bands.calculated import Calibration
from logitproof.reference.predict import Predictor
from logitproof.runs.calibrations import Sides


@dataclass(frozen=True)
class Subject:
    """A calibration and what it was made of: the predictors of both sides' weights, and all its sequences."""

    predictors: tuple[Predictor, Predictor]
    sides: Sides
    calibration: Calibration
    sequences: Sequence[tuple[int, ...]]
