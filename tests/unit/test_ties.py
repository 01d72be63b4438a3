"""Metrics as people ask for them: outside ties, shares of prompts and of tokens, one logit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from logitproof.comparison.compare import compare
from logitproof.metrics.greedy_prompts_10 import GreedyPrompts10
from logitproof.metrics.greedy_tokens_10 import GreedyTokens10
from logitproof.metrics.logit import Logit

BASIS = "a reason of more than ten letters"
BAND = [{"match": 0.5, "wrong": 50.0, "basis": BASIS}]


def rows(*values: list[float]) -> np.ndarray:
    return np.array(values, np.float32)


def measured(reference: np.ndarray, candidate: np.ndarray) -> dict[str, float]:
    found = compare(reference, candidate, labels=np.full(len(reference), -1)).metrics
    return {name: float(values[0]) for name, values in found.items()}


def test_a_set_that_is_the_same_in_another_order_is_the_same() -> None:
    found = measured(rows([9, 8, 7, 6, 5, 0, 0.5]), rows([5, 6, 7, 8, 9, 0, 0.5]))
    assert (found["top5_set"], found["top5_set_regret"], found["top5_set_outside_ties"], found["top1"]) == (1, 0, 1, 0)


@pytest.mark.parametrize(("sixth", "regret"), [(4.75, 0.25), (5.0, 0.0), (1.0, 4.0)])
def test_the_regret_of_a_set_is_what_its_edge_is_apart_in_the_reference(sixth: float, regret: float) -> None:
    reference = rows([9, 8, 7, 6, 5, sixth, 0, 0])
    candidate = rows([9, 8, 7, 6, 0, 5, 0, 0])
    found = measured(reference, candidate)
    assert found["top5_set"] == 0 and found["top5_set_regret"] == pytest.approx(regret)
    assert found["top5_set_outside_ties"] == float(regret == 0)


def test_a_token_from_far_below_has_an_infinite_regret() -> None:
    reference = rows(list(np.arange(30.0)))
    candidate = reference.copy()
    candidate[0, 3] = 100
    assert measured(reference, candidate)["top5_set_regret"] == np.inf


def test_the_verdict_lets_pass_what_the_band_calls_a_tie_and_says_how_often_strict_fails(project: Any) -> None:
    """The toy's rows are some logits apart; noise of a tenth flips only what is nearly equal."""
    gates = [
        {"id": name, "metric": name, "statistic": "min", "at_least": 1.0, "basis": BASIS}
        for name in ("top1_outside_ties", "top5_set_outside_ties", "top5_set")
    ]
    project.suite("suite.yaml", "a prompt of some length " * 4, "and another one of them " * 4)
    report = project.check(candidates={"near": project.toy(noise=0.15)}, bands=BAND, gates=gates)
    top1, lenient, strict = report.verdict.gates
    assert (top1.status, lenient.status, strict.status) == ("PASS", "PASS", "FAIL")
    wrong = sum(int((row.comparison.metrics["top5_set"] == 0).sum()) for found in report.compared.values() for row in found)
    assert lenient.ties == wrong > 0 and f"{wrong} positions fail by a tie alone" in lenient.where
    assert strict.ties is None


def test_what_is_no_tie_fails_outside_ties_too(project: Any) -> None:
    gate = {"id": "top1", "metric": "top1_outside_ties", "statistic": "min", "at_least": 1.0, "basis": BASIS}
    tight = [{"match": 1e-6, "wrong": 50.0, "basis": BASIS}]
    report = project.check(candidates={"far": project.toy(noise=3.0)}, bands=tight, gates=[gate])
    assert report.verdict.gates[0].status == "FAIL"


def test_a_share_of_prompts_is_not_a_share_of_tokens() -> None:
    ours, theirs = list(range(12)), [0, 1, 2, 3, 99, 5, 6, 7, 8, 9, 10, 11]
    assert (GreedyPrompts10().compute(ours, theirs), GreedyTokens10().compute(ours, theirs)) == (0.0, 0.4)
    assert (GreedyPrompts10().compute(ours, ours), GreedyTokens10().compute(ours, ours)) == (1.0, 1.0)
    assert np.isnan(GreedyTokens10().compute([1, 2], [1, 2]))


def test_one_logit_is_compared_as_it_is_written() -> None:
    reference, candidate = rows([1, 2, 3]), rows([1.5, 2, 30])
    assert measured(reference, candidate)["logit"] == 0.5
    assert Logit(2).compute_rows(reference, candidate).tolist() == [27.0]
    assert np.isnan(Logit(3).compute_rows(reference, candidate)).all()
