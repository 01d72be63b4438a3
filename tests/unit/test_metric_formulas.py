"""Every metric of a position against its formula, written a second time from the rows themselves; and the range of each."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from logitproof import catalog
from logitproof.comparison.compare import compare
from logitproof.errors import ContractError
from logitproof.metrics.expert_set import ExpertSet
from logitproof.metrics.expert_weight_sum import ExpertWeightSum
from logitproof.metrics.greedy_match import GreedyMatch
from logitproof.metrics.greedy_tokens import GreedyTokens
from logitproof.metrics.kl_divergence_first_100 import KlDivergenceFirst100
from logitproof.metrics.logit import Logit
from logitproof.metrics.tie_flip import TieFlip
from logitproof.metrics.top1_outside_ties import Top1OutsideTies
from logitproof.metrics.top_k_overlap import TopKOverlap
from logitproof.rows.routing import Routing

INF = math.inf
RANGES = {
    "cosine": (-1, 1), "cosine_centred": (-1, 1), "delta_p": (-1, 1), "expert_set": (0, 1), "expert_weight_sum": (0, INF),
    "first_divergence": (0, INF), "greedy_match": (0, 1), "greedy_match_10": (0, 1), "greedy_match_50": (0, 1),
    "greedy_prompts_10": (0, 1), "greedy_prompts_50": (0, 1), "greedy_tokens": (0, 1), "greedy_tokens_10": (0, 1),
    "greedy_tokens_50": (0, 1), "js_divergence": (0, math.log(2)), "kl_divergence": (0, INF),
    "kl_divergence_first_100": (0, INF), "kl_divergence_lower": (0, INF), "kl_divergence_upper": (0, INF),
    "kl_reverse": (0, INF), "known_mass": (0, 1), "label_logprob_delta": (-INF, INF), "logit": (-INF, INF),
    "margin": (0, INF), "margin_probability": (0, 1), "max_delta_logit": (0, INF), "nmse": (0, INF), "regret": (0, INF),
    "rms_delta_known": (0, INF), "rms_delta_logit": (0, INF), "scale_fit": (-INF, INF), "tie_flip": (0, 1), "top1": (0, 1),
    "top10_overlap": (0, 1), "top1_outside_ties": (0, 1), "top5_overlap": (0, 1), "top5_rank_agreement": (0, 1),
    "top5_set": (0, 1), "top5_set_outside_ties": (0, 1), "top5_set_regret": (0, INF), "top_k_overlap": (0, 1),
    "total_variation": (0, 1),
}  # fmt: skip


def test_every_metric_lies_where_it_says() -> None:
    kinds = {name: catalog.load("metrics", name) for name in RANGES}
    assert {name: (kind.least, kind.greatest) for name, kind in kinds.items()} == RANGES


def softmax(row: np.ndarray) -> np.ndarray:
    raised = np.exp(row - row.max())
    return np.asarray(raised / raised.sum())


def order(row: np.ndarray) -> list[int]:
    """Ids, the largest logit first, ties by the lowest id; masked ones left out."""
    return [int(at) for at in np.argsort(-row, kind="stable") if not np.isneginf(row[at])]


def kl(p: np.ndarray, q: np.ndarray) -> float:
    return float(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0))


def overlap(count: int) -> Callable[[np.ndarray, np.ndarray, int], float]:
    def share(r: np.ndarray, t: np.ndarray, label: int) -> float:
        best = [order(row)[:count] for row in (r, t)]
        return len(set(best[0]) & set(best[1])) / len(best[0])

    return share


def set_regret(r: np.ndarray, t: np.ndarray, label: int) -> float:
    left = set(order(r)[:5]) - set(order(t)[:5])
    came = set(order(t)[:5]) - set(order(r)[:5])
    if not left:
        return 0.0
    return INF if came - set(order(r)[:10]) else max(0.0, max(r[at] for at in left) - min(r[at] for at in came))


def centred(row: np.ndarray) -> np.ndarray:
    return row - row.mean()


FORMULAS: dict[str, Callable[[np.ndarray, np.ndarray, int], float]] = {
    "cosine": lambda r, t, y: r @ t / np.linalg.norm(r) / np.linalg.norm(t),
    "cosine_centred": lambda r, t, y: np.corrcoef(r, t)[0, 1],
    "delta_p": lambda r, t, y: softmax(t)[y] - softmax(r)[y] if y >= 0 else math.nan,
    "js_divergence": lambda r, t, y: sum(kl(side, (softmax(r) + softmax(t)) / 2) for side in map(softmax, (r, t))) / 2,
    "kl_divergence": lambda r, t, y: kl(softmax(r), softmax(t)),
    "kl_divergence_lower": lambda r, t, y: kl(softmax(r), softmax(t)),
    "kl_divergence_upper": lambda r, t, y: kl(softmax(r), softmax(t)),
    "kl_divergence_first_100": lambda r, t, y: kl(softmax(r[:100]), softmax(t[:100])),
    "kl_reverse": lambda r, t, y: kl(softmax(t), softmax(r)),
    "known_mass": lambda r, t, y: 1.0,
    "label_logprob_delta": lambda r, t, y: math.log(softmax(t)[y] / softmax(r)[y]) if y >= 0 else math.nan,
    "logit": lambda r, t, y: t[0] - r[0],
    "margin": lambda r, t, y: r[order(r)[0]] - r[order(r)[1]],
    "margin_probability": lambda r, t, y: softmax(r)[order(r)[0]] - softmax(r)[order(r)[1]],
    "max_delta_logit": lambda r, t, y: np.abs(centred(t - r)).max(),
    "nmse": lambda r, t, y: ((t - r) ** 2).sum() / (r**2).sum(),
    "regret": lambda r, t, y: r.max() - r[order(t)[0]],
    "rms_delta_known": lambda r, t, y: math.sqrt((centred(t - r) ** 2).mean()),
    "rms_delta_logit": lambda r, t, y: math.sqrt((centred(t - r) ** 2).mean()),
    "scale_fit": lambda r, t, y: np.polyfit(r, t, 1)[0],
    "top1": lambda r, t, y: order(r)[0] == order(t)[0],
    "top1_outside_ties": lambda r, t, y: r.max() == r[order(t)[0]],
    "top5_overlap": overlap(5),
    "top10_overlap": overlap(10),
    "top_k_overlap": overlap(5),
    "top5_rank_agreement": lambda r, t, y: np.mean([a == b for a, b in zip(order(r)[:5], order(t)[:5], strict=True)]),
    "top5_set": lambda r, t, y: set(order(r)[:5]) == set(order(t)[:5]),
    "top5_set_outside_ties": lambda r, t, y: set_regret(r, t, y) <= 0,
    "top5_set_regret": set_regret,
    "total_variation": lambda r, t, y: np.abs(softmax(t) - softmax(r)).sum() / 2,
}


def pairs() -> list[tuple[np.ndarray, np.ndarray, int]]:
    """Rows near and far, short and long, with ties, and one whose best token leaves the ten best."""
    random = np.random.default_rng(5)
    made: list[tuple[np.ndarray, np.ndarray, int]] = []
    for size, noise, label in (
        (30, 0.05, 3),
        (30, 1.0, -1),
        (30, 6.0, 29),
        (120, 0.5, 110),
        (3, 0.5, 1),
        (9, 1.0, 0),
        (2, 2.0, 1),
    ):
        reference = random.normal(size=size) * 3
        made.append((reference, reference + random.normal(size=size) * noise, label))
    tied = np.array([5.0, 5.0, 4.0, 3.0, 3.0, 3.0, 2.0, 1.0])
    made += [(tied, tied[::-1] + 0.5, 2), (tied, np.where(np.arange(8) == 1, 6.0, tied), 0)]
    edge = np.where(np.arange(8) == 5, 3.5, tied)
    made += [(tied, edge, 7), (np.arange(40.0), np.arange(40.0)[::-1].copy(), 5)]
    return made


@pytest.mark.parametrize("name", sorted(FORMULAS))
def test_a_metric_is_its_formula(name: str) -> None:
    for number, (r, t, label) in enumerate(pairs()):
        observed = compare(r[None], t[None], labels=[label]).metrics[name][0]
        wanted = float(FORMULAS[name](r, t, label))
        assert observed == pytest.approx(wanted, rel=1e-9, abs=1e-12, nan_ok=True), number


def test_every_metric_of_a_position_has_its_formula_here() -> None:
    row = np.arange(4.0)
    assert set(FORMULAS) == set(compare(row[None], row[None] + 1, labels=[0]).metrics)


def test_options_are_kept_and_refused() -> None:
    assert (TopKOverlap().k, GreedyMatch().n, KlDivergenceFirst100().count, Logit().token, TieFlip().band) == (
        5,
        10,
        100,
        0,
        0.0,
    )
    assert TopKOverlap(k=1).k == 1 and TopKOverlap(k=10).k == 10 and GreedyMatch(n=1).n == 1
    assert KlDivergenceFirst100(count=2).count == 2
    for kind, options in (
        (TopKOverlap, {"k": 0}), (TopKOverlap, {"k": 11}), (GreedyMatch, {"n": 0}), (KlDivergenceFirst100, {"count": 1}),
        (Logit, {"token": -1}),
    ):  # fmt: skip
        with pytest.raises(ContractError, match=f"is {next(iter(options.values()))}"):
            kind(**options)  # type: ignore[operator]


def test_a_logit_is_of_the_token_that_is_named() -> None:
    rows = np.arange(6.0).reshape(2, 3)
    assert Logit(token=2).compute_rows(rows, rows * 3).tolist() == [4.0, 10.0]
    assert np.isnan(Logit(token=3).compute_rows(rows, rows)).tolist() == [True, True]


def test_continuations_agree_up_to_where_they_part() -> None:
    same = list(range(12))
    parted = [0, 1, 2, 9, 4, 5, 6, 7, 8, 9]
    assert GreedyMatch(n=3).compute(same, parted) == 1.0 and GreedyMatch(n=4).compute(same, parted) == 0.0
    assert GreedyTokens(n=4).compute(same, parted) == 0.75 and GreedyTokens(n=10).compute(same, parted) == 0.3
    assert GreedyTokens(n=3).compute(same, parted) == 1.0
    assert math.isnan(GreedyTokens(n=13).compute(same, same)) and GreedyTokens(n=12).compute(same, same) == 1.0
    assert GreedyTokens(n=10).compute(same[:5], same) == 0.5 and GreedyTokens(n=10).compute(same, same[:5]) == 0.5
    margins = np.array([1.0, np.nan, 0.5])
    assert TieFlip(band=0.5).compute([1, 2, 3], [1, 2, 4], margins) == 1.0
    assert TieFlip(band=0.49).compute([1, 2, 3], [1, 2, 4], margins) == 0.0
    assert math.isnan(TieFlip(band=9.0).compute([1, 2, 3], [1, 3, 4], margins))
    assert math.isnan(TieFlip(band=9.0).compute([1, 2, 3, 4], [1, 2, 3, 5], margins))


def test_a_tie_is_what_its_margin_says() -> None:
    judged = Top1OutsideTies.judged(np.array([0.0, 0.5, 0.51, np.nan, INF]), np.array([0.5]))
    assert judged[:3].tolist() == [1.0, 1.0, 0.0] and np.isnan(judged[3]) and judged[4] == 0.0


def test_experts_are_compared_as_sets_layer_by_layer() -> None:
    chosen = np.array([[[1, 2], [3, 4]], [[1, 2], [3, 4]]])
    reference = Routing((0, 1), chosen, np.full((2, 2, 2), 0.5))
    other = np.array([[[2, 1], [3, 5]], [[2, 1], [4, 3]]])
    candidate = Routing((0, 1), other, np.array([[[0.75, 0.5], [0.25, 0.25]], [[0.5, 0.5], [0.5, 0.75]]]))
    assert ExpertSet().compute(reference, candidate).tolist() == [0.5, 1.0]
    assert ExpertWeightSum().compute(reference, candidate).tolist() == [0.5, 0.25]
    assert ExpertSet().compute(reference, Routing((0, 1), other[:, :, :1], candidate.weights)).tolist() == [0.0, 0.0]
