"""Runs the runnable half of every team's folder, and writes what each requirement came to.

    python examples/run.py [--fresh] [TEAM | TEAM/ROW ...]

What came out as it must is not run again while nothing that it rests on has changed: the package, the team's folder, the zoo,
and the steps before it. So a run that was broken off goes on where it stopped; TEAM/ROW runs the steps up to the last that
the requirement ROW rests on; `--fresh` runs everything again.

A team's `requirements.yaml` names `steps` (a command, the exit code it must have and what it must say, and which kind of proof
it is) and `requirements`, each with the steps that prove it and what remains. Nothing is typed in twice: a requirement works
where every step that proves it came out as it says, works in part where something remains, and does not where a step failed.
Written are benchmarks/results/examples.json and docs/requirements.md.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from logitproof.files.yaml import read_yaml

ROOT = Path(__file__).parents[1]
TEAMS = ("two-paths", "quality-harness", "moe-contract", "gguf-nightly")
OUT = ROOT / "runs" / "examples"
LIMIT = 900
"""Seconds of a step."""
INPUTS = ("src", "zoo", "examples/run.py", "tests/unit/test_examples.py", "tests/conftest.py", "constraints.txt")
"""What every step rests on beside its team's folder; of files that are not text their size and time stand for them."""
TEXT = (".py", ".yaml", ".yml", ".json", ".md", ".txt", ".sh", ".kts", ".toml", ".jinja", ".html", ".css", ".js")
Status = Literal["works", "in part", "does not", "not run"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Step(_Strict):
    """One command. `gates` are gates of the verdict.json that it writes into `run`, with the status that each must have."""

    name: str
    run: list[str]
    exit: int = 0
    says: str = Field("", description="a regular expression that its output must match")
    shows: str = Field(
        "", description="a regular expression; what it matches in the output is told as evidence, and must be there"
    )
    folder: str = Field("", description="below OUT: the run folder whose verdict.json is looked into")
    gates: dict[str, str] = {}
    lines: int = Field(0, description="lines that failures.jsonl must have at least")
    clears: str = Field("", description="what an earlier run left below OUT, that the command would not write over")
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
    inputs: str = ""
    """the hash of what it rests on"""
    shown: str = ""
    """what it said that is evidence"""


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


def main(words: list[str]) -> int:
    """Run the teams or rows that are named, or all; 1 where a step did not come out as its page says."""
    names, bad = [word for word in words if word != "--fresh"], 0
    for team, row in (name.partition("/")[::2] for name in names or TEAMS):
        if team not in TEAMS:
            sys.exit(f"there is no team {team!r}: name {', '.join(TEAMS)}, or TEAM/ROW")
        page, _ = read_yaml(ROOT / "examples" / team / "requirements.yaml", Page)
        outcomes = run_team(team, _steps_of(page, row), fresh="--fresh" in words)
        bad += sum(bool(outcome.problem) and outcome.ran for outcome in outcomes)
    if all(_is_complete(team) for team in TEAMS):
        write()
    return int(bad > 0)


def run_team(team: str, steps: Sequence[Step], *, fresh: bool = False) -> list[Outcome]:
    """Run the steps of a team that did not come out as they must from the very same inputs; each is kept when it ends."""
    (OUT / team).mkdir(parents=True, exist_ok=True)
    known = {} if fresh else kept(team)
    outcomes, again = [], False
    for step, key in zip(steps, keys(team, steps), strict=True):
        before = known.get(step.name)
        # a step reads what those before it left, so that all behind one that is run again are run again
        again = again or before is None or bool(before.problem) or before.inputs != key
        outcome = replace(ran(team, step), inputs=key) if again or before is None else before
        how = f"{outcome.seconds:.0f} s" if again else "from an earlier run"
        print(f"{team}: {step.name}: {outcome.problem or 'as it must'} ({how})", flush=True)
        outcomes.append(outcome)
        known[step.name] = outcome
        (OUT / team / "outcomes.json").write_text(json.dumps([asdict(entry) for entry in known.values()], indent=1), "utf-8")
    return outcomes


def kept(team: str) -> dict[str, Outcome]:
    """The outcomes that a team's last run left, by the name of the step."""
    path = OUT / team / "outcomes.json"
    entries = json.loads(path.read_text("utf-8")) if path.is_file() else []
    return {entry["name"]: Outcome(**entry) for entry in entries}


def keys(team: str, steps: Sequence[Step]) -> Iterator[str]:
    """A hash a step, of the inputs of its team and of all steps up to it, since a step reads what those before it left."""
    digest = hashlib.sha256()
    for place in (*INPUTS, f"examples/{team}"):
        path = ROOT / place
        files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        for file in (file for file in files if file.is_file() and "__pycache__" not in file.parts):
            state = file.stat()
            content = file.read_bytes() if file.suffix in TEXT else f"{state.st_size} {state.st_mtime_ns}".encode()
            digest.update(f"{file.relative_to(ROOT)}\0{len(content)}\0".encode() + content)
    for step in steps:
        needed = ROOT / step.needs if step.needs else None
        state_of_need = f"{needed.stat().st_size} {needed.stat().st_mtime_ns}" if needed and needed.exists() else "not there"
        digest.update(f"{step.model_dump_json()}\0{state_of_need}\0".encode())
        yield digest.hexdigest()


def _steps_of(page: Page, row: str) -> list[Step]:
    """All steps, or those up to the last that a requirement rests on."""
    if not row:
        return page.steps
    by = {requirement.id: requirement.by for requirement in page.requirements}
    if row not in by:
        sys.exit(f"{page.team} has no requirement {row!r}: name one of {', '.join(by)}")
    last = max((index for index, step in enumerate(page.steps) if step.name in by[row]), default=-1)
    return page.steps[: last + 1]


def _is_complete(team: str) -> bool:
    """Whether every step of a team was run from what is there now."""
    page, _ = read_yaml(ROOT / "examples" / team / "requirements.yaml", Page)
    done = kept(team)
    pairs = zip(page.steps, keys(team, page.steps), strict=True)
    return all(step.name in done and done[step.name].inputs == key for step, key in pairs)


def ran(team: str, step: Step) -> Outcome:
    """Run one step in the team's folder; OUT stands for the team's output folder, ROOT for the checkout."""
    out = OUT / team
    out.mkdir(parents=True, exist_ok=True)
    shown = " ".join(step.run)
    if step.clears:
        shutil.rmtree(out / step.clears, ignore_errors=True)
        (out / step.clears).unlink(missing_ok=True)
    if step.needs and not (ROOT / step.needs).exists():
        return Outcome(step.name, shown, 0.0, f"not run: {step.needs} is not there", ran=False)
    words = [word.replace("OUT", str(out)).replace("ROOT", str(ROOT)) for word in step.run]
    programs = {"logitproof": [sys.executable, "-m", "logitproof"], "python": [sys.executable]}
    begun = time.monotonic()
    try:
        done = subprocess.run(
            [*programs.get(words[0], [words[0]]), *words[1:]],
            cwd=ROOT / "examples" / team, capture_output=True, text=True, timeout=LIMIT, check=False,
            env={**os.environ, "COLUMNS": "200"},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Outcome(step.name, shown, float(LIMIT), f"was ended after {LIMIT} s")
    text = done.stdout + done.stderr
    problem = _problem(step, done.returncode, text, out)
    return Outcome(step.name, shown, round(time.monotonic() - begun, 1), problem, shown=shown_of(step, text))


def shown_of(step: Step, text: str) -> str:
    """What a step said that is evidence, on one line; its groups where the expression has any."""
    matches = [match.groups() or (match[0],) for match in re.finditer(step.shows, text)] if step.shows else []
    return "; ".join(" ".join(" ".join(groups).split()) for groups in matches)


def _problem(step: Step, code: int, said: str, out: Path) -> str:
    """What is not as the step must be, or nothing."""
    if code != step.exit:
        return f"exit code {code}, not {step.exit}: {said.strip()[-300:]}"
    if step.says and not re.search(step.says, said, re.S):
        return f"does not say {step.says!r}"
    if step.shows and not shown_of(step, said):
        return f"shows nothing of {step.shows!r}"
    if step.gates:
        verdict = json.loads((out / step.folder / "verdict.json").read_text("utf-8"))
        for gate, status in step.gates.items():
            judged = {entry["status"] for entry in verdict["gates"] if entry["id"] == gate and not entry["control"]}
            if judged != {status}:
                return f"the gate {gate} is {' and '.join(sorted(judged)) or 'not there'}, not {status}"
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
    told = {step.name: f" ({step.shown})" if step.shown else "" for step in steps}
    evidence = "; ".join(f"{step.name}: {step.problem or 'came out as it must'}{told[step.name]}" for step in steps)
    commands = [step.command for step in steps]
    return Row(team, requirement.id, requirement.asks, commands, evidence, status, requirement.remains)


def write() -> None:
    """The result and the page, both from what ran last of each team."""
    rows: list[Row] = []
    outcomes: list[Outcome] = []
    for team in TEAMS:
        page, _ = read_yaml(ROOT / "examples" / team / "requirements.yaml", Page)
        known = kept(team)
        done = {step.name: replace(known[step.name], inputs="") for step in page.steps}
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
