"""Metrics against mpmath at 1e-12 relative, and against scipy and torch in float64, on rows that are hard for them."""

from __future__ import annotations

from collections.abc import Callable

import mpmath
import numpy as np
import pytest
import scipy.spatial.distance
import scipy.special
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from logitproof.comparison.compare import all_metrics
from logitproof.divergence.scores import Scores
from logitproof.divergence.statistics import figures
from logitproof.metrics.top_k_overlap import TopKOverlap
from logitproof.rows.statistics import STATS, RowStats, row_statistics

LARGEST_VOCABULARY = 262_144
Pair = tuple[np.ndarray, np.ndarray]


def drawn(size: int, spread: float, noise: float, seed: int = 0) -> Pair:
    """Normal logits, and the same with noise added."""
    random = np.random.default_rng(seed)
    reference = random.standard_normal(size) * spread
    return reference, reference + random.standard_normal(size) * noise


def masked(share: float, pair: Pair) -> Pair:
    """The same entries of both rows at -inf."""
    hidden = np.random.default_rng(1).random(len(pair[0])) < share
    return np.where(hidden, -np.inf, pair[0]), np.where(hidden, -np.inf, pair[1])


HARD: dict[str, Callable[[], Pair]] = {
    "range 1e4": lambda: drawn(2000, 1e4, 3.0),
    "range 1e4, far apart": lambda: (drawn(500, 1e4, 0.0)[0], drawn(500, 1e4, 0.0, 7)[0]),
    "range 1e4 by equal steps": lambda: (np.linspace(-1e4, 1e4, 4001), np.linspace(-1e4, 1e4, 4001)[::-1].copy()),
    "half masked": lambda: masked(0.5, drawn(3000, 4.0, 0.3)),
    "nearly all masked": lambda: masked(0.99, drawn(3000, 4.0, 0.3)),
    "masked, range 1e4": lambda: masked(0.5, drawn(3000, 1e4, 50.0)),
    "shifted by 1e4": lambda: (drawn(1000, 3.0, 0.0)[0] + 1e4, drawn(1000, 3.0, 0.5)[1] - 1e4),
    "one token has all the mass": lambda: (np.append(np.zeros(999), 60.0), np.append(np.full(999, 0.25), 55.0)),
    "nearly uniform": lambda: drawn(5000, 1e-3, 1e-2),
    "two tokens": lambda: (np.array([0.0, 1e-3]), np.array([700.0, 0.0])),
    "float32 rows": lambda: tuple(side.astype(np.float32) for side in drawn(4096, 5.0, 0.2)),  # type: ignore[dict-item, return-value]
}


def stats_of(reference: np.ndarray, candidate: np.ndarray) -> RowStats:
    return row_statistics(reference[None], candidate[None], np.array([-1]), threads=1)


def measured(reference: np.ndarray, candidate: np.ndarray) -> dict[str, float]:
    """Metrics of one position, and both entropies."""
    stats = stats_of(reference, candidate)
    values = {name: float(metric.compute(stats)[0]) for name, metric in all_metrics().items()}
    return values | {name: float(stats[name][0]) for name in ("entropy_reference", "entropy_candidate")}


def exact(reference: np.ndarray, candidate: np.ndarray) -> dict[str, mpmath.mpf]:
    """The formulas with 40 digits over the entries that are not masked."""
    inside = ~(np.isneginf(reference) & np.isneginf(candidate))
    with mpmath.workdps(40):
        r, t = ([mpmath.mpf(float(value)) for value in side[inside]] for side in (reference, candidate))
        p, log_p = softmax(r)
        q, log_q = softmax(t)
        middle = [mpmath.log((a + b) / 2) for a, b in zip(p, q, strict=True)]
        return {
            "kl_divergence": weighted(p, log_p, log_q),
            "kl_reverse": weighted(q, log_q, log_p),
            "js_divergence": (weighted(p, log_p, middle) + weighted(q, log_q, middle)) / 2,
            "total_variation": mpmath.fsum(abs(a - b) for a, b in zip(p, q, strict=True)) / 2,
            "entropy_reference": -mpmath.fdot(p, log_p),
            "entropy_candidate": -mpmath.fdot(q, log_q),
            "cosine": mpmath.fdot(r, t) / mpmath.sqrt(mpmath.fdot(r, r)) / mpmath.sqrt(mpmath.fdot(t, t)),
        }


def softmax(logits: list[mpmath.mpf]) -> tuple[list[mpmath.mpf], list[mpmath.mpf]]:
    """Probabilities and their logarithms."""
    most = max(logits)
    raised = [mpmath.exp(value - most) for value in logits]
    mass = mpmath.fsum(raised)
    log_mass = mpmath.log(mass)
    return [value / mass for value in raised], [value - most - log_mass for value in logits]


