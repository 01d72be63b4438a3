"""What a report has to say to somebody who reads the contract: one finding a fault, with its line in the file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from logitproof.contract.waiver import WaiverVerdict
from logitproof.jobs.cell import NOT_SELECTED, Unmeasured
from logitproof.report.report import Report
from logitproof.verdict.gates import GateVerdict
from logitproof.verdict.judge import CellVerdict


@dataclass(frozen=True)
class Finding:
    """`rule` groups findings of one kind; `line` is where the contract speaks of it."""

    level: Literal["error", "note"]
    rule: str
    title: str
    text: str
    line: int
    cell: str = ""


def findings(report: Report) -> list[Finding]:
    """Everything that keeps the verdict from PASS, the worst first, then what is not measured by leave.

    Where the verdict is no PASS, there is at least one error among them.
    """
    verdict = report.verdict
    listed = [_of_cell(report, cell) for cell in verdict.cells if not cell.as_expected and not _has_failing_gate(report, cell)]
    listed += [_of_gate(report, gate) for gate in verdict.gates if _counts(report, gate)]
    listed += [_of_unmeasured(report, cell) for cell in verdict.unmeasured if not cell.reason.startswith(NOT_SELECTED)]
    listed += [_of_waiver(report, waiver) for waiver in verdict.waivers]
    if verdict.status != "PASS" and not any(finding.level == "error" for finding in listed):
        listed.append(_of_whole(report))
    return sorted(listed, key=_severity)


def contract_place(report: Report) -> tuple[Path, str]:
    """The nearest folder with `.git` (or else the contract's own) and the contract's path in it, as CI names it."""
    return place_in_repository(report.opened.path)


def place_in_repository(path: Path) -> tuple[Path, str]:
    """The nearest folder with `.git` (or else the file's own) and the file's path in it."""
    path = path.absolute()
    root = next((folder for folder in path.parents if (folder / ".git").exists()), path.parent)
    return root, path.relative_to(root).as_posix()


_ORDER = ("ENGINE ERROR", "SET-UP ERROR", "gate", "control", "WRONG", "SUSPECT", "waiver", "NOT-MEASURED", "verdict")


def _severity(finding: Finding) -> tuple[bool, int]:
    kind = finding.rule.partition("/")[0]
    return finding.level == "note", _ORDER.index(kind) if kind in _ORDER else len(_ORDER)


def _line(report: Report, *keys: str | int) -> int:
    """The line of an entry, of its nearest parent, or the first."""
    known = (report.opened.lines.get(keys[:count]) for count in range(len(keys), 0, -1))
    return next((line for line in known if line), 1)


def _gate_line(report: Report, gate_id: str) -> int:
    index = next((n for n, gate in enumerate(report.opened.contract.gates) if gate.id == gate_id), 0)
    return _line(report, "gates", index)


def _has_failing_gate(report: Report, cell: CellVerdict) -> bool:
    """A cell that is WRONG for its gates only says nothing of its own."""
    failing = any(gate.cell == cell.cell.id and gate.status == "FAIL" and not gate.control for gate in report.verdict.gates)
    return cell.status == "WRONG" and failing


def _counts(report: Report, gate: GateVerdict) -> bool:
    """A gate that failed, or that judged nothing although no failure of its cell says so already."""
    if gate.control or gate.status in ("PASS", "NOT-MEASURED"):
        return False
    failed = any(cell.failures and gate.cell in ("", cell.cell.id) for cell in report.verdict.cells)
    return gate.status == "FAIL" or not failed


def _of_gate(report: Report, gate: GateVerdict) -> Finding:
    if gate.status == "FAIL":
        text = f"observed {gate.observed:.6g}, allowed {gate.operator} {gate.bound:.6g}; {gate.where}\nbasis: {gate.basis}"
        text += "".join(f"\n- {step}" for step in gate.if_fails)
        title = f"{gate.id} fails in {gate.cell}"
    else:
        title, text = f"{gate.id} proved nothing{f' in {gate.cell}' if gate.cell else ''}", gate.reason
    return Finding("error", f"gate/{gate.id}", title, text, _gate_line(report, gate.id), gate.cell)


def _of_cell(report: Report, verdict: CellVerdict) -> Finding:
    cell = verdict.cell
    line = _line(report, "candidates", cell.candidate)
    if verdict.status in ("ENGINE ERROR", "SET-UP ERROR"):
        lines = dict.fromkeys(
            "\n".join(part for part in (failure.text, failure.where, failure.remedy) if part) for failure in verdict.failures
        )
        title = f"{verdict.status} in {cell.id}"
        return Finding("error", verdict.status, title, "\n".join(lines) or verdict.reason, line, cell.id)
    if verdict.expected:
        text = f"{verdict.status}, expected {verdict.expected}: a bug that was planted is not seen"
        return Finding("error", "control", f"the control {cell.id} is not caught", text, line, cell.id)
    title = f"{cell.id} is {verdict.status}"
    return Finding("error", verdict.status, title, verdict.reason or verdict.status, line, cell.id)


def _of_unmeasured(report: Report, unmeasured: Unmeasured) -> Finding:
    line = _line(report, "candidates", unmeasured.cell.partition("/")[0])
    title = f"{unmeasured.cell} is not measured"
    return Finding(
        "note" if report.is_allowed(unmeasured) else "error", "NOT-MEASURED", title, unmeasured.reason, line, unmeasured.cell
    )


def _of_waiver(report: Report, waiver: WaiverVerdict) -> Finding:
    index = next(n for n, written in enumerate(report.opened.contract.waivers) if written.id == waiver.id)
    level: Literal["error", "note"] = "error" if waiver.status == "FIXED" else "note"
    title = f"the waiver {waiver.id} is {waiver.status}"
    return Finding(
        level, f"waiver/{waiver.id}", title, f"{waiver.text} ({waiver.issue})", _line(report, "waivers", index), waiver.cell
    )


def _of_whole(report: Report) -> Finding:
    verdict = report.verdict
    why = f": {verdict.reason}" if verdict.reason else ""
    text = f"{verdict.status}, exit code {verdict.exit_code}{why}; report.md has the whole of it"
    return Finding("error", "verdict", f"the verdict is {verdict.status}", text, _line(report, "contract"))
