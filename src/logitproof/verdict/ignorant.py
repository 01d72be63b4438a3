"""Bounds that what knows nothing keeps: rows of zeros, or the reference's own rows, each in the place of another.

Such a candidate needs no engine: what it would come to follows from the reference's rows alone. Where the band and the gates
of a cell let it pass, that they let an engine pass says nothing of the engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date

import numpy as np

from logitproof.bands.calculated import CalculatedBand
from logitproof.contract.contract import Contract
from logitproof.jobs.cell import Cell
from logitproof.rows.top import is_top
from logitproof.traces.compact import is_compact
from logitproof.traces.trace import Trace
from logitproof.verdict.case import Case, waivers_of
from logitproof.verdict.compared import Compared, Results, compare_cells, values_of
from logitproof.verdict.judge import GOOD, status_alone
from logitproof.verdict.ties import outside_ties

FEW = 256
"""Positions that are tried first: bounds that a bug would break refuse it there, and no further one is looked at."""
EXCUSE = "; tighten one of them, or give the candidate `may_be_vacuous` with the reason"
ZEROS, MOVED = "rows of zeros", "the reference's own rows, each in the place of the next,"


def admitted(case: Case, contract: Contract, results: Results, today: date) -> str:
    """Why the bounds of a case prove nothing, in one sentence; nothing where they do, or where the contract says why not.

    No zeros are inside a band that was calculated, and an engine beside its own prefill says nothing of a reference.
    """
    use, mode = contract.candidates[case.cell.candidate], case.cell.mode
    if use.may_be_vacuous or use.expect or case.cell.is_between or mode == "self" or case.has_failures:
        return ""
    case = case.without(waivers_of(contract, case.cell, case.rows, today))
    if isinstance(case.band, CalculatedBand) or not _are_whole(case.rows, results, at_least=1):
        return ""
    if status_alone(case, contract) not in GOOD:
        return ""
    few = max(int((np.cumsum([_count(row) for row in case.rows]) <= FEW).sum()), 1)
    kinds = [ZEROS] if mode == "greedy" or not _are_whole(case.rows, results, at_least=2) else [ZEROS, MOVED]
    for kind in kinds:
        text = _passing(case, case.rows[:few], contract, results, kind)
        if text and few < len(case.rows):
            text = _passing(case, case.rows, contract, results, kind)
        if text:
            return f"its band and its gates admit what knows nothing: {kind} would be {text}{EXCUSE}"
    return ""


def _count(row: Compared) -> int:
    return row.comparison.positions if row.comparison else 0


def _are_whole(rows: Sequence[Compared], results: Results, *, at_least: int) -> bool:
    """Whether the reference's rows are all there, and so many of every prompt."""
    traces = [results.get(row.pair.reference) for row in rows]
    return bool(traces) and all(
        isinstance(trace, Trace)
        and len(trace.logits) >= at_least
        and not (trace.positions or is_top(trace.logits) or is_compact(trace.logits))
        for trace in traces
    )


def _passing(case: Case, rows: Sequence[Compared], contract: Contract, results: Results, kind: str) -> str:
    """The status of such a candidate on these rows and how far it is off, where it would pass; nothing where it would not."""
    answered = [outside_ties(_answered(row, case.cell, results, kind), case.band) for row in rows]
    if any(row.failure for row in answered):
        return ""
    status = status_alone(replace(case, rows=answered), contract, is_part=len(rows) < len(case.rows))
    distances = np.concatenate([values_of(row, "rms_delta_logit") for row in answered])
    return f"{status} too, at an RMS difference of {distances.mean():.3g}" if status in GOOD else ""


def _answered(row: Compared, cell: Cell, results: Results, kind: str) -> Compared:
    """What the row would be of a candidate that knows nothing; where both run free, it continues by the first token."""
    pair = replace(row.pair, tokenized=None)
    reference = results[pair.reference]
    assert isinstance(reference, Trace)
    rows = np.asarray(reference.logits)
    made = np.zeros_like(rows) if kind == ZEROS else np.roll(rows, 1, axis=0)
    answer = replace(reference, logits=made, new_token_ids=[0] * len(reference.new_token_ids), routing=None)
    alone = replace(cell, pairs=(pair,))
    known = {key: results[key] for key in (pair.source, pair.reference) if key in results}
    return compare_cells([alone], {**known, pair.candidate: answer})[alone][0]
