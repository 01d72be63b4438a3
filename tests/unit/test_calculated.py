"""Calculated bands worked out on paper: every constant and every term stands in a number that was computed by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from logitproof.bands import calculated
from logitproof.bands.calculated import (
    METRIC,
    CalculatedBand,
    Calibration,
    Repeated,
    calculated_band,
    calibration_key,
    gate_bound,
    method_factor,
    one_more,
    scale,
    studentized_quantile,
    tokens_sha256,
)
from logitproof.errors import ContractError
from logitproof.files.atomic import content_key

IDS = [1, 2, 3]
ABOUT: dict[str, Any] = {"reference": "float32", "candidate": "bfloat16", "runs": 2, "predicted": 0.02, "spread": 1.5}
TWO = np.array([[3.0, 1.0, 2.0], [4.0, 1.0, 2.0]])
"""Two repetitions of three positions."""


def calibration(
    fixed: np.ndarray = TWO, free: np.ndarray | None = None, flipped: np.ndarray | None = None, **about: Any
) -> Calibration:
    free = fixed if free is None else free
    flips = np.zeros(fixed.shape, bool) if flipped is None else flipped
    sides = [{METRIC: values, "kl_divergence": values / 10, "top1": 1 - values / 10} for values in (fixed, free)]
    return Calibration("key", {**ABOUT, **about}, {tokens_sha256(IDS): Repeated(*sides, flips)})


def test_the_constants_are_those_of_the_docs() -> None:
    assert (calculated.QUANTILE, calculated.SIGMAS, calculated.METHOD) == (0.999, 3.0902, 1.25)
    assert (calculated.WRONG, calculated.CLUSTERED, calculated.FORMAT) == (2.0, 4.0, 2)
    assert math.erf(calculated.SIGMAS / math.sqrt(2)) / 2 + 0.5 == pytest.approx(calculated.QUANTILE, abs=1e-6)


def test_names_are_hashes_of_what_they_name() -> None:
    assert tokens_sha256((1, 2)) == tokens_sha256([1, 2]) == content_key({"token_ids": [1, 2]}) != tokens_sha256([2, 1])
    assert calibration_key({"a": "b"}) == content_key({"format": 2, "a": "b"})
    assert calibration().find(IDS) is not None and calibration().find([1, 2]) is None


def test_the_scale_is_the_root_mean_square_of_a_position() -> None:
    assert scale(TWO).tolist() == [math.sqrt(12.5), 1.0, 2.0]


def test_each_repetition_is_measured_by_the_others() -> None:
    # Of two, the other one: 3/4, 4/3, and four times 1.
    assert studentized_quantile([TWO], 1.0) == pytest.approx(4 / 3)
    assert studentized_quantile([TWO], 0.0) == pytest.approx(3 / 4)
    three = np.array([[1.0], [2.0], [2.0]])
    assert studentized_quantile([three], 0.0) == pytest.approx(1 / 2)
    assert studentized_quantile([three], 1.0) == pytest.approx(2 / math.sqrt(2.5))
    assert studentized_quantile([TWO, three], 1.0) == pytest.approx(4 / 3)
    assert studentized_quantile([TWO]) == pytest.approx(np.quantile([3 / 4, 4 / 3, 1, 1, 1, 1], 0.999))
    # A position at which the others give nothing says nothing.
    assert studentized_quantile([np.array([[0.0, 1.0], [0.0, 1.0]])], 1.0) == 1.0


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([TWO[:1]], "at least two repetitions"),
        ([], "no noise, or no numbers"),
        ([np.zeros((2, 3))], "no noise, or no numbers"),
        ([np.array([[1.0], [np.inf]])], "no noise, or no numbers"),
        ([TWO, np.array([[1.0, 2.0], [1.0, np.nan]])], "no noise, or no numbers"),
    ],
)
def test_what_holds_no_noise_gives_no_band(values: list[np.ndarray], words: str) -> None:
    with pytest.raises(ContractError, match=words):
        studentized_quantile(values)


def test_one_more_value_stays_below_its_bound() -> None:
    # Of two values the t of one degree: tan(pi (0.999 - 0.5)).
    t = math.tan(math.pi * 0.499)
    assert one_more([1.0, 3.0]) == pytest.approx(2 + t * math.sqrt(2) * math.sqrt(1.5))
    assert one_more([5.0, 5.0]) == 5.0
    with pytest.raises(ContractError, match="at least two"):
        one_more([1.0])


def test_the_band_of_a_position_is_a_quantile_of_its_noise() -> None:
    band = calculated_band(calibration())
    factor = 1.25 * float(np.quantile([3 / 4, 4 / 3, 1, 1, 1, 1], 0.999))
    places = band.along(IDS, 0, 3)
    assert [place.match for place in places] == pytest.approx([factor * math.sqrt(12.5), factor, 2 * factor])
    assert [place.wrong for place in places] == pytest.approx([2 * place.match for place in places])
    assert [place.match for place in band.along(IDS, 1, 1)] == [places[1].match]
    assert band.along([9], 0, 3) == [] and band.expected[tokens_sha256(IDS)].tolist() == [math.sqrt(12.5), 1.0, 2.0]
    assert band.summary.match == places[2].match and band.summary.wrong == 2 * places[2].match
    # Of three positions: ceil(0.003 + 3.0902 sqrt(4 · 0.003)) + 1 = 2 may leave it, and none may be WRONG.
    assert (band.allow, band.beyond) == (0.0, pytest.approx(2 / 3))
    assert {(place.allow, place.beyond, place.basis) for place in places} == {(0.0, band.beyond, band.basis)}


@pytest.mark.parametrize(("total", "count"), [(1, 2), (100, 4), (1000, 9), (100_000, 163)])
def test_how_many_leave_the_band_by_chance(total: int, count: int) -> None:
    assert count == math.ceil(total * 0.001 + 3.0902 * math.sqrt(4 * total * 0.001)) + 1
    assert calculated._by_chance(total, 0.001) == count


def test_flips_of_experts_give_shares() -> None:
    flipped = np.array([[True, False, False], [False, False, False]])
    free = TWO.copy()
    free[0, 0] = 1e3
    band = calculated_band(calibration(free=free, flipped=flipped))
    # One of three positions of the first run, none of the second: the share of one more run is cut off at all of them.
    assert (band.allow, band.beyond) == (0.99, 1.0)
    near = free.copy()
    near[0, 0] = 1.5 * band.match[tokens_sha256(IDS)][0]
    only = calculated_band(calibration(free=near, flipped=flipped))
    assert (only.allow, only.beyond) == (pytest.approx(1 / 3), 1.0)
    quiet = calculated_band(calibration(flipped=flipped))
    assert (quiet.allow, quiet.beyond) == (pytest.approx(1 / 3), pytest.approx(2 / 3))


def test_shares_are_those_of_the_sequences_of_the_run() -> None:
    other = np.tile(TWO, 100)
    two = Calibration(
        "key", ABOUT, {**calibration().sequences, tokens_sha256([7]): Repeated({METRIC: other}, {METRIC: other}, other > 9)}
    )
    assert calculated_band(two, [IDS]).beyond == pytest.approx(2 / 3)
    assert calculated_band(two, [[7]]).beyond == calculated_band(two, [[7], [8]]).beyond < 0.05
    assert (
        calculated_band(two).beyond
        == calculated_band(two, [[8]]).beyond
        == pytest.approx(calculated._by_chance(303, 0.001) / 303)
    )


def test_the_bound_of_a_gate_is_one_more_run_and_the_method() -> None:
    chosen = [(IDS, [0, 2])]
    noise = one_more([0.25, 0.3])
    assert gate_bound(calibration(), "kl_divergence", "mean", chosen, at_most=True) == pytest.approx(1.25**2 * noise)
    rms = one_more([2.5, 3.0])
    assert gate_bound(calibration(), METRIC, "mean", chosen, at_most=True) == pytest.approx(1.25 * rms)
    still = calibration(np.array([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0]]))
    assert gate_bound(still, "top1", "min", chosen, at_most=False) == pytest.approx(1 - 1.25**2 * 0.3)
    assert gate_bound(still, "top1", "max", chosen, at_most=False) == pytest.approx(1 - 1.25**2 * 0.2)
    assert gate_bound(calibration(), "top1", "min", chosen, at_most=False) == 0.0, "a share is never less"
    for metric, tokens in (("cosine", IDS), ("kl_divergence", [9])):
        with pytest.raises(ContractError, match=f"{metric} has no calculated bound"):
            gate_bound(calibration(), metric, "mean", [(tokens, [0])], at_most=True)


def test_what_was_not_measured_is_no_part_of_a_bound() -> None:
    values = np.array([[3.0, 1.0, np.nan], [3.0, 1.0, np.nan]])
    assert gate_bound(calibration(values), METRIC, "mean", [(IDS, [0, 1, 2])], at_most=True) == pytest.approx(1.25 * 2.0)


@pytest.mark.parametrize("metric", ["rms_delta_logit", "max_delta_logit", "delta_p", "total_variation", "label_logprob_delta"])
def test_what_grows_with_the_noise_has_the_factor_itself(metric: str) -> None:
    assert method_factor(metric) == 1.25
    assert method_factor("kl_divergence") == 1.5625


def test_the_basis_says_what_it_rests_on() -> None:
    assert calibration().basis == (
        "calculated: 99.9% of 2 runs with the rounding of bfloat16 (0.02 logits RMS), the reference in float32, whose own "
        "spread is 1.50 of its rounding"
    )
    whole = calibration(quantization=0.5, word="a word", flips=0.125).basis
    assert whole.endswith("of its rounding; quantization error 0.5 RMS; experts flip at 12.50% of positions; a word")
    assert not calibration().is_of_one_arithmetic and calibration(candidate="float32").is_of_one_arithmetic


def test_a_band_of_nothing_expects_nothing() -> None:
    assert CalculatedBand({}, 0.0, 1.0, "x").expected == {}
