"""`assert_parity`: what it measures, what its failure says, and that nothing, NaN and misfits never pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from logitproof import ContractError, Trace, capture
from logitproof.parity import MAX_KL, assert_parity

T, V = 6, 40


@pytest.fixture
def logits() -> np.ndarray:
    return np.random.default_rng(7).normal(size=(T, V)).astype(np.float32) * 3


def swapped(logits: np.ndarray, position: int) -> np.ndarray:
    wrong = logits.copy()
    wrong[position] = np.roll(wrong[position], 1)
    return wrong


def trace(logits: np.ndarray, token_ids: list[int] | None = None, kind: Any = "score") -> Trace:
    return Trace("key", kind, "engine", "prefill", token_ids or list(range(T)), 3, logits)


def test_rounding_passes_and_the_numbers_come_back(logits: np.ndarray) -> None:
    noise = np.random.default_rng(1).normal(size=logits.shape) * 1e-5
    measured = assert_parity(logits, logits + noise)
    assert measured.positions == T and measured.flips == 0
    assert 0 < measured.kl_divergence < MAX_KL and 0 < measured.rms_delta_logit < 1e-4


def test_a_shift_of_all_logits_is_no_difference(logits: np.ndarray) -> None:
    assert assert_parity(logits, logits.astype(np.float64) + 5).kl_divergence == pytest.approx(0, abs=1e-12)


def test_the_failure_says_observed_allowed_where_and_the_top_five_of_both(logits: np.ndarray) -> None:
    with pytest.raises(AssertionError) as caught:
        assert_parity(logits, swapped(logits, 4))
    text = str(caught.value)
    assert "1 of 6 positions are out of bounds" in text
    assert "at position 4, allowed 1e-06" in text and "worst at position 4, first at position 4" in text
    top = [line.split() for line in text.splitlines()[-5:]]
    order = np.argsort(-logits[4])[:5]
    assert [int(row[0]) for row in top] == list(order)
    assert [int(row[2]) for row in top] == [(token + 1) % V for token in order]


def test_tokens_that_nobody_expects_count_too(logits: np.ndarray) -> None:
    reference = logits.copy()
    reference[:, 0] += 60  # all the mass
    wrong = reference.copy()
    wrong[2, 1:] = reference[2, :0:-1]
    with pytest.raises(AssertionError, match=r"rms_delta_logit  observed \S+ logits at position 2"):
        assert_parity(reference, wrong)


def test_a_flip_inside_a_tie_passes_and_beyond_it_fails() -> None:
    tie = np.zeros((1, 50))
    tie[0, :2] = 5.0, 5.0 - 1e-4
    other = tie.copy()
    other[0, :2] = 5.0 - 1e-4, 5.0
    assert assert_parity(tie, other).flips == 0
    wide = np.zeros((1, 50))
    wide[0, :2] = 5.0, 4.9
    flipped = wide.copy()
    flipped[0, :2] = 4.9, 5.0
    loose = {"max_kl": 1.0, "max_rms_delta_logit": 0.02, "basis": "a test of flips alone"}
    with pytest.raises(AssertionError, match="observed 1 flips, allowed 0"):
        assert_parity(wide, flipped, **loose)


def _with(logits: np.ndarray, value: float) -> np.ndarray:
    bad = logits.copy()
    bad[3, 5] = value
    return bad


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda a: (a, _with(a, np.nan)), "NaN or an infinity, the first at position 3 in the candidate"),
        (lambda a: (_with(a, np.nan), _with(a, np.nan)), "the first at position 3 in the reference"),
        (lambda a: (a, _with(a, np.inf)), "the first at position 3"),
        (lambda a: (a, _with(a, -np.inf)), "the first at position 3"),
        (lambda a: (a, np.full_like(a, -np.inf)), "6 of 6 positions"),
        (lambda a: (a, a[:-1].copy()), r"the candidate has the shape \[5, 40\], the reference \[6, 40\]"),
        (lambda a: (a, a[:, :-1].copy()), r"shape \[6, 39\]"),
        (lambda a: (a[:0], a[:0].copy()), r"shape \[0, 40\]"),
        (lambda a: (a[:, :0], a[:, :0].copy()), r"shape \[6, 0\]"),
        (lambda a: (a[0], a[0].copy()), r"shape \[40\]"),
        (lambda a: (a[None], a[None].copy()), r"shape \[1, 6, 40\]"),
        (lambda a: (a[:, :1], a[:, :1].copy()), "one distribution only"),
        (lambda a: ([], []), r"shape \[0\]"),
        (lambda a: (a, a), "the same memory"),
        (lambda a: (a, a[:]), "the same memory"),
        (lambda a: (a * 0, a * 0), "the same logit at position 0"),
        (lambda a: (a, a.astype(str)), "holds <U"),
        (lambda a: (trace(a), trace(a.copy(), [0, 1, 9, 3, 4, 5])), "different tokens.*index 2"),
    ],
)
def test_what_cannot_be_compared_never_passes(logits: np.ndarray, change: Any, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        assert_parity(*change(logits))


@pytest.mark.parametrize("name", ["max_kl", "max_rms_delta_logit", "max_flips"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 0.5])
def test_a_bound_bounds_and_a_looser_one_has_a_reason(logits: np.ndarray, name: str, value: float) -> None:
    with pytest.raises(ContractError, match=name):
        assert_parity(logits, logits.copy(), **{name: value})
    if value == 0.5:
        assert_parity(logits, logits.copy(), **{name: value}, basis="eight-bit weights")


def test_traces_are_compared_and_free_running_ones_refused(logits: np.ndarray) -> None:
    assert assert_parity(trace(logits), trace(logits.copy())).positions == T
    with pytest.raises(ContractError, match="free-running"):
        assert_parity(trace(logits), trace(logits.copy(), kind="generate"))


def test_captures_are_compared_prompt_by_prompt(tmp_path: Path) -> None:
    model, suite = tmp_path / "toy.json", tmp_path / "suite.yaml"
    model.write_text('{"vocab_size": 300, "seed": 1}')
    suite.write_text("suite: s\nmax_new_tokens: 3\nprompts: [{id: a, text: hello}, {id: b, text: other words}]\n")
    for name, options in (("one", {}), ("two", {"noise": 1e-6}), ("bad", {"noise": 0.1})):
        given = None if name == "one" else tmp_path / "one"
        capture("toy", model, str(suite), tmp_path / name, options=options, tokens_from=given)
    assert [name for name, _ in assert_parity(tmp_path / "one", tmp_path / "two").comparisons] == ["a", "b"]
    with pytest.raises(AssertionError, match="worst at prompt [ab], position [0-9]+, first at prompt a, position 0"):
        assert_parity(tmp_path / "one", str(tmp_path / "bad"))
    with pytest.raises(ContractError, match="proves nothing"):
        assert_parity(tmp_path / "one", tmp_path / "one")
    with pytest.raises(ContractError, match="is no capture"):
        assert_parity(tmp_path / "one", tmp_path)
