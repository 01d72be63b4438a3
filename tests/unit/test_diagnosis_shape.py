"""What no known bug explains is described by its shape, each line with its evidence, and nothing is seen where nothing is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from logitproof.contract.arithmetic import Arithmetic
from logitproof.diagnosis.difference import Difference
from logitproof.diagnosis.found import Diagnosis, Mutant
from logitproof.diagnosis.of_run import _refuse_what_was_not_measured
from logitproof.diagnosis.shape import shape_of
from logitproof.diagnosis.text import exit_code, sentence
from logitproof.errors import ContractError

T, V, E = 48, 96, 8
LIMIT = 1e-4
RNG = np.random.default_rng(5)
HEAD = RNG.normal(size=(V, E))
IDS = [RNG.integers(0, 50, T) for _ in range(2)]
IDS[0][17], IDS[1][29] = 77, 77
RIGHT = [RNG.normal(size=(T, E)) @ HEAD.T for _ in IDS]
Change = Callable[[np.ndarray, int], np.ndarray]


def kinds(change: Change, other: tuple[np.ndarray, ...] = ()) -> dict[str, Any]:
    """What is seen of the rows that `change` makes of the right ones, by kind."""
    candidate = tuple(change(rows.copy(), number) for number, rows in enumerate(RIGHT))
    ids = tuple(tuple(int(token) for token in row) for row in IDS)
    difference = Difference(ids, tuple(RIGHT), candidate, "decode" if other else "prefill", LIMIT, other, HEAD)
    return {finding.kind: finding.evidence for finding in shape_of(difference)}


def texts(change: Change) -> dict[str, str]:
    """The sentences of the same."""
    candidate = tuple(change(rows.copy(), number) for number, rows in enumerate(RIGHT))
    ids = tuple(tuple(int(token) for token in row) for row in IDS)
    difference = Difference(ids, tuple(RIGHT), candidate, "prefill", LIMIT, (), HEAD)
    return {finding.kind: finding.text for finding in shape_of(difference)}


def hidden(rows: np.ndarray, places: Any, size: float = 0.3) -> np.ndarray:
    """The rows with another hidden state at some positions, which the head turns into logits as it should."""
    rows[places] += np.random.default_rng(3).normal(size=(len(rows), E))[places] * size @ HEAD.T
    return rows


def softmax(rows: np.ndarray) -> np.ndarray:
    exp = np.exp(rows - rows.max(axis=1, keepdims=True))
    return np.asarray(exp / exp.sum(axis=1, keepdims=True))


def from_token(rows: np.ndarray, number: int) -> np.ndarray:
    return hidden(rows, slice(int(np.argmax(IDS[number] == 77)), None))


def growing(rows: np.ndarray, _: int) -> np.ndarray:
    return rows + 0.01 * np.arange(T)[:, None] ** 1.5 * (np.random.default_rng(3).normal(size=E) @ HEAD.T)


INTERLEAVED = np.arange(V).reshape(8, V // 8).T.ravel()
BLOCKS = np.concatenate([np.arange(V).reshape(-1, 8)[block] for block in (3, 0, 7, 1, 11, 9, 2, 10, 4, 6, 5, 8)])
ADDED = np.r_[np.arange(40), np.full(3, 40), np.arange(40, V - 3)]
ORDERS = {
    "shifted by 3 ids": np.roll(np.arange(V), 3),
    "shifted by -7 ids": np.roll(np.arange(V), -7),
    "in reverse": np.arange(V)[::-1],
    "shifted by 40 ids": np.r_[56:V, 0:56],
    "moved in 4 runs": np.r_[0:20, 60:V, 20:60][np.r_[20:40, 0:20, 40:V]],
    "interleaved": INTERLEAVED,
    "in 12 blocks of 8 ids": BLOCKS,
    "stand elsewhere": np.random.default_rng(8).permutation(V),
    "moved in 2 runs: ids 0 to 0 hold those of 1 to 1; ids 1 to 1 hold those of 0 to 0": np.r_[1, 0, 2:V],
}


@pytest.mark.parametrize("noise", [0.0, 2e-5])
@pytest.mark.parametrize(("words", "order"), ORDERS.items())
def test_any_order_of_the_vocabulary_is_seen_and_said_in_few_words(words: str, order: np.ndarray, noise: float) -> None:
    random = np.random.default_rng(4)
    text = texts(lambda rows, _: rows[:, order] + random.normal(0, noise, rows.shape))["permutation"]
    assert words in text
    assert words in texts(lambda rows, _: rows[:, order] - np.arange(T)[:, None])["permutation"]


def test_tokens_that_were_added_move_the_others() -> None:
    added = np.isin(np.arange(V), [40, 41, 42])
    change = texts(lambda rows, _: np.where(added, -9.0, rows[:, ADDED]))["permutation"]
    assert "ids 43 to 95 hold those of 40 to 92" in change and "3 ids have logits of their own" in change


def test_rows_that_were_sorted_are_seen() -> None:
    assert "from the largest down" in texts(lambda rows, _: np.sort(rows, axis=1)[:, ::-1])["sorted"]
    assert "from the smallest up" in texts(lambda rows, _: np.sort(rows, axis=1))["sorted"]
    random = np.random.default_rng(4)
    mixed = texts(lambda rows, _: random.permuted(rows, axis=1))
    assert "in another order" in mixed["reordered by row"] and "permutation" not in mixed


@pytest.mark.parametrize(
    "change", [lambda rows, _: rows * 1.5, lambda rows, _: rows + 1.0, lambda rows, _: np.zeros_like(rows)]
)
def test_no_order_is_seen_where_logits_are_others(change: Change) -> None:
    assert not {"permutation", "sorted", "reordered by row"} & set(texts(change))


@pytest.mark.parametrize(
    ("kind", "change", "evidence"),
    [
        ("probabilities", lambda rows, _: softmax(rows), {}),
        ("scale", lambda rows, _: rows * 1.25, {"factor": 1.25}),
        ("scale by row", lambda rows, _: rows * np.linspace(1, 2, T)[:, None], {}),
        ("function of a logit", lambda rows, _: 6 * np.tanh(rows / 6), {"cap": 6.0}),
        ("permutation", lambda rows, _: np.roll(rows, 3, axis=1), {"moved": V}),
        ("permutation", lambda rows, _: rows[:, [1, 0, *range(2, V)]], {"moved": 2}),
        ("certain ids", lambda rows, _: np.where(np.arange(V) == 9, 0.0, rows), {"ids": [9]}),
        ("same vector", lambda rows, _: rows + np.sin(np.arange(V)), {}),
        ("rank one", growing, {}),
        ("grows with position", growing, {}),
        ("outside the head's span", lambda rows, _: rows + np.random.default_rng(3).normal(size=rows.shape), {}),
        ("before the head", lambda rows, _: hidden(rows, slice(None)), {}),
        ("from a position", lambda rows, _: hidden(rows, slice(12, None)), {"position": 12}),
        ("every n-th position", lambda rows, _: hidden(rows, slice(8, None, 8)), {"period": 8, "first": 0}),
        ("few positions", lambda rows, _: hidden(rows, [5, 31]), {"positions": [[5, 31], [5, 31]]}),
        ("certain tokens", from_token, {"token_ids": [77], "positions": [17, 29]}),
    ],
)
def test_the_shape_is_seen_with_its_evidence(kind: str, change: Change, evidence: dict[str, Any]) -> None:
    seen = kinds(change)
    assert kind in seen
    for name, value in evidence.items():
        assert np.allclose(seen[kind][name], value, rtol=0.02)


def test_a_fault_of_decode_alone_is_told_by_the_right_prefill() -> None:
    assert "only decode" in kinds(lambda rows, _: hidden(rows, slice(1, None)), tuple(RIGHT))
    assert "only decode" not in kinds(lambda rows, _: rows * 1.2, tuple(rows * 1.2 for rows in RIGHT))


def test_nothing_is_seen_in_a_difference_without_a_shape() -> None:
    seen = kinds(lambda rows, number: rows + np.random.default_rng(number).normal(size=rows.shape))
    assert set(seen) == {"outside the head's span"}


def test_mutants_as_far_as_the_reference_are_no_suspects() -> None:
    near = (Mutant("a", {}, 0.97), Mutant("b", {}, 0.98))
    assert "none comes nearer than the plain reference" in sentence(Diagnosis("unexplained", 1.0, 1e-5, near))
    assert "nearest: a 0.3" in sentence(Diagnosis("unexplained", 1.0, 1e-5, (Mutant("a", {}, 0.3), near[1])))


def test_what_is_below_bfloat16s_noise_is_not_the_same_model() -> None:
    found = Diagnosis("below noise", 0.01, 0.013, source="bfloat16")
    assert "below what bfloat16 would make" in sentence(found) and "same" not in sentence(found)
    assert exit_code({"cell": found}) == 3


def test_a_bug_that_leaves_more_than_noise_is_told_with_its_remainder() -> None:
    found = Diagnosis("partly", 1.0, 1e-5, (Mutant("a", {}, 0.01),), 1)
    assert "0.01 logits remain" in sentence(found) and exit_code({"cell": found}) == 3


def test_a_fitted_value_is_told_with_its_uncertainty() -> None:
    assert str(Mutant("rope.base", {"base": 10060.0}, 0.1, {"base": 71.3})) == "rope.base (base = 10,060 ± 71)"


@pytest.mark.parametrize("status", ["SET-UP ERROR", "ENGINE ERROR"])
def test_a_run_in_which_nothing_was_measured_is_no_same(status: str) -> None:
    cell = SimpleNamespace(status=status, cell=SimpleNamespace(id="a/b/original/prefill", mode="prefill"))
    with pytest.raises(ContractError, match="1 of 1 cells were not measured"):
        _refuse_what_was_not_measured(Path("run"), [cell])  # type: ignore[list-item]


def test_cells_that_match_need_no_explanation_and_wrong_text_is_not_passed_over() -> None:
    fine = SimpleNamespace(status="MATCH", cell=SimpleNamespace(id="a", mode="prefill"))
    _refuse_what_was_not_measured(Path("run"), [fine])  # type: ignore[list-item]
    greedy = SimpleNamespace(status="WRONG", cell=SimpleNamespace(id="b", mode="greedy"))
    with pytest.raises(ContractError, match="b is WRONG"):
        _refuse_what_was_not_measured(Path("run"), [fine, greedy])  # type: ignore[list-item]


def test_the_narrowest_type_of_an_arithmetic_says_its_bits() -> None:
    assert Arithmetic().bits == 24 and Arithmetic(cache="f16").bits == 11 and Arithmetic(base="bfloat16").bits == 8


def penalized(change: Callable[[np.ndarray], np.ndarray]) -> Change:
    """Rows whose logits of tokens that have come before are changed."""

    def penalize(rows: np.ndarray, number: int) -> np.ndarray:
        for position, row in enumerate(rows):
            came = sorted(set(IDS[number][: position + 1].tolist()))
            row[came] = change(row[came])
        return rows

    return penalize


@pytest.mark.parametrize(
    ("change", "how"),
    [
        (lambda logits: logits - 0.7, "by -0.7 each"),
        (lambda logits: np.where(logits > 0, logits / 1.25, logits * 1.25), "positive ones times 0.8"),
        (lambda logits: np.sin(logits), "by numbers of their own"),
    ],
)
def test_logits_of_tokens_that_have_come_before_are_seen(change: Callable[[np.ndarray], np.ndarray], how: str) -> None:
    said = texts(penalized(change))["tokens that came"]
    assert how in said and "penalty" in said


def test_tokens_that_came_are_no_cause_where_others_differ_as_well() -> None:
    penalize = penalized(lambda logits: logits - 0.7)
    assert "tokens that came" not in kinds(lambda rows, number: hidden(penalize(rows, number), slice(9, None)))
    assert "tokens that came" not in kinds(lambda rows, number: rows + 3.0), "a number that all logits share is nothing"
