"""Bounds of KL from top-k values: the true divergence lies between them, whatever the rows are."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from logitproof.errors import ContractError
from logitproof.golden.compare import compare_dumps
from logitproof.rows.bounds import Floor, bound_kl, known_logits, known_top
from logitproof.traces.dump import Dump, DumpedPrompt, TopK

VOCAB = 24


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max()
    return shifted - math.log(np.exp(shifted).sum())


def divergence(z_r: np.ndarray, z_t: np.ndarray) -> float:
    log_p, log_q = log_softmax(z_r), log_softmax(z_t)
    return float(np.sum(np.exp(log_p) * (log_p - log_q)))


def top(logits: np.ndarray, k: int, *, normalized: bool = True, hidden: int | None = -1):
    values = log_softmax(logits) if normalized else logits
    ids = np.argsort(-logits, kind="stable")[:k]
    return known_top(ids, values[ids], hidden=len(logits) - k if hidden == -1 else hidden, normalized=normalized)


cases = st.tuples(
    st.integers(0, 2**32 - 1), st.floats(0.0, 6.0), st.floats(0.0, 8.0), st.integers(1, VOCAB), st.integers(1, VOCAB)
)


def rows(seed: int, spread: float, noise: float) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    z_r = spread * random.normal(size=VOCAB)
    return z_r, z_r + noise * random.normal(size=VOCAB)


@settings(max_examples=400, deadline=None)
@given(cases)
@example((9, 3.0, 1.0, 3, 6))  # all three known logits are above 0
def test_the_true_divergence_lies_between_the_bounds(case: tuple[int, float, float, int, int]) -> None:
    seed, spread, noise, k_r, k_t = case
    z_r, z_t = rows(seed, spread, noise)
    true = divergence(z_r, z_t)
    floor = Floor(float(log_softmax(z_t).min()), "the least of the very row")
    for reference, candidate in (
        (top(z_r, k_r), top(z_t, k_t)),
        (top(z_r, k_r), known_logits(z_t)),
        (known_logits(z_r), top(z_t, k_t)),
        (top(z_r, k_r, hidden=None), top(z_t, k_t, hidden=None)),
        (top(z_r, k_r, normalized=False), top(z_t, k_t, normalized=False)),
        (top(z_r, k_r), top(z_t, k_t, normalized=False)),
    ):
        for assumed in (None, floor):
            bounds = bound_kl(reference, candidate, assumed)
            assert bounds.lower <= true + 1e-9
            assert bounds.upper >= true - 1e-9
            assert bounds.lower <= bounds.upper


@settings(max_examples=200, deadline=None)
@given(cases, st.floats(1e-7, 1e-2))
def test_the_bounds_hold_for_rounded_values_too(case: tuple[int, float, float, int, int], step: float) -> None:
    seed, spread, noise, k_r, k_t = case
    z_r, z_t = rows(seed, spread, noise)
    true = divergence(z_r, z_t)
    rounded = []
    for logits, k in ((z_r, k_r), (z_t, k_t)):
        ids = np.argsort(-logits, kind="stable")[:k]
        values = np.rint(log_softmax(logits)[ids] / step) * step
        rounded.append(known_top(ids, values, hidden=VOCAB - k, slack=step / 2))
    bounds = bound_kl(*rounded)
    assert bounds.lower <= true + 1e-9
    against_whole = bound_kl(rounded[0], known_logits(z_t))
    assert against_whole.lower <= true + 1e-9
    assert against_whole.upper >= true - 1e-9


@settings(max_examples=100, deadline=None)
@example((4544, 4.0, 5.0, 20, 12))
@given(cases)
def test_the_lower_bound_is_never_worse_than_a_tail_bucket(case: tuple[int, float, float, int, int]) -> None:
    seed, spread, noise, k_r, k_t = case
    z_r, z_t = rows(seed, spread, noise)
    log_p, log_q = log_softmax(z_r), log_softmax(z_t)
    both = np.intersect1d(np.argsort(-z_r, kind="stable")[:k_r], np.argsort(-z_t, kind="stable")[:k_t])
    p, q = np.exp(log_p[both]), np.exp(log_q[both])
    p_tail, q_tail = max(1 - p.sum(), 0.0), max(1 - q.sum(), 1e-14)
    bucket = float(np.sum(p * np.log(p / q))) + (p_tail * math.log(p_tail / q_tail) if p_tail > 1e-12 else 0.0)
    # a tail of 1e-11 that is known to 2e-14 says that much less of the bucket, whoever calculates it
    blur = p_tail * top(z_t, k_t).tail_error / q_tail
    assert bound_kl(top(z_r, k_r), top(z_t, k_t)).lower >= bucket - 1e-6 * (1 + abs(bucket)) - 2 * blur


def test_whole_rows_give_the_exact_number() -> None:
    z_r, z_t = rows(3, 3.0, 1.0)
    bounds = bound_kl(known_logits(z_r), known_logits(z_t))
    assert bounds.lower == bounds.upper == pytest.approx(divergence(z_r, z_t), rel=1e-12)
    assert bounds.basis.startswith("exact")


def test_without_an_assumption_the_upper_bound_is_said_to_be_unbounded() -> None:
    z_r, z_t = rows(3, 3.0, 1.0)
    bounds = bound_kl(top(z_r, 8), top(z_t, 8))
    assert bounds.upper == math.inf
    assert "unbounded" in bounds.basis
    assumed = bound_kl(top(z_r, 8), top(z_t, 8), Floor(-30.0, "float32 logits of this model span 25 nats"))
    assert assumed.upper < math.inf
    assert "span 25 nats" in assumed.basis


def test_a_token_that_the_candidate_does_not_name_is_seen_in_the_lower_bound() -> None:
    """Half of the reference's mass lies where the candidate's flat tail cannot put it: the cap shows that."""
    reference = np.full(1000, -12.0)
    reference[[0, 900]] = 0.0
    candidate = np.full(1000, 0.0)
    candidate[:3] = [4.0, 3.0, 2.0]
    assert bound_kl(top(reference, 4), top(candidate, 4)).lower > 1.0


@pytest.mark.parametrize(("value", "reason"), [(0.5, "x"), (math.nan, "x"), (-math.inf, "x"), (-30.0, "")])
def test_an_assumption_needs_sense_and_a_reason(value: float, reason: str) -> None:
    with pytest.raises(ContractError, match="floor"):
        Floor(value, reason)


def dumped(logits: np.ndarray, k: int | None = None, tokens: list[int] | None = None) -> Dump:
    tokens = tokens or list(range(len(logits)))
    positions = np.arange(len(logits))
    if k is None:
        return Dump((DumpedPrompt("a", tokens, 1, positions, logits),), VOCAB, format="x")
    ids = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    values = np.take_along_axis(np.stack([log_softmax(row) for row in logits]), ids, axis=1)
    return Dump((DumpedPrompt("a", tokens, 1, positions, top=TopK(ids, values, True)),), VOCAB, format="x")


def test_metrics_that_need_the_whole_vocabulary_are_not_measured_from_top_k() -> None:
    random = np.random.default_rng(1)
    z_r = 3 * random.normal(size=(5, VOCAB))
    z_t = z_r + 0.1 * random.normal(size=z_r.shape)
    found = compare_dumps(dumped(z_r), dumped(z_t, 8))
    assert {"kl_divergence", "kl_divergence_upper", "rms_delta_logit"} <= set(found["not_measured"])
    assert "kl_divergence_lower" in found["metrics"]
    assert "unbounded" in found["kl_basis"]
    true = np.mean([divergence(a, b) for a, b in zip(z_r, z_t, strict=True)])
    assert 0 <= found["metrics"]["kl_divergence_lower"]["mean"] <= true
    small = compare_dumps(dumped(z_r, 8), dumped(z_t))
    assert small["metrics"]["kl_divergence_lower"]["mean"] <= true <= small["metrics"]["kl_divergence_upper"]["mean"]
    whole = compare_dumps(dumped(z_r), dumped(z_t))
    assert whole["metrics"]["kl_divergence"]["mean"] == pytest.approx(true)


def test_dumps_of_other_tokens_or_positions_are_never_compared() -> None:
    logits = np.random.default_rng(0).normal(size=(3, VOCAB))
    with pytest.raises(ContractError, match="from index 2 the reference has"):
        compare_dumps(dumped(logits), dumped(logits, tokens=[0, 1, 9]))
    empty = Dump((DumpedPrompt("a", [0, 1, 2], 1, np.empty(0, np.int64), np.empty((0, VOCAB))),), VOCAB)
    with pytest.raises(ContractError, match="no position stands in both"):
        compare_dumps(dumped(logits), empty)
