"""Gates on paper: what each looks at, what it observes there, and whether its bound holds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from judging import BAND, BASIS, TODAY, by_itself, case, contract, failed, gate, row, verdict

from logitproof.bands.band import Band
from logitproof.bands.calculated import CalculatedBand, tokens_sha256
from logitproof.bands.power import Effects
from logitproof.verdict.case import Bound, OwnError, band_of, bounds_of
from logitproof.verdict.compared import known_distance, values_of
from logitproof.verdict.gate_rows import can_measure, chosen, gate_values
from logitproof.verdict.gates import GateVerdict, is_refused, is_whole

NAN = np.nan


def judged(*rows: Any, words: Any = None, changes: Any = None, **more: Any) -> GateVerdict:
    """The verdict of one gate on one cell."""
    (entry,) = verdict(case(*rows, **more), gates=[words or gate("kl", at_most=1.0)], **(changes or {})).gates
    return entry


def test_a_gate_says_what_it_observed_where_and_of_how_many() -> None:
    entry = judged(row(0, "MATCH", "MATCH", kl_divergence=[0.1, NAN]), row(1, "MATCH", "MATCH", kl_divergence=[0.3, 0.2]))
    assert (entry.status, entry.observed, entry.bound, entry.basis) == ("PASS", pytest.approx(0.2), 1.0, BASIS)
    assert (entry.positions, entry.not_measured, entry.where) == (3, 1, "worst at prompt p1, position 0: 0.3")
    assert (entry.operator, entry.statistic, entry.scope, entry.cell) == ("at_most", "mean", "all", "mine/m/original/prefill")
    assert (entry.control, entry.reason, entry.ties, entry.power) == (False, "", None, None)
    assert not is_whole(entry) and is_whole(replace(entry, not_measured=0)) and not is_refused(entry)
    assert is_whole(replace(entry, status="FAIL", not_measured=0)) and not is_whole(
        replace(entry, status="ERROR", not_measured=0)
    )


@pytest.mark.parametrize(
    ("bound", "status"),
    [({"at_most": 0.3}, "PASS"), ({"at_most": 0.29}, "FAIL"), ({"at_least": 0.3}, "PASS"), ({"at_least": 0.31}, "FAIL")],
)
def test_a_bound_holds_at_its_edge(bound: dict[str, float], status: str) -> None:
    entry = judged(row(0, "MATCH", "MATCH", kl_divergence=[0.3, 0.3]), words=gate("kl", **bound, if_fails=["look"]))
    assert (entry.status, entry.operator, entry.if_fails) == (status, next(iter(bound)), ("look",))


def test_the_worst_is_the_largest_of_a_ceiling_and_the_least_of_a_floor() -> None:
    rows = [row(0, "MATCH", "MATCH", kl_divergence=[0.3, 0.5]), row(1, "MATCH", kl_divergence=[0.1])]
    assert judged(*rows).where == "worst at prompt p0, position 1: 0.5"
    assert judged(*rows, words=gate("kl", at_least=0.0)).where == "worst at prompt p1, position 0: 0.1"
    whole = [by_itself(row(number, "MATCH"), first_divergence=7.0 - number) for number in (0, 1)]
    entry = judged(*whole, words=gate("first", "first_divergence", at_least=1.0), mode="greedy")
    assert (entry.where, entry.observed, entry.positions) == ("worst at prompt p1: 6", 6.5, 2)


def test_a_gate_looks_at_its_scope_alone() -> None:
    rows = [row(0, "MATCH", "MATCH", "MATCH", "MATCH", length=3, kl_divergence=[9.0, 8.0, 0.1, 0.2])]
    assert judged(*rows, words=gate("kl", scope="continuation", at_most=1.0)).observed == pytest.approx(0.15)
    assert judged(*rows, words=gate("kl", scope="prompt", at_most=1.0)).observed == 8.5
    assert judged(*rows, words=gate("kl", scope="position -1", at_most=1.0)).where == "worst at prompt p0, position 3: 0.2"
    entry = judged(*rows, words=gate("kl", scope="position 9", at_most=1.0))
    assert (entry.status, entry.reason, entry.observed) == ("ERROR", "nothing was measured in its scope", None)


def test_a_gate_that_measures_nothing_is_an_error_but_with_leave() -> None:
    nothing = row(0, "MATCH", kl_divergence=[NAN])
    assert (judged(nothing).status, judged(nothing).reason) == ("ERROR", "nothing was measured in its scope")
    assert judged(nothing, changes={"may_be_unmeasured": ["mine/*"]}).status == "NOT-MEASURED"
    entry = judged(failed(0, text="it died"), row(1, "MATCH"), changes={"may_be_unmeasured": ["mine/*"]})
    assert (entry.status, entry.reason) == ("ERROR", "prompt p0 failed: it died")
    entry = judged(failed(0, text="it died"))
    assert (entry.status, entry.reason, entry.cell) == ("ERROR", "the cells that it looks at failed", "")
    entry = judged(row(0, "MATCH"), words=gate("rev", "kl_reverse", at_most=1.0))
    assert (entry.status, entry.reason, entry.cell) == ("ERROR", "no cell of this run measures it", "")
    entry = judged(row(0, "MATCH"), words=gate("kl", at_most=1.0, where={"candidate": ["control"]}))
    assert (entry.status, entry.reason, entry.control) == ("NOT-MEASURED", "no cell of this run measures it", False)


def test_a_gate_on_experts_that_nobody_shows_has_leave() -> None:
    words = gate("experts", "expert_set", at_least=1.0)
    hidden = replace(row(0, "MATCH", expert_set=[NAN]), unrouted="it does not show them")
    assert (judged(hidden, words=words).status, judged(hidden, words=words).reason) == ("NOT-MEASURED", "it does not show them")
    half = judged(row(0, "MATCH", "MATCH", expert_set=[1.0, NAN]), words=words)
    assert (half.status, half.reason) == ("NOT-MEASURED", "the experts of some positions are not known")
    assert judged(row(0, "MATCH", expert_set=[NAN]), words=words).reason == "nothing was measured in its scope"
    assert judged(replace(row(0, "MATCH", kl_divergence=[NAN]), unrouted="x")).reason == "nothing was measured in its scope"
    assert judged(row(0, "MATCH", expert_set=[1.0]), words=words).status == "PASS"


def test_a_gate_tighter_than_the_reference_itself_is_refused() -> None:
    entry = judged(row(0, "MATCH"), own_errors={"kl": OwnError(1.5, "two threads")})
    assert (entry.status, entry.reference_error, entry.reference_run) == ("ERROR", 1.5, "two threads")
    assert entry.reason.startswith(
        "is tighter than the reference's own error: the bound is 1, the reference is 1.5 from itself"
    )
    assert is_refused(entry) and not is_refused(replace(entry, observed=None)) and not is_refused(replace(entry, status="FAIL"))
    kept = judged(row(0, "MATCH"), own_errors={"kl": OwnError(1.0, "two threads")})
    assert (kept.status, kept.reason, kept.reference_error) == ("PASS", "", 1.0)
    assert judged(row(0, "MATCH"), own_errors={"rev": OwnError(9.0, "two threads")}).reference_error is None
    whole = verdict(case(row(0, "MATCH"), own_errors={"kl": OwnError(1.5, "two threads")}))
    assert (whole.cells[0].status, whole.exit_code) == ("SET-UP ERROR", 2)
    assert whole.cells[0].reason.startswith("the gate kl is tighter")
    assert whole.reason.startswith("the gate kl on mine/m/original/prefill: is tighter")


def test_the_first_gate_that_proves_nothing_names_its_cell_or_none() -> None:
    words = [gate("a", "kl_reverse", at_most=1.0), gate("b", at_most=1.0)]
    whole = verdict(case(row(0, "MATCH")), gates=words)
    assert (whole.status, whole.exit_code) == ("ERROR", 2)
    assert whole.reason == "the gate a on no cell: no cell of this run measures it"


def test_a_calculated_bound_stands_for_the_gates_own() -> None:
    entry = judged(row(0, "MATCH"), bounds={"kl": Bound(0.05, "eight runs")})
    assert (entry.status, entry.bound, entry.basis) == ("FAIL", 0.05, f"{BASIS}; eight runs")
    assert judged(row(0, "MATCH"), bounds={"rev": Bound(0.05, "eight runs")}).bound == 1.0


def test_ties_of_a_lenient_metric_are_counted() -> None:
    columns = {"top1_outside_ties": [1.0, 1.0, 0.0], "top1": [0.0, 1.0, 0.0]}
    entry = judged(row(0, "MATCH", "MATCH", "MATCH", **columns), words=gate("top1", "top1_outside_ties", at_least=0.5))
    assert (entry.status, entry.ties) == ("PASS", 1)
    assert entry.where.endswith(": 0; strictly (top1) 0.333333, which 1 positions fail by a tie alone")


def test_the_power_of_a_gate_is_told_where_effects_are_known() -> None:
    effects = Effects({"bug": 2.0}, {tokens_sha256((0,)): {"kl_divergence": np.array([[9.0]])}})
    power = judged(row(0, "MATCH"), effects=effects).power
    assert power is not None and (power.caught, power.known) == (1, 1)
    assert judged(row(0, "MATCH"), failed(1), effects=effects).power is None


def test_what_a_gate_looks_at_in_rows() -> None:
    (kl,) = contract(gates=[gate("kl", scope="last 1 tokens", at_most=1.0)]).gates
    (first,) = contract(gates=[gate("f", "first_divergence", at_least=1.0)]).gates
    one, other = row(0, "MATCH", "MATCH"), by_itself(row(1, "MATCH"), first_divergence=4.0)
    assert can_measure(kl, [failed(0), one]) and not can_measure(kl, [failed(0)]) and not can_measure(first, [one])
    assert (
        can_measure(first, [one, other])
        and chosen(kl, one) == [1]
        and chosen(first, other) == [0]
        and chosen(kl, failed(0)) == []
    )
    assert [values.tolist() for values in gate_values(kl, [one, other])] == [[0.1], [0.1]]
    assert gate_values(kl, [one, failed(1)]) == []
    assert values_of(other, "first_divergence").tolist() == [4.0] and values_of(one, "kl_reverse").size == 0
    assert values_of(failed(0), "kl_divergence").size == 0


def test_how_far_a_prompt_is_by_what_is_known_of_it() -> None:
    assert known_distance(row(0, "MATCH", "DRIFT")) == 1.0
    assert known_distance(row(0, "NOT-MEASURED", rms_delta_known=[0.25])) == 0.25
    assert known_distance(row(0, "NOT-MEASURED", kl_divergence_lower=[0.125])) == 0.125
    assert known_distance(row(0, "NOT-MEASURED")) == 0.0 and known_distance(failed(0)) == 0.0
    assert known_distance(row(0, "MATCH", "NOT-MEASURED")) == 0.5


def test_the_last_band_that_selects_a_cell_is_its_band() -> None:
    cell = case(row(0, "MATCH")).cell
    special = {"match": 3.0, "wrong": 4.0, "allow": 0.25, "basis": BASIS, "where": {"candidate": ["control"]}}
    general = {"match": 1.0, "wrong": 2.0, "basis": BASIS}
    assert band_of(contract(bands=[general, special]), cell) == BAND
    assert band_of(contract(bands=[general, {**special, "where": {"candidate": ["mine"]}}]), cell) == Band(
        3.0, 4.0, 0.25, BASIS
    )
    assert band_of(contract(bands=[special]), cell) is None


def test_nothing_is_calculated_without_a_calibration_or_of_a_failure() -> None:
    cell, words = case(row(0, "MATCH")).cell, contract()
    today = TODAY
    assert bounds_of(words, cell, [row(0, "MATCH")], None, today) == {}


def test_what_a_case_plans_and_has() -> None:
    rows = [replace(row(0, "MATCH", "MATCH"), planned=1), replace(row(1, "MATCH"), planned=0), failed(2)]
    entry = case(*rows)
    assert (entry.planned, entry.positions, entry.has_failures, entry.is_held_in_part) == (2, 3, True, False)
    entry = case(*rows[:2])
    assert entry.is_held_in_part and not entry.has_failures and not case(row(0, "MATCH")).is_held_in_part
    assert [kept.pair.prompt.id for kept in entry.without({"p0"}).rows] == ["p1"]


def test_a_calculated_band_differs_by_position() -> None:
    match = {tokens_sha256((0, 1)): np.array([1.0, 0.1])}
    band = CalculatedBand(match, 0.0, 1.0, BASIS)
    judgement = verdict(case(row(0, "MATCH", "MATCH"), band=band)).cells[0]
    assert judgement.prompts[0].statuses == ("MATCH", "WRONG")
    assert judgement.band is not None and (judgement.band.match, judgement.band.wrong) == (0.55, 1.1)


def test_a_gate_that_nothing_was_measured_for_says_none_of_everything() -> None:
    for entry in (judged(row(0, "MATCH", kl_divergence=[NAN])), judged(words=gate("kl", at_most=1.0))):
        assert (entry.positions, entry.not_measured, entry.ties, entry.where) == (0, 0, None, "")
        assert entry.observed is None and entry.status == "ERROR"
