"""What must hold of every metric, and the definitions of each written out."""

from __future__ import annotations

import importlib
import pkgutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logitproof import catalog, metrics
from logitproof.comparison.compare import all_metrics, compare
from logitproof.errors import ContractError
from logitproof.metrics.first_divergence import FirstDivergence
from logitproof.metrics.greedy_match import GreedyMatch
from logitproof.metrics.greedy_match_10 import GreedyMatch10
from logitproof.metrics.greedy_match_50 import GreedyMatch50
from logitproof.metrics.tie_flip import TieFlip
from logitproof.metrics.top5_overlap import Top5Overlap
from logitproof.metrics.top_k_overlap import TopKOverlap
from logitproof.rows.statistics import RowStats, row_statistics

ROWS = st.tuples(
    st.integers(0, 2**32),
    st.sampled_from([2, 7, 50, 600]),
    st.sampled_from([1e-2, 1.0, 4.0, 1e4]),
    st.sampled_from([1e-6, 0.05, 1.0, 30.0]),
)


def measured(reference: np.ndarray, candidate: np.ndarray, label: int = 0) -> dict[str, float]:
    """Every metric of one position."""
    stats = row_statistics(np.atleast_2d(reference), np.atleast_2d(candidate), np.array([label]), threads=1)
    return {name: float(metric.compute(stats)[0]) for name, metric in all_metrics().items()}


def pair(case: tuple[int, int, float, float]) -> tuple[np.ndarray, np.ndarray]:
    seed, size, spread, noise = case
    random = np.random.default_rng(seed)
    reference = random.standard_normal(size) * spread
    return reference, reference + random.standard_normal(size) * noise


@settings(deadline=None, max_examples=80)
@given(ROWS)
def test_every_metric_keeps_its_range(case: tuple[int, int, float, float]) -> None:
    found = measured(*pair(case))
    for name, metric in all_metrics().items():
        assert np.isnan(found[name]) or metric.least <= found[name] <= metric.greatest, name
    rounding = 1e-14 * max(case[2:])
    assert found["kl_divergence"] >= 0
    assert found["kl_reverse"] >= 0
    assert 0 <= found["js_divergence"] <= np.log(2)
    assert 0 <= found["total_variation"] <= 1
    assert -1 <= found["delta_p"] <= 1
    assert found["rms_delta_logit"] <= found["max_delta_logit"] + rounding
    assert found["regret"] >= 0
    assert found["margin"] >= 0
    assert (found["regret"] == 0) == (found["top1"] == 1.0)
    for name in ("top1", "top5_overlap", "top10_overlap", "top5_rank_agreement", "margin_probability"):
        assert 0 <= found[name] <= 1
    # Pinsker's inequality, and total variation bounds Jensen-Shannon from both sides.
    assert found["total_variation"] <= np.sqrt(found["kl_divergence"] / 2) + 1e-7
    assert found["js_divergence"] <= found["total_variation"] * np.log(2) + 1e-12


@settings(deadline=None, max_examples=60)
@given(ROWS)
def test_turned_round_the_symmetric_ones_stay_and_kl_swaps(case: tuple[int, int, float, float]) -> None:
    reference, candidate = pair(case)
    one, other = measured(reference, candidate), measured(candidate, reference)
    symmetric = ("js_divergence", "total_variation", "cosine", "cosine_centred", "rms_delta_logit", "max_delta_logit")
    for name in (*symmetric, "top1", "top5_overlap"):
        assert one[name] == pytest.approx(other[name], rel=1e-9, abs=1e-14)
    assert one["kl_divergence"] == pytest.approx(other["kl_reverse"], rel=1e-9, abs=1e-11)
    assert one["delta_p"] == pytest.approx(-other["delta_p"], abs=1e-14)


