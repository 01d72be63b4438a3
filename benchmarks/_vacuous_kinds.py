"""Kinds with an engine that answers wrongly or nothing, and contracts and runs that prove nothing."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from _vacuous_project import BASIS, Project

Outcome = tuple[int, str]


@dataclass(frozen=True)
class Kind:
    """A way to let nothing pass: its name, and what tries it in a fresh project; the exit code and what was said."""

    name: str
    run: Callable[[Project], Outcome]


ROWS = 'def score(p):\n    made = rows(p["token_ids"])\n    {}\n    return {{"logits": write(p["logits"], made)}}'
"""`score` with something done to the rows in between."""
WRONG_ROWS = {
    "NaN in every row": "made = [[float('nan')] * V for row in made]",
    "NaN at one position": "made[-1][3] = float('nan')",
    "infinity at one position": "made[0][0] = float('inf')",
    "rows of nothing but -inf": "made = [[-math.inf] * V for row in made]",
    "entries masked in one engine only": "made = [[-math.inf, *row[1:]] for row in made]",
    "all zeros": "made = [[0.0] * V for row in made]",
    "the same row everywhere": "made = [made[0]] * len(made)",
    "rows shifted by one position": "made = made[1:] + made[:1]",
    "rows in reverse": "made = made[::-1]",
    "scaled logits": "made = [[1.3 * x for x in row] for row in made]",
    "one token preferred": "made = [[row[0] + 9, *row[1:]] for row in made]",
    "two entries of the vocabulary exchanged": "made = [[row[1], row[0], *row[2:]] for row in made]",
    "logits cut off at a height": "made = [[min(x, 2.0) for x in row] for row in made]",
    "wrong at the last position only": "made[-1] = [2 * x for x in made[-1]]",
    "wrong at the first position only": "made[0] = [2 * x for x in made[0]]",
    "wrong in one prompt only": "made = [[2 * x for x in row] for row in made] if p['token_ids'][0] == 31 else made",
    "a row too few": "made = made[:-1]",
    "a row too many": "made = made + made[:1]",
    "a vocabulary of one entry less": "made = [row[:-1] for row in made]",
    "rows of the request before": "global last; made, last = globals().get('last', [[0.0] * V] * len(made)), made",
}
SCORES = {
    "no file": '{"logits": {"path": p["logits"], "dtype": "float32", "shape": [len(p["token_ids"]), V]}}',
    "a file that is cut off": '(write(p["logits"], rows(p["token_ids"])), os.truncate(p["logits"], 8))[0] and '
    '{"logits": {"path": p["logits"], "dtype": "float32", "shape": [len(p["token_ids"]), V]}}',
    "a file elsewhere": '{"logits": write(p["logits"] + ".x", rows(p["token_ids"]))}',
    "a symbolic link": '(write("r.bin", rows(p["token_ids"])), os.symlink(os.path.abspath("r.bin"), p["logits"]))[0] and '
    '{"logits": {"path": p["logits"], "dtype": "float32", "shape": [len(p["token_ids"]), V]}}',
    "a hard link": '(write("r.bin", rows(p["token_ids"])), os.link("r.bin", p["logits"]))[0] and '
    '{"logits": {"path": p["logits"], "dtype": "float32", "shape": [len(p["token_ids"]), V]}}',
    "a named pipe": 'os.mkfifo(p["logits"]) or '
    '{"logits": {"path": p["logits"], "dtype": "float32", "shape": [len(p["token_ids"]), V]}}',
    "numbers of another type": '{"logits": write(p["logits"], [[int(x) for x in row] for row in rows(p["token_ids"])], "i")}',
    "a negative shape": '{"logits": {**write(p["logits"], rows(p["token_ids"])), "shape": [-1, -V]}}',
    "the best entries at one position only": "top(p, lambda t: t == 0)",
    "the best entries nowhere": "top(p, lambda t: False)",
    "an empty answer": "{}",
    "an answer of another kind": '{"text": "yes"}',
    "nothing, and an end": "os._exit(0)",
    "a crash": "os.kill(os.getpid(), 11)",
    "garbage": 'sys.stdout.write("all good\\n")',
    "an answer to another request": 'send({"id": number + 7, "result": {}})',
    "a refusal": 'send({"id": number, "error": {"kind": "refused", "message": "no"}})',
    "an error of no kind": 'send({"id": number, "error": {"kind": "fine", "message": "no"}})',
}
TOP = """
def top(p, whole):
    made = rows(p["token_ids"])
    ids, values = [[-1] * V for _ in made], [[float("nan")] * V for _ in made]
    for t, row in enumerate(made):
        if whole(t):
            ids[t] = sorted(range(V), key=lambda n: -row[n])
            values[t] = [row[n] - math.log(sum(math.exp(x) for x in row)) for n in ids[t]]
    ids, values = write(p["logits"] + ".topk_ids", ids, "i"), write(p["logits"] + ".topk_logprobs", values)
    return {"topk_ids": ids, "topk_logprobs": values}
