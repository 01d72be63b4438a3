"""A report of any size without an engine: comparisons that are made up, judged as every other is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from logitproof.comparison.compare import SHOWN, Comparison
from logitproof.contract.contract import Contract
from logitproof.contract.opened import OpenContract
from logitproof.contract.suite import Prompt, Suite
from logitproof.jobs.cell import Cell, Pair, Unmeasured
from logitproof.report.report import Report
from logitproof.traces.trace import Trace
from logitproof.verdict.case import Case, band_of
from logitproof.verdict.compared import Compared
from logitproof.verdict.judge import judge

VOCABULARY = 151_936
EVIL = "</script><script>window.__owned = 1</script><img src=x onerror='window.__owned = 1'>"
SYLLABLES = (" the", " bird", " flew", "ing", " over", " a", " hill", ".", "\n", " 漢字", " naïve", " of", " light")
NUMBERS = ("kl_divergence", "rms_delta_logit", "max_delta_logit", "margin", "regret")


def report(cells: int, prompts: int, tokens: int, *, evil: str = EVIL, seed: int = 0) -> Report:
    """A report in which every second cell is WRONG, from a third of each prompt on; `evil` is said by one token."""
    random = np.random.default_rng(seed)
    contract = _contract()
    suite = Suite(suite="s", prompts=[Prompt(id=f"prompt {n}", text=f"Text number {n}") for n in range(prompts)])
    opened = OpenContract(Path("parity.yaml"), contract, {}, (suite,))
    compared: dict[Cell, list[Compared]] = {}
    results: dict[str, Trace] = {}
    used: set[int] = set()
    for number in range(cells):
        mode: Any = ("prefill", "decode")[number // 2 % 2]
        cell = Cell(("mine", "other")[number % 2], "qwen", f"Q{number}", mode, "native", "transformers", "mine (llamacpp)")
        keys = [tuple(f"{cell.id} {side}{n}" for side in "src") for n in range(prompts)]
        pairs = [Pair("s", n, prompt, *keys[n], None) for n, prompt in enumerate(suite.prompts)]
        cell = replace(cell, pairs=tuple(pairs))
        compared[cell] = [_row(pair, tokens, number % 2 == 0, random, results, used) for pair in pairs]
    words = {str(token): SYLLABLES[token % len(SYLLABLES)] for token in used}
    words[str(min(used))] = evil
    cases = [Case(cell, rows, band_of(contract, cell, rows)) for cell, rows in compared.items()]
    missing = (Unmeasured("third/qwen/Q9/prefill", "the engine is not installed"),)
    return Report(opened, judge(cases, contract, missing), compared, results, {"qwen": words}, _facts())


def _row(
    pair: Pair, tokens: int, wrong: bool, random: np.random.Generator, results: dict[str, Trace], used: set[int]
) -> Compared:
    ids = random.integers(0, VOCABULARY, tokens).tolist()
    size = 10.0 ** random.uniform(-7, -5, tokens)
    if wrong:
        size[tokens // 3 :] = 10.0 ** random.uniform(-2, 1, tokens - tokens // 3)
    best = random.integers(0, VOCABULARY, (tokens, SHOWN))
    other = np.where((size > 0.3)[:, None], np.roll(best, 1, axis=1), best)
    logits = -np.sort(-random.normal(12, 3, (tokens, SHOWN)), axis=1)
    same = (best[:, 0] == other[:, 0]).astype(float)
    numbers = {"kl_divergence": size**2 / 2, "rms_delta_logit": size, "max_delta_logit": 3 * size}
    numbers |= {"margin": logits[:, 0] - logits[:, 1], "regret": np.where(same == 1, 0.0, size), "top1": same}
    table: dict[str, Any] = {"position": np.arange(tokens), "label": np.array([*ids[1:], -1])}
    table |= dict.fromkeys(("nonfinite_reference", "nonfinite_candidate"), np.zeros(tokens, np.int64))
    table |= {"support": np.full(tokens, VOCABULARY), **numbers}
    for side, shown, values in (("reference", best, logits), ("candidate", other, logits + size[:, None])):
        for what, array in (("ids", shown), ("logits", values)):
            table[f"top{SHOWN}_{what}_{side}"] = pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), SHOWN)
    used.update(ids, best.reshape(-1).tolist())
    for key in (pair.reference, pair.candidate):
        results[key] = Trace(key, "score", "engine", "prefill", ids, 3, np.zeros((0, 0), np.float32))
    return Compared(pair, 3, Comparison(pa.table(table), tuple(numbers)), token_ids=tuple(ids))


def _contract() -> Contract:
    engines = {"mine": {"engine": "llamacpp"}, "other": {"engine": "llamacpp"}}
    gate = {"id": "kl", "metric": "kl_divergence", "at_most": 1e-4, "basis": "two float32 engines of one model"}
    return Contract.model_validate(
        {
            "contract": "release", "about": "Every file that is published, against its reference.",
            "reference": {"engine": "transformers"}, "candidates": engines,
            "models": {"qwen": {"original": "m"}}, "suites": ["s"],
            "bands": [{"match": 1e-4, "wrong": 1e-2, "basis": "two float32 engines of one model"}],
            "gates": [{**gate, "if_fails": ["look at the rotation of queries"]}],
        }
    )  # fmt: skip


def _facts() -> dict[str, Any]:
    engine = {"engine": "llamacpp", "options": {"threads": 2}, "environment": [], "versions": {"b": "1"}, "details": {}}
    return {
        "run_id": "20260131T120000.000000Z-0123abcd", "made_at": "2026-01-31T12:00:00+00:00",
        "pins": {"models": {"qwen": {"original": {"path": "m", "files": {}, "sha256": "0" * 64}}}, "suites": {"s": "1" * 64}},
        "engines": {"reference": {**engine, "engine": "transformers"}, "mine": engine, "other": engine},
        "versions": {"logitproof": "0", "python": "3"}, "host": {"machine": "x86_64", "system": "Linux", "cores": 2},
        "commands": ["logitproof check parity.yaml"], "jobs": 1, "seconds": 1.0, "preflight": {"pairs": []},
        "reference_error": [],
    }  # fmt: skip
