"""A band that was calculated lets a healthy engine of its arithmetic in, and keeps a weak bug out."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from logitproof import catalog
from logitproof.bands.band import Band
from logitproof.bands.calculated import METRIC, Calibration, calculated_band, tokens_sha256
from logitproof.bands.power import Effects, Stretch, power_of_band, power_of_gate, read_effects, write_effects
from logitproof.calibration.effects import measure_effects
from logitproof.calibration.repeat import repeat
from logitproof.calibration.subject import Subject
from logitproof.comparison.compare import compare
from logitproof.contract.arithmetic import Arithmetic
from logitproof.contract.contract import Gate
from logitproof.engines.transformers import Transformers
from logitproof.errors import ContractError
from logitproof.reference.predict import Predictor
from logitproof.runs.calibrations import Sides

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
    with catalog.load("mutations", bug)().applied_to(engine.reference.model) if bug else nullcontext():
        logits = engine.score(IDS, "prefill").logits
    found = compare(predictor.exact(IDS), logits, labels=np.array([*IDS[1:], -1])).metrics[METRIC]
    band = calculated_band(calibration)
    outside = [rms > one.match for rms, one in zip(found, band.along(IDS, 0, len(IDS)), strict=True)]
    assert bool(np.mean(outside) <= band.beyond) is inside


NAMES = ("norm.eps_value", "norm.eps_outside_root", "norm.cast_order", "attention.scale_missing")


@pytest.fixture(scope="module")
def effects(predictor: Predictor, calibration: Calibration) -> Effects:
    sides = Sides("qwen3", "original", "original", Arithmetic(base="float64"), Arithmetic(base="bfloat16"))
    subject = Subject((predictor, predictor), sides, calibration, [IDS])
    return measure_effects(MODEL, [subject], metrics=["kl_divergence"], bugs=NAMES)["key"]


def test_the_power_of_a_band_is_the_weakest_bug_that_it_catches(calibration: Calibration, effects: Effects) -> None:
    power = power_of_band(calculated_band(calibration), effects, [Stretch(IDS)])
    assert power is not None and (power.caught, power.known, power.weakest) == (2, 3, "norm.eps_value")
    assert power.missed == {}, "what is missed is below the noise"
    typed = power_of_band(Band(100.0, 200.0, 0.0, "of nobody"), effects, [Stretch(IDS)])
    assert typed is not None and typed.caught < 2 and "norm.eps_value" in typed.missed


@pytest.mark.parametrize(("bound", "caught"), [(1e-12, 3), (1e-2, 2), (0.3, 1), (1e9, 0)])
def test_a_gate_catches_less_the_looser_it_is(effects: Effects, bound: float, caught: int) -> None:
    gate = Gate(id="kl", metric="kl_divergence", at_most=bound, basis="a reason of more than ten letters")
    power = power_of_gate(gate, effects, [(IDS, 0, range(len(IDS)))])
    assert power is not None and power.caught == caught


def test_what_was_not_kept_has_no_power_and_files_keep_what_was(effects: Effects, tmp_path: Path) -> None:
    gate = Gate(id="kl", metric="cosine", at_least=0.9, basis="a reason of more than ten letters")
    assert power_of_gate(gate, effects, [(IDS, 0, [1])]) is None
    assert power_of_gate(gate.model_copy(update={"metric": "kl_divergence"}), effects, [(IDS[1:], 0, [1])]) is None
    path = write_effects(tmp_path, "key", effects)
    again = read_effects(tmp_path, "key")
    assert again is not None and again.sizes == effects.sizes
    assert again.columns.keys() == effects.columns.keys()
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ContractError, match="damaged"):
        read_effects(tmp_path, "key")
