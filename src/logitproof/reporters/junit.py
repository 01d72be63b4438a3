"""junit.xml: what CI systems show."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from logitproof.judge import CellVerdict, GateVerdict
from logitproof.report import Report
from logitproof.reporters import Reporter
from logitproof.store import write_atomically

ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold."""


class Junit(Reporter):
    """junit.xml: a suite a cell, a case for the cell itself and for each of its gates."""

    def render(self, report: Report, folder: Path) -> Path:
        root = ET.Element("testsuites", name=report.opened.contract.contract)
        for cell in report.verdict.cells:
            gates = [gate for gate in report.verdict.gates if gate.cell == cell.cell.id]
            _add_suite(root, cell.cell.id, [_cell_case(cell), *(_gate_case(cell.cell.id, gate) for gate in gates)])
        loose = [_gate_case("contract", gate) for gate in report.verdict.gates if not gate.cell]
        loose += [_case("contract", f"unmeasured {one.cell}", "skipped", one.reason) for one in report.verdict.unmeasured]
        if loose:
            _add_suite(root, "contract", loose)
        path = folder / "junit.xml"
        write_atomically(path, '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n")
        return path


def _cell_case(cell: CellVerdict) -> ET.Element:
    name = f"status {cell.status}" + (f" (expected {cell.expected})" if cell.expected else "")
    if cell.status in ("ENGINE ERROR", "SET-UP ERROR"):
        return _case(cell.cell.id, name, "error", cell.reason)
    if cell.as_expected:
        return _case(cell.cell.id, name)
    return _case(cell.cell.id, name, "failure", cell.reason or f"{cell.status}, expected {cell.expected or 'a match'}")


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


def _case(suite: str, name: str, outcome: str = "", text: str = "") -> ET.Element:
    case = ET.Element("testcase", classname=_legal(suite), name=_legal(name))
    if outcome:
        element = ET.SubElement(case, outcome, message=_legal(text.splitlines()[0] if text else outcome))
        element.text = _legal(text)
    return case


def _add_suite(root: ET.Element, name: str, cases: list[ET.Element]) -> None:
    counts: dict[str, Any] = {
        f"{what}s": str(sum(case.find(what) is not None for case in cases)) for what in ("failure", "error")
    }
    skipped = str(sum(case.find("skipped") is not None for case in cases))
    suite = ET.SubElement(root, "testsuite", name=_legal(name), tests=str(len(cases)), skipped=skipped, **counts)
    suite.extend(cases)


def _legal(text: str) -> str:
    return ILLEGAL.sub("\ufffd", text)
