"""Are changes of what judges noticed by its tests? `make bench-mutation` [SAMPLE].

cosmic-ray changes one thing at a time in a copy of the package (an operator, a number, a condition, a loop) and runs the tests
of that module. Of every module SAMPLE changes are tried, by a seed; the file says how many there are. A change that no test
notices is a survivor and is listed with its place.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "mutation.json"
TOOL = ROOT / ".cache/mutation/bin/python"
SAMPLE, SEED, PATIENCE = 40, 20260131, 300.0
MODULES: dict[str, tuple[str, ...]] = {
    "contract/scope.py": ("scope",),
    "contract/waiver.py": ("waivers",),
    "bands/band.py": ("cell_rule", "waivers", "ties"),
    "bands/rule.py": ("cell_rule", "waivers", "ties"),
    "verdict/gates.py": ("waivers", "ties", "vacuous", "partial_engines"),
    "verdict/judge.py": ("cell_rule", "waivers", "vacuous", "partial_engines"),
    "comparison/compare.py": ("compare", "toprows", "topk_bounds"),
    "comparison/summary.py": ("metrics", "compare", "chance"),
    "rows/statistics.py": ("rowstats", "compare"),
    "bands/calculated.py": ("calibrate",),
    "calibration/calibrate.py": ("calibrate",),
}
"""By module: the files of tests/unit that are its tests."""


def main() -> int:
    sample = int(sys.argv[1]) if len(sys.argv) > 1 else SAMPLE
    modules = {}
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        for name in ("src", "tests", "docs", "examples", "benchmarks", "zoo"):
            shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "results"))
        for name in ("pyproject.toml", "CHANGELOG.md", "README.md"):
            shutil.copy(ROOT / name, copy / name)
        for module, tests in MODULES.items():
            modules[module] = _tried(copy, module, tests, sample)
            print(module, {key: value for key, value in modules[module].items() if key != "survivors"}, flush=True)
    tried, killed = (sum(entry[key] for entry in modules.values()) for key in ("tried", "killed"))
    share = round(killed / tried, 4) if tried else None
    result = {"seed": SEED, "sample": sample, "tried": tried, "killed": killed, "share": share, "modules": modules}
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if tried else 1


def _tried(copy: Path, module: str, tests: tuple[str, ...], sample: int) -> dict[str, Any]:
    """The changes of one module that were tried: how many there are, were tried and killed, and those that survived."""
    session = copy / "session.sqlite"
    session.unlink(missing_ok=True)
    files = " ".join(f"tests/unit/test_{name}.py" for name in tests)
    command = f"env PYTHONPATH={copy}/src {sys.executable} -m pytest -x -q -n 0 -p no:cacheprovider {files}"
    settings = {"module-path": f"src/logitproof/{module}", "timeout": PATIENCE, "excluded-modules": [], "test-command": command}
    lines = ["[cosmic-ray]", *(f"{key} = {json.dumps(value)}" for key, value in settings.items())]
    config = copy / "cosmic-ray.toml"
    config.write_text("\n".join([*lines, "[cosmic-ray.distributor]", 'name = "local"', ""]), "utf-8")
    for words in (["init", config.name, session.name], ["exec", config.name, session.name]):
        subprocess.run([TOOL, "-m", "cosmic_ray.cli", *words], cwd=copy, check=True, capture_output=True)
        if words[0] == "init":
            argv = [TOOL, ROOT / "benchmarks/_mutation_sample.py", session, str(sample), str(SEED)]
            total = int(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)
    dumped = subprocess.run([TOOL, "-m", "cosmic_ray.cli", "dump", session.name], cwd=copy, check=True, capture_output=True)
    tried = survived = 0
    survivors = []
    for line in dumped.stdout.decode().splitlines():
        item, outcome = json.loads(line)
        if outcome is None or outcome["worker_outcome"] != "normal":
            continue
        tried += 1
        if outcome["test_outcome"] == "survived":
            survived += 1
            (mutation,) = item["mutations"]
            survivors.append({"operator": mutation["operator_name"], "line": mutation["start_pos"][0], "diff": outcome["diff"]})
    return {"mutants": total, "tried": tried, "killed": tried - survived, "survivors": survivors}


if __name__ == "__main__":
    sys.exit(main())
