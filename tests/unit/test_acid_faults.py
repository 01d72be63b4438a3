"""Every row of the acid test that needs no reference fails for the fault that it claims to see, and for no right engine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from logitproof.acid import consistency
from logitproof.acid.consistency import PREFIX, consistency_rows
from logitproof.acid.probe import Probe, open_probes
from logitproof.acid.sampling import CHECK, allowed, apart, counting, place, repeated, sampling_row
from logitproof.protocol.sampler import Sampling, penalized, probabilities

PROBE = open_probes(["qwen3"])[0]
RANDOM = np.random.default_rng(4)
INPUT, OUTPUT = RANDOM.normal(size=(PROBE.vocab_size, 24)), RANDOM.normal(size=(24, PROBE.vocab_size)) * 0.5
STEP = RANDOM.normal(size=(24, 24)) * 0.04
KNOWN = {
    case.token_ids[: position + 1]: case.expected[row].astype(np.float64)
    for case in PROBE.cases
    for row, position in enumerate(case.positions)
}


def model(ids: Sequence[int]) -> np.ndarray:
    """Rows of a causal toy, float64 [T, V]; those of the probe where it has them, so that draws can be held against it."""
    rows, state = [], np.zeros(24)
    for at, token in enumerate(ids):
        state = np.tanh(STEP @ state + INPUT[token])
        rows.append(KNOWN.get(tuple(ids[: at + 1]), state @ OUTPUT))
    return np.array(rows)


class Faulty:
    """An engine in this process with one fault, in the place of a `Subject`."""

    def __init__(self, fault: str = "", options: dict[str, Any] | None = None) -> None:
        self.fault, self.weights = fault, "folder"
        self.spec = SimpleNamespace(options=options or {}, engine="toy")
        self.last: tuple[tuple[int, ...], np.ndarray] = ((), np.empty((0, PROBE.vocab_size)))

    def __enter__(self) -> Faulty:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def hello(self) -> Any:
        return SimpleNamespace(modes=["prefill", "decode"], generate=True, sample=True, tokenize=False)

    def load(self, probe: Probe) -> Any:
        return None

    def precision(self, loaded: Any, probe: Any = None) -> str:
        return "float32"

    def score(self, token_ids: Sequence[int], mode: str) -> np.ndarray:
        ids, rows = tuple(token_ids), model(token_ids)
        if self.fault == "decode reads a stale slot" and mode == "decode" and len(ids) > 5:
            rows[5:] = model([*ids[:4], ids[4] + 1, *ids[5:]])[5:]
        if self.fault == "the state of the sequence before is kept" and self.last[0]:
            rows[0] += 0.1 * self.last[1][-1]
        if self.fault.startswith("stale rows of a shared prefix"):
            block = int(self.fault.rpartition(" ")[2])
            shared = next((at for at, pair in enumerate(zip(ids, self.last[0], strict=False)) if pair[0] != pair[1]), None)
            shared = min(len(ids), len(self.last[0])) if shared is None else shared
            if (kept := shared // block * block) and ids != self.last[0]:
                rows[:kept] = self.last[1][-kept:]
        if (self.fault, bool(self.spec.options)) == ("wrong with an option", True):
            rows[-1] = rows[-2]
        self.last = (ids, rows)
        return rows.astype(np.float32)

    def generate(self, token_ids: Sequence[int], count: int) -> tuple[list[int], np.ndarray]:
        ids, rows = list(token_ids), []
        for _ in range(count):
            rows.append(model(ids)[-1])
            ids.append(int(np.argmax(rows[-1])))
        made = np.array(rows)
        if self.fault == "the first generated row is the one before" or (self.fault, bool(self.spec.options)) == (
            "wrong with an option",
            True,
        ):
            made[0] = model(token_ids)[-2]
        return ids[len(token_ids) :], made

    def sample(self, token_ids: Sequence[int], count: int, setting: Sampling) -> list[list[int]]:
        logits = model(token_ids)[-1]
        shares = probabilities(logits, token_ids, setting)
        if self.fault == "the repetition penalty counts occurrences":
            shares = counting(logits, token_ids, setting)
        if self.fault == "the repetition penalty is ignored":
            shares = probabilities(logits, (), setting)
        if self.fault == "the temperature is ignored":
            shares = probabilities(logits, token_ids, Sampling(**{**vars_of(setting), "temperature": 1.0}))
        random = np.random.default_rng(setting.seed)
        return [[int(token)] for token in random.choice(len(shares), count, p=shares / shares.sum())]


def vars_of(setting: Sampling) -> dict[str, Any]:
    return {name: getattr(setting, name) for name in setting.__dataclass_fields__}


def statuses(fault: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The status of every row, by its name."""
    monkeypatch.setattr(consistency, "Subject", lambda spec, scratch, weights: Faulty(fault, spec.options))
    monkeypatch.setattr(consistency, "replace", lambda spec, **changed: SimpleNamespace(engine="toy", **changed))
    names = [name for choices in consistency.VARIANTS.values() for name in choices[0]]
    entry = SimpleNamespace(name="toy", option_names=names)
    subject: Any = Faulty(fault)
    rows = [*consistency_rows(subject, [PROBE], None, entry, Path("unused"))]  # type: ignore[arg-type]
    return {row.check: row.status for row in [*rows, sampling_row(subject, [PROBE])]}


SEEN = {
    "decode reads a stale slot": {"decode = prefill"},
    "the state of the sequence before is kept": {"twice = once", PREFIX},
    **{f"stale rows of a shared prefix, blocks of {block}": {PREFIX} for block in (1, 4, 16, 32)},
    "the first generated row is the one before": {"generated = scored"},
    "wrong with an option": set(consistency.VARIANTS),
    "the repetition penalty counts occurrences": {CHECK},
    "the repetition penalty is ignored": {CHECK},
    "the temperature is ignored": {CHECK},
}
"""Which rows must fail for a fault, at least."""


def test_a_right_engine_passes_every_row(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(statuses("", monkeypatch).values()) == {"PASS"}


@pytest.mark.parametrize("fault", SEEN)
def test_the_row_that_claims_to_see_a_fault_fails_for_it(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = statuses(fault, monkeypatch)
    assert {name for name in SEEN[fault] if found[name] == "FAIL"} == SEEN[fault]


def test_every_row_is_seen_failing() -> None:
    rows = {*consistency.IN_ONE, *consistency.VARIANTS, CHECK}
    assert set().union(*SEEN.values()) == rows


def test_a_context_is_found_in_which_counting_occurrences_is_loud() -> None:
    subject: Any = Faulty()
    found = repeated(subject, place(PROBE)[0])
    assert len(found) == 2
    context, logits, _ = found[0]
    likely = {int(token) for token in np.argsort(-logits)[:8]}
    assert any(count > 1 for token, count in Counter(context).items() if token in likely)


def test_counting_applies_the_penalty_once_an_occurrence() -> None:
    setting = Sampling(repetition_penalty=2.0)
    logits = np.array([4.0, 1.0, -1.0])
    twice = penalized(penalized(logits, [0], 2.0), [0, 2], 2.0)
    assert np.allclose(counting(logits, [0, 0, 2], setting), probabilities(twice, (), Sampling()))
    right = probabilities(logits, [0, 0, 2], setting)
    assert apart(right, counting(logits, [0, 0, 2], setting)) > 0.1 and allowed(right) > 0