def weighted(weights: list[mpmath.mpf], left: list[mpmath.mpf], right: list[mpmath.mpf]) -> mpmath.mpf:
    return mpmath.fsum(w * (a - b) for w, a, b in zip(weights, left, right, strict=True))


@pytest.mark.parametrize("name", HARD)
def test_hard_rows_are_exact_to_twelve_digits(name: str) -> None:
    rows = HARD[name]()
    values = measured(*rows)
    for metric, wanted in exact(*rows).items():
        # Divergences and entropies are differences of logarithms of some 10 nats: below two ulps of those nothing is claimed.
        assert values[metric] == pytest.approx(float(wanted), rel=1e-12, abs=4e-15), metric


def test_the_largest_vocabulary_is_exact_to_twelve_digits() -> None:
    """Entries of one logit are one term each in the exact sum: of 262,144 there are 512 pairs."""
    random = np.random.default_rng(3)
    kinds = random.standard_normal((2, 512)) * 6
    counts = random.multinomial(LARGEST_VOCABULARY, np.full(512, 1 / 512))
    order = random.permutation(LARGEST_VOCABULARY)
    reference, candidate = (np.repeat(kind, counts)[order] for kind in kinds)
    values = measured(reference, candidate)
    with mpmath.workdps(40):
        logs = [mpmath.log(int(count)) for count in counts]
        sides = [[mpmath.mpf(float(value)) for value in kind] for kind in kinds]
        # A kind's probability is that of all its entries; the difference of two logarithms is that of one.
        masses = [softmax([value + log for value, log in zip(side, logs, strict=True)]) for side in sides]
        (p, log_p), (q, log_q) = masses
        middle = [mpmath.log((a + b) / 2) for a, b in zip(p, q, strict=True)]
        weights = [int(count) for count in counts]
        squares = [mpmath.fsum(n * a * a for n, a in zip(weights, side, strict=True)) for side in sides]
        product = mpmath.fsum(n * a * b for n, a, b in zip(weights, *sides, strict=True))
        wanted = {
            "kl_divergence": weighted(p, log_p, log_q),
            "kl_reverse": weighted(q, log_q, log_p),
            "js_divergence": (weighted(p, log_p, middle) + weighted(q, log_q, middle)) / 2,
            "entropy_reference": -weighted(p, log_p, logs),
            "entropy_candidate": -weighted(q, log_q, logs),
            "cosine": product / mpmath.sqrt(squares[0]) / mpmath.sqrt(squares[1]),
        }
    for metric, value in wanted.items():
        assert values[metric] == pytest.approx(float(value), rel=1e-12), metric


@pytest.mark.parametrize("name", HARD)
def test_scipy_says_the_same_in_float64(name: str) -> None:
    r, t = (side.astype(np.float64) for side in HARD[name]())
    values, inside = measured(r, t), ~np.isneginf(r)
    log_p, log_q = scipy.special.log_softmax(r[inside]), scipy.special.log_softmax(t[inside])
    p, q = np.exp(log_p), np.exp(log_q)
    # What scipy itself loses where logarithms are large: an ulp of each.
    loss = 1e-15 * float(np.abs(np.concatenate([log_p, log_q])).max())
    assert values["kl_divergence"] == pytest.approx(float((p * (log_p - log_q)).sum()), rel=1e-11, abs=loss)
    held = p + q > 1e-300  # scipy takes the logarithm of half of it, which may be 0
    js = scipy.spatial.distance.jensenshannon(p[held], q[held]) ** 2
    assert values["js_divergence"] == pytest.approx(js, rel=1e-7, abs=1e-13)
    assert values["entropy_reference"] == pytest.approx(float(scipy.stats.entropy(p)), rel=1e-11, abs=loss)
    assert values["cosine"] == pytest.approx(1 - scipy.spatial.distance.cosine(r[inside], t[inside]), rel=1e-12)
    if np.all(q > 0):
        assert values["kl_divergence"] == pytest.approx(float(scipy.special.rel_entr(p, q).sum()), rel=1e-9, abs=loss)


@pytest.mark.parametrize("name", HARD)
def test_torch_says_the_same_in_float64(name: str) -> None:
    rows = [torch.from_numpy(side.astype(np.float64)) for side in HARD[name]()]
    inside = ~torch.isneginf(rows[0])
    r, t = (row[inside] for row in rows)
    values = measured(*(row.numpy() for row in rows))
    log_p, log_q = torch.log_softmax(r, 0), torch.log_softmax(t, 0)
    loss = 1e-15 * float(torch.cat([log_p, log_q]).abs().max())
    kl = torch.nn.functional.kl_div(log_q, log_p, reduction="sum", log_target=True)
    assert values["kl_divergence"] == pytest.approx(float(kl), rel=1e-11, abs=loss)
    entropy = torch.distributions.Categorical(logits=t).entropy()
    assert values["entropy_candidate"] == pytest.approx(float(entropy), rel=1e-11, abs=loss)
    assert values["cosine"] == pytest.approx(float(torch.nn.functional.cosine_similarity(r, t, dim=0)), rel=1e-12)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.sampled_from([1, 3, 10, 11, 500]), st.sampled_from([0.01, 1.0, 1e4]), st.integers(1, 10))
