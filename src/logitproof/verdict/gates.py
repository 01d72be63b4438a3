"""Gates: what each looks at, what it observes there, and whether its bound holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from logitproof.bands.calculated import Calibration, gate_bound
from logitproof.bands.power import Effects, Power, power_of_gate
from logitproof.comparison.summary import summarize
from logitproof.contract.contract import Contract, Gate
from logitproof.contract.scope import parse_scope
from logitproof.jobs.cell import Cell
from logitproof.verdict.compared import Compared, values_of

GateStatus = Literal["PASS", "FAIL", "ERROR", "NOT-MEASURED"]


@dataclass(frozen=True)
class OwnError:
    """What a gate would observe of the reference against itself, and in which of its runs that was worst."""

    value: float
    run: str


@dataclass(frozen=True)
class GateVerdict:
    """One gate on one cell. A gate on a control cell is shown and does not count.

    `reference_error` is what it would observe of the reference against itself, in `reference_run`.
    `power` are the known bugs that it would catch, where that was measured.
    """

    id: str
    cell: str
    metric: str
    scope: str
    statistic: str
    operator: Literal["at_most", "at_least"]
    status: GateStatus
    observed: float | None
    bound: float
    basis: str
    positions: int = 0
    where: str = ""
    if_fails: tuple[str, ...] = ()
    control: bool = False
    reason: str = ""
    reference_error: float | None = None
    reference_run: str = ""
    power: Power | None = None


def judge_gate(
    gate: Gate,
    compared: Mapping[Cell, Sequence[Compared]],
    contract: Contract,
    calibrated: Mapping[str, Calibration],
    effects: Mapping[str, Effects],
) -> list[GateVerdict]:
    cells = [cell for cell in compared if gate.where.selects(cell.axes) and _can_measure(gate, compared[cell])]
    if not cells:
        broken = any(row.failure for cell in compared if gate.where.selects(cell.axes) for row in compared[cell])
        reason = "the cells that it looks at failed" if broken else "no cell of this run measures it"
        selected = [cell for cell in compared if gate.where.selects(cell.axes)]
        status: GateStatus = "ERROR" if selected else "NOT-MEASURED"
        return [_gate_verdict(gate, "", status, None, 0, "", False, reason)]
    controls = {name for name, use in contract.candidates.items() if use.expect is not None}
    found = []
    for cell in cells:
        rows = compared[cell]
        bounded = _bounded(gate, rows, calibrated.get(cell.id))
        verdict = _gate_on(bounded, cell, rows, cell.candidate in controls, contract)
        found.append(replace(verdict, power=_power(bounded, rows, effects.get(cell.id))))
    return found


def _power(gate: Gate, rows: Sequence[Compared], effects: Effects | None) -> Power | None:
    if effects is None or any(row.failure for row in rows):
        return None
    return power_of_gate(gate, effects, [(row.token_ids, row.start, _chosen(gate, row)) for row in rows])


def _bounded(gate: Gate, rows: Sequence[Compared], calibration: Calibration | None) -> Gate:
    """The gate with the bound that was calculated for the positions that it looks at in this cell."""
    if not gate.is_calibrated or calibration is None or any(row.failure for row in rows):
        return gate
    places = [(row.token_ids, [row.start + at for at in _chosen(gate, row)]) for row in rows]
    bound = gate_bound(calibration, gate.metric, gate.statistic, places, at_most=gate.at_most is not None)
    return gate.bounded_by(bound, calibration.basis)


def beside(verdict: GateVerdict, gate: Gate, own: OwnError | None) -> GateVerdict:
    """The gate with the reference's own error beside it; refused where it demands more than the reference keeps."""
    if own is None:
        return verdict
    verdict = replace(verdict, reference_error=own.value, reference_run=own.run)
    if verdict.status == "ERROR" or (own.value <= verdict.bound if gate.at_most is not None else own.value >= verdict.bound):
        return verdict
    reason = (
        f"is tighter than the reference's own error: the bound is {verdict.bound:.4g}, the reference is {own.value:.4g} "
        f"from itself under {own.run}"
    )
    return replace(verdict, status="ERROR", reason=reason)


def is_refused(gate: GateVerdict) -> bool:
    return gate.status == "ERROR" and gate.observed is not None


def _can_measure(gate: Gate, rows: Sequence[Compared]) -> bool:
    """A metric of whole prompts exists in free-running cells only, and such a gate means those."""
    return any(gate.metric in row.whole or (row.comparison and gate.metric in row.comparison.metrics) for row in rows)


def gate_values(gate: Gate, rows: Sequence[Compared]) -> list[np.ndarray]:
    """What a gate looks at, one array a prompt; nothing where a prompt failed."""
    if any(row.failure for row in rows):
        return []
    return [values_of(row, gate.metric)[_chosen(gate, row)] for row in rows]


def _chosen(gate: Gate, row: Compared) -> list[int]:
    """Positions of a prompt in the gate's scope; a metric of whole prompts has one value."""
    count = len(values_of(row, gate.metric))
    return list(range(count)) if gate.metric in row.whole else list(parse_scope(gate.scope).positions(count, row.prompt_length))


def _gate_on(gate: Gate, cell: Cell, rows: Sequence[Compared], control: bool, contract: Contract) -> GateVerdict:
    for row in rows:
        if row.failure is not None:
            return _gate_verdict(
                gate, cell.id, "ERROR", None, 0, "", control, f"prompt {row.pair.prompt.id} failed: {row.failure.text}"
            )
    values = gate_values(gate, rows)
    places = [(row.pair.prompt.id, None if gate.metric in row.whole else index) for row in rows for index in _chosen(gate, row)]
    flat = np.concatenate(values) if values else np.empty(0)
    if not np.isfinite(flat).any():
        return _gate_verdict(gate, cell.id, "ERROR", None, 0, "", control, "nothing was measured in its scope")
    observed = float(summarize(values, seed=contract.bootstrap_seed)[gate.statistic])
    worst = int(np.nanargmax(flat) if gate.at_most is not None else np.nanargmin(flat))
    prompt, index = places[worst]
    where = f"worst at prompt {prompt}" + ("" if index is None else f", position {index}") + f": {flat[worst]:.6g}"
    status: GateStatus = "PASS" if gate.holds(observed) else "FAIL"
    return _gate_verdict(gate, cell.id, status, observed, int(np.isfinite(flat).sum()), where, control, "")


def _gate_verdict(
    gate: Gate, cell: str, status: GateStatus, observed: float | None, positions: int, where: str, control: bool, reason: str
) -> GateVerdict:
    return GateVerdict(
        id=gate.id,
        cell=cell,
        metric=gate.metric,
        scope=gate.scope,
        statistic=gate.statistic,
        operator="at_most" if gate.at_most is not None else "at_least",
        status=status,
        observed=observed,
        bound=gate.bound,
        basis=gate.basis,
        positions=positions,
        where=where,
        if_fails=tuple(gate.if_fails),
        control=control,
        reason=reason,
    )