"""
OTHERS = {
    "a crash at load": "def load(p): os._exit(1)",
    "no vocabulary": 'def load(p): return {"vocab_size": 0}',
    "another vocabulary": 'def load(p): return {"vocab_size": 39}',
    "an error at hello": "def hello(p): os._exit(1)",
    "another protocol": 'def hello(p): return {"protocol": 99, "engine": "fake"}',
    "no mode at all": 'def hello(p): return {"protocol": 1, "engine": "fake", "modes": []}',
    "another tokenizer": 'def tokenize(p): return {"token_ids": [1, *(byte % V for byte in p["text"].encode())]}',
    "a tokenizer of nothing": 'def tokenize(p): return {"token_ids": []}',
    "another tokenizer, after a first hello that hangs": "file = open('told', 'a')\nfile.write('x')\nfile.close()\n"
    "was_hello = hello\ndef hello(p): return was_hello(p) if len(open('told').read()) > 1 else time.sleep(600)\n"
    'def tokenize(p): return {"token_ids": [1, *(byte % V for byte in p["text"].encode())]}',
    "a hang": "def score(p): time.sleep(600)",
    "progress for ever": 'def score(p):\n    while True: send({"id": number, "progress": {}}); time.sleep(0.1)',
    "details without end": 'def load(p): return {"vocab_size": V, "details": {"x": "y" * 1000000}}',
}
GENERATES = {
    "no new token": '{"token_ids": [], "logits": write(p["logits"], []), "finish": "length"}',
    "a token that is not the best": '{"token_ids": [0] * p["max_new_tokens"], '
    '"logits": write(p["logits"], [row(1)] * p["max_new_tokens"]), "finish": "length"}',
    "an end without cause": '{"token_ids": [], "logits": write(p["logits"], []), "finish": "stop"}',
    "another continuation": '(lambda r: {"token_ids": [r.index(max(r))] * p["max_new_tokens"], '
    '"logits": write(p["logits"], [r] * p["max_new_tokens"]), "finish": "length"})(row(p["token_ids"][-1] + 1))',
}


def engines() -> Iterator[Kind]:
    """Candidates that answer wrongly, in part or not at all."""
    for name, change in WRONG_ROWS.items():
        yield Kind(f"rows: {name}", _with(ROWS.format(change)))
    for name, answer in SCORES.items():
        yield Kind(f"score: {name}", _with(f"{TOP}\ndef score(p):\n    return {answer}"))
    for name, changes in OTHERS.items():
        yield Kind(f"engine: {name}", _with(changes, timeout=3, deadline=4))
    for name, answer in GENERATES.items():
        yield Kind(f"greedy: {name}", _with(f"def generate(p):\n    return {answer}", matrix={"mode": ["greedy"]}))
    yield Kind(
        "rows: wrong in decode only",
        _with(ROWS.format("made = [[2 * x for x in row] for row in made] if p['mode'] == 'decode' else made"),
              matrix={"mode": ["prefill", "decode"]}),
    )  # fmt: skip


def _with(changes: str, *, timeout: float = 20, deadline: float | None = None, **contract: Any) -> Callable[[Project], Outcome]:
    def run(project: Project) -> Outcome:
        use = {**project.engine(changes), "timeout": timeout, **({"deadline": deadline} if deadline else {})}
        return project.check(candidates={"mine": use}, **contract)

    return run


KL = {"metric": "kl_divergence", "basis": BASIS}
CONTRACTS: dict[str, dict[str, Any]] = {
    "no gates": {"gates": []},
    "no bands": {"bands": []},
    "no candidates": {"candidates": {}},
    "no models": {"models": {}},
    "no suites": {"suites": []},
    "an axis of nothing": {"matrix": {"mode": []}},
    "a suite that is not there": {"suites": ["gone.yaml"]},
    "weights that are not there": {"models": {"m": {"original": "gone.json"}}},
    "a gate that selects no cell": {"gates": [{"id": "kl", "at_most": 1, "where": {"mode": "greedy"}, **KL}]},
    "a gate of an empty scope": {"gates": [{"id": "kl", "at_most": 1, "scope": "position 999", **KL}]},
    "a gate of a metric that no cell has": {
        "gates": [{"id": "g", "metric": "greedy_match_10", "at_least": 0.5, "basis": BASIS}]
    },
    "a gate without a bound": {"gates": [{"id": "kl", **KL}]},
    "a gate with an infinite bound": {"gates": [{"id": "kl", "at_most": float("inf"), **KL}]},
    "a gate with NaN for a bound": {"gates": [{"id": "kl", "at_most": float("nan"), **KL}]},
    "one id for two gates": {"gates": [{"id": "kl", "at_most": 1, **KL}] * 2},
    "a band of another cell": {"bands": [{"match": 1, "wrong": 1, "basis": BASIS, "where": {"mode": "decode"}}]},
    "a calculated band without a calibration": {"bands": [{"bound": "calibrated", "basis": BASIS}]},
    "leave for every cell": {"may_be_unmeasured": ["*"], "matrix": {"mode": ["self"], "isa": ["amx"]}},
    "an unknown key": {"gate": []},
    "an error bar of no prompt": {"error_bar": {"prompts": 0}},
    "pins that are not there": {"pins": "gone.yaml"},
}


def runs() -> Iterator[Kind]:
    """Contracts that prove nothing, engines that are the reference, and runs that are not what they were."""
    for name, changes in CONTRACTS.items():
        yield Kind(f"contract: {name}", lambda project, changes=changes: project.check(**changes))  # type: ignore[misc]
    yield Kind("contract: --only of no cell", lambda project: project.check(only="nobody/*"))
    yield Kind("contract: a suite of no prompt", lambda project: project.suite() or project.check())  # type: ignore[func-returns-value]
    yield Kind("contract: a prompt of no token", lambda project: project.suite("") or project.check())  # type: ignore[func-returns-value]
    yield Kind("controls: nothing but a control", _only_a_control)
    yield Kind("controls: one that is not caught", _control({"noise": 1e-7}))
    yield Kind("controls: one that crashes", _control({"changes": "def score(p): os._exit(1)"}))
    yield from _equals()
    yield from _stale()
    yield from _judged()


def _only_a_control(project: Project) -> Outcome:
    use = project.engine(ROWS.format("made = [[2 * x for x in row] for row in made]"))
    return project.check(candidates={"planted": {**use, "expect": "WRONG"}})


def _control(planted: dict[str, Any]) -> Callable[[Project], Outcome]:
    def run(project: Project) -> Outcome:
        use = {**project.engine(name="planted.py", **planted), "expect": "WRONG"}
        return project.check(candidates={"mine": project.mine, "planted": use})

    return run


def _equals() -> Iterator[Kind]:
    """Candidates that are the reference under another name."""
    yield Kind("equal: the reference itself", lambda project: project.check(candidates={"mine": project.reference}))
    same: dict[str, Callable[[Project], dict[str, Any]]] = {
        "an environment that nobody reads": lambda project: {**project.reference, "environment": {"X": "1"}},
        "an inert option": lambda project: {
            **project.reference,
            "options": {**project.reference["options"], "options": {"x": 1}},
        },
        "an interpreter by name": lambda project: {**project.reference, "python": sys.executable},
        "a copy of its file": lambda project: project.engine(name="copy.py", noise=0.0),
    }
    for name, make in same.items():
        yield Kind(f"equal: {name}", lambda project, make=make: project.check(candidates={"mine": make(project)}))  # type: ignore[misc]
    yield Kind("equal: the original in place of the quantized weights", _original_for_quantized)
    yield Kind("arithmetic: wider than the engine's own options say", _declared)


def _original_for_quantized(project: Project) -> Outcome:
    project.write("q4.json", '{"vocab_size": 40, "bits": 4}')
    use = project.engine(name="copy.py", noise=0.0)
    models = {"m": {"original": "weights.json", "Q4": "q4.json"}}
    return project.check(candidates={"mine": use}, models=models, matrix={"mode": ["decode"], "quantization": ["Q4"]})


def _declared(project: Project) -> Outcome:
    use = {"engine": "transformers", "options": {"dtype": "float32"}, "arithmetic": {"base": "bfloat16"}}
    return project.check(candidates={"mine": use}, bands=[{"bound": "calibrated", "basis": BASIS}])


WRONG = "def rows(ids): return [[2 * x for x in row(token)] for token in ids]"
IMPORTS = "import sys; sys.path.insert(0, '.')\nimport core\ndef rows(ids): return [[core.F * x for x in row(t)] for t in ids]"
READS = "def rows(ids):\n    f = float(open('factor.txt').read())\n    return [[f * x for x in row(t)] for t in ids]"


def _stale() -> Iterator[Kind]:
    """Engines and weights that change between two runs, or within one."""

    def twice(make: Callable[[Project], dict[str, Any]], spoil: Callable[[Project], Any]) -> Callable[[Project], Outcome]:
        def run(project: Project) -> Outcome:
            use = make(project)
            if (first := project.check(candidates={"mine": use}))[0] != 0:
                return 0, f"the engine does not pass before it is spoiled: {first[1]}"
            spoil(project)
            return project.check(candidates={"mine": use})

        return run

    def core(project: Project) -> dict[str, Any]:
        project.write("core.py", "F = 1\n")
        return project.engine(IMPORTS)

    def isolated(project: Project) -> dict[str, Any]:
        use = core(project)
        return {**use, "options": {"argv": [sys.executable, "-I", "mine.py"]}}

    def read(project: Project) -> dict[str, Any]:
        project.write("factor.txt", "1")
        return project.engine(READS)

    def script(project: Project, line: str = "exec {} build/engine.py") -> dict[str, Any]:
        project.engine()
        (project.folder / "build").mkdir()
        (project.folder / "mine.py").rename(project.folder / "build/engine.py")
        project.write("run.sh", f"#!/bin/sh\n{line.format(sys.executable)}\n").chmod(0o755)
        return {"engine": "command", "options": {"argv": ["./run.sh"]}, "timeout": 20}

    def on_path(project: Project) -> dict[str, Any]:
        project.engine(name="myeng")
        text = (project.folder / "myeng").read_text("utf-8")
        project.write("myeng", f"#!{sys.executable}\n{text}").chmod(0o755)
        path = f"{project.folder}:{os.environ['PATH']}"
        return {"engine": "command", "options": {"argv": ["myeng"], "environment": {"PATH": path}}, "timeout": 20}

    def rebuilt(project: Project) -> None:
        project.engine(WRONG)
        (project.folder / "mine.py").rename(project.folder / "build/engine.py")

    def replaced(project: Project) -> None:
        project.engine(WRONG)
        text = (project.folder / "mine.py").read_text("utf-8")
        (project.folder / "myeng").write_text(f"#!{sys.executable}\n{text}", "utf-8")

    yield Kind("stale: a module that the engine imports", twice(core, lambda project: project.write("core.py", "F = 2\n")))
    yield Kind("stale: the same where Python is isolated", twice(isolated, lambda project: project.write("core.py", "F = 2\n")))
    yield Kind("stale: a file that the engine reads", twice(read, lambda project: project.write("factor.txt", "2")))
    yield Kind("stale: a program behind a script", twice(script, rebuilt))
    yield Kind("stale: the same as a child", twice(lambda project: script(project, "{} build/engine.py; exit"), rebuilt))
    yield Kind("stale: a program on PATH", twice(on_path, replaced))
    for moment, answer in (("hello", 'globals()["was"](p)'), ("load", '{"vocab_size": V}'), ("score", 'globals()["was"](p)')):
        spoil = "open('n', 'w').write('{}'); os.replace('n', 'weights.json')"
        swap = f"was = {moment}\ndef {moment}(p):\n    {spoil}\n    return {answer}"
        yield Kind(f"weights: replaced at {moment}", _with(swap))
    back = "was = load\ndef load(p):\n    old = open('weights.json').read()\n    open('weights.json', 'w').write('x')\n"
    yield Kind("weights: replaced and put back", _with(f"{back}    open('weights.json', 'w').write(old)\n    return was(p)"))
    yield Kind("store: another engine's rows in a trace", _rows_exchanged)
    yield Kind("store: a bit of a record", _record_changed)


def _rows_exchanged(project: Project) -> Outcome:
    """The reference's rows written over those of a wrong engine; judged again from the store."""
    project.check(candidates={"mine": project.engine(WRONG)})
    right = {json.loads((path / "trace.json").read_text())["token_ids"][0]: path for path in project.traces("reference")}
    for path in project.traces():
        first = json.loads((path / "trace.json").read_text())["token_ids"][0]
        (path / "logits.bin").write_bytes((right[first] / "logits.bin").read_bytes())
    return project.judge()


