"""Pairing, the table, and a summary that nothing can slip through."""

from __future__ import annotations

import numpy as np
import pytest

from logitproof.comparison.compare import Comparison, all_metrics, compare, compare_logits, prepare, spread
from logitproof.comparison.summary import summarize
from logitproof.errors import EngineError, EngineGarbage
from logitproof.metrics import RowMetric
from logitproof.metrics.kl_divergence import KlDivergence
from logitproof.metrics.top1 import Top1
from logitproof.rows import statistics
from logitproof.rows.top import top_rows

SUITE = {"kl_divergence": KlDivergence(), "top1": Top1()}


def logits(positions: int = 4, size: int = 12, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((positions, size)).astype(np.float32)


def test_one_row_a_position_with_every_metric() -> None:
    reference, candidate = logits(seed=1), logits(seed=2)
    found = compare(reference, candidate, labels=[3, 1, 4, -1])
    assert isinstance(found, Comparison)
    assert found.positions == 4
    assert set(found.names) == set(all_metrics())
    assert found.table["position"].to_pylist() == [0, 1, 2, 3]
    assert found.table["label"].to_pylist() == [3, 1, 4, -1]
    best = np.argsort(-candidate, axis=1, kind="stable")[:, :5]
    assert found.table["top5_ids_candidate"].to_pylist() == best.tolist()
    wanted = np.take_along_axis(candidate, best, axis=1).astype(float)
    assert found.table["top5_logits_candidate"].to_pylist() == wanted.tolist()
    assert found.table["top5_ids_reference"].to_pylist()[0][0] == int(reference[0].argmax())
    assert found.nonfinite.size == 0
    assert np.isnan(found.metrics["delta_p"]).tolist() == [False, False, False, True]


def test_only_the_metrics_asked_for_are_computed() -> None:
    found = compare(logits(), logits(), SUITE, labels=[0] * 4)
    assert found.names == ("kl_divergence", "top1")
    assert found.metrics["kl_divergence"].tolist() == [0.0] * 4
    inner = compare_logits(logits(), logits(), np.zeros(4, np.int64), SUITE)
    assert inner.table.equals(found.table)


def test_a_vocabulary_of_one_token_is_compared() -> None:
    found = compare(logits(size=1), logits(size=1, seed=3), labels=[0] * 4)
    assert found.metrics["kl_divergence"].tolist() == [0.0] * 4
    assert found.metrics["top1"].tolist() == [1.0] * 4
    assert found.table["top5_ids_reference"].to_pylist()[0] == [0, -1, -1, -1, -1]


@pytest.mark.parametrize("side", ["reference", "candidate"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_reported_with_its_position_and_side(side: str, bad: float) -> None:
    rows = {"reference": logits(seed=1), "candidate": logits(seed=2)}
    rows[side][2, 5] = bad
    found = compare(rows["reference"], rows["candidate"], SUITE, labels=[0] * 4)
    assert found.nonfinite.tolist() == [2]
    assert found.table[f"nonfinite_{side}"].to_pylist() == [0, 0, 1, 0]
    assert np.isnan(found.metrics["kl_divergence"]).tolist() == [False, False, True, False]
    assert np.isnan(found.metrics["top1"]).tolist() == [False, False, True, False]


def test_a_row_of_nothing_but_masked_ids_is_reported() -> None:
    rows = logits()
    rows[1] = -np.inf
    assert compare(rows, rows, SUITE, labels=[0] * 4).nonfinite.tolist() == [1]


@pytest.mark.parametrize(
    ("reference", "candidate", "labels", "words"),
    [
        (logits(4, 12), logits(4, 13), [0] * 4, ("vocabulary of 13", "reference's 12", "axis V")),
        (logits(4, 12), logits(3, 12), [0] * 4, ("3 positions", "reference's 4", "axis T")),
        (logits(4, 12), logits(4, 12), [0] * 3, ("labels", "shape [3]", "shape [4]")),
        (logits(4, 12), logits(4, 12), [0, 0, 12, 0], ("id 12", "0 to 11", "position 2")),
        (logits(4, 12), logits(4, 12), [0, -2, 0, 0], ("id -2", "position 1")),
        (logits(4, 12)[0], logits(4, 12), [0] * 4, ("reference", "shape [12]", "[T, V]")),
        (logits(4, 12), logits(4, 12).astype(int), [0] * 4, ("candidate", "int64", "floating point")),
        (logits(0, 12), logits(0, 12), [], ("reference", "at least one position")),
        (logits(4, 0), logits(4, 0), [0] * 4, ("reference", "at least one position and one token")),
    ],
)
def test_rows_that_do_not_pair_up_say_observed_allowed_and_where(
    reference: np.ndarray, candidate: np.ndarray, labels: list[int], words: tuple[str, ...]
) -> None:
    with pytest.raises(EngineGarbage) as caught:
        compare(reference, candidate, SUITE, labels=labels)
    for word in words:
        assert word in str(caught.value)


def test_a_summary_pools_positions() -> None:
    prompts = [np.array([1.0, 2.0]), np.array([3.0, 4.0, 5.0, -6.0])]
    flat = np.concatenate(prompts)
    found = summarize(prompts, seed=7)
    assert found["mean"] == pytest.approx(flat.mean())
    assert found["median"] == np.median(flat)
    assert found["p95"] == np.percentile(flat, 95)
    assert found["p99"] == np.percentile(flat, 99)
    assert (found["max"], found["min"]) == (5.0, -6.0)
    assert found["rms"] == pytest.approx(np.sqrt((flat**2).mean()))
    assert (found["count"], found["not_measured"], found["prompts"], found["seed"]) == (6, 0, 2, 7)


def test_what_was_not_measured_is_counted_and_not_averaged() -> None:
    found = summarize([np.array([1.0, np.nan]), np.array([np.nan]), np.array([3.0])], seed=0)
    assert found["mean"] == 2.0
    assert (found["count"], found["not_measured"], found["prompts"]) == (2, 2, 2)


@pytest.mark.parametrize("nothing", [[], [np.empty(0)], [np.array([np.nan, np.nan])]])
def test_a_summary_of_nothing_is_an_error_and_never_zero(nothing: list[np.ndarray]) -> None:
    with pytest.raises(EngineError, match="nothing was measured"):
        summarize(nothing, seed=0)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("infinite", [np.inf, -np.inf])
def test_infinite_values_are_summed_up_without_a_word_of_numpy(infinite: float) -> None:
    found = summarize([np.array([0.0, infinite]), np.array([1.0, infinite]), np.array([2.0, 3.0])], seed=0)
    assert found["mean"] == infinite and found["count"] == 6 and found["interval"] is not None
    mixed = summarize([np.array([0.0, np.inf]), np.array([1.0, -np.inf]), np.array([2.0])], seed=0)
    assert np.isnan(mixed["mean"])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("sizes", [[1e308] * 12, [1e308, -1e308] * 6, [1e160, 1.0, -1e300] * 4])
def test_values_whose_sums_pass_the_largest_number_come_to_infinity_without_a_word_of_numpy(sizes: list[float]) -> None:
    values = np.array(sizes)
    for prompts in ([values], [values[:7], values[7:]]):
        summary = summarize(prompts, seed=0)
        assert (summary["rms"], summary["max"]) == (np.inf, max(sizes))


def test_one_prompt_has_no_interval() -> None:
    assert summarize([np.arange(100.0)], seed=0)["interval"] is None
    assert summarize([np.arange(100.0), np.array([np.nan])], seed=0)["interval"] is None


def test_the_interval_is_seeded_and_clustered_by_prompt() -> None:
    random = np.random.default_rng(0)
    offsets = random.standard_normal(40)
    prompts = [offset + 0.01 * random.standard_normal(200) for offset in offsets]
    found = summarize(prompts, seed=1)
    assert found["interval"] == summarize(prompts, seed=1)["interval"]
    assert found["interval"] != summarize(prompts, seed=2)["interval"]
    low, high = found["interval"]
    assert low < found["mean"] < high
    # Independent positions would give 4 * 1 / sqrt(8000) = 0.04; prompts are what varies.
    assert high - low == pytest.approx(2 * 1.96 * offsets.std() / np.sqrt(40), rel=0.15)


def test_a_longer_prompt_weighs_more_in_the_resampled_mean() -> None:
    prompts = [np.zeros(1), np.ones(99)] * 30
    low, high = summarize(prompts, seed=3)["interval"]
    assert low > 0.97
    assert high <= 1.0


class LastLess(RowMetric):
    """The candidate's last logit less the reference's, and how many rows came at once."""

    def __init__(self) -> None:
        self.counts: list[int] = []

    def compute_rows(self, reference: np.ndarray, candidate: np.ndarray) -> np.ndarray:
        self.counts.append(len(reference))
        return np.asarray(candidate[:, -1] - reference[:, -1], np.float64)


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16])
def test_a_metric_of_rows_sees_every_row_once_and_never_many_at_a_time(kind: type) -> None:
    reference, candidate = (logits(61, 50, seed).astype(kind) for seed in (1, 2))
    metric = LastLess()
    candidate[7, 3] = np.nan
    values = compare_logits(reference, candidate, np.full(61, -1), {"last": metric}, threads=3).metrics["last"]
    wide = [side[:, -1].astype(np.float32) if kind is np.float16 else side[:, -1] for side in (reference, candidate)]
    wanted = (wide[1] - wide[0]).astype(np.float64)
    assert sum(metric.counts) == 61 and max(metric.counts) <= 8
    assert np.isnan(values[7])
    assert np.delete(values, 7).tolist() == np.delete(wanted, 7).tolist()


def test_what_a_metric_of_rows_raises_comes_out() -> None:
    class Broken(RowMetric):
        def compute_rows(self, reference: np.ndarray, candidate: np.ndarray) -> np.ndarray:
            raise EngineGarbage("no such rows")

    with pytest.raises(EngineGarbage, match="no such rows"):
        compare_logits(logits(), logits(seed=3), np.full(4, -1), {"broken": Broken()})


def test_rows_that_some_positions_hold_are_laid_out_over_all() -> None:
    labels = np.array([3, 1, 4, -1, 2])
    some = compare(logits(2, seed=1), logits(2, seed=2), labels=labels[[1, 3]])
    whole = spread(some, [1, 3], labels)
    assert whole.names == some.names and whole.table.column_names == some.table.column_names
    assert whole.table["position"].to_pylist() == [0, 1, 2, 3, 4] and whole.table["label"].to_pylist() == labels.tolist()
    assert whole.table["support"].to_pylist() == [1, 12, 1, 12, 1]
    for side in ("reference", "candidate"):
        assert whole.table[f"nonfinite_{side}"].to_pylist() == [0] * 5
        ids, kept = (entry.table[f"top5_ids_{side}"].to_pylist() for entry in (whole, some))
        assert [ids[1], ids[3]] == kept and ids[0] == ids[2] == ids[4] == [-1] * 5
        values = whole.table[f"top5_logits_{side}"].to_pylist()
        assert values[3] == some.table[f"top5_logits_{side}"].to_pylist()[1] and all(np.isnan(value) for value in values[0])
    for name in some.names:
        assert np.isnan(whole.metrics[name][[0, 2, 4]]).all()
        np.testing.assert_array_equal(whole.metrics[name][[1, 3]], some.metrics[name])
    assert whole.nonfinite.size == 0


def test_a_position_that_is_not_finite_stays_so_where_it_is_laid_out() -> None:
    bad = logits(2, seed=2)
    bad[1, 0] = np.inf
    whole = spread(compare(logits(2, seed=1), bad, SUITE, labels=[0, 0]), [0, 2], np.zeros(3, np.int64))
    assert whole.nonfinite.tolist() == [2]


@pytest.mark.parametrize("kind", ["arrow", "pandas", "polars"])
def test_the_table_is_a_frame_of_any_library(kind: str) -> None:
    rows = compare(logits(seed=1), logits(seed=2), SUITE, labels=[0] * 4)
    frame = rows.frame(kind)
    assert len(frame) == rows.positions == 4 and "kl_divergence" in (frame.column_names if kind == "arrow" else frame.columns)


def best_entries(rows: np.ndarray, count: int) -> np.ndarray:
    """The best of every row with their log-probabilities."""
    ids = np.argsort(-rows, axis=1, kind="stable")[:, :count]
    values = rows.astype(float) - np.log(np.exp(rows.astype(float)).sum(axis=1, keepdims=True))
    return top_rows(ids, np.take_along_axis(values, ids, axis=1))


def test_best_entries_stand_in_the_table_as_they_fall() -> None:
    reference, candidate = logits(seed=1), logits(seed=2)
    table = compare(reference, best_entries(candidate, 7), labels=[3, 1, 4, -1]).table
    for side, rows in (("reference", reference), ("candidate", candidate)):
        best = np.argsort(-rows, axis=1, kind="stable")[:, :5]
        assert table[f"top5_ids_{side}"].to_pylist() == best.tolist()
        wanted = np.take_along_axis(rows.astype(float) - np.log(np.exp(rows.astype(float)).sum(1, keepdims=True)), best, axis=1)
        np.testing.assert_allclose(table[f"top5_logits_{side}"].to_pylist(), wanted, atol=1e-6)
    assert table["label"].to_pylist() == [3, 1, 4, -1] and table["support"].to_pylist() == [12] * 4


@pytest.mark.parametrize(
    ("rows", "labels", "text"),
    [
        (logits() > 0, 4, "bool of shape"),
        (logits().astype(complex), 4, "complex128 of shape"),
        (logits(size=11), 4, "id 11"),
        (logits(size=5), 4, "ids below the other side's vocabulary of 5"),
        (logits(3), 4, "observed 3 positions, allowed the reference's 4"),
        (logits(), 3, "labels"),
    ],
)
def test_best_entries_are_refused_beside_what_they_cannot_be_paired_with(rows: np.ndarray, labels: int, text: str) -> None:
    reference = best_entries(logits(), 12)
    with pytest.raises(EngineGarbage, match=text):
        compare(reference, rows, labels=[0] * labels)


def test_what_is_prepared_is_the_comparison_of_rows_that_pair_up(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[np.ndarray, ...]] = []
    monkeypatch.setattr(statistics, "row_statistics", lambda *arrays: asked.append(arrays))
    prepare()
    ((reference, candidate, labels),) = asked
    assert reference.shape == candidate.shape and len(labels) == len(reference) > 0
    assert reference.dtype == candidate.dtype == np.float32
