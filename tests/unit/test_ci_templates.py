"""What CI systems are given to copy is well-formed, safe, and its comment stays one comment."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
STEPS = {
    "workflow": lambda: yaml.safe_load((ROOT / ".github/workflows/parity.yml").read_text())["jobs"]["contract"]["steps"],
    "action": lambda: yaml.safe_load((ROOT / "action.yml").read_text())["runs"]["steps"],
    "nightly": lambda: yaml.safe_load((ROOT / "examples/ci/nightly.yml").read_text())["jobs"]["contracts"]["steps"],
}
GH = """#!/bin/sh
printf '%s\\n' "$*" >> calls
case "$*" in *--paginate*) [ -f made ] && echo 77 ;; *POST*) touch made ;; esac
exit 0
"""


def scripts(steps: list[dict[str, Any]]) -> Iterator[str]:
    return (step["run"] for step in steps if "run" in step)


@pytest.mark.parametrize("name", STEPS)
def test_no_input_is_read_as_a_command(name: str) -> None:
    """An expression in a script would let a title of a pull request run."""
    assert list(scripts(STEPS[name]()))
    assert not [script for script in scripts(STEPS[name]()) if "${{" in script]
    for script in scripts(STEPS[name]()):
        subprocess.run(["bash", "-n", "-c", script], check=True)


@pytest.mark.parametrize("name", ["workflow", "action"])
def test_a_pull_request_has_one_comment_that_is_kept_up_to_date(tmp_path: Path, name: str) -> None:
    step = next(step for step in STEPS[name]() if step.get("name", "").startswith("Comment"))
    (tmp_path / "parity-run").mkdir()
    (tmp_path / "parity-run/step_summary.md").write_text('## FAIL: "quoted" `code`\n')
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/gh").write_text(GH)
    (tmp_path / "bin/jq").write_text("#!/bin/sh\ncat parity-comment.md\n")
    for program in (tmp_path / "bin").iterdir():
        program.chmod(0o755)
    environment = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "GITHUB_REPOSITORY": "o/r"}
    environment |= {"NUMBER": "5", "MARK": "logitproof x"}
    for _ in range(2):
        subprocess.run(["bash", "-euo", "pipefail", "-c", step["run"]], cwd=tmp_path, env=environment, check=True)
    calls = [line for line in (tmp_path / "calls").read_text().splitlines() if "--method" in line]
    assert ["POST" in calls[0], "PATCH" in calls[1] and "comments/77" in calls[1], len(calls)] == [True, True, 2]
    assert (tmp_path / "parity-comment.md").read_text().startswith("<!-- logitproof x -->\n## FAIL")


def test_the_action_runs_what_the_workflow_runs() -> None:
    names = ("workflow", "action")
    workflow, action = (next(run for run in scripts(STEPS[name]()) if "logitproof check" in run) for name in names)
    assert workflow.strip() in action


def test_gitlab_keeps_the_report_whatever_it_comes_to() -> None:
    job = yaml.safe_load((ROOT / "examples/ci/gitlab.yml").read_text())["parity"]
    assert job["artifacts"]["when"] == "always" and job["artifacts"]["reports"]["junit"] == "parity-run/junit.xml"
    assert "junit.xml" in (ROOT / "examples/ci/Jenkinsfile").read_text()