@settings(deadline=None, max_examples=60)
@given(ROWS, st.sampled_from([-1e4, -3.0, 0.0, 0.5, 1e4]))
def test_a_constant_shift_is_no_difference(case: tuple[int, int, float, float], shift: float) -> None:
    reference, candidate = pair(case)
    found = measured(reference, reference + shift)
    for name in ("kl_divergence", "kl_reverse", "js_divergence", "total_variation", "delta_p", "label_logprob_delta"):
        assert found[name] == pytest.approx(0.0, abs=1e-10), name
    assert found["rms_delta_logit"] == pytest.approx(0.0, abs=1e-10)
    assert found["cosine_centred"] == pytest.approx(1.0, abs=1e-9)
    plain, moved = measured(reference, candidate), measured(reference, candidate + shift)
    for name in ("rms_delta_logit", "max_delta_logit", "kl_divergence", "js_divergence"):
        assert moved[name] == pytest.approx(plain[name], rel=1e-4 if shift else 0, abs=1e-10)


@settings(deadline=None, max_examples=60)
@given(ROWS, st.sampled_from([1e-3, 0.5, 1.1, 30.0]))
def test_a_scale_is_found_and_leaves_the_direction(case: tuple[int, int, float, float], scale: float) -> None:
    reference, _ = pair(case)
    found = measured(reference, reference * scale)
    assert found["scale_fit"] == pytest.approx(scale, rel=1e-12)
    assert found["cosine"] == pytest.approx(1.0, abs=1e-12)
    assert found["cosine_centred"] == pytest.approx(1.0, abs=1e-12)
    assert found["nmse"] == pytest.approx((scale - 1) ** 2, rel=1e-9)
    assert found["top1"] == found["top5_overlap"] == found["top5_rank_agreement"] == 1.0


@pytest.mark.parametrize("size", [1, 2, 9, 4000])
def test_identical_rows_differ_in_nothing(size: int) -> None:
    row = np.random.default_rng(size).standard_normal(size).astype(np.float32)
    found = measured(row, row)
    for name in ("kl_divergence", "kl_reverse", "js_divergence", "total_variation", "delta_p", "regret"):
        assert found[name] == 0.0
    for name in ("max_delta_logit", "rms_delta_logit", "nmse", "label_logprob_delta"):
        assert found[name] == 0.0
    for name in ("top1", "top5_overlap", "top10_overlap", "top5_rank_agreement"):
        assert found[name] == 1.0


def test_every_metric_says_what_it_says_of_a_small_example() -> None:
    reference, candidate = np.log([0.5, 0.3, 0.2]), np.log([0.3, 0.5, 0.2])
    found = measured(reference, candidate, label=1)
    assert found["kl_divergence"] == pytest.approx(0.2 * np.log(5 / 3))
    assert found["total_variation"] == pytest.approx(0.2)
    m = np.array([0.4, 0.4, 0.2])
    assert found["js_divergence"] == pytest.approx(0.5 * np.log(0.5 / 0.4) + 0.3 * np.log(0.3 / 0.4))
    assert m.sum() == pytest.approx(1)
    assert found["delta_p"] == pytest.approx(0.2)
    assert found["label_logprob_delta"] == pytest.approx(np.log(5 / 3))
    assert found["regret"] == pytest.approx(np.log(5 / 3))
    assert found["margin"] == pytest.approx(np.log(5 / 3))
    assert found["margin_probability"] == pytest.approx(0.2)
    assert found["top1"] == 0.0
    assert found["top5_overlap"] == 1.0
    assert found["top5_rank_agreement"] == pytest.approx(1 / 3)


