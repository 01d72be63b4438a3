"""From comparisons to a verdict: pure functions, no engine, no file.

Severity orders everything: a cell is as bad as the worst thing in it, the whole as the worst cell or
gate, and where there is nothing to look at the answer is ERROR.
"""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from logitproof.bands.band import Band, PositionStatus
from logitproof.bands.calculated import CalculatedBand, Calibration, calculated_band
from logitproof.bands.power import Effects, Power, power_of_band
from logitproof.comparison.summary import summarize
from logitproof.contract.contract import CellStatus, Contract
from logitproof.contract.waiver import Waiver, WaiverVerdict, unused
from logitproof.jobs.cell import NOT_SELECTED, Cell, Pair, Unmeasured
from logitproof.traces.trace import Failure
from logitproof.verdict.compared import Compared, values_of
from logitproof.verdict.gates import GateVerdict, OwnError, beside, is_refused, judge_gate

Status = Literal["PASS", "FAIL", "ERROR"]
SEVERITY: tuple[CellStatus, ...] = (
    "MATCH",
    "TIE-FLIP",
    "DRIFT",
    "KNOWN-DIVERGENT",
    "WRONG",
    "NOT-MEASURED",
    "SET-UP ERROR",
    "ENGINE ERROR",
)


@dataclass(frozen=True)
class PromptVerdict:
    """Status of every position of a prompt, and of the prompt."""

    pair: Pair
    status: CellStatus
    statuses: tuple[PositionStatus, ...] = ()
    failure: Failure | None = None
    waiver: str = ""

    @property
    def counts(self) -> dict[str, int]:
        return dict(Counter(self.statuses))


@dataclass(frozen=True)
class CellVerdict:
    """One row of the matrix. `metrics[name][statistic]` are over all its positions."""

    cell: Cell
    status: CellStatus
    expected: str | None
    band: Band | None
    positions: int
    counts: Mapping[str, int]
    metrics: Mapping[str, Mapping[str, Any]]
    prompts: tuple[PromptVerdict, ...]
    failures: tuple[Failure, ...] = ()
    reason: str = ""
    witness: str = ""
    power: Power | None = None

    @property
    def as_expected(self) -> bool:
        """A control is fine only when it is exactly as bad as was planted."""
        return self.status == self.expected if self.expected else SEVERITY.index(self.status) < SEVERITY.index("WRONG")


@dataclass(frozen=True)
class Falsified:
    """A prediction of the contract that the gates refute, and what it says to check first."""

    id: str
    prediction: str
    gates: tuple[str, ...]
    steps: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """The whole. `exit_code`: 0 PASS, 1 FAIL, 2 the contract is wrong, 3 an engine or the machine failed."""

    status: Status
    exit_code: int
    cells: tuple[CellVerdict, ...]
    gates: tuple[GateVerdict, ...]
    unmeasured: tuple[Unmeasured, ...]
    waivers: tuple[WaiverVerdict, ...] = ()
    falsified: tuple[Falsified, ...] = ()


def judge(
    compared: Mapping[Cell, Sequence[Compared]],
    contract: Contract,
    unmeasured: Sequence[Unmeasured] = (),
    *,
    today: date | None = None,
    own_errors: Mapping[tuple[str, str], OwnError] = MappingProxyType({}),
    witness: Mapping[str, str] = MappingProxyType({}),
    calibrated: Mapping[str, Calibration] = MappingProxyType({}),
    effects: Mapping[str, Effects] = MappingProxyType({}),
) -> Verdict:
    """Judge every cell by its band and its gates; nothing compared is ERROR.

    `calibrated` holds, by cell, what its calculated band and bounds come from, `effects` what known bugs would do there.

    `own_errors` are the reference's own, by gate and cell: a gate that they break is refused, and its cell is
    a SET-UP ERROR. `witness` holds what a second engine says of a cell.
    A prompt that a waiver of the contract covers on `today` counts in no gate of that cell.
    """
    today = today or date.today()
    waived = {cell: _waived(cell, rows, contract, today) for cell, rows in compared.items()}
    counting = {cell: [row for row in rows if row.pair.prompt.id not in waived[cell]] for cell, rows in compared.items()}
    bands = {cell.id: _band(contract, cell, rows, calibrated.get(cell.id)) for cell, rows in compared.items()}
    gates = [
        beside(verdict, gate, own_errors.get((verdict.id, verdict.cell)))
        for gate in contract.gates
        for verdict in judge_gate(gate, counting, contract, calibrated, effects)
    ]
    failed = {gate.cell for gate in gates if gate.status == "FAIL"}
    cells = [_cell(cell, rows, contract, bands[cell.id], waived[cell], cell.id in failed) for cell, rows in compared.items()]
    cells = [replace(_refused(cell, gates), witness=witness.get(cell.cell.id, "")) for cell in cells]
    cells = [replace(cell, power=_power(bands[cell.cell.id], compared[cell.cell], effects.get(cell.cell.id))) for cell in cells]
    skipped = [one for one in unmeasured if not one.reason.startswith(NOT_SELECTED)]
    forbidden = [one for one in skipped if not any(fnmatch.fnmatchcase(one.cell, glob) for glob in contract.may_be_unmeasured)]
    orphans = {gate.id for gate in gates if gate.status == "ERROR"}
    waivers = _waiver_verdicts(cells, contract, today)
    status, code = _whole(cells, gates, bool(forbidden), bool(orphans))
    if status == "PASS" and any(one.status == "FIXED" for one in waivers):
        status, code = "FAIL", 1
    return Verdict(status, code, tuple(cells), tuple(gates), tuple(unmeasured), waivers, _falsified(gates, contract))


