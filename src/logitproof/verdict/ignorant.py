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

FEW = 32
"""Positions that are tried first: bounds that a bug would break refuse it there, and no further one is looked at."""
EXCUSE = "; tighten one of them, or give the candidate `may_be_vacuous` with the reason"
ZEROS, MOVED = "rows of zeros", "the reference's own rows, in the reverse order,"


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
    most = _few(case.rows)
    kinds = [ZEROS] if mode == "greedy" or not _are_whole(case.rows, results, at_least=2) else [ZEROS, MOVED]
    for kind in kinds:
        text = _passing(case, most, contract, results, kind)
        if text and sum(most) < sum(counts := [_count(row) for row in case.rows]):
            text = _passing(case, counts, contract, results, kind)
        if text:
            return f"its band and its gates admit what knows nothing: {kind} would be {text}{EXCUSE}"
    return ""


def _count(row: Compared) -> int:
    return row.comparison.positions if row.comparison else 0


def _few(rows: Sequence[Compared]) -> list[int]:
    """How many positions of each of the first rows are tried first."""
    most: list[int] = []
    for row in rows:
        if (left := FEW - sum(most)) <= 0:
            break
        most.append(min(_count(row), left))
    return most


def _are_whole(rows: Sequence[Compared], results: Results, *, at_least: int) -> bool:
    """Whether the reference's rows are all there, and so many of every prompt."""
    traces = [results.get(row.pair.reference) for row in rows]
    return bool(traces) and all(
        isinstance(trace, Trace)
        and len(trace.logits) >= at_least
        and not (trace.positions or is_top(trace.logits) or is_compact(trace.logits))
        for trace in traces
    )


def _passing(case: Case, counts: Sequence[int], contract: Contract, results: Results, kind: str) -> str:
    """The status of such a candidate at so many positions of each row and how far it is off; nothing where it is wrong."""
    is_part = sum(counts) < sum(_count(row) for row in case.rows)
    pairs = zip(case.rows, counts, strict=False)
    answered = [outside_ties(_answered(row, case.cell, results, kind, most), case.band) for row, most in pairs]
    if any(row.failure for row in answered):
        return ""
    status = status_alone(replace(case, rows=answered), contract, is_part=is_part)
    distances = np.concatenate([values_of(row, "rms_delta_logit") for row in answered])
    return f"{status} too, at an RMS difference of {distances.mean():.3g}" if status in GOOD else ""


def _answered(row: Compared, cell: Cell, results: Results, kind: str, most: int) -> Compared:
    """What the first positions of a row would be of a candidate that knows nothing; running free, it goes on by token 0."""
    pair = replace(row.pair, tokenized=None)
    reference = results[pair.reference]
    assert isinstance(reference, Trace)
    reference = _beginning(reference, most)
    rows = reference.logits
    # neither takes memory: the rows of a long prompt are gigabytes
    made = np.broadcast_to(rows.dtype.type(0), rows.shape) if kind == ZEROS else rows[::-1]
    answer = replace(reference, logits=made, new_token_ids=[0] * len(reference.new_token_ids), routing=None)
    alone = replace(cell, pairs=(pair,))
    known = {pair.source: results[pair.source]} if pair.source in results else {}
    return compare_cells([alone], {**known, pair.reference: reference, pair.candidate: answer})[alone][0]


def _beginning(trace: Trace, most: int) -> Trace:
    """The trace up to so many of its rows."""
    if len(trace.logits) <= most:
        return trace
    ids = trace.token_ids[:most] if trace.kind == "score" else trace.token_ids
    return replace(trace, logits=trace.logits[:most], token_ids=ids, new_token_ids=trace.new_token_ids[:most], routing=None)
