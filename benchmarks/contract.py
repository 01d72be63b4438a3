"""Set-up faults that looked like engine faults: is each named before an engine is judged? `make bench-contract`.

Every case is a real configuration or file, run by the command line against real engines. A fault is found
where the exit code is not 0 or 1, which would be a verdict on the engine, and what was said names it. Correct
set-ups must pass. The ways to let nothing pass are the tests of tests/unit/test_vacuous.py, counted here.

    python benchmarks/contract.py [--part fault clean vacuous]

A part that is not run keeps what the file holds.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from _set_up_cases import clean, planted
from _set_up_models import Case

from logitproof.files.atomic import write_atomically

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "contract.json"
PARTS = ("fault", "clean", "vacuous")
VACUOUS = ROOT / "tests" / "unit" / "test_vacuous.py"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "400"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS)
    measured: dict[str, Any] = {}
    for part in parser.parse_args().part:
        measured |= _measured(part)
    # another process may have measured other parts meanwhile
    kept = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    cases = [case for case in kept.get("cases", []) if ("fault" if case["fault"] else "clean") not in measured]
    faults = measured.get("fault", [case for case in cases if case["fault"]])
    right = measured.get("clean", [case for case in cases if not case["fault"]])
    kinds, passed = measured.get("vacuous", (kept.get("vacuous_kinds", 0), kept.get("vacuous_passed", 0)))
    result = {
        "planted": len(faults),
        "found": sum(fault["found"] for fault in faults),
        "clean": len(right),
        "false_alarms": sum(case["exit_code"] != 0 for case in right),
        "vacuous_kinds": kinds,
        "vacuous_passed": passed,
        "cases": [*faults, *right],
    }
    RESULT.parent.mkdir(exist_ok=True)
    write_atomically(RESULT, json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    for case in result["cases"]:
        good = case["found"] if case["fault"] else case["exit_code"] == 0
        print(f"{'ok ' if good else 'BAD'} exit {case['exit_code']}  {case['name']}\n        {case['said']}")
    print({name: value for name, value in result.items() if name != "cases"})
    return 0 if result["found"] == len(faults) and not result["false_alarms"] and not passed else 1


def _measured(part: str) -> dict[str, Any]:
    if part == "vacuous":
        return {part: vacuous()}
    cases = list(planted() if part == "fault" else clean())
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        folders = [Path(folder) / f"{part}{number}" for number in range(len(cases))]
        return {part: list(pool.map(run, folders, cases))}


def run(folder: Path, case: Case) -> dict[str, Any]:
    """Make a case and run its command; what was said of it in one line, and whether that names the fault."""
    folder.mkdir()
    done = logitproof(case.make(folder))
    lines = [line.strip() for line in (done.stdout + "\n" + done.stderr).splitlines() if line.strip()]
    said = [line for line in lines if case.says and re.search(case.says, line)]
    judged = done.returncode in (0, 1)
    shown = (said or [line for line in lines if "error" in line.lower()] or lines or ["nothing"])[0]
    return {
        "name": case.name,
        "fault": bool(case.says),
        "command": done.args[3],
        "exit_code": done.returncode,
        "found": bool(said) and not judged,
        "said": without_machine(shown, folder)[:400],
    }


def without_machine(text: str, folder: Path) -> str:
    """The same words on every machine."""
    for place, name in ((str(folder), "…"), (f"{ROOT}/", ""), (sys.executable, "python")):
        text = text.replace(place, name)
    return text


def logitproof(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "logitproof", *words]
    return subprocess.run(argv, capture_output=True, text=True, env=ENVIRONMENT, timeout=600, check=False)


def vacuous() -> tuple[int, int]:
    """How many ways to let nothing pass are tried, and how many of them do."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "result.xml"
        argv = [sys.executable, "-m", "pytest", str(VACUOUS), "-q", f"--junitxml={file}"]
        subprocess.run(argv, capture_output=True, cwd=ROOT, env=ENVIRONMENT, check=False)
        cases = list(ET.parse(file).getroot().iter("testcase"))
    broken = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = [case for case in cases if case.find("skipped") is not None]
    return len(cases) - len(skipped), len(broken)


if __name__ == "__main__":
    sys.exit(main())
