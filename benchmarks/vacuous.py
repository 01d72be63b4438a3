"""Ways to go green over nothing: does any of them pass? `make bench-vacuous`.

Every kind is a real contract, run folder or file, with real engine processes. The two honest engines that all of them start
from pass; a kind has passed where the exit code is 0 all the same.

    python benchmarks/vacuous.py                        all kinds
    python benchmarks/vacuous.py --part 1/4             every fourth of them, written beside what is known of the others
    python benchmarks/vacuous.py --kind bound: sides:   those whose names hold one of these words, likewise
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from _vacuous_evidence import evidence
from _vacuous_files import files
from _vacuous_inert import inert, inert_files
from _vacuous_kinds import Kind, engines, runs
from _vacuous_more import more
from _vacuous_project import Project

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "vacuous.json"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", default="1/1", help="NUMBER/OF")
    parser.add_argument("--kind", nargs="*", default=[""], help="words of names")
    wanted = parser.parse_args()
    number, parts = (int(word) for word in wanted.part.split("/"))
    first, alone = [*engines(), *runs(), *inert()], [*files(), *evidence(), *inert_files(), *more()]
    order = [kind.name for kind in (*first, *alone)]
    chosen = {name for name in order[number - 1 :: parts] if any(word in name for word in wanted.kind)}
    with tempfile.TemporaryDirectory() as folder:
        honest = Project(Path(folder) / "honest").check()
        if honest[0] != 0:
            print(f"the honest engines do not pass, so no kind would say anything: {honest[1]}")
            return 1
        cases = [*_tried([kind for kind in first if kind.name in chosen], Path(folder) / "contracts", 3)]
        cases += _tried([kind for kind in alone if kind.name in chosen], Path(folder) / "files", 1)
    passed = _write({case["name"]: case for case in cases}, order)
    return 1 if passed or len(set(order)) < len(order) else 0


def _write(cases: dict[str, dict[str, Any]], order: Sequence[str]) -> list[str]:
    """The kinds that passed, of those that were tried now and those that are known, in the order of the catalogue."""
    known = {case["name"]: case for case in json.loads(RESULT.read_text("utf-8"))["cases"]} if RESULT.is_file() else {}
    together = [(known | cases)[name] for name in order if name in known | cases]
    passed = [case["name"] for case in together if case["exit_code"] == 0]
    result = {"kinds": len(together), "passed": len(passed), "names": passed, "cases": together}
    RESULT.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print({name: value for name, value in result.items() if name != "cases"})
    return passed


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