def _power(band: Band | CalculatedBand | None, rows: Sequence[Compared], effects: Effects | None) -> Power | None:
    """What the band of a cell would catch of the known bugs, over all that was compared."""
    if band is None or effects is None or any(row.failure for row in rows):
        return None
    return power_of_band(band, effects, [(row.token_ids, row.start) for row in rows])


def _waived(cell: Cell, rows: Sequence[Compared], contract: Contract, today: date) -> dict[str, Waiver]:
    """The waiver of each prompt that has one; a control and a failed prompt have none."""
    if contract.candidates[cell.candidate].expect is not None:
        return {}
    prompts = [row.pair.prompt for row in rows if row.failure is None]
    pairs = [(prompt.id, one) for prompt in prompts for one in contract.waivers if one.covers(cell.id, prompt, today)]
    return dict(pairs)


def _waiver_verdicts(cells: Sequence[CellVerdict], contract: Contract, today: date) -> tuple[WaiverVerdict, ...]:
    by_id = {waiver.id: waiver for waiver in contract.waivers}
    verdicts = []
    for cell in cells:
        for prompt in cell.prompts:
            if waiver := by_id.get(prompt.waiver):
                known = prompt.status == "KNOWN-DIVERGENT"
                text = f"prompt {prompt.pair.prompt.id} is " + (
                    "still WRONG" if known else f"{prompt.status} again: take the waiver out"
                )
                status = prompt.status if prompt.status == "KNOWN-DIVERGENT" else "FIXED"
                verdicts.append(
                    WaiverVerdict(waiver.id, status, waiver.issue, str(waiver.until), cell.cell.id, prompt.pair.prompt.id, text)
                )
    return (*verdicts, *unused(contract.waivers, {one.id for one in verdicts}, today))


def _falsified(gates: Sequence[GateVerdict], contract: Contract) -> tuple[Falsified, ...]:
    failed = {gate.id for gate in gates if gate.status == "FAIL" and not gate.control}
    return tuple(
        Falsified(one.id, one.prediction, tuple(sorted(failed & set(one.test))), tuple(one.next_steps(failed)))
        for one in contract.falsification
        if failed & set(one.test)
    )


def _whole(cells: Sequence[CellVerdict], gates: Sequence[GateVerdict], forbidden: bool, orphans: bool) -> tuple[Status, int]:
    faults = {failure.fault for cell in cells for failure in cell.failures}
    if not cells or faults & {"engine", "environment"} or any(cell.positions == 0 and not cell.failures for cell in cells):
        return "ERROR", 3
    if "setup" in faults or forbidden or orphans:
        return "ERROR", 2 if "setup" in faults or orphans else 3
    counted = [gate for gate in gates if not gate.control]
    if any(gate.status == "FAIL" for gate in counted) or not all(cell.as_expected for cell in cells):
        return "FAIL", 1
    measured = any(gate.status == "PASS" for gate in counted) or any(cell.expected for cell in cells)
    return ("PASS", 0) if measured else ("ERROR", 3)


def _band(
    contract: Contract, cell: Cell, rows: Sequence[Compared], calibration: Calibration | None
) -> Band | CalculatedBand | None:
    """The last band whose filter selects the cell, so that a special case stands after the general one."""
    chosen = [band for band in contract.bands if band.where.selects(cell.axes)]
    if not chosen:
        return None
    if (match := chosen[-1].match) is None or (wrong := chosen[-1].wrong) is None:
        sequences = [row.token_ids for row in rows if row.comparison is not None]
        return calculated_band(calibration, sequences) if calibration is not None else None
    return Band(match, wrong, chosen[-1].allow, chosen[-1].basis)