def test_top_k_agreement_is_that_of_torch(seed: int, size: int, noise: float, k: int) -> None:
    reference, candidate = drawn(size, 4.0, noise, seed)
    best = [set(torch.topk(torch.from_numpy(row), min(k, size)).indices.tolist()) for row in (reference, candidate)]
    share = TopKOverlap(k=k).compute(stats_of(reference, candidate))[0]
    assert share == len(best[0] & best[1]) / min(k, size)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**32), st.integers(1, 400), st.sampled_from([np.inf, -np.inf, np.nan]), st.sampled_from(["left", "right"])
)
def test_an_infinity_in_one_row_alone_leaves_no_metric(seed: int, size: int, bad: float, side: str) -> None:
    rows = dict(zip(("left", "right"), drawn(size, 3.0, 0.1, seed), strict=True))
    rows[side][seed % size] = bad
    stats = stats_of(rows["left"], rows["right"])
    assert stats.nonfinite_reference[0] + stats.nonfinite_candidate[0] == 1
    assert all(np.isnan(metric.compute(stats)[0]) for metric in all_metrics().values())


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_an_infinity_that_both_rows_share_is_no_mask_unless_it_is_below(bad: float) -> None:
    reference, candidate = drawn(50, 3.0, 0.1)
    reference[3] = candidate[3] = bad
    stats = stats_of(reference, candidate)
    assert (stats.nonfinite_reference[0], stats.nonfinite_candidate[0]) == (1, 1)
    assert all(np.isnan(metric.compute(stats)[0]) for metric in all_metrics().values())


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.sampled_from([2, 9, 300, 2500]), st.floats(0.05, 0.95), st.sampled_from([1.0, 1e4]))
def test_masked_entries_are_as_if_they_were_not_there(seed: int, size: int, share: float, spread: float) -> None:
    reference, candidate = masked(share, drawn(size, spread, 0.3, seed))
    inside = ~np.isneginf(reference)
    if not inside.any():
        assert stats_of(reference, candidate).support[0] == 0
        return
    whole, cut = stats_of(reference, candidate), stats_of(reference[inside], candidate[inside])
    ids = {"ids_reference", "ids_candidate"}
    for name in set(STATS.names or ()) - ids:
        np.testing.assert_array_equal(whole[name], cut[name], err_msg=name)
    for name in ids:
        kept = cut[name][0][cut[name][0] >= 0]
        assert whole[name][0][: len(kept)].tolist() == np.flatnonzero(inside)[kept].tolist()


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), st.sampled_from([1, 2, 5, 64]), st.sampled_from([1e-3, 3.0, 300.0]))
def test_a_position_does_not_depend_on_its_neighbours_or_on_threads(seed: int, count: int, spread: float) -> None:
    random = np.random.default_rng(seed)
    reference = random.standard_normal((count, 300)) * spread
    candidate, labels = reference + random.standard_normal((count, 300)), random.integers(-1, 300, count)
    whole = row_statistics(reference, candidate, labels, threads=2)
    for at in range(count):
        alone = row_statistics(reference[at : at + 1], candidate[at : at + 1], labels[at : at + 1], threads=1)
        assert whole[at].tobytes() == alone[0].tobytes()


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(1e-3, 60.0), min_size=1, max_size=200), st.floats(0.5, 2.0))
def test_perplexity_is_that_of_torch_and_of_mpmath(losses: list[float], factor: float) -> None:
    nll = np.array(losses)
    other = nll * factor
    scores = Scores(np.zeros(len(nll)), nll, other, np.ones(len(nll), bool))
    values = figures([scores])
    assert values["ppl"].value == pytest.approx(float(torch.exp(torch.from_numpy(other).mean())), rel=1e-12)
    with mpmath.workdps(40):
        means = [mpmath.fsum(mpmath.mpf(float(value)) for value in side) / len(side) for side in (other, nll)]
        exactly, base = (float(mpmath.exp(mean)) for mean in means)
        ratio = float(mpmath.exp(means[0] - means[1]))
    assert values["ppl"].value == pytest.approx(exactly, rel=1e-12)
    assert values["ppl_base"].value == pytest.approx(base, rel=1e-12)
    assert values["ppl_ratio"].value == pytest.approx(ratio, rel=1e-12)