def test_overlap_counts_a_set_and_agreement_counts_ranks() -> None:
    reference = np.arange(20.0)[::-1].copy()  # best: 0 1 2 3 4 ...
    candidate = reference.copy()
    candidate[[0, 1]] = candidate[[1, 0]]
    candidate[4], candidate[12] = candidate[12], candidate[4]
    found = measured(reference, candidate)
    assert found["top5_overlap"] == pytest.approx(4 / 5)
    assert found["top10_overlap"] == pytest.approx(9 / 10)
    assert found["top5_rank_agreement"] == pytest.approx(2 / 5)
    stats = row_statistics(reference[None], candidate[None], np.array([-1]))
    assert TopKOverlap(k=1).compute(stats)[0] == 0.0
    assert TopKOverlap(k=2).compute(stats)[0] == 1.0
    assert Top5Overlap().compute(stats) == TopKOverlap(k=5).compute(stats)


@pytest.mark.parametrize("k", [0, 11])
def test_a_k_that_was_not_kept_is_refused(k: int) -> None:
    with pytest.raises(ContractError, match="k is"):
        TopKOverlap(k=k)


def test_a_name_with_its_number_has_no_option() -> None:
    assert Top5Overlap().k == 5
    assert GreedyMatch50().n == 50
    with pytest.raises(TypeError):
        Top5Overlap(k=3)  # type: ignore[call-arg]


def test_without_a_label_or_a_second_token_nothing_is_measured() -> None:
    found = measured(np.array([1.0, 2.0]), np.array([2.0, 1.0]), label=-1)
    assert np.isnan(found["delta_p"])
    assert np.isnan(found["label_logprob_delta"])
    assert np.isnan(measured(np.array([1.0]), np.array([2.0]))["margin"])
    assert np.isnan(measured(np.array([1.0, 1.0]), np.array([2.0, 1.0]))["scale_fit"])
    assert np.isnan(measured(np.array([1.0, 1.0]), np.array([2.0, 1.0]))["cosine_centred"])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_position_that_is_not_finite_has_no_metric(bad: float) -> None:
    candidate = np.array([1.0, bad, 0.5])
    for reference in (np.array([1.0, 2.0, 3.0]), np.array([bad if bad == bad else 0.0, 2.0, 3.0])):
        assert all(np.isnan(value) for name, value in measured(reference, candidate, 2).items() if name != "label"), bad


def test_rows_far_apart_stay_finite() -> None:
    found = measured(np.array([1e4, 0.0, -1e4]), np.array([-1e4, 0.0, 1e4]))
    assert found["kl_divergence"] == pytest.approx(2e4)
    assert found["js_divergence"] == pytest.approx(np.log(2))
    assert found["total_variation"] == pytest.approx(1.0)
    assert found["regret"] == pytest.approx(2e4)


@pytest.mark.parametrize("noise", [1e-7, 1e-5, 1e-3])
def test_tiny_divergences_are_not_rounding(noise: float) -> None:
    random = np.random.default_rng(0)
    reference = random.standard_normal(5000) * 3
    candidate = reference + random.standard_normal(5000) * noise
    found = measured(reference, candidate)
    p = np.exp(reference.astype(np.longdouble) - reference.max())
    p /= p.sum()
    delta = (candidate - reference).astype(np.longdouble)
    half_variance = float(((p * delta**2).sum() - (p * delta).sum() ** 2) / 2)
    assert found["kl_divergence"] == pytest.approx(half_variance, rel=5 * noise, abs=3e-15)
    assert found["js_divergence"] == pytest.approx(half_variance / 4, rel=5 * noise, abs=1e-16)


def test_greedy_match_needs_n_tokens_or_a_divergence() -> None:
    same = list(range(60))
    assert GreedyMatch10().compute(same, same) == GreedyMatch50().compute(same, same) == 1.0
    late = [*same[:30], 99, *same[31:]]
    assert GreedyMatch10().compute(same, late) == 1.0
    assert GreedyMatch50().compute(same, late) == 0.0
    assert np.isnan(GreedyMatch10().compute(same[:4], same[:4]))
    assert GreedyMatch10().compute(same[:4], same) == 0.0
    assert np.isnan(GreedyMatch10().compute([], []))
    with pytest.raises(ContractError, match="n is 0"):
        GreedyMatch(n=0)


