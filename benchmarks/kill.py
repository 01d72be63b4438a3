"""Kills at random instants: is anything lost, changed, left running or torn? `make bench-kill`.

A check of two honest engines is killed again and again, the harness or a process of an engine, until it is left to end. Its
verdict must be that of a run that nobody killed; what was measured must still be there; no process may live on in its folder.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from _vacuous_project import Project

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "kill.json"
KILLS, A_RUN, SEED = 208, 8, 20260131
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGSTOP)
PATIENCE = 10.0
"""Seconds in which what was started must have ended after its harness."""
SLOW = "was_rows = rows\ndef rows(ids):\n    time.sleep(0.05)\n    return was_rows(ids)"


@dataclass
class Tally:
    """What came of all kills so far."""

    kills: int = 0
    lost: int = 0
    verdicts_changed: int = 0
    strays: int = 0
    torn_files: int = 0
    by_signal: dict[str, int] = field(default_factory=dict)


def main() -> int:
    chance, tally = random.Random(SEED), Tally()
    with tempfile.TemporaryDirectory() as folder:
        expected, seconds = _undisturbed(Path(folder) / "whole")
        number = 0
        while tally.kills < KILLS:
            number += 1
            _killed_again_and_again(_project(Path(folder) / str(number)), expected, seconds, chance, tally)
            print(tally, flush=True)
    result = {**dict(vars(tally).items()), "seed": SEED, "runs": number}
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    return 1 if tally.lost or tally.verdicts_changed or tally.strays or tally.torn_files else 0


def _project(folder: Path) -> Project:
    project = Project(folder)
    project.suite(*(f"prompt {word}" for word in ("one", "two", "three", "four", "five", "six")))
    project.mine = project.engine(SLOW)
    project.contract(matrix={"mode": ["prefill", "decode"]})
    return project


def _undisturbed(folder: Path) -> tuple[Any, float]:
    """The verdict of a run that nobody kills, and how long it takes."""
    project, begin = _project(folder), time.monotonic()
    _check(project).wait()
    return _verdict(project), time.monotonic() - begin


def _check(project: Project) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-m", "logitproof", "check", "toys.parity.yaml", "--out", "run"]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(argv, cwd=project.folder, stdout=quiet, stderr=quiet, start_new_session=True)


def _verdict(project: Project) -> Any:
    """What of verdict.json must not change: statuses and numbers."""
    path = project.folder / "run/verdict.json"
    record = json.loads(path.read_text("utf-8")) if path.exists() else {}
    cells = [[cell["id"], cell["status"], cell["counts"], cell["metrics"]] for cell in record.get("cells", [])]
    return [record.get("status"), record.get("exit_code"), cells]


def _killed_again_and_again(project: Project, expected: Any, seconds: float, chance: random.Random, tally: Tally) -> None:
    for _ in range(A_RUN):
        before = _whole(project)
        harness, number = _check(project), chance.choice(SIGNALS)
        time.sleep(chance.uniform(0.05, seconds))
        of_engine = chance.random() < 0.4
        if not _strike(project, harness, number, of_engine):
            harness.wait()
            continue
        tally.kills += 1
        name = f"{number.name} of {'an engine' if of_engine else 'the harness'}"
        tally.by_signal[name] = tally.by_signal.get(name, 0) + 1
        if of_engine and number != signal.SIGSTOP:
            harness.wait()  # a dead engine is one row, never the end
        else:
            harness.kill()
            harness.wait()
        tally.strays += _strays(project)
        tally.torn_files += sum(1 for path in _files(project) if _is_torn(path))
        tally.lost += len(before - _whole(project))
    _check(project).wait()
    if _verdict(project) != expected:
        _check(project).wait()  # an engine that was killed fails its run; the next one must be right
        tally.verdicts_changed += _verdict(project) != expected
    tally.strays += _strays(project)


def _strike(project: Project, harness: subprocess.Popen[bytes], number: signal.Signals, of_engine: bool) -> bool:
    """Send a signal to the harness or to a process of an engine, if there is one."""
    if harness.poll() is not None:
        return False
    own = [process for process in _living(project) if process != harness.pid]
    victim = own[-1] if of_engine and own else harness.pid
    try:
        os.kill(victim, number)
    except ProcessLookupError:
        return False
    return True


def _living(project: Project) -> list[int]:
    """Processes that work in the project's folder; engines do."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0] if entry.name.isdigit() else "Z"
            if state != "Z" and os.readlink(entry / "cwd") == str(project.folder.resolve()):
                found.append(int(entry.name))
        except OSError:
            continue
    return sorted(found)


def _strays(project: Project) -> int:
    """Processes that live on after their harness, when they had time to end."""
    end = time.monotonic() + PATIENCE
    while (left := _living(project)) and time.monotonic() < end:
        time.sleep(0.05)
    for process in left:
        os.kill(process, signal.SIGKILL)
    return len(left)


def _files(project: Project) -> Iterator[Path]:
    """Files that a person or a tool may open: none that is being made."""
    for path in (project.folder / "run").rglob("*.json"):
        if not path.name.startswith(".") and "partial" not in path.parts:
            yield path


def _is_torn(path: Path) -> bool:
    try:
        json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return False
    except ValueError:
        return True
    return False


def _whole(project: Project) -> set[str]:
    """Traces that are in the store."""
    return {path.parent.name for path in (project.folder / "run/store/traces").rglob("trace.json")}


if __name__ == "__main__":
    sys.exit(main())
