"""One rule for a cell: what the verdict calls WRONG, detection power calls caught, with waivers or without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logitproof.bands.band import Band, PositionStatus
from logitproof.bands.calculated import WRONG, CalculatedBand, tokens_sha256
from logitproof.bands.power import Effects, Stretch, power_of_band
from logitproof.bands.rule import JUDGED, Statuses, too_many
from logitproof.comparison.compare import compare
from logitproof.contract.contract import Contract
from logitproof.contract.suite import Prompt
from logitproof.jobs.cell import Cell, Pair
from logitproof.verdict.case import Case
from logitproof.verdict.compared import Compared
from logitproof.verdict.judge import CellVerdict, judge

BASIS = "a reason of more than ten letters"
MATCH = 1.0
VALUES: dict[PositionStatus, tuple[float, float, float]] = {
    "MATCH": (0.5 * MATCH, 1.0, 0.0),
    "DRIFT": (1.5 * MATCH, 1.0, 0.0),
    "TIE-FLIP": (0.5 * MATCH, 0.0, 0.1),
    "WRONG": (3.0 * MATCH, 1.0, 0.0),
}
"""What each status is of, in the order of `JUDGED`, for a band that matches to 1 and is wrong above 2."""
TODAY = date(2026, 1, 1)
STATUSES = st.lists(st.sampled_from(list(VALUES)), min_size=1, max_size=6)
SHARES = st.sampled_from([0.0, 0.1, 0.25, 1 / 3, 0.5, 0.75, 0.99])


def prompt(number: int) -> Prompt:
    return Prompt(id=f"p{number}", text=f"text {number}")


def tokens(number: int, count: int) -> tuple[int, ...]:
    return tuple(100 * number + at for at in range(count))


def columns(statuses: Sequence[PositionStatus]) -> dict[str, np.ndarray]:
    """[T] of each metric that a band looks at."""
    values = np.array([VALUES[status] for status in statuses], np.float64)
    return dict(zip(JUDGED, values.T, strict=True))


def contract(waived: set[int], expect: str | None = None) -> Contract:
    waivers = [
        {
            "id": f"w{number}",
            "cell": "*",
            "prompt": prompt(number).sha256,
            "issue": "one/1",
            "until": "2999-01-01",
            "reason": BASIS,
        }
        for number in sorted(waived)
    ]
    return Contract.model_validate(
        {
            "contract": "one",
            "reference": {"engine": "transformers"},
            "candidates": {"mine": {"engine": "llamacpp", **({"expect": expect} if expect else {})}},
            "models": {"m": {"original": "m"}},
            "suites": ["s"],
            "bands": [{"match": MATCH, "wrong": 2 * MATCH, "basis": BASIS}],
            "gates": [{"id": "kl", "metric": "kl_divergence", "at_most": 1e9, "basis": BASIS}],
            "waivers": waivers,
        }
    )


def case(prompts: Sequence[Sequence[PositionStatus]], band: Any) -> Case:
    """A cell whose rows have these statuses under the band."""
    rows = []
    for number, statuses in enumerate(prompts):
        logits = np.zeros((len(statuses), 2), np.float32)
        found = compare(logits, logits, labels=[-1] * len(statuses))
        table = found.table
        for name, values in columns(statuses).items():
            table = table.set_column(table.column_names.index(name), name, [values])
        pair = Pair("s", number, prompt(number), "s", "r", "c", None)
        rows.append(Compared(pair, 1, replace(found, table=table), token_ids=tokens(number, len(statuses))))
    return Case(Cell("mine", "m", "original", "prefill", "native", "r", "c"), rows, band)


def judged(prompts: Sequence[Sequence[PositionStatus]], band: Any, waived: set[int], expect: str | None = None) -> CellVerdict:
    (cell,) = judge([case(prompts, band)], contract(waived, expect), today=TODAY).cells
    return cell


def is_caught(prompts: Sequence[Sequence[PositionStatus]], band: Any, waived: set[int]) -> bool:
    """Whether power says that the band catches a bug which gives these statuses."""
    kept = {
        tokens_sha256(tokens(number, len(statuses))): {name: values[None] for name, values in columns(statuses).items()}
        for number, statuses in enumerate(prompts)
    }
    stretches = [Stretch(tokens(number, len(statuses)), 0, number in waived) for number, statuses in enumerate(prompts)]
    power = power_of_band(band, Effects({"bug": 2.0}, kept), stretches)
    assert power is not None and power.known == 1
    return power.caught == 1


@st.composite
def bands(draw: st.DrawFn, prompts: Sequence[Sequence[PositionStatus]]) -> Band | CalculatedBand:
    """A typed band, or a calculated one that is as wide at every position."""
    allow, beyond = draw(SHARES), draw(st.one_of(SHARES, st.just(1.0)))
    if draw(st.booleans()):
        return Band(MATCH, WRONG * MATCH, allow, BASIS, beyond)
    match = {tokens_sha256(tokens(n, len(one))): np.full(len(one), MATCH) for n, one in enumerate(prompts)}
    return CalculatedBand(match, allow, beyond, BASIS)


@settings(deadline=None)
@given(st.data())
def test_a_cell_is_wrong_exactly_where_power_says_that_its_band_catches(data: st.DataObject) -> None:
    prompts: list[list[PositionStatus]] = data.draw(st.lists(STATUSES, min_size=1, max_size=4))
    band = data.draw(bands(prompts))
    waived = data.draw(st.sets(st.integers(0, len(prompts) - 1)))
    cell = judged(prompts, band, waived)
    assert [list(one.statuses) for one in cell.prompts] == prompts
    assert (cell.status == "WRONG") == is_caught(prompts, band, waived)


def test_what_only_a_waived_prompt_would_show_is_not_caught() -> None:
    prompts: list[list[PositionStatus]] = [["WRONG", "WRONG"], ["MATCH", "MATCH"]]
    band = Band(MATCH, WRONG * MATCH, 0.0, BASIS)
    assert judged(prompts, band, set()).status == "WRONG" and is_caught(prompts, band, set())
    assert judged(prompts, band, {0}).status == "KNOWN-DIVERGENT" and not is_caught(prompts, band, {0})


def test_a_waiver_stands_in_no_control() -> None:
    cell = judged([["WRONG"]], Band(MATCH, WRONG * MATCH, 0.0, BASIS), {0}, expect="WRONG")
    assert (cell.status, cell.as_expected) == ("WRONG", True)


@pytest.mark.parametrize("name", JUDGED[::2])
def test_a_bug_that_gives_no_number_is_caught_whatever_is_waived(name: str) -> None:
    """NaN is an error of the engine, which no waiver excuses; top-1 of NaN is simply another token."""
    values = columns(["MATCH", "MATCH"]) | {name: np.array([0.0, np.nan])}
    effects = Effects({"bug": 2.0}, {tokens_sha256(tokens(0, 2)): {key: column[None] for key, column in values.items()}})
    band = Band(MATCH, WRONG * MATCH, 0.99, BASIS)
    power = power_of_band(band, effects, [Stretch(tokens(0, 2), has_waiver=True)])
    assert power is not None and power.caught == 1


def test_what_was_not_measured_is_in_the_whole_and_never_waived() -> None:
    band = Band(MATCH, WRONG * MATCH, 0.3, BASIS)
    excess = too_many([Statuses(("WRONG", "NOT-MEASURED"), has_waiver=True)], band)
    assert excess is not None and str(excess) == "1 of 2 positions are WRONG, 30.00% are allowed"
    assert too_many([Statuses(("WRONG", "MATCH"), has_waiver=True)], band) is None
    assert too_many([], band) is None


def test_a_cell_that_no_band_selects_says_so() -> None:
    cell = judged([["MATCH"]], None, set())
    assert (cell.status, cell.reason) == ("NOT-MEASURED", "no band of the contract selects this cell")
