"""Runs the runnable half of every team's folder, and writes what each requirement came to.

    python examples/run.py [TEAM ...]

A team's `requirements.yaml` names `steps` (a command, the exit code it must have and what it must say, and which kind of proof
it is) and `requirements`, each with the steps that prove it and what remains. Nothing is typed in twice: a requirement works
where every step that proves it came out as it says, works in part where something remains, and does not where a step failed.
Written are benchmarks/results/examples.json and docs/requirements.md.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from logitproof.files.yaml import read_yaml

ROOT = Path(__file__).parents[1]
TEAMS = ("two-paths", "quality-harness", "moe-contract", "gguf-nightly")
OUT = ROOT / "runs" / "examples"
LIMIT = 900
"""Seconds of a step."""
Status = Literal["works", "in part", "does not", "not run"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Step(_Strict):
    """One command. `gates` are gates of the verdict.json that it writes into `run`, with the status that each must have."""

    name: str
    run: list[str]
    exit: int = 0
    says: str = Field("", description="a regular expression that its output must match")
    folder: str = Field("", description="below OUT: the run folder whose verdict.json is looked into")
    gates: dict[str, str] = {}
    lines: int = Field(0, description="lines that failures.jsonl must have at least")
    clears: str = Field("", description="a folder below OUT that an earlier run left and that the command will not write into")
    needs: str = Field("", description="a file of the checkout without which it is not run")


class Requirement(_Strict):
    """What a team asks, the steps that prove it, and what it must supply or what is not built."""

    id: str
    asks: str
    by: list[str] = []
    remains: str = ""


class Page(_Strict):
    """A team's requirements.yaml."""

    team: str
    about: str
    steps: list[Step]
    requirements: list[Requirement] = Field(min_length=1)


@dataclass(frozen=True)
class Outcome:
    """What a step came to: `problem` is empty where it came out as it must."""

    name: str
    command: str
    seconds: float
    problem: str
    ran: bool = True


@dataclass(frozen=True)
class Row:
    """One requirement with its command, evidence and status."""

    team: str
    id: str
    asks: str
    commands: list[str]
    evidence: str
    status: Status
    remains: str


def main(names: list[str]) -> int:
    """Run the teams that are named, or all; 1 where a step did not come out as its page says."""
    outcomes: list[Outcome] = []
    for team in names or TEAMS:
        page, _ = read_yaml(ROOT / "examples" / team / "requirements.yaml", Page)
        done = {step.name: ran(team, step) for step in page.steps}
        for outcome in done.values():
            print(f"{team}: {outcome.name}: {outcome.problem or 'as it must'} ({outcome.seconds:.0f} s)", flush=True)
        outcomes += done.values()
        record = json.dumps([asdict(outcome) for outcome in done.values()], indent=1)
        (OUT / team / "outcomes.json").write_text(record, "utf-8")
    if all((OUT / team / "outcomes.json").is_file() for team in TEAMS):
        write()
    return int(any(outcome.problem and outcome.ran for outcome in outcomes))


