"""Ways to go green over nothing: does any of them pass? `make bench-vacuous`.

Every kind is a real contract, run folder or file, with real engine processes. The two honest engines that all of them start
from pass; a kind has passed where the exit code is 0 all the same.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from _vacuous_evidence import evidence
from _vacuous_files import files
from _vacuous_kinds import Kind, engines, runs
from _vacuous_project import Project

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "vacuous.json"


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        honest = Project(Path(folder) / "honest").check()
        if honest[0] != 0:
            print(f"the honest engines do not pass, so no kind would say anything: {honest[1]}")
            return 1
        cases = [*_tried([*engines(), *runs()], Path(folder) / "contracts", 3)]
        cases += _tried([*files(), *evidence()], Path(folder) / "files", 1)
    passed = [case["name"] for case in cases if case["exit_code"] == 0]
    result = {"kinds": len(cases), "passed": len(passed), "names": passed, "cases": cases}
    RESULT.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print({name: value for name, value in result.items() if name != "cases"})
    return 1 if passed or len({case["name"] for case in cases}) < len(cases) else 0


def _tried(kinds: Sequence[Kind], folder: Path, at_once: int) -> Iterable[dict[str, Any]]:
    """What each kind came to; those that change the folder of this process go one by one."""

    def tried(numbered: tuple[int, Kind]) -> dict[str, Any]:
        place, kind = folder / str(numbered[0]), numbered[1]
        code, said = kind.run(Project(place))
        line = " ".join(said.replace(str(place), "…").replace(str(ROOT), ".").replace(sys.executable, "python").split())[:300]
        print(f"{'BAD' if code == 0 else 'ok '} exit {code}  {kind.name}\n        {line}", flush=True)
        return {"name": kind.name, "exit_code": code, "said": line}

    with ThreadPoolExecutor(at_once) as pool:
        yield from pool.map(tried, enumerate(kinds))


if __name__ == "__main__":
    sys.exit(main())
