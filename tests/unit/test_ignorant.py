"""Bounds that rows of zeros keep, or rows in the place of others, prove nothing of an engine that keeps them."""

from __future__ import annotations

from typing import Any

import pytest

from logitproof.verdict import ignorant

BASIS = "a reason of more than ten letters"
TEXT = "its band and its gates admit what knows nothing: "


def bands(match: float, wrong: float, **words: Any) -> list[dict[str, Any]]:
    return [{"match": match, "wrong": wrong, "basis": BASIS, **words}]


def kl(at_most: float, **words: Any) -> list[dict[str, Any]]:
    return [{"id": "kl", "metric": "kl_divergence", "at_most": at_most, "basis": BASIS, **words}]


@pytest.mark.parametrize("mode", ["prefill", "decode", "greedy"])
def test_a_band_and_a_gate_that_zeros_keep_are_suspect_in_every_mode(project: Any, mode: str) -> None:
    changes = {"bands": bands(1e3, 1e4), "gates": kl(900.0), "matrix": {"mode": [mode]}}
    report = project.check(**changes)
    (cell,) = report.verdict.cells
    assert (cell.status, report.verdict.status, report.verdict.exit_code) == ("SUSPECT", "FAIL", 1)
    assert cell.reason.startswith(f"{TEXT}rows of zeros would be TIE-FLIP too, at an RMS difference of 2.")
    assert "may_be_vacuous" in cell.reason
    excused = project.check(
        candidates={"good": {**project.toy(noise=1e-7), "may_be_vacuous": "it shows the layout of the report"}}, **changes
    )
    assert excused.verdict.status == "PASS"


def test_one_bound_that_zeros_break_is_enough(project: Any) -> None:
    assert project.check(bands=bands(1e3, 1e4)).verdict.status == "PASS"
    assert project.check(gates=kl(900.0)).verdict.status == "PASS"
    scoped = project.check(bands=bands(1e3, 1e4), gates=kl(1e-6, scope="position 2"))
    assert scoped.verdict.status == "PASS"


def test_bounds_that_rows_in_the_place_of_others_keep_are_suspect(project: Any) -> None:
    """Zeros have no direction, so that the gate measures nothing of them; rows of other positions have one."""
    cosine = [{"id": "cosine", "metric": "cosine", "at_least": -0.99, "basis": BASIS}]
    (cell,) = project.check(bands=bands(1e3, 1e4), gates=cosine).verdict.cells
    assert cell.status == "SUSPECT"
    assert cell.reason.startswith(f"{TEXT}the reference's own rows, in the reverse order, would be ")


def test_many_prompts_are_looked_at_in_part_first_and_then_whole(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    monkeypatch.setattr(ignorant, "FEW", 20)

    def counted(row: Any, *others: Any) -> Any:
        counts.append(1)
        return answered(row, *others)

    answered = ignorant._answered
    monkeypatch.setattr(ignorant, "_answered", counted)
    project.suite("suite.yaml", *(f"prompt of number {number}" for number in range(6)))
    assert project.check().verdict.status == "PASS" and len(counts) == 2, "a prompt for each kind, and no more"
    counts.clear()
    suspect = project.check(bands=bands(1e3, 1e4), gates=kl(900.0, scope="position 3"))
    assert suspect.verdict.cells[0].status == "SUSPECT" and len(counts) == 7


def test_of_a_long_prompt_the_first_positions_are_looked_at_and_no_row_is_copied(
    project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ignorant, "FEW", 6)
    seen: list[tuple[int, int]] = []

    def watched(row: Any, *others: Any) -> Any:
        compared = answered(row, *others)
        seen.append((others[-1], compared.comparison.positions))
        return compared

    answered = ignorant._answered
    monkeypatch.setattr(ignorant, "_answered", watched)
    project.suite("suite.yaml", "a prompt of many letters, of which six are enough")
    assert project.check().verdict.status == "PASS"
    assert seen == [(6, 6), (6, 6)], "once for each kind"
    seen.clear()
    assert project.check(bands=bands(1e3, 1e4), gates=kl(900.0)).verdict.cells[0].status == "SUSPECT"
    assert seen[0] == (6, 6) and seen[1][1] > 20, "what is admitted in part is looked at whole"


def test_what_is_wrong_is_told_before_what_its_bounds_admit(project: Any) -> None:
    report = project.check(candidates={"bad": project.toy(noise=5.0)}, bands=bands(1e-4, 1e-2), gates=kl(900.0))
    assert report.verdict.cells[0].status == "WRONG"