def ran(team: str, step: Step) -> Outcome:
    """Run one step in the team's folder; OUT stands for the team's output folder, ROOT for the checkout."""
    out = OUT / team
    out.mkdir(parents=True, exist_ok=True)
    shown = " ".join(step.run)
    if step.clears:
        shutil.rmtree(out / step.clears, ignore_errors=True)
    if step.needs and not (ROOT / step.needs).exists():
        return Outcome(step.name, shown, 0.0, f"not run: {step.needs} is not there", ran=False)
    words = [word.replace("OUT", str(out)).replace("ROOT", str(ROOT)) for word in step.run]
    programs = {"logitproof": [sys.executable, "-m", "logitproof"], "python": [sys.executable]}
    begun = time.monotonic()
    done = subprocess.run(
        [*programs.get(words[0], [words[0]]), *words[1:]],
        cwd=ROOT / "examples" / team, capture_output=True, text=True, timeout=LIMIT, check=False,
        env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip
    problem = _problem(step, done.returncode, done.stdout + done.stderr, out)
    return Outcome(step.name, shown, round(time.monotonic() - begun, 1), problem)


def _problem(step: Step, code: int, said: str, out: Path) -> str:
    """What is not as the step must be, or nothing."""
    if code != step.exit:
        return f"exit code {code}, not {step.exit}: {said.strip()[-300:]}"
    if step.says and not re.search(step.says, said, re.S):
        return f"does not say {step.says!r}"
    if step.gates:
        verdict = json.loads((out / step.folder / "verdict.json").read_text("utf-8"))
        found = Counter((gate["id"], gate["status"]) for gate in verdict["gates"])
        for gate, status in step.gates.items():
            others = {name for name, other in found if name == gate and other != status}
            if others or not found[gate, status]:
                return f"the gate {gate} is not {status}"
    if step.lines:
        count = len((out / step.folder / "failures.jsonl").read_text("utf-8").splitlines())
        if count < step.lines:
            return f"failures.jsonl has {count} lines, not {step.lines}"
    return ""


def judged(team: str, requirement: Requirement, done: dict[str, Outcome]) -> Row:
    """The status of a requirement by its steps."""
    steps = [done[name] for name in requirement.by]
    failed = [step for step in steps if step.problem and step.ran]
    missing = [step for step in steps if not step.ran]
    status: Status = "works"
    if not steps or failed:
        status = "does not"
    elif missing:
        status = "not run"
    elif requirement.remains:
        status = "in part"
    evidence = "; ".join(f"{step.name}: {step.problem or 'came out as it must'}" for step in steps)
    commands = [step.command for step in steps]
    return Row(team, requirement.id, requirement.asks, commands, evidence, status, requirement.remains)


def write() -> None:
    """The result and the page, both from what ran last of each team."""
    rows: list[Row] = []
    outcomes: list[Outcome] = []
    for team in TEAMS:
        page, _ = read_yaml(ROOT / "examples" / team / "requirements.yaml", Page)
        record = json.loads((OUT / team / "outcomes.json").read_text("utf-8"))
        done = {outcome["name"]: Outcome(**outcome) for outcome in record}
        outcomes += done.values()
        rows += [judged(team, requirement, done) for requirement in page.requirements]
    counts = Counter(row.status for row in rows)
    result = {
        "requirements": len(rows),
        "works": counts["works"],
        "in_part": counts["in part"],
        "does_not": counts["does not"],
        "not_run": counts["not run"],
        "seconds": round(sum(outcome.seconds for outcome in outcomes), 1),
        "steps": [asdict(outcome) for outcome in outcomes],
        "rows": [asdict(row) for row in rows],
    }
    path = ROOT / "benchmarks" / "results" / "examples.json"
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", "utf-8")
    (ROOT / "docs" / "requirements.md").write_text(page_of(rows, counts), "utf-8")


def page_of(rows: list[Row], counts: Counter[Status]) -> str:
    """docs/requirements.md."""
    told = ", ".join(f"{count} {status}" for status, count in counts.items())
    lines = [
        "# Requirements of four teams", "",
        "Written by `python examples/run.py` (`make examples`) from what it ran; do not edit.", "",
        f"{len(rows)} requirements: {told}.", "",
    ]  # fmt: skip
    for team in TEAMS:
        lines += [f"## [{team}](../examples/{team}/README.md)", ""]
        lines += ["| id | asked for | command | evidence | status |", "|---|---|---|---|---|"]
        for row in (row for row in rows if row.team == team):
            commands = "<br>".join(f"`{command}`" for command in row.commands) or "–"
            evidence = "; ".join(part for part in (row.evidence, row.remains and f"remains: {row.remains}") if part)
            cells = (row.id, row.asks, commands, evidence, row.status)
            lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
