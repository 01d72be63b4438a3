"""Natural mistakes: does the message name the right fault? `make bench-words`.

Every mistake is made in a project that passes without it, and the command line is really run, as a person would. It is named
right where the exit code is the right one and every expected word comes; a false cause is a word of another fault, of a bug of
the model, or of a library. A mistake has passed where the exit code is 0. A traceback counts where it is the command's own;
that with which an engine of a mistake died is quoted, and counted apart.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import _words_commands
import _words_contracts
import _words_engines
import _words_newcomer
from _vacuous_project import Project
from _words_mistakes import Mistake, command

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "words.json"
AT_ONCE = 8


def main(chosen: str = "") -> int:
    mistakes = [mistake for mistake in every() if chosen in mistake.name]
    with tempfile.TemporaryDirectory() as folder:
        honest = Project(Path(folder) / "honest")
        code, said = command(honest, "check", honest.contract().name)
        if code != 0:
            print(f"the honest engines do not pass, so no mistake would say anything: {said}")
            return 1
        cases = list(_tried(mistakes, Path(folder)))
    result = {
        "tried": len(cases),
        "named_right": sum(case["named_right"] for case in cases),
        "tracebacks": sum(case["tracebacks"] for case in cases),
        "engines_tracebacks_quoted": sum(case["quoted"] for case in cases),
        "false_causes": sum(bool(case["false_causes"]) for case in cases),
        "passes": sum(case["exit_code"] == 0 for case in cases),
    }
    print(result)
    if not chosen:
        RESULT.write_text(json.dumps({**result, "cases": cases}, indent=1, ensure_ascii=False) + "\n")
    right = result["named_right"] == result["tried"]
    return 0 if right and not result["tracebacks"] + result["false_causes"] + result["passes"] else 1


def every() -> Iterator[Mistake]:
    """All mistakes, contracts first."""
    yield from _words_contracts.mistakes()
    yield from _words_commands.mistakes()
    yield from _words_engines.mistakes()
    yield from _words_newcomer.mistakes()


def _tried(mistakes: list[Mistake], folder: Path) -> Iterator[dict[str, Any]]:
    def tried(numbered: tuple[int, Mistake]) -> dict[str, Any]:
        number, mistake = numbered
        place = folder / str(number)
        code, said = mistake.run(Project(place))
        case = mistake.judged(code, said, place)
        said = said.replace(str(place), "…").replace(str(ROOT), ".").replace(sys.executable, "python")
        bad = not case["named_right"] or case["tracebacks"] or case["false_causes"] or code == 0
        print(f"{'BAD' if bad else 'ok '} exit {code}  {mistake.name}", flush=True)
        if bad:
            print(f"    missing {case['missing']}, false {case['false_causes']}\n{said}", flush=True)
        return {**case, "said": " ".join(said.split())[-400:]}

    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield from pool.map(tried, enumerate(mistakes))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
