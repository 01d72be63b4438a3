"""results.sarif: findings for code scanning and editors (SARIF 2.1.0)."""

from __future__ import annotations

import hashlib
import importlib.metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

from logitproof.documents.wording import json_text
from logitproof.files.atomic import write_atomically
from logitproof.report.report import Report
from logitproof.report.unfinished import Unfinished
from logitproof.reporters import Reporter
from logitproof.reporters._findings import Finding, contract_place, findings, place_in_repository

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
MEANING = {
    "ENGINE ERROR": "An engine failed, so nothing was proven.",
    "SET-UP ERROR": "The contract or a file that it names is wrong, so nothing was proven.",
    "WRONG": "More positions than allowed are out of the cell's band.",
    "SUSPECT": "A cell is nearer to the reference than its weights and its arithmetic can be.",
    "control": "A planted bug is not caught.",
    "NOT-MEASURED": "A cell of the contract was not measured.",
    "verdict": "The whole run is no PASS.",
}


class Sarif(Reporter):
    """results.sarif: a result a finding, at the line of the gate or the candidate in the contract."""

    def render(self, report: Report, folder: Path) -> Path:
        return _write(_run(report), folder)

    def unfinished(self, run: Unfinished, folder: Path) -> None:
        """A result a fault, at its line."""
        root, place = place_in_repository(run.path)
        rule = {"id": "no-verdict", "shortDescription": {"text": "The run came to no verdict, so nothing was proven."}}
        driver = {"name": "logitproof", "informationUri": _home(), "semanticVersion": run.version, "rules": [rule]}
        results = [
            {
                "ruleId": "no-verdict",
                "ruleIndex": 0,
                "level": "error",
                "message": {"text": fault.text},
                "locations": [_place(place, fault.line)],
                "partialFingerprints": {"ruleAndCell/v1": _digest(f"no-verdict {fault.key}")},
            }
            for fault in run.faults
        ]
        made = {
            "tool": {"driver": driver},
            "invocations": [{"executionSuccessful": False, "exitCode": run.exit_code}],
            "originalUriBaseIds": {"%SRCROOT%": {"uri": f"{root.as_uri()}/"}},
            "automationDetails": {"id": f"logitproof/{run.contract}/"},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }
        _write(made, folder)


def _write(run: dict[str, Any], folder: Path) -> Path:
    path = folder / "results.sarif"
    write_atomically(path, json_text({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=1) + "\n")
    return path


def _place(file: str, line: int) -> dict[str, Any]:
    artifact = {"uri": quote(file), "uriBaseId": "%SRCROOT%"}
    return {"physicalLocation": {"artifactLocation": artifact, "region": {"startLine": line}}}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _run(report: Report) -> dict[str, Any]:
    listed = findings(report)
    rules = list(dict.fromkeys(finding.rule for finding in listed))
    versions: dict[str, str] = report.facts.get("versions", {})
    verdict = report.verdict
    return {
        "tool": {
            "driver": {
                "name": "logitproof",
                "informationUri": _home(),
                "semanticVersion": versions.get("logitproof", "0"),
                "rules": [_rule(report, rule) for rule in rules],
            }
        },
        "invocations": [{"executionSuccessful": verdict.status != "ERROR", "exitCode": verdict.exit_code}],
        "originalUriBaseIds": {"%SRCROOT%": {"uri": f"{contract_place(report)[0].as_uri()}/"}},
        "automationDetails": {"id": f"logitproof/{report.opened.contract.contract}/"},
        "columnKind": "unicodeCodePoints",
        "results": [_result(report, finding, rules.index(finding.rule)) for finding in listed],
    }


def _home() -> str:
    """The address that the package says is its home; where it says none, the URL of the package itself."""
    try:
        urls = importlib.metadata.metadata("logitproof").get_all("Project-URL") or []
    except importlib.metadata.PackageNotFoundError:
        urls = []
    named = dict(url.split(", ", 1) for url in urls)
    return named.get("Homepage", "pkg:pypi/logitproof")


def _rule(report: Report, rule: str) -> dict[str, Any]:
    gate = next((gate for gate in report.opened.contract.gates if rule == f"gate/{gate.id}"), None)
    if gate is None:
        return {"id": rule, "shortDescription": {"text": MEANING.get(rule, rule)}}
    operator = "at most" if gate.at_most is not None else "at least"
    bound = "the calculated bound" if gate.is_calibrated else f"{gate.bound:g}"
    short = f"{gate.statistic} of {gate.metric} over {gate.scope} is {operator} {bound}"
    steps = "".join(f"\n- {step}" for step in gate.if_fails)
    return {
        "id": rule,
        "shortDescription": {"text": short},
        "fullDescription": {"text": gate.basis},
        "help": {"text": f"{gate.basis}{steps}"},
    }


def _result(report: Report, finding: Finding, rule_index: int) -> dict[str, Any]:
    place = _place(contract_place(report)[1], finding.line)
    if finding.cell:
        place["logicalLocations"] = [{"fullyQualifiedName": finding.cell}]
    return {
        "ruleId": finding.rule,
        "ruleIndex": rule_index,
        "level": finding.level,
        "message": {"text": f"{finding.title}\n{finding.text}"},
        "locations": [place],
        "partialFingerprints": {"ruleAndCell/v1": _digest(f"{finding.rule} {finding.cell}")},
    }
