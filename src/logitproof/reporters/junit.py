"""junit.xml: what CI systems show."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from logitproof.documents.wording import legal_xml
from logitproof.files.atomic import write_atomically
from logitproof.report.report import Report
from logitproof.report.unfinished import Unfinished
from logitproof.reporters import Reporter
from logitproof.traces.trace import Trace
from logitproof.verdict.gates import GateVerdict
from logitproof.verdict.judge import CellVerdict, Verdict


class Junit(Reporter):
    """junit.xml: a suite a cell, a case for the cell itself and for each of its gates; `verdict` is the whole.

    Names are the same from run to run, whatever came of them, so that a CI system shows a history of each.
    """

    def render(self, report: Report, folder: Path) -> Path:
        whole = _seconds(report.facts.get("seconds", 0.0))
        root = ET.Element("testsuites", name=legal_xml(report.opened.contract.contract), time=whole)
        at = _timestamp(report.facts.get("made_at", ""))
        for cell in report.verdict.cells:
            gates = [gate for gate in report.verdict.gates if gate.cell == cell.cell.id]
            cases = [_cell_case(cell, _seconds(_took(report, cell))), *(_gate_case(cell.cell.id, gate) for gate in gates)]
            _add_suite(root, cell.cell.id, cases, at)
        loose = [_whole_case(report.verdict, whole), *_gates_without_cell(report.verdict)]
        loose += [_case("contract", f"unmeasured {cell.cell}", "skipped", cell.reason) for cell in report.verdict.unmeasured]
        _add_suite(root, "contract", loose, at)
        return _write(root, folder)

    def unfinished(self, run: Unfinished, folder: Path) -> None:
        """The case `verdict` alone, as an error."""
        root = ET.Element("testsuites", name=legal_xml(run.contract), time=_seconds(0.0))
        text = "\n".join([f"{run.status}, exit code {run.exit_code}: {run.reason}", *run.words])
        _add_suite(root, "contract", [_case("contract", "verdict", "error", text)], _timestamp(run.made_at))
        _write(root, folder)


def _write(root: ET.Element, folder: Path) -> Path:
    path = folder / "junit.xml"
    write_atomically(path, '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n")
    return path


def _took(report: Report, cell: CellVerdict) -> float:
    """Seconds that the candidate computed for a cell."""
    traces = (report.results.get(pair.candidate) for pair in cell.cell.pairs)
    return sum(trace.seconds for trace in traces if isinstance(trace, Trace))


def _seconds(value: float) -> str:
    return f"{value:.3f}"


def _timestamp(made_at: str) -> str:
    """ISO 8601 in UTC without a zone, as the schema of JUnit has it."""
    try:
        return datetime.fromisoformat(made_at).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    except ValueError:
        return ""


def _whole_case(verdict: Verdict, time: str) -> ET.Element:
    """The whole: it fails wherever the exit code says so, even if every case of a cell passes."""
    if verdict.status == "PASS":
        return _case("contract", "verdict", time=time)
    outcome = "failure" if verdict.status == "FAIL" else "error"
    reason = f": {verdict.reason}" if verdict.reason else ""
    return _case("contract", "verdict", outcome, f"{verdict.status}, exit code {verdict.exit_code}{reason}", time)


def _gates_without_cell(verdict: Verdict) -> list[ET.Element]:
    return [_gate_case("contract", gate) for gate in verdict.gates if not gate.cell]


def _cell_case(cell: CellVerdict, time: str) -> ET.Element:
    name = "status"
    if cell.status in ("ENGINE ERROR", "SET-UP ERROR", "NOT-MEASURED"):
        return _case(cell.cell.id, name, "error", f"{cell.status}: {cell.reason}", time)
    if cell.as_expected:
        return _case(cell.cell.id, name, time=time)
    text = f"{cell.status}, expected {cell.expected or 'a match'}" + (f": {cell.reason}" if cell.reason else "")
    return _case(cell.cell.id, name, "failure", text, time)


def _gate_case(suite: str, gate: GateVerdict) -> ET.Element:
    name = f"{gate.id} {gate.metric} {gate.statistic} over {gate.scope}"
    if gate.control:
        return _case(suite, name, "skipped", "the gates of a control are shown and do not count")
    if gate.status == "PASS":
        return _case(suite, name)
    if gate.status == "FAIL":
        steps = "".join(f"\n- {step}" for step in gate.if_fails)
        text = f"observed {gate.observed:.6g}, {gate.operator} {gate.bound:.6g}; {gate.where}\nbasis: {gate.basis}{steps}"
        return _case(suite, name, "failure", text)
    return _case(suite, name, "error" if gate.status == "ERROR" else "skipped", gate.reason)


def _case(suite: str, name: str, outcome: str = "", text: str = "", time: str = "0.000") -> ET.Element:
    case = ET.Element("testcase", classname=legal_xml(suite), name=legal_xml(name), time=time)
    if outcome:
        element = ET.SubElement(case, outcome, message=legal_xml(text.splitlines()[0] if text else outcome))
        element.text = legal_xml(text)
    return case


def _add_suite(root: ET.Element, name: str, cases: list[ET.Element], timestamp: str) -> None:
    counts: dict[str, Any] = {
        f"{what}s": str(sum(case.find(what) is not None for case in cases)) for what in ("failure", "error")
    }
    skipped = str(sum(case.find("skipped") is not None for case in cases))
    suite = ET.SubElement(root, "testsuite", name=legal_xml(name), tests=str(len(cases)), skipped=skipped, **counts)
    suite.set("time", _seconds(sum(float(case.get("time", "0")) for case in cases)))
    if timestamp:
        suite.set("timestamp", timestamp)
    suite.extend(cases)
