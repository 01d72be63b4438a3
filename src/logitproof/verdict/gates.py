"""Gates: what each looks at, what it observes there, and whether its bound holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from logitproof.bands.power import Power, power_of_gate
from logitproof.comparison.summary import Number, summarize
from logitproof.contract.contract import Contract, Gate, Statistic
from logitproof.errors import Missing
from logitproof.verdict.case import Case
from logitproof.verdict.compared import Compared, values_of
from logitproof.verdict.gate_rows import can_measure, chosen, gate_values
from logitproof.verdict.routed import routing_metrics
from logitproof.verdict.ties import by_ties_alone, tied_metrics

GateStatus = Literal["PASS", "FAIL", "ERROR", "NOT-MEASURED"]


@dataclass(frozen=True)
class GateVerdict:
    """One gate on one cell; `cell` is empty where no cell could be measured."""

    id: str
    cell: str
    metric: str
    scope: str
    statistic: Statistic
    operator: Literal["at_most", "at_least"]
    status: GateStatus
    observed: float | None
    bound: Number
    """null where it was to be calculated and nothing was measured"""
    basis: str
    positions: int
    """positions of its scope that were measured"""
    where: str = ""
    if_fails: tuple[str, ...] = ()
    control: bool = False
    """a gate on a control is shown and does not count"""
    reason: str = ""
    reference_error: float | None = None
    """what the gate would observe of the reference against itself"""
    reference_run: str = ""
    """the run of the reference in which that was worst"""
    power: Power | None = None
    """what the gate would catch; null where that was not measured"""
    not_measured: int = 0
    """positions of its scope at which the metric could not be measured"""
    ties: int | None = None
    """of a metric that lets ties pass: positions at which the strict one fails by a tie alone"""


@dataclass(frozen=True)
class _Observed:
    """What a gate found over its positions, how many there were, how many had no value, and where it was worst."""

    value: float
    positions: int
    not_measured: int
    where: str
    ties: int | None = None


def judge_gate(gate: Gate, cases: Sequence[Case], contract: Contract) -> list[GateVerdict]:
    """The gate on every case that it selects and that has its metric; a single verdict where there is none."""
    selected = [case for case in cases if gate.selects(case.cell.axes)]
    measuring = [case for case in selected if can_measure(gate, case.rows)]
    return [_on_case(gate, case, contract) for case in measuring] or [_on_nothing(gate, selected)]


def is_whole(gate: GateVerdict) -> bool:
    """Whether a gate was judged, and on every position of its scope."""
    return gate.status in ("PASS", "FAIL") and gate.not_measured == 0


def is_refused(gate: GateVerdict) -> bool:
    """Whether a gate measured something and proves nothing: it demands more than the reference keeps itself."""
    return gate.status == "ERROR" and gate.observed is not None


def _on_nothing(gate: Gate, selected: Sequence[Case]) -> GateVerdict:
    broken = any(case.has_failures for case in selected)
    reason = "the cells that it looks at failed" if broken else "no cell of this run measures it"
    return _verdict(gate, None, False, "ERROR" if selected else "NOT-MEASURED", Missing(reason))


def _on_case(gate: Gate, case: Case, contract: Contract) -> GateVerdict:
    if (bound := case.bounds.get(gate.id)) is not None:
        gate = gate.bounded_by(bound.value, bound.basis)
    observed = _observe(gate, case.rows, contract.bootstrap_seed)
    is_control = contract.candidates[case.cell.candidate].expect is not None
    if isinstance(observed, Missing):
        leave = gate.metric in routing_metrics() or contract.may_stay_unmeasured(case.cell.id)
        allowed = not case.has_failures and leave
        return _verdict(gate, case, is_control, "NOT-MEASURED" if allowed else "ERROR", observed)
    own = case.own_errors.get(gate.id)
    if own is not None and not gate.holds(own.value):
        reason = (
            f"is tighter than the reference's own error: the bound is {gate.bound:.4g}, the reference is {own.value:.4g} "
            f"from itself under {own.run}"
        )
        return _verdict(gate, case, is_control, "ERROR", observed, reason)
    return _verdict(gate, case, is_control, "PASS" if gate.holds(observed.value) else "FAIL", observed)


def _observe(gate: Gate, rows: Sequence[Compared], seed: int) -> _Observed | Missing:
    failed = next((row for row in rows if row.failure), None)
    if failed is not None and failed.failure is not None:
        first, _, _ = failed.failure.text.partition("\n")
        return Missing(f"prompt {failed.pair.prompt.id} failed: {first}")
    values = gate_values(gate, rows)
    flat = np.concatenate(values) if values else np.empty(0)
    if not np.isfinite(flat).any():
        return Missing(_unrouted(gate, rows) or "nothing was measured in its scope")
    if gate.metric in routing_metrics() and np.isnan(flat).any():
        return Missing(_unrouted(gate, rows) or "the experts of some positions are not known")
    places = [(row.pair.prompt.id, None if gate.metric in row.whole else index) for row in rows for index in chosen(gate, row)]
    worst = int(np.nanargmax(flat) if gate.at_most is not None else np.nanargmin(flat))
    prompt, index = places[worst]
    where = f"worst at prompt {prompt}" + ("" if index is None else f", position {index}") + f": {flat[worst]:.6g}"
    value = float(summarize(values, seed=seed)[gate.statistic])
    ties = None
    if (tied := tied_metrics().get(gate.metric)) is not None:
        strict = [values_of(row, tied.strict)[chosen(gate, row)] for row in rows]
        ties = by_ties_alone(gate.metric, values, strict)
        strictly = summarize(strict, seed=seed)[gate.statistic]
        where += f"; strictly ({tied.strict}) {strictly:.6g}, which {ties} positions fail by a tie alone"
    return _Observed(value, int(np.isfinite(flat).sum()), int(np.isnan(flat).sum()), where, ties)


def _unrouted(gate: Gate, rows: Sequence[Compared]) -> str:
    """Why a gate of what routers choose is not measured, or nothing."""
    return next((row.unrouted for row in rows if row.unrouted), "") if gate.metric in routing_metrics() else ""


def _power(gate: Gate, case: Case) -> Power | None:
    """The planted bugs that the gate would catch here."""
    if case.effects is None or case.has_failures:
        return None
    return power_of_gate(gate, case.effects, [(row.token_ids, row.start, chosen(gate, row)) for row in case.rows])


def _verdict(
    gate: Gate, case: Case | None, is_control: bool, status: GateStatus, observed: _Observed | Missing, refusal: str = ""
) -> GateVerdict:
    """The verdict, with the reference's own error and the gate's power beside what was observed."""
    measured = None if isinstance(observed, Missing) else observed
    own = case.own_errors.get(gate.id) if case else None
    return GateVerdict(
        id=gate.id,
        cell=case.cell.id if case else "",
        metric=gate.metric,
        scope=gate.scope,
        statistic=gate.statistic,
        operator="at_most" if gate.at_most is not None else "at_least",
        status=status,
        observed=measured.value if measured else None,
        bound=gate.bound,
        basis=gate.basis,
        positions=measured.positions if measured else 0,
        not_measured=measured.not_measured if measured else 0,
        ties=measured.ties if measured else None,
        where=measured.where if measured else "",
        if_fails=tuple(gate.if_fails),
        control=is_control,
        reason=observed.reason if isinstance(observed, Missing) else refusal,
        reference_error=own.value if own else None,
        reference_run=own.run if own else "",
        power=_power(gate, case) if case else None,
    )
