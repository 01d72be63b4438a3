"""A run that comes to no verdict leaves nothing of an earlier one, and says so in every file that CI publishes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import pytest
from click.testing import CliRunner

from logitproof import catalog
from logitproof.cli import main
from logitproof.runs.place import PUBLISHED

ACTIONS = {"GITHUB_ACTIONS": "true", "LOGITPROOF_HISTORY": "off"}


@pytest.fixture
def passed(project: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run that passed; the current folder is the project's."""
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("LOGITPROOF_HISTORY", "off")
    assert CliRunner().invoke(main, ["check", str(project.contract())]).exit_code == 0
    return Path("runs/toys")


def published(folder: Path) -> dict[str, str]:
    """Every file that people or CI read, as text."""
    found = [file for name in PUBLISHED for file in folder.glob(name) if file.is_file()]
    return {file.name: file.read_bytes().decode("utf-8", "replace") for file in found}


def test_every_file_of_every_layout_is_withdrawn(passed: Path) -> None:
    kept = {"run.json", "in-use.json"}
    made = {file.name for file in passed.iterdir() if file.is_file()} - kept
    assert made == set(published(passed)), "a layout writes a file that would outlive its run"
    layouts = [entry for entry in catalog.entries("reporters").values() if entry.base == "Reporter"]
    assert len(made) >= len(layouts)


FAULTS = {
    "an unknown key": ({"gatse": []}, 2),
    "a suite that is not there": ({"suites": ["gone.yaml"]}, 2),
    "weights that are not there": ({"models": {"m": {"original": "gone.json"}}}, 2),
    "an option of the wrong type": ({"candidates": {"good": {"engine": "toy", "options": {"noise": "lots"}}}}, 2),
    "a gate of no cell": ({"gates": [{"id": "kl", "metric": "kl_divergence", "at_most": 1.0, "basis": "a reason of letters",
                                      "where": {"mode": "greedy"}}]}, 2),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_contract_that_is_wrong_leaves_nothing_of_the_run_before(
    passed: Path, project: Any, fault: str, tmp_path: Path
) -> None:
    changes, code = FAULTS[fault]
    summary = tmp_path / "summary.md"
    environment = {**ACTIONS, "GITHUB_STEP_SUMMARY": str(summary)}
    run = CliRunner().invoke(main, ["check", str(project.contract(**changes))], env=environment)
    assert run.exit_code == code and "error: " in run.output
    files = published(passed)
    assert not [name for name, text in files.items() if "PASS" in text], "a result of the run before"
    (case,) = ET.fromstring(files["junit.xml"]).iter("testcase")
    assert (case.get("classname"), case.get("name")) == ("contract", "verdict")
    (error,) = case.iter("error")
    assert "SET-UP ERROR, exit code 2" in str(error.text) and "toys.parity.yaml:" in str(error.text)
    sarif = json.loads(files["results.sarif"])["runs"][0]
    assert sarif["invocations"] == [{"executionSuccessful": False, "exitCode": 2}] and sarif["results"]
    assert all(result["locations"][0]["physicalLocation"]["region"]["startLine"] >= 1 for result in sarif["results"])
    assert files["annotations.txt"].startswith("::error file=toys.parity.yaml,line=")
    assert files["annotations.txt"] in run.output
    assert summary.read_text("utf-8").strip() == files["step_summary.md"].strip() != ""
    assert "ERROR" in files["badge.svg"] and "came to no verdict" in files["report.html"]
    assert (passed / "previous" / "verdict.json").is_file(), "what was there is kept, by another name"
    assert CliRunner().invoke(main, ["check", str(project.contract())]).exit_code == 0
    assert "PASS" in published(passed)["junit.xml"] or "verdict" in published(passed)["junit.xml"]
    assert not (passed / "previous").exists()


def test_a_contract_that_is_no_yaml_any_more_is_known_by_its_run(passed: Path, project: Any) -> None:
    project.write("toys.parity.yaml", "contract: [toys\n")
    assert CliRunner().invoke(main, ["check", "toys.parity.yaml"]).exit_code == 2
    assert "SET-UP ERROR" in published(passed)["junit.xml"] and "verdict.json" not in published(passed)


def test_the_results_of_another_contract_are_left_alone(passed: Path, project: Any) -> None:
    before = published(passed)
    project.write("other.parity.yaml", {**project.data(), "contract": "other", "gatse": 1})
    run = CliRunner().invoke(main, ["check", "other.parity.yaml", "--out", str(passed)], env=ACTIONS)
    assert run.exit_code == 2 and "::error file=other.parity.yaml" in run.output
    assert published(passed) == before


def test_a_first_run_with_a_fault_is_told_to_ci_too(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.folder)
    run = CliRunner().invoke(main, ["check", str(project.contract(gatse=[])), "--out", "new"], env=ACTIONS)
    assert run.exit_code == 2 and "junit.xml" in published(Path("new"))
    gone = CliRunner().invoke(main, ["check", "nowhere.parity.yaml"], env=ACTIONS)
    assert gone.exit_code == 2 and "::error file=nowhere.parity.yaml" in gone.output and not Path("runs").exists()


def test_a_fault_of_logitproof_itself_is_no_pass_either(
    passed: Path, project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any, **options: Any) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr("logitproof.runs.workspace.check", broken)
    run = CliRunner().invoke(main, ["check", str(project.contract())])
    assert isinstance(run.exception, ZeroDivisionError)
    assert "a fault of logitproof itself: ZeroDivisionError: planted" in published(passed)["junit.xml"]
    assert "verdict.json" not in published(passed)


def test_judging_by_a_contract_that_is_wrong_leaves_no_verdict(passed: Path, project: Any) -> None:
    project.contract(gatse=[])
    assert CliRunner().invoke(main, ["judge", str(passed)]).exit_code == 2
    assert "verdict.json" not in published(passed) and "SET-UP ERROR" in published(passed)["junit.xml"]
    project.contract()
    assert CliRunner().invoke(main, ["judge", str(passed)]).exit_code == 0
    assert "verdict.json" in published(passed)


@pytest.mark.parametrize(("signal_", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_run_that_is_stopped_leaves_no_verdict(passed: Path, project: Any, signal_: int, code: int) -> None:
    contract = project.contract(candidates={"good": {"engine": "toy", "options": {"noise": 1e-7, "fault": "hang"}}})
    argv = [sys.executable, "-m", "logitproof", "check", str(contract)]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as process:
        end = time.monotonic() + 60
        while "verdict.json" in published(passed) and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(0.3)
        os.kill(process.pid, signal_)
        process.communicate()
    assert process.returncode == code
    left = published(passed)
    assert "verdict.json" not in left and not any("PASS" in text for text in left.values())
    if signal_ == signal.SIGINT:
        assert "interrupted" in left["junit.xml"]


def test_the_sarif_of_no_verdict_fits_its_schema_as_far_as_it_goes(passed: Path, project: Any) -> None:
    CliRunner().invoke(main, ["check", str(project.contract(gatse=[]))])
    shape = {
        "type": "object", "required": ["version", "runs"],
        "properties": {"runs": {"items": {"required": ["tool", "results", "invocations"]}}},
    }  # fmt: skip
    jsonschema.validate(json.loads((passed / "results.sarif").read_text("utf-8")), shape)
