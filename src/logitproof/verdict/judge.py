"""From comparisons to a verdict: pure functions, no engine, no file.

Severity orders everything: a cell is as bad as the worst thing in it, the whole as the worst cell or
gate, and where there is nothing to look at the answer is ERROR.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal

import numpy as np

from logitproof.bands.band import Band, PositionStatus
from logitproof.bands.calculated import CalculatedBand
from logitproof.bands.power import Power, Stretch, power_of_band
from logitproof.bands.rule import Statuses, counted, statuses_of, too_many
from logitproof.comparison.summary import Summary, summarize
from logitproof.contract.contract import CellStatus, Contract
from logitproof.contract.waiver import Waiver, WaiverVerdict, unused
from logitproof.jobs.cell import NOT_SELECTED, Cell, Pair, Unmeasured
from logitproof.traces.trace import Failure
from logitproof.verdict.case import Case, waivers_of
from logitproof.verdict.compared import Compared, values_of
from logitproof.verdict.coverage import Coverage, coverage_of
from logitproof.verdict.gates import GateVerdict, is_refused, is_whole, judge_gate

Status = Literal["PASS", "FAIL", "ERROR"]
ExitCode = Literal[0, 1, 2, 3]
GOOD: tuple[PositionStatus, ...] = ("MATCH", "TIE-FLIP", "DRIFT")
"""What a cell is in which nothing is wrong."""
SEEN = "; seen: "
"""Stands in a cell's reason before what its rows show by themselves."""
SEVERITY: tuple[CellStatus, ...] = (
    "MATCH",
    "TIE-FLIP",
    "DRIFT",
    "KNOWN-DIVERGENT",
    "WRONG",
    "SUSPECT",
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
    def counts(self) -> dict[PositionStatus, int]:
        return dict(Counter(self.statuses))


@dataclass(frozen=True)
class CellVerdict:
    """One row of the matrix. `metrics[name][statistic]` are over all its positions."""

    cell: Cell
    status: CellStatus
    expected: str | None
    band: Band | None
    positions: int
    counts: Mapping[PositionStatus, int]
    metrics: Mapping[str, Mapping[str, Any]]
    prompts: tuple[PromptVerdict, ...]
    failures: tuple[Failure, ...] = ()
    reason: str = ""
    witness: str = ""
    power: Power | None = None
    coverage: Coverage = field(default_factory=lambda: Coverage(0, 0, 0))
    may_be_unmeasured: bool = False
    """whether the contract gives it leave to stay unmeasured"""

    @property
    def is_left_out(self) -> bool:
        """Whether it was not measured, by the contract's leave; an engine that failed has none."""
        return self.may_be_unmeasured and self.status == "NOT-MEASURED" and not self.failures

    @property
    def as_expected(self) -> bool:
        """A control is fine only when it is exactly as bad as was planted."""
        if self.is_left_out:
            return True
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
    exit_code: ExitCode
    cells: tuple[CellVerdict, ...]
    gates: tuple[GateVerdict, ...]
    unmeasured: tuple[Unmeasured, ...]
    waivers: tuple[WaiverVerdict, ...] = ()
    falsified: tuple[Falsified, ...] = ()
    reason: str = ""
    """why it is no PASS, in one line; nothing where it is"""


def judge(
    cases: Sequence[Case], contract: Contract, unmeasured: Sequence[Unmeasured] = (), *, today: date | None = None
) -> Verdict:
    """Judge every case by its band and its gates; nothing compared is ERROR.

    A prompt that a waiver of the contract covers on `today` counts in no gate and no band of its cell. A gate that the
    reference's own error breaks is refused, and its cell is a SET-UP ERROR.
    """
    today = today or date.today()
    waived = {case.cell: waivers_of(contract, case.cell, case.rows, today) for case in cases}
    counting = [case.without(waived[case.cell]) for case in cases]
    gates = [verdict for gate in contract.gates for verdict in judge_gate(gate, counting, contract)]
    cells = [_judge_cell(case, contract, waived[case.cell], gates) for case in cases]
    waivers = _waiver_verdicts(cells, contract, today)
    status, code, reason = _whole(cells, gates, _forbidden(unmeasured, contract))
    if status == "PASS" and (fixed := next((waiver for waiver in waivers if waiver.status == "FIXED"), None)):
        status, code, reason = "FAIL", 1, f"the waiver {fixed.id} is done: {fixed.text}"
    left_out = (Unmeasured(cell.cell.id, cell.reason) for cell in cells if cell.is_left_out)
    falsified = _falsified(gates, contract)
    return Verdict(status, code, tuple(cells), tuple(gates), (*unmeasured, *left_out), waivers, falsified, reason)


def _judge_cell(case: Case, contract: Contract, waived: Mapping[str, Waiver], gates: Sequence[GateVerdict]) -> CellVerdict:
    prompts = tuple(_prompt(row, case.band, waived.get(row.pair.prompt.id)) for row in case.rows)
    counts = Counter(status for prompt in prompts for status in prompt.statuses)
    band = case.band.summary if case.band else None
    own = [gate for gate in gates if gate.cell == case.cell.id]
    status, reason = _cell_status(prompts, band, own, by_gates := _is_left_to_gates(counts))
    if status == "WRONG" and (remark := next((row.remark for row in case.rows if row.remark), "")):
        reason = f"{reason}{SEEN}{remark}"
    measured = sum(counts.values()) - counts["NOT-MEASURED"]
    coverage = coverage_of(case.planned, (Statuses(prompt.statuses, bool(prompt.waiver)) for prompt in prompts))
    # of an engine that gives too little for the band, what its gates were judged on
    is_judged_so = by_gates and status != "NOT-MEASURED"
    judged = max([measured, *(gate.positions for gate in own if is_judged_so)])
    if is_judged_so:
        coverage = Coverage(case.planned, judged, judged)
    elif status in (*GOOD, "KNOWN-DIVERGENT"):
        status, reason = _doubted(status, reason, case, coverage, contract)
        status, reason = _unseen(status, reason, own, case, contract)
        if status not in ("NOT-MEASURED", "SUSPECT") and case.is_held_in_part:
            status, reason = _by_scope(status, reason, own, case)
    return CellVerdict(
        cell=case.cell,
        status=status,
        expected=contract.candidates[case.cell.candidate].expect,
        band=band,
        positions=judged,
        counts=dict(counts),
        metrics=_metrics(case.rows, contract.bootstrap_seed),
        prompts=prompts,
        failures=tuple(row.failure for row in case.rows if row.failure),
        reason=reason,
        witness=case.witness,
        power=_power(case, waived),
        coverage=coverage,
        may_be_unmeasured=contract.may_stay_unmeasured(case.cell.id),
    )


def status_alone(case: Case, contract: Contract, *, is_part: bool = False) -> CellStatus:
    """What its band and its gates make of a cell by themselves, without a waiver.

    A gate that measures nothing leaves it unmeasured; of a part of its prompts, such a gate says nothing.
    """
    selecting = [gate for gate in contract.gates if gate.selects(case.cell.axes)]
    gates = [entry for gate in selecting for entry in judge_gate(gate, [case], contract)]
    if not is_part and any(gate.status == "ERROR" for gate in gates):
        return "NOT-MEASURED"
    prompts = [_prompt(row, case.band, None) for row in case.rows]
    counts = Counter(status for prompt in prompts for status in prompt.statuses)
    return _cell_status(prompts, case.band.summary if case.band else None, gates, _is_left_to_gates(counts))[0]


def _doubted(status: CellStatus, reason: str, case: Case, coverage: Coverage, contract: Contract) -> tuple[CellStatus, str]:
    """The status of a cell in which nothing is wrong; not of one that was measured in part, or is too good to be true."""
    if not coverage.is_whole and not contract.may_stay_unmeasured(case.cell.id):
        return "NOT-MEASURED", str(coverage)
    return ("SUSPECT", case.suspicion) if case.suspicion else (status, reason)


def _unseen(
    status: CellStatus, reason: str, gates: Sequence[GateVerdict], case: Case, contract: Contract
) -> tuple[CellStatus, str]:
    """The status of a cell in which nothing is wrong; not of one whose engine does not show what a gate asks for."""
    open_ = next((gate for gate in gates if gate.status == "NOT-MEASURED"), None)
    if open_ is None or contract.may_stay_unmeasured(case.cell.id):
        return status, reason
    return "NOT-MEASURED", f"the gate {open_.id} was not judged: {open_.reason}"


def _by_scope(status: CellStatus, reason: str, gates: Sequence[GateVerdict], case: Case) -> tuple[CellStatus, str]:
    """The status of a cell whose reference holds some positions only: every gate must have been judged on all of its scope."""
    held = f"the reference holds {case.planned} of {case.positions} positions"
    if not gates:
        return "NOT-MEASURED", f"{held}, and no gate says which of them matter"
    if (open_ := next((gate for gate in gates if not is_whole(gate)), None)) is not None:
        return "NOT-MEASURED", f"{held}, which are not all of the scope {open_.scope!r} of the gate {open_.id}"
    return status, reason or f"{held}, and the scope of every gate is among them"


def _prompt(row: Compared, band: Band | CalculatedBand | None, waiver: Waiver | None) -> PromptVerdict:
    """A waived prompt that is still WRONG is KNOWN-DIVERGENT; any other keeps its status, and so its waiver is done."""
    if row.failure is not None:
        return PromptVerdict(row.pair, "SET-UP ERROR" if row.failure.fault == "setup" else "ENGINE ERROR", (), row.failure)
    if row.comparison is None or band is None:
        unmeasured: list[PositionStatus] = ["NOT-MEASURED"] * (row.comparison.positions if row.comparison else 0)
        return PromptVerdict(row.pair, "NOT-MEASURED", tuple(unmeasured))
    bands = band.along(row.token_ids, row.start, row.comparison.positions)
    statuses = Statuses(statuses_of(bands, row.comparison.metrics), waiver is not None)
    worst: CellStatus = max(statuses.positions, key=SEVERITY.index, default="NOT-MEASURED")
    if waiver is None or not statuses.is_waived:
        return PromptVerdict(row.pair, worst, statuses.positions)
    return PromptVerdict(row.pair, "KNOWN-DIVERGENT" if worst == "WRONG" else worst, statuses.positions, waiver=waiver.id)


def _is_left_to_gates(counts: Counter[PositionStatus]) -> bool:
    """Whether engines give a band too little: all that it can say of some positions is that they are WRONG."""
    if counts["MATCH"] or counts["TIE-FLIP"] or counts["DRIFT"]:
        return False
    return not counts["WRONG"] or counts["NOT-MEASURED"] > 0


def _cell_status(
    prompts: Sequence[PromptVerdict], band: Band | None, gates: Sequence[GateVerdict], by_gates: bool
) -> tuple[CellStatus, str]:
    """The status of a cell and its reason: faults first, then what its band and its gates say."""
    worst: CellStatus = max((prompt.status for prompt in prompts), key=SEVERITY.index, default="NOT-MEASURED")
    if worst in ("SET-UP ERROR", "ENGINE ERROR"):
        return worst, next(prompt.failure.text for prompt in prompts if prompt.failure and prompt.status == worst)
    if (refused := next((gate for gate in gates if is_refused(gate)), None)) is not None:
        return "SET-UP ERROR", f"the gate {refused.id} {refused.reason}"
    statuses = [Statuses(prompt.statuses, bool(prompt.waiver)) for prompt in prompts]
    if band is None and any(prompt.statuses for prompt in prompts):
        return "NOT-MEASURED", "no band of the contract selects this cell"
    if band is not None and (excess := too_many(statuses, band)) is not None:
        return "WRONG", str(excess)
    if band is None or by_gates:
        return _by_gates(gates)
    if any(gate.status == "FAIL" for gate in gates):
        return "WRONG", "a gate fails"
    if worst == "KNOWN-DIVERGENT":
        return worst, "waived: " + ", ".join(sorted({prompt.waiver for prompt in prompts if prompt.status == worst}))
    counts = counted(statuses)
    rest: list[CellStatus] = [status for status in GOOD if counts[status]]
    return max(rest, key=SEVERITY.index, default="MATCH"), ""


def _by_gates(gates: Sequence[GateVerdict]) -> tuple[CellStatus, str]:
    """The status of a cell that gives its band nothing to judge: what its gates say, where each saw all its positions."""
    judged = [gate for gate in gates if gate.status in ("PASS", "FAIL")]
    if not judged:
        return "NOT-MEASURED", gates[0].reason if gates else "no position was compared"
    if any(gate.status == "FAIL" for gate in judged):
        return "WRONG", "a gate fails"
    if (open_ := next((gate for gate in gates if not is_whole(gate)), None)) is not None:
        text = open_.reason or f"{open_.not_measured} of its positions have no {open_.metric}"
        return "NOT-MEASURED", f"the gate {open_.id} was not judged on all its positions: {text}"
    return "MATCH", "judged by its gates alone: the engines give too little for the band"


def _power(case: Case, waived: Mapping[str, Waiver]) -> Power | None:
    """What the band of a cell would catch of the known bugs, over all that was compared."""
    if case.band is None or case.effects is None or case.has_failures:
        return None
    stretches = [Stretch(row.token_ids, row.start, row.pair.prompt.id in waived) for row in case.rows]
    return power_of_band(case.band, case.effects, stretches)


def _metrics(rows: Sequence[Compared], seed: int) -> dict[str, Summary]:
    names: dict[str, None] = {}
    for row in rows:
        names.update(dict.fromkeys(row.comparison.names if row.comparison else ()))
        names.update(dict.fromkeys(row.whole))
    summaries = {}
    for name in names:
        values = [values_of(row, name) for row in rows if row.comparison is not None]
        if any(np.isfinite(series).any() for series in values):
            summaries[name] = summarize(values, seed=seed)
    return summaries


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
    return (*verdicts, *unused(contract.waivers, {verdict.id for verdict in verdicts}, today))


def _falsified(gates: Sequence[GateVerdict], contract: Contract) -> tuple[Falsified, ...]:
    failed = {gate.id for gate in gates if gate.status == "FAIL" and not gate.control}
    return tuple(
        Falsified(claim.id, claim.prediction, tuple(sorted(failed & set(claim.test))), tuple(claim.next_steps(failed)))
        for claim in contract.falsification
        if failed & set(claim.test)
    )


def _forbidden(unmeasured: Sequence[Unmeasured], contract: Contract) -> Unmeasured | None:
    """The first cell that was not measured, and that neither `--only` left out nor the contract excuses."""
    skipped = (cell for cell in unmeasured if not cell.reason.startswith(NOT_SELECTED))
    return next((cell for cell in skipped if not contract.may_stay_unmeasured(cell.cell)), None)


def _whole(
    cells: Sequence[CellVerdict], gates: Sequence[GateVerdict], forbidden: Unmeasured | None
) -> tuple[Status, ExitCode, str]:
    """Status and exit code of the whole, and why it is no PASS."""
    if not cells:
        return "ERROR", 3, "nothing was compared" + (f": {forbidden.cell}: {forbidden.reason}" if forbidden else "")
    faults = [(failure.fault, f"{cell.cell.id}: {failure.text}") for cell in cells for failure in cell.failures]
    if broken := [text for fault, text in faults if fault != "setup"]:
        return "ERROR", 3, broken[0]
    for cell in cells:
        if (cell.positions == 0 or cell.status == "NOT-MEASURED") and not cell.failures and not cell.is_left_out:
            return "ERROR", 3, f"{cell.cell.id} was not measured: {cell.reason}"
    if faults:
        return "ERROR", 2, faults[0][1]
    if unproven := [gate for gate in gates if gate.status == "ERROR"]:
        return "ERROR", 2, f"the gate {unproven[0].id} on {unproven[0].cell or 'no cell'}: {unproven[0].reason}"
    if forbidden is not None:
        return "ERROR", 3, f"{forbidden.cell} was not measured: {forbidden.reason}"
    counted = [gate for gate in gates if not gate.control]
    if failing := [gate for gate in counted if gate.status == "FAIL"]:
        return "FAIL", 1, f"the gate {failing[0].id} on {failing[0].cell}: {failing[0].where}"
    if unexpected := [cell for cell in cells if not cell.as_expected]:
        cell = unexpected[0]
        return "FAIL", 1, f"{cell.cell.id} is {cell.status}" + (f": {cell.reason}" if cell.reason else "")
    if not any(cell.coverage.judged for cell in cells if not cell.expected):
        return "ERROR", 3, "nothing but controls was judged, which proves nothing of any engine"
    if any(gate.status == "PASS" for gate in counted) or any(cell.expected for cell in cells):
        return "PASS", 0, ""
    return "ERROR", 3, "no gate was measured"
