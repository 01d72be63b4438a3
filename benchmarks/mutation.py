"""Are changes of what judges noticed by its tests? `make bench-mutation`.

cosmic-ray changes one thing at a time in a copy of the package (an operator, a number, a condition, a loop), and the tests of
that module run. Of every module a sample is tried, by a seed; the result says how many changes there are. A change that no test
notices is a survivor and is listed with its place, unless mutation_equivalent.yaml says why nothing could notice it.

    python benchmarks/mutation.py [--size 60] [--seconds 540]            all modules
    python benchmarks/mutation.py --part verdict/judge.py ...            some, written beside what is known of the others

A part that its seconds do not suffice for goes on where it stopped, as long as the module is the same. `--again` tries those
that survived once more, after a test was written.
"""

from __future__ import annotations

import argparse
import atexit
import functools
import hashlib
import importlib.util
import json
import py_compile
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from logitproof.files.atomic import write_atomically

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks/results/mutation.json"
EQUIVALENT = ROOT / "benchmarks/mutation_equivalent.yaml"
TOOL = ROOT / ".cache/mutation/bin/python"
SIZE, SEED = 60, 20260131
MODULES: dict[str, tuple[str, ...]] = {
    "contract/scope.py": ("scope", "frozen"),
    "contract/waiver.py": ("judge", "frozen"),
    "bands/band.py": ("judge", "gates", "ties", "frozen"),
    "bands/rule.py": ("judge", "frozen"),
    "bands/calculated.py": ("calculated", "frozen"),
    "calibration/calibrate.py": ("calibrating", "frozen"),
    "verdict/judge.py": ("judge", "gates", "frozen"),
    "verdict/gates.py": ("gates", "judge", "ties", "frozen"),
    "verdict/gate_rows.py": ("gates",),
    "verdict/case.py": ("gates", "judge", "frozen"),
    "verdict/coverage.py": ("judge", "frozen"),
    "verdict/compared.py": ("gates", "frozen"),
    "verdict/ties.py": ("judge", "gates", "ties"),
    "comparison/compare.py": ("compare", "topk_bounds", "frozen"),
    "comparison/summary.py": ("compare",),
    "rows/statistics.py": ("rowstats",),
    "rows/kernel.py": ("rowstats",),
    "rows/distance.py": ("distance",),
    "metrics/__init__.py": ("metric_formulas", "metrics"),
}
"""By module: the files of tests/unit that are its tests."""
METRICS = {
    f"metrics/{file.name}": ("metric_formulas", "metrics")
    for file in sorted((ROOT / "src/logitproof/metrics").glob("[a-z]*.py"))
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="*", default=[], help="modules, by their path in the package")
    parser.add_argument("--size", type=int, default=SIZE, help="changes of each module")
    parser.add_argument("--seconds", type=float, default=1e9, help="for all together")
    parser.add_argument("--again", action="store_true", help="try survivors again")
    wanted = parser.parse_args()
    modules = MODULES | METRICS
    if unknown := set(wanted.part) - set(modules):
        parser.error(f"{', '.join(sorted(unknown))}: no such module")
    end = time.monotonic() + wanted.seconds
    for module in wanted.part or modules:
        if (left := end - time.monotonic()) > 0:
            known = {} if not RESULT.is_file() else json.loads(RESULT.read_text("utf-8"))["modules"]
            entry = _part(module, modules[module], wanted.size, known.get(module), left, again=wanted.again)
            _write({**known, module: entry})
            print(module, {key: value for key, value in entry.items() if key not in ("survivors", "outcomes")}, flush=True)
    return 0


