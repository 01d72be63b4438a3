"""The kernel against formulas written out in NumPy, over shapes and values that have gone wrong elsewhere."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logitproof.comparison.compare import all_metrics, compare_logits
from logitproof.rows import statistics
from logitproof.rows.kernel import arctanh, coarse_exponential, exponential, log_cosh_half, widen
from logitproof.rows.processors import processors
from logitproof.rows.statistics import STATS, TOP_K, row_statistics

SIDES = ("reference", "candidate")
VOCABULARIES = (1, 2, 7, 9, 10, 11, 255, 256, 257, 2047, 2049)


def oracle(r: np.ndarray, t: np.ndarray) -> dict[str, float]:
    """Every statistic of one position from its formula, in float64 (and long double where it would cancel)."""
    zr, zt = r.astype(np.longdouble), t.astype(np.longdouble)
    delta, n = zt - zr, len(zr)
    er, et = np.exp(zr - zr.max()), np.exp(zt - zt.max())
    p, q = er / er.sum(), et / et.sum()
    log_p, log_q = zr - zr.max() - np.log(er.sum()), zt - zt.max() - np.log(et.sum())
    m = (p + q) / 2
    log_m = np.logaddexp(log_p, log_q) - np.log(np.longdouble(2))
    shift, cr, ct = zt.max() - zr.max(), zr - zr.mean(), zt - zt.mean()
    order_r, order_t = np.argsort(-zr, kind="stable"), np.argsort(-zt, kind="stable")
    found = {
        "support": n,
        "max_reference": zr.max(),
        "max_candidate": zt.max(),
        "log_mass_reference": np.log(er.sum()),
        "log_mass_candidate": np.log(et.sum()),
        "p_delta": (p * (delta - shift)).sum(),
        "q_delta": (q * (delta - shift)).sum(),
        "entropy_reference": -(p * log_p).sum(),
        "entropy_candidate": -(q * log_q).sum(),
        "abs_difference": np.abs(p - q).sum(),
        "jensen_shannon": ((p * (log_p - log_m)).sum() + (q * (log_q - log_m)).sum()) / 2,
        "mean_reference": zr.mean(),
        "mean_candidate": zt.mean(),
        "square_reference": (zr**2).sum(),
        "square_candidate": (zt**2).sum(),
        "product": (zr * zt).sum(),
        "centred_square_reference": (cr**2).sum(),
        "centred_square_candidate": (ct**2).sum(),
        "centred_product": (cr * ct).sum(),
        "square_delta": (delta**2).sum(),
        "centred_square_delta": ((delta - delta.mean()) ** 2).sum(),
        "max_centred_delta": np.abs(delta - delta.mean()).max(),
        "reference_at_candidate_top1": zr[order_t[0]],
        "candidate_at_reference_top1": zt[order_r[0]],
        "rank_of_reference_top1": int(np.flatnonzero(order_t == order_r[0])[0]) + 1,
        "rank_of_candidate_top1": int(np.flatnonzero(order_r == order_t[0])[0]) + 1,
    }
    assert m.min() >= 0
    return {name: float(value) for name, value in found.items()}


def assert_matches(r: np.ndarray, t: np.ndarray) -> None:
    stats = row_statistics(r[None], t[None], np.array([len(r) - 1]), threads=1)[0]
    size = float(max(np.abs(r).max(), np.abs(t).max(), 1.0))
    for name, wanted in oracle(r, t).items():
        # Sums of squares grow with size^2 n; the others are differences of logits or probabilities.
        scale = size**2 * len(r) if "square" in name or "product" in name else size
        assert math.isclose(stats[name], wanted, rel_tol=1e-11, abs_tol=2e-14 * scale), name
    for side, row in (("reference", r), ("candidate", t)):
        best = np.argsort(-row.astype(float), kind="stable")[:TOP_K]
        assert stats[f"ids_{side}"][: len(best)].tolist() == best.tolist()
        assert stats[f"top_{side}"][: len(best)].tolist() == row[best].astype(float).tolist()
        assert (stats[f"ids_{side}"][len(best) :] == -1).all()
        assert np.isnan(stats[f"top_{side}"][len(best) :]).all()
        assert stats[f"label_{side}"] == row[-1]


def rows(seed: int, size: int, kind: type, spread: float, noise: float) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    reference = random.standard_normal(size) * spread
    return reference.astype(kind), (reference + random.standard_normal(size) * noise).astype(kind)


@settings(deadline=None, max_examples=120)
@given(
    st.integers(0, 2**32),
    st.sampled_from(VOCABULARIES),
    st.sampled_from([np.float32, np.float64]),
    st.sampled_from([0.0, 1e-3, 1.0, 3.0, 30.0, 1e4]),
    st.sampled_from([0.0, 1e-6, 0.02, 0.5, 5.0, 1e3]),
)
def test_kernel_is_the_formulas(seed: int, size: int, kind: type, spread: float, noise: float) -> None:
    assert_matches(*rows(seed, size, kind, spread, noise))


@pytest.mark.parametrize("noise", [0.02, 1.0])
def test_a_real_vocabulary_is_the_formulas(noise: float) -> None:
    assert_matches(*rows(3, 151_936, np.float32, 3.0, noise))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=400), st.integers(0, 1000))
def test_ties_go_to_the_lowest_id(values: list[int], seed: int) -> None:
    row = np.array(values, np.float32)
    assert_matches(row, np.random.default_rng(seed).permutation(row))


def test_float32_against_float64_rows() -> None:
    r, t = rows(1, 500, np.float64, 3.0, 0.1)
    mixed = row_statistics(r.astype(np.float32)[None], t[None], np.array([-1]))
    same = row_statistics(r.astype(np.float32).astype(float)[None], t[None], np.array([-1]))
    assert mixed.jensen_shannon == pytest.approx(same.jensen_shannon, rel=1e-12)
    assert np.isnan(mixed.label_reference[0])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
@settings(deadline=None, max_examples=25)
@given(size=st.sampled_from([1, 2, 9, 300, 5000]), where=st.integers(0, 4999), seed=st.integers(0, 99))
def test_what_is_not_finite_is_always_counted_on_its_side(bad: float, kind: type, size: int, where: int, seed: int) -> None:
    r, t = rows(seed, size, kind, 3.0, 0.1)
    t[where % size] = bad
    stats = row_statistics(np.stack([r, r, t]), np.stack([r, t, r]), np.zeros(3, np.int64))
    assert stats.nonfinite_reference.tolist() == [0, 0, 1]
    assert stats.nonfinite_candidate.tolist() == [0, 1, 0]
    measured = [name for name in STATS.names or () if STATS[name] == np.float64 and not name.startswith("label")]
    assert all(np.isnan(stats[name][1:]).all() for name in measured)
    assert np.isfinite(stats.jensen_shannon[0])
    assert (stats.ids_candidate[1:] == -1).all()


def test_infinities_that_cancel_in_a_sum_are_counted() -> None:
    row = np.zeros(600)
    bad = row.copy()
    bad[3], bad[500], bad[599] = np.inf, -np.inf, np.nan
    assert row_statistics(row[None], bad[None], np.array([0])).nonfinite_candidate[0] == 3


def test_a_logit_whose_square_overflows_is_not_finite() -> None:
    row, huge = np.zeros(20), np.zeros(20)
    huge[7] = 1e200
    assert row_statistics(row[None], huge[None], np.array([0])).nonfinite_candidate[0] == 1


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_ids_masked_in_both_rows_are_outside_the_support(kind: type) -> None:
    r, t = rows(5, 3000, kind, 3.0, 0.2)
    kept = np.sort(np.random.default_rng(0).permutation(3000)[:2500])
    masked_r, masked_t = np.full(3000, -np.inf, kind), np.full(3000, -np.inf, kind)
    masked_r[kept], masked_t[kept] = r[kept], t[kept]
    masked = row_statistics(masked_r[None], masked_t[None], np.array([int(kept[0])]))[0]
    alone = row_statistics(r[kept][None], t[kept][None], np.array([0]))[0]
    assert masked.support == 2500
    assert masked.nonfinite_reference == masked.nonfinite_candidate == 0
    assert masked.ids_candidate.tolist() == kept[alone.ids_candidate].tolist()
    names = [name for name in STATS.names or () if STATS[name] == np.float64]
    assert [masked[name] for name in names] == [alone[name] for name in names]


def test_a_row_with_everything_masked_has_no_statistics() -> None:
    row = np.full((1, 12), -np.inf, np.float32)
    stats = row_statistics(row, row, np.array([0]))
    assert stats.support[0] == 0
    assert np.isnan(stats.max_reference[0])


def test_the_number_of_threads_changes_nothing() -> None:
    r = np.stack([rows(seed, 999, np.float32, 3.0, 0.1)[0] for seed in range(41)])
    t = np.stack([rows(seed, 999, np.float32, 3.0, 0.1)[1] for seed in range(41)])
    one, many = (row_statistics(r, t, np.arange(41), threads=threads) for threads in (1, 5))
    assert one.tobytes() == many.tobytes()


def test_mapped_strided_and_big_endian_rows_are_the_same_rows(tmp_path: Path) -> None:
    r = np.stack([rows(seed, 3001, np.float32, 3.0, 0.1)[0] for seed in range(20)])
    r.tofile(tmp_path / "rows")
    mapped = np.memmap(tmp_path / "rows", np.float32, "r", shape=r.shape)
    wide = np.repeat(r, 2, axis=1)[:, ::2]
    wanted = row_statistics(r, r[::-1].copy(), np.arange(20))
    for given_rows in (mapped, wide, r.astype(">f4")):
        assert row_statistics(given_rows, r[::-1], np.arange(20)).tobytes() == wanted.tobytes()
    assert (mapped == r).all()  # pages that were let go come back


def test_polynomials_are_as_good_as_they_say() -> None:
    xs = np.linspace(-60, 0, 20_001)
    found, wanted = np.array([exponential(x) for x in xs]), np.exp(xs.astype(np.longdouble)).astype(float)
    assert (np.abs(found - wanted) / np.spacing(wanted)).max() <= 2
    assert exponential(-1e4) == pytest.approx(math.exp(-690), rel=1e-12)
    coarse = np.array([coarse_exponential(np.float32(x)) for x in xs])
    exact = np.exp(xs.astype(np.float32).astype(float))
    assert (np.abs(coarse - exact) / exact).max() <= 3e-7 and abs((coarse / exact).mean() - 1) < 2e-8
    assert coarse_exponential(np.float32(-1e4)) == pytest.approx(math.exp(-87), rel=1e-6)
    for s in np.linspace(0, 1 / 3, 1001):
        assert arctanh(s) == pytest.approx(math.atanh(s), rel=5e-16, abs=1e-300)
    for u in np.linspace(0.01, 2, 1001):
        wanted = np.log(np.cosh(np.longdouble(u) / 2))
        assert log_cosh_half(u * u) == pytest.approx(float(wanted), rel=3e-14)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("apart", [0.0, 1e-9, 1e-7, 1e-5, 1e-3])
def test_rows_nearer_to_each_other_than_their_first_masses_are_exact_all_the_same(kind: type, apart: float) -> None:
    """The first masses are of float32; of rows that differ by less than these are off, all are taken again."""
    for peak in (0.0, 12.0):
        r, t = rows(11, 30_000, kind, 2.0, apart)
        r[[7, 20_000]] += kind(peak)
        t[[7, 20_000]] += kind(peak)
        stats, wanted = row_statistics(r[None], t[None], np.array([-1]), threads=1)[0], oracle(r, t)
        for name in ("jensen_shannon", "abs_difference", "p_delta", "q_delta", "log_mass_candidate"):
            assert math.isclose(stats[name], wanted[name], rel_tol=1e-11, abs_tol=1e-14), (name, peak)


def test_importing_compiles_nothing() -> None:
    program = "import logitproof.rows.statistics, logitproof.rows.kernel as k; print(len(k.measure.signatures))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "0"
    program = "import logitproof.comparison.compare, logitproof.metrics, sys; print('numba' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


# Rows of 16 bits


def bfloat16(rows: np.ndarray) -> np.ndarray:
    return (rows.view(np.uint32) >> 16).astype(np.uint16)


def test_every_pattern_of_16_bits_is_widened_exactly() -> None:
    bits, wide = np.arange(1 << 16, dtype=np.uint16), np.empty(1 << 16, np.uint32)
    widen(bits, False, wide)
    assert (wide == bits.view(np.float16).astype(np.float32).view(np.uint32)).all()  # subnormal, infinite and NaN too
    widen(bits, True, wide)
    assert (wide == bits.astype(np.uint32) << 16).all()


@pytest.mark.parametrize("count", [1, 7, 8, 21])
def test_rows_of_16_bits_are_the_rows_that_they_stand_for(tmp_path: Path, count: int) -> None:
    wide = [np.stack([rows(seed, 999, np.float32, 3.0, 0.1)[side] for seed in range(count)]) for side in (0, 1)]
    wide[1][-1, 5] = np.nan
    for narrow in (lambda side: side.astype(np.float16), bfloat16):
        halves = [narrow(side) for side in wide]
        exact = [side.astype(np.float32) if side.dtype == np.float16 else (side.astype(np.uint32) << 16).view(np.float32)
                 for side in halves]  # fmt: skip
        halves[0].tofile(tmp_path / "halves")
        halves[0] = np.memmap(tmp_path / "halves", halves[0].dtype, "r", shape=halves[0].shape)
        wanted = row_statistics(*exact, np.arange(count), threads=2)
        assert wanted.nonfinite_candidate.tolist() == [0] * (count - 1) + [1]
        assert row_statistics(*halves, np.arange(count), threads=2).tobytes() == wanted.tobytes()
        assert row_statistics(halves[0], exact[1], np.arange(count)).tobytes() == wanted.tobytes()
        assert row_statistics(exact[0], halves[1][:, ::1], np.arange(count)).tobytes() == wanted.tobytes()
        strided = np.repeat(halves[1], 2, axis=1)[:, ::2]
        assert row_statistics(exact[0], strided, np.arange(count)).tobytes() == wanted.tobytes()
    big_endian = wide[0].astype(">f2")
    same = row_statistics(big_endian, exact[1], np.arange(count))
    assert same.tobytes() == row_statistics(big_endian.astype(np.float32), exact[1], np.arange(count)).tobytes()


def test_all_metrics_of_bits_of_bfloat16_are_those_of_their_numbers() -> None:
    bits = [bfloat16(np.stack([rows(seed, 300, np.float32, 3.0, 0.5)[side] for seed in range(5)])) for side in (0, 1)]
    numbers = [(side.astype(np.uint32) << 16).view(np.float32) for side in bits]
    metrics = all_metrics()
    same, wanted = (compare_logits(*sides, np.arange(5), metrics) for sides in (bits, numbers))
    for name in metrics:
        np.testing.assert_array_equal(same.metrics[name], wanted.metrics[name])


# Where the system does not say how many processors a process may use


def test_rows_are_compared_where_the_scheduler_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    rows = np.random.default_rng(0).normal(size=(9, 31)).astype(np.float32)
    assert processors() >= 1
    np.testing.assert_array_equal(row_statistics(rows, rows, np.full(9, -1)).max_candidate, rows.max(axis=1))


def test_nobody_else_asks_for_the_processors() -> None:
    package = Path(__file__).parents[2] / "src/logitproof"
    asking = [path.relative_to(package) for path in package.rglob("*.py") if "sched_getaffinity" in path.read_text("utf-8")]
    assert asking == [Path("rows/processors.py")]


def test_ten_entries_of_a_row_are_kept() -> None:
    assert TOP_K == 10 and all(STATS[f"{kind}_{side}"].shape == (10,) for kind in ("ids", "top") for side in SIDES)


def test_of_rows_of_16_bits_a_mebibyte_is_widened_at_a_time_and_at_least_one() -> None:
    counts = [statistics._most(np.empty((1, size), np.float16)) for size in (32_768, 65_536, 131_072, 151_936, 300_000)]
    assert counts == [8, 4, 2, 1, 1]
    assert statistics._most(np.empty((1, 300_000), np.float32)) == statistics.POSITIONS == 8


@pytest.mark.parametrize(("threads", "lanes"), [(1, 1), (3, 3), (16, 6)])
def test_no_more_threads_work_than_there_are_blocks(threads: int, lanes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pools: list[int] = []

    def counted(workers: int) -> ThreadPoolExecutor:
        pools.append(workers)
        return ThreadPoolExecutor(workers)

    monkeypatch.setattr(statistics, "ThreadPoolExecutor", counted)
    r, t = rows(1, 41 * 7, np.float32, 3.0, 0.1)
    row_statistics(r.reshape(41, 7), t.reshape(41, 7), np.full(41, -1), threads=threads)
    assert pools == [lanes]
