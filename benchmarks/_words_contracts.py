"""Mistakes in contracts, suites and what they name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from _vacuous_project import BASIS, Project
from _words_mistakes import Mistake, command, contract, edited

GATE: dict[str, Any] = {"id": "kl", "metric": "kl_divergence", "at_most": 1e-6, "basis": BASIS}
BAND: dict[str, Any] = {"match": 1e-4, "wrong": 1e-2, "basis": BASIS}
TOY: dict[str, Any] = {"engine": "toy", "options": {"noise": 1e-7}}
LINE = r"toys\.parity\.yaml:\d+"
CHANGES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "a key with a typo": ({"gatse": []}, (LINE, "unknown key 'gatse'; did you mean 'gates'", "take it out")),
    "a name where an engine is described": (
        {"reference": "transformers"},
        (LINE, "reference: must be a mapping, got 'transformers'"),
    ),
    "true for a bound": ({"gates": [{**GATE, "at_most": True}]}, (LINE, r"gates\.0\.at_most: must be a number", "got true")),
    "a text for a bound": (
        {"gates": [{**GATE, "at_most": "small"}]},
        (LINE, r"gates\.0\.at_most: must be a number", "got 'small'"),
    ),
    "two bounds": ({"gates": [{**GATE, "at_least": 0.1}]}, (LINE, "exactly one bound")),
    "no bound": ({"gates": [{"id": "kl", "metric": "kl_divergence", "basis": BASIS}]}, (LINE, "exactly one bound")),
    "a basis of one word": ({"gates": [{**GATE, "basis": "ok"}]}, (LINE, r"gates\.0\.basis: needs at least 10 letters")),
    "a metric with a typo": ({"gates": [{**GATE, "metric": "kl_divergance"}]}, (LINE, "did you mean 'kl_divergence'")),
    "a scope with a typo": ({"gates": [{**GATE, "scope": "fist 3 tokens"}]}, (LINE, "'fist 3 tokens' is no scope")),
    "a gate of no cell": ({"gates": [{**GATE, "where": {"mode": "greedy"}}]}, (LINE, "selects no cell of the matrix")),
    "a gate twice": ({"gates": [GATE, GATE]}, (LINE.replace(r":\d+", ""), "the gate id 'kl' stands twice")),
    "a bound that nothing can meet": ({"gates": [{**GATE, "at_most": -1.0}]}, ("no engine can meet the bound -1",)),
    "a band the wrong way round": ({"bands": [{**BAND, "match": 1.0}]}, (LINE, r"match \(1\) must not exceed wrong")),
    "no bands": ({"bands": []}, (LINE, "bands: needs at least 1 entry")),
    "no candidates": ({"candidates": {}}, (LINE, "candidates: needs at least 1 entry")),
    "an engine with a typo": ({"candidates": {"mine": {"engine": "toi"}}}, (LINE, "'toi'; did you mean 'toy'")),
    "an option with a typo": (
        {"candidates": {"mine": {"engine": "toy", "options": {"nois": 1}}}},
        (LINE, "no option 'nois'; did you mean 'noise'"),
    ),
    "an option of the wrong type": (
        {"candidates": {"mine": {"engine": "toy", "options": {"noise": "lots"}}}},
        (LINE, r"candidates\.mine\.options\.noise: must be a number, got 'lots'"),
    ),
    "a program that is not there": (
        {"candidates": {"mine": {"engine": "command", "options": {"argv": ["./build/engine"]}}}},
        (LINE, r"\./build/engine"),
    ),
    "an interpreter that is not there": (
        {"candidates": {"mine": {**TOY, "python": "/no/such/python"}}},
        (r"candidates\.mine\.python", "/no/such/python", "it is not there"),
    ),
    "a name with a slash": ({"candidates": {"a/b": TOY}}, (LINE, r"candidates\.a/b: cannot be a name", "got 'a/b'")),
    "weights that are not there": ({"models": {"m": {"original": "gone.json"}}}, (LINE, r"models\.m\.original", "gone.json")),
    "a quantization that no model has": (
        {"matrix": {"quantization": ["Q4_0"], "mode": ["prefill"]}},
        (LINE, "no quantization is called 'Q4_0'"),
    ),
    "a mode with a typo": (
        {"matrix": {"mode": ["prefil"]}},
        (LINE, "must be 'prefill', 'decode', 'greedy' or 'self', got 'prefil'"),
    ),
    "a suite that is not there": ({"suites": ["gone.yaml"]}, (LINE, r"suites\.0: no suite file is at .*gone\.yaml")),
    "a shipped suite with a typo": (
        {"suites": ["smoke-1"]},
        (LINE, "no shipped suite is called 'smoke-1'; did you mean 'smoke-10'"),
    ),
    "pins that are not there": ({"pins": "toys.pins.yaml"}, (r"toys\.pins\.yaml", "not there|no such file", "logitproof pin")),
    "a waiver that ends on no day": (
        {"waivers": [{"id": "w", "cell": "*", "prompt": "0" * 16, "issue": "a/b#1", "until": "soon", "reason": BASIS}]},
        (LINE, r"waivers\.0\.until: must be a date, such as 2026-12-31"),
    ),
    "three mistakes at once": (
        {"gates": [{**GATE, "at_most": "x", "basis": "ok"}], "bandz": 1},
        (r"unknown key 'bandz'", r"gates\.0\.at_most", r"gates\.0\.basis"),
    ),
}
LINTED = (
    "a key with a typo",
    "a gate of no cell",
    "a bound that nothing can meet",
    "an option of the wrong type",
    "a program that is not there",
    "an interpreter that is not there",
    "weights that are not there",
    "pins that are not there",
)
"""Mistakes that only looking at files and types finds, of which `lint` must find what `check` does."""
EDITS: dict[str, tuple[str, str | bytes, tuple[str, ...]]] = {
    "a tab": ("contract: toys", "contract:\ttoys\n\tx: 1", (LINE, "not valid YAML")),
    "a key that stands twice": (
        "contract: toys",
        "contract: toys\ncontract: more",
        (LINE, "'contract' stands twice, first in line 1"),
    ),
    "what a merge left": ("contract: toys", "<<<<<<< HEAD\ncontract: toys\n=======", (LINE, "not valid YAML")),
    "a text that is not UTF-8": (
        "contract: toys",
        b"contract: toys\nabout: caf\xe9",
        ("is not UTF-8 text", "save it as UTF-8"),
    ),
    "a day that does not exist": (
        "contract: toys",
        "contract: toys\nlint:\n- {code: LP001, reason: a reason of letters, until: 2026-02-30}",
        (r"toys\.parity\.yaml:3", "2026-02-30"),
    ),
    "an empty file": ("", b"", ("",)),
}
SUITES: dict[str, tuple[str, tuple[str, ...]]] = {
    "a prompt without a text": (
        "suite: s\nprompts: [{id: a}]\n",
        (r"suite\.yaml:2: prompts\.0", "either `text` or `token_ids`"),
    ),
    "two prompts of one id": (
        "suite: s\nprompts: [{id: a, text: x}, {id: a, text: y}]\n",
        (r"suite\.yaml", "the prompt id 'a' stands twice"),
    ),
    "a token id outside the vocabulary": (
        "suite: s\nmax_new_tokens: 2\nprompts: [{id: far, token_ids: [1, 2, 99]}]\n",
        ("99", "far", "vocabulary of 40"),
    ),
    "a negative token id": (
        "suite: s\nprompts: [{id: a, token_ids: [1, -2]}]\n",
        (r"suite\.yaml:2: prompts\.0\.token_ids\.1", "at least 0"),
    ),
}


def mistakes() -> Iterator[Mistake]:
    """All of them."""
    for name, (changes, words) in CHANGES.items():
        if name != "a bound that nothing can meet":
            yield Mistake(f"contract: {name}", contract(**changes), 2, words)
        if name in LINTED:
            yield Mistake(f"lint: {name}", contract("lint", **changes), 2, words)
    for name, (old, new, words) in EDITS.items():
        if new:
            yield Mistake(f"contract: {name}", edited(old, new), 2, words)
    yield Mistake("contract: an empty file", _empty, 2, ("is empty or not a mapping",))
    for name, (text, words) in SUITES.items():
        yield Mistake(f"suite: {name}", _suite(text), 2, words)
    yield Mistake("contract: weights that no cell reads", _unread, 2, ("listed as Q4 of m", "no cell reads it"))
    yield Mistake("contract: controls alone", _controls, 3, ("control",))


def _controls(project: Project) -> tuple[int, str]:
    use = {**project.engine("def row(token): return [2 * math.sin(token * n) for n in range(V)]"), "expect": "WRONG"}
    return command(project, "check", project.contract(candidates={"bad": use}).name)


def _empty(project: Project) -> tuple[int, str]:
    project.write("toys.parity.yaml", "")
    return command(project, "check", "toys.parity.yaml")


def _suite(text: str) -> Callable[[Project], tuple[int, str]]:
    def run(project: Project) -> tuple[int, str]:
        project.write("suite.yaml", text)
        return command(project, "check", project.contract().name)

    return run


def _unread(project: Project) -> tuple[int, str]:
    """`check` passes and says so; `lint` does not."""
    project.write("more.json", '{"vocab_size": 40}')
    path = project.contract(models={"m": {"original": "weights.json", "Q4": "more.json"}})
    _, said = command(project, "check", path.name)
    code, linted = command(project, "lint", path.name)
    return code, linted if "no cell reads it: it was not compared" in said else said
