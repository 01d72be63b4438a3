"""The verdict once more, from nothing but what a statement recorded: by the same `judge` that a run is judged by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import ValidationError

from logitproof import catalog
from logitproof.attestation.statement import (
    CellStatement,
    Covered,
    Decided,
    GateStatement,
    Predicate,
    Row,
    Values,
    value_read,
    value_written,
)
from logitproof.bands.band import Band
from logitproof.bands.calculated import CalculatedBand, tokens_sha256
from logitproof.bands.rule import JUDGED
from logitproof.comparison.compare import Comparison
from logitproof.contract.contract import Contract
from logitproof.contract.suite import Prompt
from logitproof.files.worded import in_parts
from logitproof.jobs.cell import Cell, Pair, Unmeasured
from logitproof.traces.trace import Failure
from logitproof.verdict.case import Bound, Case, OwnError, band_of
from logitproof.verdict.compared import Compared
from logitproof.verdict.judge import CellVerdict, Verdict, judge
from logitproof.verdict.suspect import suspicion_of
from logitproof.verdict.ties import outside_ties, tied_metrics

EXACT = "max_delta_logit"
"""By which it is seen that a candidate gives the very same rows."""


class TermsBroken(ValueError):
    """What stands in a statement cannot be judged."""


class _Known(Prompt):
    """A prompt of which a statement says the hash alone."""

    known_sha256: str

    @property
    def sha256(self) -> str:
        return self.known_sha256


def terms_of(contract: Contract) -> dict[str, Any]:
    """What a contract demands, as JSON: all of it but the values of environment variables, which may be secrets."""
    terms = contract.model_dump(mode="json")
    if isinstance(contract.references, dict) and contract.references:
        del terms["reference"]  # the first of them
    for use in _uses(terms):
        use["environment"] = dict.fromkeys(use.get("environment", {}), "")
    return terms


def contract_of(terms: dict[str, Any]) -> Contract:
    """The contract of these terms; raises TermsBroken with the place of what cannot be."""
    try:
        return Contract.model_validate(terms)
    except ValidationError as error:
        place, text = in_parts(error, "contract", "terms")
        raise TermsBroken(f"{place}: {text}") from None


def columns_of(contract: Contract) -> list[str]:
    """The metrics of a position that the verdict rests on."""
    ties = tied_metrics()
    named = {*JUDGED, EXACT, *(gate.metric for gate in contract.gates)}
    return sorted(named | {name for metric in named & set(ties) for name in (ties[metric].strict, ties[metric].shortfall)})


def derived(predicate: Predicate) -> Verdict:
    """The verdict of what was recorded; raises TermsBroken where that is no run of its contract."""
    contract = contract_of(predicate.contract.terms)
    for gate in contract.gates:
        if gate.metric not in catalog.entries("metrics"):
            raise TermsBroken(f"contract.terms.gates.{gate.id}: the metric {gate.metric!a} is not known here")
    cases = [_case(cell, contract, f"cells.{cell.id}") for cell in predicate.cells]
    unmeasured = [Unmeasured(entry.cell, entry.reason) for entry in predicate.unmeasured]
    return judge(cases, contract, unmeasured, today=predicate.judged_on)


def decided(verdict: Verdict) -> Decided:
    return Decided(status=verdict.status, exit_code=verdict.exit_code)


def gates_written(verdict: Verdict) -> list[GateStatement]:
    """Every gate as a statement has it."""
    numbers = ("observed", "bound", "reference_error")
    plain = ("id", "cell", "metric", "scope", "statistic", "operator", "status", "positions", "not_measured", "control")
    return [
        GateStatement.model_validate(
            {**{key: getattr(gate, key) for key in plain}, **{key: value_written(getattr(gate, key)) for key in numbers}}
        )
        for gate in verdict.gates
    ]


def judged_written(cell: CellVerdict, columns: Sequence[str]) -> dict[str, Any]:
    """What a cell was judged to be, as a statement has it."""
    kept = ("mean", "median", "p95", "p99", "max", "min", "rms", "count", "not_measured")
    metrics = {
        name: {key: value_written(float(summary[key])) for key in kept}
        for name, summary in cell.metrics.items()
        if name in columns
    }
    coverage = Covered(planned=cell.coverage.planned, measured=cell.coverage.measured, judged=cell.coverage.judged)
    return {
        "status": cell.status,
        "expected": cell.expected,
        "as_expected": cell.as_expected,
        "positions": cell.positions,
        "coverage": coverage,
        "counts": dict(cell.counts),
        "metrics": metrics,
    }


def _uses(terms: dict[str, Any]) -> list[dict[str, Any]]:
    several = terms["references"] if isinstance(terms["references"], dict) else {}
    first = [terms[name] for name in ("reference", "witness") if terms.get(name)]
    pins = [pin for use in terms["candidates"].values() for pin in use["isa"].values()]
    return [*first, *several.values(), *terms["candidates"].values(), *terms["error_bar"]["builds"].values(), *pins]


def _case(recorded: CellStatement, contract: Contract, place: str) -> Case:
    if recorded.candidate not in contract.candidates or recorded.model not in contract.models:
        raise TermsBroken(f"{place}: the contract has no such candidate or model")
    if recorded.quantization not in contract.models[recorded.model] or recorded.against not in ("", *contract.others):
        raise TermsBroken(f"{place}: the contract has no such quantization or reference")
    axes = {axis: getattr(recorded, axis) for axis in ("candidate", "model", "quantization", "mode", "isa", "against")}
    rows = [_row(row, number, f"{place}.rows.{number}") for number, row in enumerate(recorded.rows)]
    pairs = tuple(row.pair for row in rows)
    cell = Cell(**axes, reference_name=recorded.reference, candidate_name=recorded.engine, pairs=pairs)
    if cell.id != recorded.id:
        raise TermsBroken(f"{place}: its axes are those of {cell.id}")
    band = _band(recorded)
    _refuse_other_bounds(recorded, contract, cell, band, place)
    rows = [outside_ties(row, band) for row in rows]
    return Case(
        cell,
        rows,
        band,
        {name: Bound(value_read(bound.value), bound.basis) for name, bound in recorded.bounds.items()},
        {name: OwnError(value_read(own.value), own.run) for name, own in recorded.own_errors.items()},
        suspicion=suspicion_of(contract, cell, rows, band, same_arithmetic=recorded.same_arithmetic),
        same_arithmetic=recorded.same_arithmetic,
    )


def _refuse_other_bounds(
    recorded: CellStatement, contract: Contract, cell: Cell, band: Band | CalculatedBand | None, place: str
) -> None:
    """What the contract types is not taken from the statement: only what it has calculated may stand there."""
    typed = band_of(contract, cell)
    is_there = any(entry.where.selects(cell.axes) for entry in contract.bands)
    if (typed is not None and band != typed) or (not is_there and band is not None):
        raise TermsBroken(f"{place}.band: it is not the band that the contract has for this cell")
    calculated = {gate.id for gate in contract.gates if gate.is_calibrated and gate.selects(cell.axes)}
    if others := sorted(set(recorded.bounds) - calculated):
        raise TermsBroken(f"{place}.bounds.{others[0]}: the contract calculates no bound of that gate")


def _row(recorded: Row, number: int, place: str) -> Compared:
    """The row; the tokens of its sequence are not told, and its number stands for them."""
    prompt = _Known(id=recorded.prompt_id, bucket=recorded.bucket, text="-", known_sha256=recorded.prompt_sha256)
    pair = Pair(recorded.suite, recorded.prompt_idx, prompt, "", "", "", None)
    failure = Failure(**recorded.failure.model_dump()) if recorded.failure else None
    if recorded.compared == (failure is not None):
        raise TermsBroken(f"{place}: it has both a comparison and a failure, or neither")
    if recorded.compared and (missing := [name for name in JUDGED if name not in recorded.values]):
        raise TermsBroken(f"{place}: it lacks {missing[0]}, which every band looks at")
    table = pa.table({name: _numbers(values) for name, values in sorted(recorded.values.items())})
    return Compared(
        pair,
        recorded.prompt_length,
        Comparison(table, tuple(table.column_names)) if recorded.compared else None,
        failure,
        {name: value_read(value) for name, value in recorded.whole.items()},
        token_ids=(number,),
        planned=recorded.planned,
    )


def _band(recorded: CellStatement) -> Band | CalculatedBand | None:
    if recorded.band is None:
        return None
    known = recorded.band
    if not known.calculated:
        return Band(known.match, known.wrong, known.allow, known.basis, known.beyond)
    matches, expected = (
        {tokens_sha256((number,)): _numbers(getattr(row, name)) for number, row in enumerate(recorded.rows) if row.compared}
        for name in ("match", "expected")
    )
    if not matches:
        return Band(known.match, known.wrong, known.allow, known.basis, known.beyond)
    return CalculatedBand(matches, known.allow, known.beyond, known.basis, expected)


def _numbers(values: Values) -> np.ndarray:
    return np.array([value_read(value) for value in values], np.float64)