def test_first_divergence_is_the_number_of_tokens_that_agree() -> None:
    assert FirstDivergence().compute([1, 2, 3], [1, 2, 4]) == 2.0
    assert FirstDivergence().compute([1, 2, 3], [1, 2, 3]) == 3.0
    assert FirstDivergence().compute([1, 2], [1, 2, 3]) == 2.0
    assert FirstDivergence().compute([5], []) == 0.0
    assert np.isnan(FirstDivergence().compute([], []))


def test_a_divergence_inside_the_band_is_a_tie_flip() -> None:
    margins = np.array([3.0, 0.01, 2.0])
    assert TieFlip(band=0.05).compute([1, 2, 3], [1, 9, 9], margins) == 1.0
    assert TieFlip(band=0.005).compute([1, 2, 3], [1, 9, 9], margins) == 0.0
    assert TieFlip().compute([1, 2, 3], [1, 9, 9], np.array([3.0, 0.0, 2.0])) == 1.0
    assert np.isnan(TieFlip(band=0.05).compute([1, 2, 3], [1, 2, 3], margins))
    assert np.isnan(TieFlip(band=0.05).compute([1, 2, 3], [1, 9, 9]))


def test_every_file_is_a_metric_with_a_unit_a_direction_and_a_formula() -> None:
    names = {module.name for module in pkgutil.iter_modules(metrics.__path__)}
    assert set(catalog.entries("metrics")) >= names
    for name in names:
        kind = catalog.load("metrics", name)
        assert issubclass(kind, (metrics.Metric, metrics.PromptMetric, metrics.RoutingMetric))
        assert kind.__doc__
        assert kind.unit
        assert kind.formula
        assert kind.better in ("lower", "higher", "zero", "one", "none")
        assert kind.__module__ == importlib.import_module(f"logitproof.metrics.{name}").__name__


def test_every_metric_gives_float64_of_every_position() -> None:
    rows = np.random.default_rng(0).standard_normal((3, 30))
    stats: RowStats = row_statistics(rows, rows + 0.1, np.array([0, 1, -1]))
    for metric in all_metrics().values():
        values = metric.compute(stats)
        assert values.shape == (3,)
        assert values.dtype == np.float64


@pytest.mark.parametrize("size", [2, 60, 100, 101, 300])
def test_the_divergence_of_the_first_logits_is_that_of_a_vocabulary_that_ends_there(size: int) -> None:
    reference, candidate = np.random.default_rng(size).normal(size=(2, 3, size)) * 3
    labels = np.full(3, -1)
    found = compare(reference, candidate, labels=labels).metrics["kl_divergence_first_100"]
    cut = compare(reference[:, :100], candidate[:, :100], labels=labels).metrics["kl_divergence"]
    assert found == pytest.approx(cut, rel=1e-12)


def test_a_difference_behind_the_first_logits_is_not_seen_and_one_within_is() -> None:
    reference = np.random.default_rng(0).normal(size=(1, 200))
    behind, within = reference.copy(), reference.copy()
    behind[0, 150] += 5
    within[0, 50] += 5
    values = [
        compare(reference, rows, labels=np.array([-1])).metrics["kl_divergence_first_100"][0] for rows in (behind, within)
    ]
    assert values[0] == 0.0 and values[1] > 0.1


def test_masked_entries_among_the_first_logits_count_in_neither() -> None:
    reference = np.random.default_rng(0).normal(size=(1, 200))
    reference[0, :10] = -np.inf
    candidate = reference + 0.1 * np.random.default_rng(1).normal(size=200)
    found = compare(reference, candidate, labels=np.array([-1])).metrics["kl_divergence_first_100"][0]
    kept = compare(reference[:, 10:100], candidate[:, 10:100], labels=np.array([-1])).metrics["kl_divergence"][0]
    assert found == pytest.approx(kept, rel=1e-12)
