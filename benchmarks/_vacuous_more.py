"""Kinds with bounds that what knows nothing keeps, programs that change, answers of another type, and empty sets."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from _vacuous_evidence import VERIFY, _attested
from _vacuous_kinds import ROWS, WRONG, Kind, Outcome
from _vacuous_project import BASIS, Project

WIDE_BAND = [{"match": 1e3, "wrong": 1e4, "basis": BASIS}]
WIDE_GATE = [{"id": "kl", "metric": "kl_divergence", "at_most": 900.0, "basis": BASIS}]
EDITS = """
import core
asked = []
def score(p):
    asked.append(p)
    if len(asked) == 2 and os.path.exists("edited.py"):
        os.replace("edited.py", "core.py")
    return {"logits": write(p["logits"], core.changed(rows(p["token_ids"])))}
"""
SHAPE = """
was = score
def score(p):
    answer = was(p)
    answer["logits"]["shape"] = [str(length) for length in answer["logits"]["shape"]]
    return answer
"""
RIGHT, SPOILED = "def changed(rows): return rows\n", "def changed(rows): return [[2 * x for x in row] for row in rows]\n"


def more() -> Iterator[Kind]:
    """Contracts and engines; every one has a folder of its own."""
    yield from _admitting()
    yield from _changing()
    yield from _typed()
    yield from _empty()


def _admitting() -> Iterator[Kind]:
    """Engines under bounds that rows of zeros would keep, or rows in the place of others."""
    cosine = [{"id": "c", "metric": "cosine", "at_least": -0.99, "basis": BASIS}]
    match = [{"id": "g", "metric": "first_divergence", "at_least": 0.0, "basis": BASIS}]
    decode = [{**WIDE_GATE[0], "at_most": 1e-6, "where": {"mode": "decode"}}]
    prompt = [{"id": "t", "metric": "top1", "at_least": 0.0001, "basis": BASIS}]
    cases: dict[str, dict[str, Any]] = {
        "zeros, in prefill": {"gates": WIDE_GATE},
        "zeros, in decode": {"gates": WIDE_GATE, "matrix": {"mode": ["decode"]}},
        "zeros, in greedy": {"gates": WIDE_GATE, "matrix": {"mode": ["greedy"]}},
        "zeros, by a statistic": {"gates": [{**WIDE_GATE[0], "statistic": "median"}]},
        "zeros, by a gate at one position": {"gates": [{**WIDE_GATE[0], "scope": "position 1"}]},
        "zeros, in a mode that no gate selects": {"gates": decode, "matrix": {"mode": ["prefill", "decode"]}},
        "rows moved on by one": {"gates": cosine},
        "a continuation of nothing in common": {"gates": match, "matrix": {"mode": ["greedy"]}},
        "one best token in ten thousand": {"gates": prompt},
    }
    for name, changes in cases.items():
        yield Kind(f"admits: {name}", lambda project, changes=changes: project.check(bands=WIDE_BAND, **changes))  # type: ignore[misc]
        yield Kind(f"admits: {name}, of a wrong engine", _wrong(changes))
    yield Kind("admits: zeros, judged again", _judged_again)


def _wrong(changes: dict[str, Any]) -> Callable[[Project], Outcome]:
    return lambda project: project.check(candidates={"mine": project.engine(WRONG)}, bands=WIDE_BAND, **changes)


def _judged_again(project: Project) -> Outcome:
    if (first := project.check())[0] != 0:
        return 0, f"the run does not pass before it is spoiled: {first[1]}"
    return project.judge(bands=WIDE_BAND, gates=WIDE_GATE)


def _changing() -> Iterator[Kind]:
    yield Kind("stale: a module that is edited after the engine has loaded it", _edited)
    yield Kind("stale: a link that leads to another build", _linked)


def _edited(project: Project) -> Outcome:
    """The first run passes with what was loaded; the second must see what is there now."""
    project.write("core.py", RIGHT)
    project.write("edited.py", SPOILED)
    use = {"mine": project.engine(EDITS)}
    first = project.check(candidates=use)
    return project.check(candidates=use) if first[0] == 0 else (0, f"the first run does not pass: {first[1]}")


def _linked(project: Project) -> Outcome:
    for name, text in (("first", RIGHT), ("second", SPOILED)):
        (project.folder / name).mkdir()
        project.write(f"{name}/core.py", text)
    link = project.folder / "current"
    link.symlink_to("first")
    change = "sys.path.insert(0, 'current')\nimport core\n" + ROWS.format("made = core.changed(made)")
    use = {"mine": project.engine(change)}
    first = project.check(candidates=use)
    link.unlink()
    link.symlink_to("second")
    return project.check(candidates=use) if first[0] == 0 else (0, f"the first run does not pass: {first[1]}")


def _typed() -> Iterator[Kind]:
    """Answers that hold a number as text, or a truth for a number."""
    answers = {
        "a vocabulary of text": 'def load(p): return {"vocab_size": "40"}',
        "a vocabulary of a fraction": 'def load(p): return {"vocab_size": 40.0}',
        "a version of text": 'def hello(p): return {"protocol": "1", "engine": "fake", "versions": {}, "generate": True}',
        "a shape of text": SHAPE,
        "an id of text": "def load(p): send({'id': str(number), 'result': {'vocab_size': V}})",
    }
    for name, body in answers.items():
        yield Kind(f"typed: {name}", lambda project, body=body: project.check(candidates={"mine": project.engine(body)}))  # type: ignore[misc]


def _empty() -> Iterator[Kind]:
    yield Kind("empty: a test run that selects no test of the contract", _no_test)
    yield Kind("empty: a candidate that no cell is left of", _no_cell)
    yield Kind("evidence: of a run that ended in an error", _of_an_error)
    yield Kind("compare: rows of which no number is there", _no_number)


def _no_test(project: Project) -> Outcome:
    project.contract()
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "nothing_is_called_so", "toys.parity.yaml"]
    done = subprocess.run(argv, cwd=project.folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout[-300:]


def _no_cell(project: Project) -> Outcome:
    wrong = {**project.engine(WRONG, name="wrong.py"), "only": {"mode": "decode"}}
    return project.check(candidates={"good": project.mine, "bad": wrong})


def _of_an_error(project: Project) -> Outcome:
    return _attested(project, "def load(p): os._exit(7)") or project.command(*VERIFY)


def _no_number(project: Project) -> Outcome:
    for name, value in (("a", 0.5), ("b", float("nan"))):
        lines = ['@@meta {"vocab_size": 4}', '@@prompt {"id": "p", "token_ids": [1, 2]}']
        lines += [f'@@logits {{"prompt": "p", "position": {at}, "logits": [{value}, {value}, {value}, 1.0]}}' for at in (0, 1)]
        Path(project.folder / f"{name}.ndjson").write_text("\n".join(lines) + "\n", "utf-8")
    return project.command("compare", "a.ndjson", "b.ndjson")
