"""Kinds with bounds that nothing can break, sides that hold nothing to compare, and engines that reach for what is read."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator
from typing import Any

from _vacuous_files import ALL, _dump
from _vacuous_kinds import ROWS, WRONG, Kind, Outcome
from _vacuous_project import BASIS, Project

from logitproof.contract.suite import Prompt

TEXTS = ("hello there", "one more of them")
"""Of the suite that a project has."""
WIDE = [{"id": "kl", "metric": "kl_divergence", "at_most": 1e9, "basis": BASIS}]


def inert() -> Iterator[Kind]:
    """Contracts and engines; every one has a folder of its own."""
    yield from _bounds()
    yield from _sides()
    yield from _reaching()


def _bounds() -> Iterator[Kind]:
    """A wrong engine, under a contract whose one gate it cannot break, and a band that lets it be."""
    gates: dict[str, dict[str, Any]] = {
        "a share of at least 0": {"metric": "top1", "at_least": 0},
        "a cosine of at least -1": {"metric": "cosine", "at_least": -1},
        "a divergence of at least 0": {"metric": "kl_divergence", "at_least": 0},
        "a divergence of at most ln 2, which it cannot pass": {"metric": "js_divergence", "at_most": 0.6931472},
        "a distance of at most 1, which it cannot pass": {"metric": "total_variation", "statistic": "max", "at_most": 1.0},
        "a number of the reference alone": {"metric": "margin", "at_least": 0.0001},
    }
    lets_be = [{"match": 1e-4, "wrong": 1e2, "allow": 0.0, "basis": BASIS}]
    for name, words in gates.items():
        gate = [{"id": "g", "basis": BASIS, **words}]
        yield Kind(f"bound: {name}", _wrong(gates=gate, bands=lets_be))
        yield Kind(f"bound: {name}, judged again", _judged_by(gate))
    yield Kind(
        "bound: a band of which every position may be wrong", _wrong(bands=[{**lets_be[0], "wrong": 1e-2, "allow": 1.0}])
    )
    yield Kind("waiver: of every prompt", _waived)


def _wrong(**changes: Any) -> Callable[[Project], Outcome]:
    """A wrong engine, by a gate that it keeps and what else is changed."""
    return lambda project: project.check(candidates={"mine": project.engine(WRONG)}, **{"gates": WIDE, **changes})


def _judged_by(gates: list[dict[str, Any]]) -> Callable[[Project], Outcome]:
    def run(project: Project) -> Outcome:
        if (first := project.check())[0] != 0:
            return 0, f"the run does not pass before it is spoiled: {first[1]}"
        return project.judge(gates=gates)

    return run


def _waived(project: Project) -> Outcome:
    words = {"cell": "*", "issue": "one/1", "until": "2999-01-01", "reason": BASIS}
    waivers = [{"id": f"w{n}", "prompt": Prompt(id=f"p{n}", text=text).sha256, **words} for n, text in enumerate(TEXTS)]
    return project.check(candidates={"mine": project.engine(WRONG)}, waivers=waivers)


def _sides() -> Iterator[Kind]:
    """Both sides, or the only one that is asked, hold nothing that could differ."""
    both = {
        "all but one entry masked in both": "made = [[row[0], *[-math.inf] * (V - 1)] for row in made]",
        "rows without a preference in both": "made = [[1.0 + NOISE * n for n in range(V)] for _ in made]",
        "one row everywhere in both": "made = [[x + NOISE * n for n, x in enumerate(row(1))] for _ in made]",
    }
    for name, change in both.items():
        yield Kind(f"sides: {name}", _both(change))
    yield Kind("sides: the quantized file is a copy of the original", _same_bytes)
    yield Kind("sides: a control that is the candidate itself", _control_of_itself)
    yield Kind("sides: prefill alone, of an engine that was to decode", _prefill_only)
    yield Kind("sides: a reference that holds one row of each prompt", _one_row)


def _both(change: str) -> Callable[[Project], Outcome]:
    def run(project: Project) -> Outcome:
        reference = project.engine(ROWS.format(change), name="reference.py", noise=0.0)
        return project.check(reference=reference, candidates={"mine": project.engine(ROWS.format(change))})

    return run


def _same_bytes(project: Project) -> Outcome:
    shutil.copy(project.folder / "weights.json", project.folder / "q4.json")
    models = {"m": {"original": "weights.json", "Q4": "q4.json"}}
    return project.check(models=models, matrix={"mode": ["prefill"], "quantization": ["Q4"]})


def _control_of_itself(project: Project) -> Outcome:
    wrong = project.engine(WRONG)
    bands = [{"match": 1e-4, "wrong": 1e-2, "allow": 0.0, "basis": BASIS}]
    return project.check(candidates={"mine": wrong, "planted": {**wrong, "expect": "WRONG"}}, gates=WIDE, bands=bands)


def _prefill_only(project: Project) -> Outcome:
    hello = '{"protocol": 1, "engine": "fake", "versions": {"fake": "1"}, "tokenize": True, "modes": ["prefill"]}'
    return project.check(
        candidates={"mine": project.engine(f"def hello(p): return {hello}")}, matrix={"mode": ["prefill", "decode"]}
    )


def _one_row(project: Project) -> Outcome:
    """A dump of the first position of each prompt as reference, and an engine that is right there alone."""
    lines = [f"@@meta {json.dumps({'vocab_size': 40})}"]
    for number, text in enumerate(TEXTS):
        tokens = [byte % 40 for byte in text.encode()]
        row = [5 * math.sin(12.9898 * tokens[0] + 78.233 * n) for n in range(40)]
        lines.append(f"@@prompt {json.dumps({'id': f'p{number}', 'token_ids': tokens, 'text': text})}")
        lines.append(f"@@logits {json.dumps({'prompt': f'p{number}', 'position': 0, 'logits': row})}")
    project.write("one.ndjson", "\n".join(lines) + "\n")
    project.suite(*TEXTS, max_new_tokens=0)
    use = project.engine(ROWS.format("made = [row if n == 0 else [2 * x for x in row] for n, row in enumerate(made)]"))
    reference = {"engine": "dump", "options": {"path": "one.ndjson"}}
    return project.check(reference=reference, candidates={"mine": use}, error_bar={"vary": []})


REACHES = {
    "widens the contract": "t = open('toys.parity.yaml').read().replace('1.0e-06', '1.0e+09').replace('0.01', '1.0e+09'); "
    "open('toys.parity.yaml', 'w').write(t)",
    "becomes the reference": "t = open('mine.py').read(); "
    "open('reference.py', 'w').write(t.replace('NOISE = 40, 1e-06', 'NOISE = 40, 0.0'))",
    "shortens the suite": "t = open('suite.yaml').read(); "
    "open('suite.yaml', 'w').write(t.replace('one more of them', 'hello'))",
    "rewrites the verdict": "os.makedirs('run', exist_ok=True); open('run/verdict.json', 'w').write('{\"status\": \"PASS\"}')",
}
COPIES = """
import glob
def score(p):
    for record in glob.glob('run/store/traces/*/*/trace.json'):
        if json.loads(open(record).read())['token_ids'] == p['token_ids']:
            data = open(record.replace('trace.json', 'logits.bin'), 'rb').read()
            open(p['logits'], 'wb').write(data)
            return {'logits': {'path': p['logits'], 'dtype': 'float32', 'shape': [len(p['token_ids']), V]}}
    return {'logits': write(p['logits'], [[2 * x for x in row] for row in rows(p['token_ids'])])}
