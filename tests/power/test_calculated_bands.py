"""A band that was calculated lets a healthy engine of its arithmetic in, and keeps a weak bug out."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from logitproof import catalog
from logitproof.arithmetic import Arithmetic
from logitproof.calibrate import METRIC, Calibration, calculated_band, tokens_sha256
from logitproof.calibrate_run import repeat
from logitproof.calibrations import Sides
from logitproof.compare import compare
from logitproof.detection import detection_power
from logitproof.engines._predict import Predictor
from logitproof.engines.transformers import Transformers

MODEL = Path(__file__).parents[2] / "zoo" / "qwen3"
IDS = tuple((7 * at * at + 31 * at) % 1500 for at in range(32))
ABOUT = {"runs": 3, "candidate": "bfloat16", "reference": "float64", "predicted": 0.02, "spread": 1.0}


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(MODEL)


@pytest.fixture(scope="module")
def calibration(predictor: Predictor) -> Calibration:
    sides = Sides("qwen3", "original", "original", Arithmetic(base="float64"), Arithmetic(base="bfloat16"))
    return Calibration("key", ABOUT, {tokens_sha256(IDS): repeat(predictor, predictor, sides, IDS, 3, 0)})


@pytest.mark.parametrize(("bug", "inside"), [(None, True), ("norm.eps_value", False)])
def test_a_bug_of_four_times_the_noise_is_outside_and_bfloat16_is_inside(
    predictor: Predictor, calibration: Calibration, bug: str | None, inside: bool
) -> None:
    engine = Transformers(dtype="bfloat16", threads=1)
    engine.load(MODEL)
    with catalog.load("mutations", bug)().applied_to(engine._model) if bug else nullcontext():
        logits = engine.score(IDS, "prefill").logits
    found = compare(predictor.exact(IDS), logits, labels=np.array([*IDS[1:], -1])).metrics[METRIC]
    band = calculated_band(calibration)
    outside = [rms > one.match for rms, one in zip(found, band.along(IDS, 0, len(IDS)), strict=True)]
    assert bool(np.mean(outside) <= band.beyond) is inside


def test_the_power_of_a_band_is_the_weakest_bug_that_it_catches(calibration: Calibration) -> None:
    names = ("norm.eps_value", "norm.eps_outside_root", "norm.cast_order", "attention.scale_missing")
    power = detection_power(MODEL, calibration, [IDS], names)
    assert set(power.caught) == {"norm.eps_value", "attention.scale_missing"}
    assert set(power.missed) == {"norm.eps_outside_root"} and power.missed["norm.eps_outside_root"] < 1
    assert power.weakest.startswith("norm.eps_value")