def _part(
    module: str, tests: tuple[str, ...], size: int, known: dict[str, Any] | None, seconds: float, *, again: bool
) -> dict[str, Any]:
    """The changes of one module with what came of each: those that are known, and what is tried now."""
    file = ROOT / "src/logitproof" / module
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    argv = [str(TOOL), str(ROOT / "benchmarks/_mutation_changes.py"), str(file), str(size), str(SEED)]
    made = json.loads(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)
    outcomes = {_place(entry): entry for entry in known["outcomes"]} if known and known["sha256"] == sha256 else {}
    kept = {place: entry for place, entry in outcomes.items() if not (again and entry["outcome"] == "survived")}
    left = [change for change in made["changes"] if _place(change) not in kept]
    if left:
        kept |= {_place(entry): entry for entry in _run(module, tests, left, seconds)}
    tried = [kept[_place(change)] for change in made["changes"] if _place(change) in kept]
    return {"sha256": sha256, "tests": list(tests), "changes": made["places"] - made["same"], "outcomes": tried}


def _place(entry: dict[str, Any]) -> tuple[Any, ...]:
    return entry["operator"], entry["line"], entry["before"], entry["after"]


def _run(module: str, tests: tuple[str, ...], changes: list[dict[str, Any]], seconds: float) -> list[dict[str, Any]]:
    """What came of each change, as many as there was time for."""
    copy = _copy()
    # Its bytecode is told apart by seconds alone, and changes come faster.
    Path(importlib.util.cache_from_source(copy / "src/logitproof" / module)).unlink(missing_ok=True)
    files = [f"tests/unit/test_{name}.py" for name in tests]
    argv = [sys.executable, str(ROOT / "benchmarks/_mutation_run.py"), str(copy), module, str(seconds), *files]
    lines = "".join(json.dumps(change) + "\n" for change in changes)
    (copy.parent / "changes").write_text(lines, "utf-8")
    with (copy.parent / "changes").open() as given, (copy.parent / "outcomes").open("w") as out:
        process = subprocess.Popen(argv, stdin=given, stdout=out, cwd=copy.parent)
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:  # a change that never ends is tried again when there is more time
            process.terminate()
            process.wait()
            code = 0
    if code:
        raise RuntimeError(f"{module}: trying its changes ended with {code}")
    return [json.loads(line) for line in (copy.parent / "outcomes").read_text("utf-8").splitlines()]


@functools.cache
def _copy() -> Path:
    """A copy of what tests need, compiled; gone when this process ends."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    copy = folder / "copy"
    for name in ("src", "tests", "docs", "examples", "benchmarks", "zoo"):
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "results"))
    for name in ("pyproject.toml", "CHANGELOG.md", "README.md"):
        shutil.copy(ROOT / name, copy / name)
    for source in (copy / "src").rglob("*.py"):
        py_compile.compile(str(source), doraise=True)
    return copy


def _write(modules: dict[str, Any]) -> None:
    reasons = {(entry["module"], entry["before"], entry["after"]): entry["reason"] for entry in _equivalent()}
    for module, entry in modules.items():
        survived = [change for change in entry["outcomes"] if change["outcome"] == "survived"]
        excused = [change for change in survived if (module, change["before"], change["after"]) in reasons]
        entry["tried"], entry["equivalent"] = len(entry["outcomes"]), len(excused)
        entry["killed"] = entry["tried"] - len(survived)
        entry["survivors"] = [change for change in survived if change not in excused]
    tried, killed, equivalent = (sum(entry[key] for entry in modules.values()) for key in ("tried", "killed", "equivalent"))
    share = round(killed / (tried - equivalent), 4) if tried > equivalent else None
    heads = {"seed": SEED, "tried": tried, "killed": killed, "equivalent": equivalent, "share": share}
    write_atomically(RESULT, json.dumps({**heads, "modules": dict(sorted(modules.items()))}, indent=1) + "\n")
    print({key: value for key, value in heads.items() if key != "seed"}, flush=True)


def _equivalent() -> list[dict[str, str]]:
    return yaml.safe_load(EQUIVALENT.read_text("utf-8")) or []


if __name__ == "__main__":
    sys.exit(main())