def _cell(
    cell: Cell,
    rows: Sequence[Compared],
    contract: Contract,
    band: Band | CalculatedBand | None,
    waived: Mapping[str, Waiver],
    gate_failed: bool,
) -> CellVerdict:
    prompts = tuple(_excused(_prompt(row, band), waived.get(row.pair.prompt.id)) for row in rows)
    counts = Counter(status for prompt in prompts for status in prompt.statuses)
    positions = sum(counts.values()) - counts["NOT-MEASURED"]
    failures = tuple(row.failure for row in rows if row.failure)
    status, reason = _cell_status(prompts, positions, band.summary if band else None, gate_failed)
    return CellVerdict(
        cell=cell,
        status=status,
        expected=contract.candidates[cell.candidate].expect,
        band=band.summary if band else None,
        positions=positions,
        counts={str(status): count for status, count in counts.items()},
        metrics=_metrics(rows, contract.bootstrap_seed),
        prompts=prompts,
        failures=failures,
        reason=reason,
    )


def _excused(prompt: PromptVerdict, waiver: Waiver | None) -> PromptVerdict:
    """A waived prompt that is still WRONG is KNOWN-DIVERGENT; any other keeps its status, and so its waiver is done."""
    if waiver is None or prompt.status == "NOT-MEASURED":
        return prompt
    return replace(prompt, waiver=waiver.id, status="KNOWN-DIVERGENT" if prompt.status == "WRONG" else prompt.status)


def _cell_status(
    prompts: Sequence[PromptVerdict], positions: int, band: Band | None, gate_failed: bool
) -> tuple[CellStatus, str]:
    worst: CellStatus = max((prompt.status for prompt in prompts), key=SEVERITY.index, default="NOT-MEASURED")
    if worst in ("SET-UP ERROR", "ENGINE ERROR"):
        first = next(prompt.failure for prompt in prompts if prompt.failure and prompt.status == worst)
        return worst, first.text
    if positions == 0:
        return "NOT-MEASURED", "no position was compared"
    if band is None:
        return "NOT-MEASURED", "no band of the contract selects this cell"
    counts = Counter(status for prompt in prompts if not prompt.waiver for status in prompt.statuses)
    judged = max(sum(counts.values()), 1)
    if counts["WRONG"] / judged > band.allow:
        return "WRONG", f"{counts['WRONG']} of {judged} positions are WRONG, {band.allow:.2%} are allowed"
    outside = counts["WRONG"] + counts["DRIFT"]
    if outside / judged > band.beyond:
        return "WRONG", f"{outside} of {judged} positions are outside the band, {band.beyond:.2%} are expected at most"
    if gate_failed:
        return "WRONG", "a gate fails"
    if worst == "KNOWN-DIVERGENT":
        return worst, "waived: " + ", ".join(sorted({one.waiver for one in prompts if one.status == worst}))
    rest: list[CellStatus] = [status for status in ("MATCH", "TIE-FLIP", "DRIFT") if counts[status]]
    return max(rest, key=SEVERITY.index, default="MATCH"), ""


def _prompt(row: Compared, band: Band | CalculatedBand | None) -> PromptVerdict:
    if row.failure is not None:
        return PromptVerdict(row.pair, "SET-UP ERROR" if row.failure.fault == "setup" else "ENGINE ERROR", (), row.failure)
    if row.comparison is None or band is None:
        count = row.comparison.positions if row.comparison else 0
        unmeasured: list[PositionStatus] = ["NOT-MEASURED"] * count
        return PromptVerdict(row.pair, "NOT-MEASURED", tuple(unmeasured))
    columns = row.comparison.metrics
    bands = band.along(row.token_ids, row.start, row.comparison.positions)
    statuses: tuple[PositionStatus, ...] = tuple(
        one.status(float(rms), bool(top1 == 1.0), float(regret))
        for one, rms, top1, regret in zip(bands, columns["rms_delta_logit"], columns["top1"], columns["regret"], strict=True)
    )
    worst: CellStatus = max(statuses, key=SEVERITY.index, default="NOT-MEASURED")
    return PromptVerdict(row.pair, worst, statuses)


def _metrics(rows: Sequence[Compared], seed: int) -> dict[str, dict[str, Any]]:
    names: dict[str, None] = {}
    for row in rows:
        names.update(dict.fromkeys(row.comparison.metrics if row.comparison else ()))
        names.update(dict.fromkeys(row.whole))
    found = {}
    for name in names:
        values = [values_of(row, name) for row in rows if row.comparison is not None]
        if any(np.isfinite(one).any() for one in values):
            found[name] = summarize(values, seed=seed)
    return found


def _refused(cell: CellVerdict, gates: Sequence[GateVerdict]) -> CellVerdict:
    """A cell that a refused gate looks at is a fault of the set-up, whatever was measured in it."""
    reason = next((f"the gate {one.id} {one.reason}" for one in gates if one.cell == cell.cell.id and is_refused(one)), "")
    return cell if not reason or cell.status == "ENGINE ERROR" else replace(cell, status="SET-UP ERROR", reason=reason)