def _record_changed(project: Project) -> Outcome:
    project.check()
    path = project.traces()[0] / "trace.json"
    path.write_text(path.read_text("utf-8").replace('"seconds": ', '"seconds": 1'), "utf-8")
    return project.judge()


def _judged() -> Iterator[Kind]:
    """`judge RUN` of a contract that is no longer what was measured."""

    def after(spoil: Callable[[Project], dict[str, Any]]) -> Callable[[Project], Outcome]:
        def run(project: Project) -> Outcome:
            for before in (project.check(), project.judge()):
                if before[0] != 0:
                    return 0, f"the run does not pass before it is spoiled: {before[1]}"
            return project.judge(**(spoil(project) or {}))

        return run

    spoilt: dict[str, Callable[[Project], Any]] = {
        "a candidate more": lambda project: {"candidates": {"mine": project.mine, "bad": project.engine(WRONG, name="bad.py")}},
        "a mode more": lambda project: {"matrix": {"mode": ["prefill", "decode"]}},
        "another mode": lambda project: {"matrix": {"mode": ["decode"]}},
        "a model more": lambda project: {"models": {"m": {"original": "weights.json"}, "n": {"original": "weights.json"}}},
        "another suite text": lambda project: project.suite("other words", "one more of them"),
        "a suite of fewer prompts": lambda project: project.suite("hello there"),
        "other weights": lambda project: project.write("weights.json", '{"vocab_size": 41}') and {},
        "another program": lambda project: {"candidates": {"mine": project.engine(WRONG, name="bad.py")}},
        "another environment": lambda project: {"candidates": {"mine": {**project.mine, "environment": {"X": "1"}}}},
        "another reference": lambda project: {"reference": {**project.reference, "environment": {"X": "1"}}},
        "another error bar": lambda project: {"error_bar": {"vary": ["decode"], "prompts": 2}},
        "findings by leave": lambda project: {"preflight": {"skip": ["PF502"], "reason": "nobody looks at them"}},
        "a witness more": lambda project: {"witness": project.mine},
    }
    for name, spoil in spoilt.items():
        yield Kind(f"judge: {name}", after(spoil))
    yield Kind("judge: a trace that is gone", after(lambda project: _gone(project)))
    yield Kind("judge: no run", lambda project: project.judge())


def _gone(project: Project) -> dict[str, Any]:
    (project.traces()[0] / "logits.bin").unlink()
    return {}
