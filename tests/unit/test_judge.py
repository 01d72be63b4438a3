"""Judging on paper: every branch of a verdict, by rows made by hand, at the edges of its bounds."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from judging import BAND, by_itself, case, cell, contract, failed, gate, row, verdict, waiver, whole

from logitproof.bands.band import TIE_SIGMAS, Band
from logitproof.bands.calculated import tokens_sha256
from logitproof.bands.power import Effects
from logitproof.bands.rule import Excess, Statuses, counted, too_many
from logitproof.jobs.cell import NOT_SELECTED, Unmeasured
from logitproof.verdict import case as case_of
from logitproof.verdict import compared, coverage, gates, judge
from logitproof.verdict.coverage import Coverage, coverage_of

ELSEWHERE = [gate("kl", at_most=1.0, where={"candidate": ["control"]})]


@pytest.mark.parametrize(
    ("rms", "same", "regret", "status"),
    [
        (0.0, True, 0.0, "MATCH"),
        (1.0, True, 0.0, "MATCH"),
        (1.0 + 1e-12, True, 0.0, "DRIFT"),
        (2.0, True, 0.0, "DRIFT"),
        (2.0 + 1e-12, True, 0.0, "WRONG"),
        (np.nan, True, 0.0, "NOT-MEASURED"),
        (-1.0, True, 0.0, "NOT-MEASURED"),
        (0.5, True, np.nan, "NOT-MEASURED"),
        (0.5, True, -1.0, "NOT-MEASURED"),
        (0.5, False, 0.0, "TIE-FLIP"),
        (2.0, False, 2 * 2**0.5, "TIE-FLIP"),
        (0.5, False, 2 * 2**0.5 + 1e-9, "WRONG"),
        (np.nan, False, 9.0, "WRONG"),
        (np.nan, False, 0.1, "NOT-MEASURED"),
        (3.0, False, 0.1, "WRONG"),
        (np.inf, True, 0.0, "WRONG"),
        (0.5, True, 9.0, "MATCH"),
    ],
)
def test_a_position_is_judged_by_three_numbers(rms: float, same: bool, regret: float, status: str) -> None:
    assert BAND.status(rms, same, regret) == status
    assert BAND.tie_margin == 2 * 2**0.5 and TIE_SIGMAS == 2.0
    assert Band(0.5, 2.0, 0.0, "").tie_margin == 2**0.5
    assert BAND.beyond == 1.0 and BAND.along([1, 2, 3], 1, 2) == [BAND, BAND] and BAND.summary is BAND


def test_a_share_that_is_allowed_is_no_excess_and_one_more_is() -> None:
    four = [Statuses(("WRONG", "MATCH", "MATCH", "DRIFT"))]
    assert too_many(four, replace(BAND, allow=0.25)) is None
    assert too_many(four, replace(BAND, allow=0.24)) == Excess("WRONG", 1, 4, "24.00% are allowed")
    assert too_many(four, replace(BAND, allow=0.25, beyond=0.5)) is None
    excess = too_many(four, replace(BAND, allow=0.25, beyond=0.49))
    assert excess == Excess("outside the band", 2, 4, "49.00% are expected at most")
    assert str(excess) == "2 of 4 positions are outside the band, 49.00% are expected at most"


def test_a_waiver_passes_over_what_was_measured_alone() -> None:
    assert Statuses(("WRONG",), has_waiver=True).is_waived and not Statuses(("WRONG",)).is_waived
    assert not Statuses((), has_waiver=True).is_waived
    assert not Statuses(("WRONG", "NOT-MEASURED"), has_waiver=True).is_waived
    assert counted([Statuses(("WRONG", "MATCH"), True), Statuses(("DRIFT", "DRIFT"))]) == {"DRIFT": 2}


@pytest.mark.parametrize(
    ("statuses", "status"),
    [
        (["MATCH"], "MATCH"),
        (["MATCH", "TIE-FLIP"], "TIE-FLIP"),
        (["TIE-FLIP", "DRIFT", "MATCH"], "DRIFT"),
        (["DRIFT", "WRONG"], "WRONG"),
        (["MATCH", "NOT-MEASURED"], "NOT-MEASURED"),
    ],
)
def test_a_cell_is_as_bad_as_its_worst_position(statuses: Any, status: str) -> None:
    judged = cell(row(0, *statuses), row(1, "MATCH"))
    assert judged.status == status
    assert judged.counts["MATCH"] == statuses.count("MATCH") + 1
    assert [prompt.status for prompt in judged.prompts] == [status, "MATCH"]
    assert judged.prompts[0].counts == {name: statuses.count(name) for name in statuses}


def test_a_cell_says_what_was_too_much_and_what_its_rows_show() -> None:
    assert cell(row(0, "MATCH", "WRONG")).reason == "1 of 2 positions are WRONG, 0.00% are allowed"
    rows = [row(0, "WRONG"), replace(row(1, "WRONG"), remark="the rows are shifted"), replace(row(2, "WRONG"), remark="no")]
    assert cell(*rows).reason == "3 of 3 positions are WRONG, 0.00% are allowed; seen: the rows are shifted"
    assert cell(replace(row(0, "DRIFT"), remark="the rows are shifted")).reason == ""
    assert cell(row(0, "MATCH", kl_divergence=[2.0])).reason == "a gate fails"


def test_a_share_of_wrong_positions_that_the_band_allows_is_no_verdict_of_the_cell() -> None:
    judged = cell(row(0, "WRONG", "MATCH", "DRIFT", "TIE-FLIP"), band=replace(BAND, allow=0.25))
    assert (judged.status, judged.reason, judged.positions) == ("DRIFT", "", 4)
    assert judged.band == replace(BAND, allow=0.25) and judged.coverage == Coverage(4, 4, 4)
    assert cell(row(0, "WRONG"), band=replace(BAND, allow=1.0)).status == "MATCH"


def test_failures_come_before_everything_and_the_engine_before_the_set_up() -> None:
    judged = cell(row(0, "WRONG"), failed(1, "setup", "no file"), failed(2, "engine", "it died"), failed(3, text="again"))
    assert (judged.status, judged.reason) == ("ENGINE ERROR", "it died")
    assert [failure.text for failure in judged.failures] == ["no file", "it died", "again"]
    judged = cell(failed(1, "setup", "no file"), row(0, "WRONG"))
    assert (judged.status, judged.reason) == ("SET-UP ERROR", "no file")
    assert cell(failed(0, "environment", "the disk is full")).status == "ENGINE ERROR"


def test_a_cell_without_a_band_is_not_measured() -> None:
    judged = cell(row(0, "MATCH"), band=None)
    assert (judged.status, judged.reason, judged.band) == ("NOT-MEASURED", "no band of the contract selects this cell", None)
    assert judged.prompts[0].statuses == ("NOT-MEASURED",) and judged.prompts[0].status == "NOT-MEASURED"
    assert (judged.positions, judged.coverage) == (0, Coverage(1, 0, 0))


def test_a_cell_of_no_prompt_is_not_measured() -> None:
    judged = cell()
    assert (judged.status, judged.reason) == (
        "NOT-MEASURED",
        "the cells that it looks at failed",
    ) or judged.status == "NOT-MEASURED"
    assert cell(row(0)).status == "NOT-MEASURED"


def test_what_was_measured_in_part_is_not_measured_but_with_leave() -> None:
    rows = [replace(row(0, "MATCH"), planned=3), row(1, "MATCH", "MATCH")]
    judged = cell(*rows)
    assert (judged.status, judged.reason) == ("NOT-MEASURED", "3 of 5 planned positions were measured")
    assert judged.coverage == Coverage(5, 3, 3) and not judged.may_be_unmeasured and not judged.is_left_out
    judged = cell(*rows, changes={"may_be_unmeasured": ["mine/*"]})
    assert (judged.status, judged.may_be_unmeasured) == ("MATCH", True)
    assert Coverage(5, 5, 0).is_whole and Coverage(5, 6, 0).is_whole and not Coverage(5, 4, 5).is_whole


def test_coverage_counts_planned_measured_and_judged() -> None:
    statuses = [
        Statuses(("MATCH", "NOT-MEASURED")),
        Statuses(("WRONG", "WRONG"), True),
        Statuses(("MATCH", "NOT-MEASURED"), True),
    ]
    assert coverage_of(7, statuses) == Coverage(7, 4, 2)


def test_what_is_too_good_is_suspect_unless_something_is_wrong() -> None:
    judged = cell(row(0, "MATCH"), suspicion="bit for bit the same")
    assert (judged.status, judged.reason, judged.as_expected) == ("SUSPECT", "bit for bit the same", False)
    assert cell(row(0, "WRONG"), suspicion="bit for bit the same").status == "WRONG"
    assert cell(replace(row(0, "MATCH"), planned=2), suspicion="bit for bit the same").status == "NOT-MEASURED"


def test_a_gate_that_was_not_judged_leaves_its_cell_unmeasured_but_with_leave() -> None:
    words = {"gates": [gate("kl", at_most=1.0), gate("experts", "expert_set", at_least=1.0)]}
    unrouted = replace(row(0, "MATCH", expert_set=[np.nan]), unrouted="the engine does not show its experts")
    judged = cell(unrouted, changes=words)
    reason = "the gate experts was not judged: the engine does not show its experts"
    assert (judged.status, judged.reason) == ("NOT-MEASURED", reason)
    assert cell(unrouted, changes=words | {"may_be_unmeasured": ["mine/*"]}).status == "MATCH"
    half = cell(row(0, "MATCH", "MATCH", expert_set=[1.0, np.nan]), changes=words)
    assert half.reason == "the gate experts was not judged: the experts of some positions are not known"


def test_a_reference_that_holds_some_positions_is_judged_by_gates_whose_scope_is_among_them() -> None:
    """Positions 2 and 3 of four are held; the other two are not measured."""
    nan = np.nan
    held = replace(row(0, "NOT-MEASURED", "NOT-MEASURED", "MATCH", "DRIFT", kl_divergence=[nan, nan, 0.1, 0.2]), planned=2)
    part = {"gates": [gate("last", scope="last 2 tokens", at_most=1.0)]}
    judged = cell(held, changes=part)
    assert judged.status == "DRIFT"
    assert judged.reason == "the reference holds 2 of 4 positions, and the scope of every gate is among them"
    judged = cell(held)
    assert judged.status == "NOT-MEASURED"
    assert judged.reason == "the reference holds 2 of 4 positions, which are not all of the scope 'all' of the gate kl"
    judged = cell(held, changes={"gates": [gate("kl", at_most=1.0, where={"candidate": ["control"]})]})
    assert judged.status == "NOT-MEASURED"
    assert judged.reason == "the reference holds 2 of 4 positions, and no gate says which of them matter"
    assert cell(held, changes=part, suspicion="too good").status == "SUSPECT"


def test_an_engine_that_gives_a_band_too_little_is_judged_by_its_gates() -> None:
    """NaN for what its rows do not hold, KL divergence all the same."""
    judged = cell(row(0, "NOT-MEASURED", "NOT-MEASURED"))
    assert (judged.status, judged.positions, judged.coverage) == ("MATCH", 2, Coverage(2, 2, 2))
    assert judged.reason == "judged by its gates alone: the engines give too little for the band"
    judged = cell(row(0, "NOT-MEASURED", "NOT-MEASURED", kl_divergence=[0.1, 3.0]))
    assert (judged.status, judged.reason, judged.positions) == ("WRONG", "a gate fails", 2)
    judged = cell(row(0, "NOT-MEASURED", "NOT-MEASURED", kl_divergence=[0.1, np.nan]))
    assert (judged.status, judged.positions) == ("NOT-MEASURED", 0)
    assert judged.reason == "the gate kl was not judged on all its positions: 1 of its positions have no kl_divergence"
    nothing = {"gates": [gate("kl", at_most=1.0, where={"candidate": ["control"]})]}
    assert cell(row(0, "NOT-MEASURED"), changes=nothing).reason == "no position was compared"
    judged = cell(row(0, "NOT-MEASURED", kl_divergence=[np.nan]))
    assert (judged.status, judged.reason) == ("NOT-MEASURED", "nothing was measured in its scope")


def test_one_gate_of_an_engine_that_gives_too_little_was_not_judged() -> None:
    words = {"gates": [gate("kl", at_most=1.0), gate("lower", "kl_reverse", at_most=1.0)]}
    judged = cell(row(0, "NOT-MEASURED", kl_reverse=[np.nan]), changes=words)
    assert judged.status == "NOT-MEASURED"
    assert judged.reason == "the gate lower was not judged on all its positions: nothing was measured in its scope"


def test_a_wrong_token_is_wrong_of_an_engine_that_gives_nothing_else() -> None:
    wrong_token = row(0, "WRONG", "NOT-MEASURED", rms_delta_logit=[np.nan, np.nan], top1=[0.0, 1.0], regret=[9.0, 0.0])
    assert cell(wrong_token).status == "WRONG"
    allowed = cell(wrong_token, band=replace(BAND, allow=0.5))
    assert (allowed.status, allowed.positions) == ("MATCH", 2)


def test_a_control_is_fine_only_as_bad_as_was_planted() -> None:
    assert cell(row(0, "WRONG"), candidate="control").as_expected
    assert cell(row(0, "WRONG"), candidate="control").expected == "WRONG"
    assert not cell(row(0, "DRIFT"), candidate="control").as_expected
    assert not cell(row(0, "WRONG")).as_expected and cell(row(0, "DRIFT")).as_expected
    left = cell(row(0, "NOT-MEASURED", kl_divergence=[np.nan]), changes={"may_be_unmeasured": ["mine/*"]})
    assert left.is_left_out and left.as_expected
    failing = cell(failed(0), changes={"may_be_unmeasured": ["mine/*"]})
    assert not failing.is_left_out and not failing.as_expected


def test_a_waived_prompt_that_is_still_wrong_is_known_divergent() -> None:
    judged = cell(row(0, "WRONG", "MATCH"), row(1, "WRONG"), row(2, "MATCH"), changes={"waivers": [waiver(1), waiver(0)]})
    assert (judged.status, judged.reason) == ("KNOWN-DIVERGENT", "waived: w0, w1")
    assert judged.coverage == Coverage(4, 4, 1) and judged.positions == 4 and judged.as_expected
    assert [prompt.status for prompt in judged.prompts] == ["KNOWN-DIVERGENT", "KNOWN-DIVERGENT", "MATCH"]
    assert [prompt.waiver for prompt in judged.prompts] == ["w0", "w1", ""]
    assert cell(row(0, "DRIFT"), row(1, "MATCH"), changes={"waivers": [waiver(0)]}).prompts[0].status == "DRIFT"
    half = cell(row(0, "WRONG", "NOT-MEASURED"), row(1, "MATCH"), changes={"waivers": [waiver(0)]})
    assert half.prompts[0].waiver == "" and half.prompts[0].status == "NOT-MEASURED"


def test_a_waived_prompt_counts_in_no_gate() -> None:
    rows = [row(0, "WRONG", kl_divergence=[9.0]), row(1, "MATCH")]
    assert whole(*rows, waivers=[waiver(0)]) == ("PASS", 0, "")
    assert whole(*rows)[:2] == ("FAIL", 1)


def test_a_waiver_that_is_done_fails_the_run_and_says_where() -> None:
    judged = verdict(case(row(0, "DRIFT"), row(1, "MATCH")), waivers=[waiver(0), waiver(7), waiver(1, until="2025-12-31")])
    assert judged.reason == "the waiver w0 is done: prompt p0 is DRIFT again: take the waiver out"
    assert (judged.status, judged.exit_code) == ("FAIL", 1)
    assert [(entry.id, entry.status, entry.prompt_id) for entry in judged.waivers] == [
        ("w0", "FIXED", "p0"),
        ("w7", "UNUSED", ""),
        ("w1", "EXPIRED", ""),
    ]
    assert (judged.waivers[0].cell, judged.waivers[0].issue, judged.waivers[0].until) == (
        "mine/m/original/prefill",
        "one/1",
        "2999-01-01",
    )
    assert judged.waivers[1].text == "no prompt of this run is meant" and judged.waivers[1].cell == "*"
    assert judged.waivers[2].text == "ended on 2025-12-31: the divergence counts again"
    known = verdict(case(row(0, "WRONG"), row(1, "MATCH")), waivers=[waiver(0)])
    assert [(entry.status, entry.text) for entry in known.waivers] == [("KNOWN-DIVERGENT", "prompt p0 is still WRONG")]
    assert (known.status, known.reason) == ("PASS", "")


def test_a_waiver_holds_on_its_last_day_in_its_cells_and_of_its_prompt() -> None:
    rows = [row(0, "WRONG"), row(1, "MATCH")]
    assert cell(*rows, changes={"waivers": [waiver(0, until="2026-01-01")]}).status == "KNOWN-DIVERGENT"
    assert cell(*rows, changes={"waivers": [waiver(0, until="2025-12-31")]}).status == "WRONG"
    assert cell(*rows, changes={"waivers": [waiver(0, cell="control/*")]}).status == "WRONG"
    assert cell(*rows, changes={"waivers": [waiver(1)]}).status == "WRONG"
    short = waiver(0)["prompt"][:12]
    assert cell(*rows, changes={"waivers": [waiver(0, prompt=short)]}).status == "KNOWN-DIVERGENT"
    assert cell(*rows, changes={"waivers": [waiver(0, prompt=short[::-1])]}).status == "WRONG"
    judged = cell(*rows, candidate="control", changes={"waivers": [waiver(0)]})
    assert judged.status == "WRONG" and judged.as_expected
    failing = cell(failed(0), row(1, "MATCH"), changes={"waivers": [waiver(0)]})
    assert failing.status == "ENGINE ERROR"


def test_a_waived_day_is_today_where_none_is_given() -> None:
    judged = judge.judge([case(row(0, "WRONG"), row(1, "MATCH"))], contract(waivers=[waiver(0, until="2000-01-01")]))
    assert judged.cells[0].status == "WRONG"
    judged = judge.judge([case(row(0, "WRONG"), row(1, "MATCH"))], contract(waivers=[waiver(0)]))
    assert judged.cells[0].status == "KNOWN-DIVERGENT"


def test_the_power_of_a_band_is_measured_where_effects_are_known_and_nothing_failed() -> None:
    effects = Effects(
        {"bug": 2.0},
        {tokens_sha256((0,)): {"rms_delta_logit": np.array([[9.0]]), "top1": np.ones((1, 1)), "regret": np.zeros((1, 1))}},
    )
    power = cell(row(0, "MATCH"), effects=effects).power
    assert power is not None and (power.caught, power.known) == (1, 1)
    waived = cell(row(0, "WRONG"), effects=effects, changes={"waivers": [waiver(0)]}).power
    assert waived is not None and waived.caught == 0
    assert cell(row(0, "MATCH")).power is None
    assert cell(row(0, "MATCH"), effects=effects, band=None).power is None
    assert cell(row(0, "MATCH"), failed(1), effects=effects).power is None


def test_metrics_of_a_cell_are_those_that_have_a_number() -> None:
    rows = [by_itself(row(0, "MATCH", "DRIFT", kl_reverse=[np.nan, np.nan]), greedy_match=1.0), failed(1), row(2, "MATCH")]
    metrics = cell(*rows).metrics
    assert set(metrics) == {"rms_delta_logit", "top1", "regret", "kl_divergence", "greedy_match"}
    assert metrics["rms_delta_logit"]["mean"] == pytest.approx((0.5 + 1.5 + 0.5) / 3)
    assert metrics["rms_delta_logit"]["count"] == 3 and metrics["greedy_match"]["count"] == 1
    assert metrics["rms_delta_logit"]["seed"] == 0


@pytest.mark.parametrize("module", [judge, gates, case_of, compared, coverage])
def test_what_a_verdict_is_made_of_cannot_be_changed_afterwards(module: Any) -> None:
    nouns = [kind for kind in vars(module).values() if dataclasses.is_dataclass(kind) and kind.__module__ == module.__name__]
    assert nouns and all(kind.__dataclass_params__.frozen for kind in nouns)


def test_the_whole_is_an_error_where_nothing_was_compared() -> None:
    assert verdict().status == "ERROR" and verdict().exit_code == 3 and verdict().reason == "nothing was compared"
    lone = verdict(unmeasured=[Unmeasured("a/b", NOT_SELECTED), Unmeasured("c/d", "no such file"), Unmeasured("e/f", "no")])
    assert lone.reason == "nothing was compared: c/d: no such file"
    assert whole(row(0, "MATCH"), gates=ELSEWHERE) == ("ERROR", 3, "no gate was measured")
    only_controls = verdict(case(row(0, "WRONG"), candidate="control"))
    assert only_controls.reason == "nothing but controls was judged, which proves nothing of any engine"
    assert (only_controls.status, only_controls.exit_code) == ("ERROR", 3)


def test_the_whole_says_its_first_fault_and_engines_come_before_the_set_up() -> None:
    name = "mine/m/original/prefill"
    assert whole(failed(0, "setup", "no file"), failed(1, "engine", "it died")) == ("ERROR", 3, f"{name}: it died")
    assert whole(failed(0, "setup", "no file"), failed(1, "setup", "none")) == ("ERROR", 2, f"{name}: no file")
    assert whole(failed(0, "environment", "full"), failed(1, "engine", "it died")) == ("ERROR", 3, f"{name}: full")
    part = whole(replace(row(0, "MATCH"), planned=9))
    assert part == ("ERROR", 3, f"{name} was not measured: 1 of 9 planned positions were measured")
    both = verdict(case(failed(0, "setup", "no file")), case(replace(row(0, "MATCH"), planned=9), candidate="control"))
    assert both.reason.startswith("control/m/original/prefill was not measured")


def test_the_whole_fails_by_a_gate_then_by_a_cell() -> None:
    name = "mine/m/original/prefill"
    judged = whole(row(0, "WRONG", kl_divergence=[3.0]))
    assert judged == ("FAIL", 1, f"the gate kl on {name}: worst at prompt p0, position 0: 3")
    assert whole(row(0, "WRONG")) == ("FAIL", 1, f"{name} is WRONG: 1 of 1 positions are WRONG, 0.00% are allowed")
    good = verdict(case(row(0, "MATCH")), case(row(0, "MATCH"), candidate="control"))
    assert (good.status, good.exit_code, good.reason) == ("FAIL", 1, "control/m/original/prefill is MATCH")
    planted = verdict(case(row(0, "MATCH")), case(row(0, "WRONG", kl_divergence=[9.0]), candidate="control"))
    assert (planted.status, planted.exit_code, planted.reason) == ("PASS", 0, "")
    assert [(entry.status, entry.control) for entry in planted.gates] == [("PASS", False), ("FAIL", True)]


def test_a_run_with_a_control_passes_without_a_gate_and_one_without_does_not() -> None:
    cases = [case(row(0, "MATCH")), case(row(0, "WRONG"), candidate="control")]
    judged = verdict(*cases, gates=ELSEWHERE)
    assert (judged.status, judged.exit_code, judged.gates[0].control) == ("PASS", 0, True)
    assert verdict(cases[0], gates=ELSEWHERE).status == "ERROR"


def test_a_cell_that_was_not_measured_needs_leave() -> None:
    missing = [Unmeasured("x/y", "the engine has no decode"), Unmeasured("x/z", "nor this")]
    judged = verdict(case(row(0, "MATCH")), unmeasured=missing)
    assert (judged.status, judged.exit_code, judged.reason) == ("ERROR", 3, "x/y was not measured: the engine has no decode")
    assert judged.unmeasured == tuple(missing)
    assert verdict(case(row(0, "MATCH")), unmeasured=missing, may_be_unmeasured=["x/*"]).status == "PASS"
    skipped = [Unmeasured("x/y", f"{NOT_SELECTED} mine")]
    assert verdict(case(row(0, "MATCH")), unmeasured=skipped).status == "PASS"
    cases = [case(row(0, "MATCH")), case(row(0, "NOT-MEASURED", kl_divergence=[np.nan]), mode="decode")]
    left = verdict(*cases, may_be_unmeasured=["mine/*/decode"])
    assert left.status == "PASS"
    assert [entry.cell for entry in left.unmeasured] == ["mine/m/original/decode"]


def test_a_prediction_is_refuted_by_gates_that_count() -> None:
    claim = {
        "id": "c",
        "prediction": "the kernels round alike",
        "test": ["kl", "rev"],
        "if_fails": [{"when": ["kl"], "steps": ["look at the kernels"]}],
    }
    words = {"gates": [gate("kl", at_most=1.0), gate("rev", "kl_reverse", at_most=1.0)], "falsification": [claim]}
    bad = row(0, "MATCH", kl_divergence=[5.0], kl_reverse=[0.1])
    (refuted,) = verdict(case(bad), **words).falsified
    assert (refuted.id, refuted.gates, refuted.prediction) == ("c", ("kl",), "the kernels round alike")
    assert refuted.steps == ("look at the kernels",)
    assert verdict(case(row(0, "MATCH", kl_reverse=[0.1])), **words).falsified == ()
    control = case(bad, candidate="control")
    assert verdict(case(row(0, "MATCH", kl_reverse=[0.1])), control, **words).falsified == ()
