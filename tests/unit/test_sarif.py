"""What CI shows: SARIF, GitHub's workflow commands and step summary, and the files that CI systems read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from logitproof import Report, Workspace, open_contract
from logitproof.reporters.github import tell_github

ROOT = Path(__file__).parents[2]
CONTRACT = """\
contract: demo
reference: {engine: toy}
candidates:
  good: {engine: toy, options: {noise: 1.0e-7}}
  bad: {engine: toy, options: {noise: 0.5}}
  dead: {engine: toy, options: {fault: crash}}
  missed: {engine: toy, options: {noise: 1.0e-12}, expect: WRONG}
models: {m: {original: toy.json}}
suites: [suite.yaml]
matrix: {quantization: [original], mode: [prefill]}
bands:
  - {match: 1.0e-4, wrong: 1.0e-2, basis: "two float32 engines"}
gates:
  - id: kl
    metric: kl_divergence
    at_most: 1.0e-6
    basis: "far above rounding: 100 %, always"
    if_fails: [look at the rope]
"""
TEXT = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string", "minLength": 1}}}
SARIF: dict[str, Any] = {  # what SARIF 2.1.0 asks of the parts that are written
    "type": "object",
    "required": ["version", "runs"],
    "additionalProperties": False,
    "properties": {
        "$schema": {"type": "string", "format": "uri"},
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["tool", "results"],
                "additionalProperties": False,
                "properties": {
                    "tool": {
                        "type": "object",
                        "required": ["driver"],
                        "properties": {
                            "driver": {
                                "type": "object",
                                "required": ["name"],
                                "properties": {
                                    "name": {"type": "string", "minLength": 1},
                                    "semanticVersion": {"type": "string"},
                                    "rules": {
                                        "type": "array",
                                        "uniqueItems": True,
                                        "items": {
                                            "type": "object",
                                            "required": ["id"],
                                            "additionalProperties": False,
                                            "properties": {
                                                "id": {"type": "string", "minLength": 1},
                                                "shortDescription": TEXT,
                                                "fullDescription": TEXT,
                                                "help": TEXT,
                                            },
                                        },
                                    },
                                },
                            }
                        },
                    },
                    "invocations": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["executionSuccessful"],
                            "additionalProperties": False,
                            "properties": {"executionSuccessful": {"type": "boolean"}, "exitCode": {"type": "integer"}},
                        },
                    },
                    "originalUriBaseIds": {
                        "type": "object",
                        "additionalProperties": {
                            "type": "object",
                            "properties": {"uri": {"type": "string", "pattern": "^file:///.*/$"}},
                        },
                    },
                    "automationDetails": {"type": "object", "properties": {"id": {"type": "string"}}},
                    "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                    "results": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["message", "ruleId", "ruleIndex", "level", "locations"],
                            "additionalProperties": False,
                            "properties": {
                                "ruleId": {"type": "string"},
                                "ruleIndex": {"type": "integer", "minimum": 0},
                                "level": {"enum": ["none", "note", "warning", "error"]},
                                "message": TEXT,
                                "partialFingerprints": {"type": "object", "additionalProperties": {"type": "string"}},
                                "locations": {
                                    "type": "array",
                                    "minItems": 1,
                                    "items": {
                                        "type": "object",
                                        "required": ["physicalLocation"],
                                        "additionalProperties": False,
                                        "properties": {
                                            "physicalLocation": {
                                                "type": "object",
                                                "required": ["artifactLocation", "region"],
                                                "properties": {
                                                    "artifactLocation": {
                                                        "type": "object",
                                                        "required": ["uri"],
                                                        "properties": {
                                                            "uri": {"type": "string", "pattern": "^[A-Za-z0-9._~/%-]+$"},
                                                            "uriBaseId": {"const": "%SRCROOT%"},
                                                        },
                                                    },
                                                    "region": {
                                                        "type": "object",
                                                        "required": ["startLine"],
                                                        "properties": {"startLine": {"type": "integer", "minimum": 1}},
                                                    },
                                                },
                                            },
                                            "logicalLocations": {
                                                "type": "array",
                                                "items": {
                                                    "type": "object",
                                                    "properties": {"fullyQualifiedName": {"type": "string"}},
                                                },
                                            },
                                        },
                                    },
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}


def ran(folder: Path, contract: str = CONTRACT) -> Report:
    """The report of a contract in `folder/my repo`, rendered into `folder/run`."""
    place = folder / "my repo" / "tests"
    place.mkdir(parents=True)
    (folder / "my repo" / ".git").mkdir()
    (place / "toy.json").write_text('{"vocab_size": 300, "seed": 1}')
    (place / "suite.yaml").write_text("suite: s\nmax_new_tokens: 3\nprompts: [{id: a, text: hello}]\n")
    (place / "my demo.parity.yaml").write_text(contract)
    return Workspace(folder / "run").check(open_contract(place / "my demo.parity.yaml"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ci")
    ran(folder)
    return folder / "run"


def sarif(run: Path) -> dict[str, Any]:
    log: dict[str, Any] = json.loads((run / "results.sarif").read_text())
    jsonschema.validate(log, SARIF)
    (one,) = log["runs"]
    rules = [rule["id"] for rule in one["tool"]["driver"]["rules"]]
    assert len(rules) == len(set(rules))
    assert all(rules[result["ruleIndex"]] == result["ruleId"] for result in one["results"])
    return dict(one)


def test_sarif_points_at_the_line_of_the_gate_and_of_the_candidate(run: Path) -> None:
    found = {}
    for result in sarif(run)["results"]:
        (place,) = result["locations"]
        where = place["physicalLocation"]
        assert where["artifactLocation"]["uri"] == "tests/my%20demo.parity.yaml" and result["level"] == "error"
        found[result["ruleId"], place["logicalLocations"][0]["fullyQualifiedName"]] = where["region"]["startLine"]
    assert found == {
        ("ENGINE ERROR", "dead/m/original/prefill"): 6,
        ("gate/kl", "bad/m/original/prefill"): 14,
        ("control", "missed/m/original/prefill"): 7,
    }


def test_sarif_tells_the_failure_and_that_the_run_proved_nothing(run: Path) -> None:
    one = sarif(run)
    assert one["invocations"] == [{"executionSuccessful": False, "exitCode": 3}]
    texts = {result["ruleId"]: result["message"]["text"] for result in one["results"]}
    assert re.search(r"observed \S+, allowed at_most 1e-06; worst at prompt a, position", texts["gate/kl"])
    assert "SIGABRT" in texts["ENGINE ERROR"] and "MATCH, expected WRONG" in texts["control"]
    assert len({json.dumps(result["partialFingerprints"]) for result in one["results"]}) == len(one["results"])


def test_a_pass_has_no_results(tmp_path: Path) -> None:
    lines = [line for line in CONTRACT.splitlines(keepends=True) if line.split(":")[0].strip() not in ("bad", "dead", "missed")]
    report = ran(tmp_path, "".join(lines))
    assert report.verdict.status == "PASS"
    assert sarif(tmp_path / "run")["results"] == []
    assert (tmp_path / "run" / "annotations.txt").read_text() == ""
    assert "## PASS: demo" in (tmp_path / "run" / "step_summary.md").read_text()


def test_annotations_are_workflow_commands_at_their_lines(run: Path) -> None:
    lines = (run / "annotations.txt").read_text().splitlines()
    assert [re.match(r"::error file=tests/my demo\.parity\.yaml,line=(\d+),title=[^:,]+::.", line)[1] for line in lines] == [  # type: ignore[index]
        "6",
        "14",
        "7",
    ]
    assert "basis: far above rounding: 100 %25, always%0A- look at the rope" in lines[1]


def test_the_summary_has_every_finding_and_every_cell(run: Path) -> None:
    text = (run / "step_summary.md").read_text()
    for said in ("## ERROR: demo", "Exit code 3", "kl fails in bad", "is not caught", "SIGABRT", "`good/m/original/prefill`"):
        assert said in text


def test_github_is_told_only_where_it_listens(run: Path, tmp_path: Path) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    assert tell_github(run, {"GITHUB_STEP_SUMMARY": str(summary)}) == ""
    assert summary.read_text() == "before\n"
    told = tell_github(run, {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary)})
    assert told == (run / "annotations.txt").read_text()
    assert summary.read_text().startswith("before\n## ERROR: demo")
    assert tell_github(tmp_path / "nothing", {"GITHUB_ACTIONS": "true"}) == ""


def test_the_reusable_workflow_reads_no_input_as_a_command() -> None:
    text = (ROOT / ".github/workflows/parity.yml").read_text()
    workflow = yaml.load(text, yaml.BaseLoader)  # in YAML 1.1 `on` is a boolean
    inputs = workflow["on"]["workflow_call"]["inputs"]
    assert set(re.findall(r"inputs\.([a-z-]+)", text)) == set(inputs)
    (job,) = workflow["jobs"].values()
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert any(command.startswith("logitproof check ") for command in commands)
    assert not any("${{" in command for command in commands)
    documented = (ROOT / "docs/ci.md").read_text()
    assert all(f"`{name}`" in documented for name in inputs)


def test_the_pre_commit_hook_takes_contracts() -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert re.search(hook["files"], "tests/my.parity.yaml") and not re.search(hook["files"], "suite.yaml")
    assert hook["entry"].startswith("logitproof ") and hook["language"] == "python"