"""


def _reaching() -> Iterator[Kind]:
    """A wrong engine that writes to what the harness reads, or reads what it wrote."""
    for name, change in REACHES.items():
        for moment in ("hello", "load"):
            body = f"{WRONG}\nwas_{moment} = {moment}\ndef {moment}(p):\n    {change}\n    return was_{moment}(p)\n"
            yield Kind(
                f"reach: {name} at {moment}",
                lambda project, body=body: project.check(candidates={"mine": project.engine(body)}),  # type: ignore[misc]
            )
    yield Kind(
        "reach: copies the reference's rows from the store",
        lambda project: project.check(candidates={"mine": project.engine(COPIES)}),
    )


def inert_files() -> Iterator[Kind]:
    """Dumps of no row and of no prompt."""
    yield Kind(
        "compare: prompts without a row",
        lambda p: p.command("compare", _dump(p, "a.ndjson", ALL), _dump(p, "b.ndjson", ALL, 0)),
    )
    yield Kind(
        "compare: no row on either side",
        lambda p: p.command("compare", _dump(p, "a.ndjson", ALL, 0, 1.0), _dump(p, "b.ndjson", ALL, 0)),
    )
    yield Kind(
        "compare: no prompt on either side",
        lambda p: p.command("compare", _dump(p, "a.ndjson", {}), p.write("b.ndjson", "@@meta {}\n").name),
    )
