"""The right sampler: from logits to the probabilities that are drawn from, in the order that the field uses.

The order is that of transformers' logits processors and warpers: repetition penalty, temperature, top-k,
top-p, min-p, softmax. A greedy choice applies the repetition penalty and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from logitproof.errors import ContractError
from logitproof.rows.probability import softmax as softmax


@dataclass(frozen=True)
class Sampling:
    """Settings of a sampler. `temperature` 0 is greedy; `top_k` 0, `top_p` 1 and `min_p` 0 leave nothing out."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, right in (
            ("temperature", self.temperature >= 0),
            ("top_k", self.top_k >= 0),
            ("top_p", 0 < self.top_p <= 1),
            ("min_p", 0 <= self.min_p <= 1),
            ("repetition_penalty", self.repetition_penalty > 0),
        ):
            if not right:
                raise ContractError(f"{name} {getattr(self, name)} makes no sense", where=f"sampling.{name}")


NEUTRAL = Sampling()
LOUD = (
    Sampling(temperature=4.0, top_k=4, seed=1),
    Sampling(top_p=0.7, seed=2),
    Sampling(min_p=0.15, seed=3),
    Sampling(top_k=6, repetition_penalty=1.3, seed=4),
    Sampling(temperature=0.3, top_k=8, seed=6),
)
"""Settings under which bugs of samplers are loud. No two filters that engines put in different orders stand together."""
ORDER = Sampling(temperature=3.0, top_p=0.6, seed=5)
"""Here transformers scales before it filters and llama.cpp after it: either may be right."""


def penalized(logits: np.ndarray, token_ids: Sequence[int], penalty: float) -> np.ndarray:
    """Logits [V] in float64 after the repetition penalty of CTRL (Keskar et al. 2019): positive ones of tokens that
    stand in `token_ids` are divided by it, negative ones multiplied."""
    out = np.asarray(logits, np.float64).copy()
    if penalty != 1.0 and len(token_ids):
        seen = np.unique(np.asarray(token_ids, np.int64))
        out[seen] = np.where(out[seen] > 0, out[seen] / penalty, out[seen] * penalty)
    return out


def probabilities(logits: np.ndarray, token_ids: Sequence[int], sampling: Sampling) -> np.ndarray:
    """Probabilities [V] in float64 that the next token is drawn from; at temperature 0 all of it on the first argmax."""
    scores = penalized(logits, token_ids, sampling.repetition_penalty)
    if sampling.temperature == 0:
        out = np.zeros(scores.size)
        out[int(scores.argmax())] = 1.0
        return out
    scores = scores / sampling.temperature
    if 0 < sampling.top_k < scores.size:
        scores = np.where(scores < np.partition(scores, -sampling.top_k)[-sampling.top_k], -np.inf, scores)
    if sampling.top_p < 1.0:
        scores = np.where(nucleus(softmax(scores), sampling.top_p), scores, -np.inf)
    if sampling.min_p > 0.0:
        p = softmax(scores)
        scores = np.where(p < sampling.min_p * p.max(), -np.inf, scores)
    return softmax(scores)


def scaled_last(logits: np.ndarray, token_ids: Sequence[int], sampling: Sampling) -> np.ndarray:
    """Probabilities [V] where the temperature comes after all filters."""
    left = probabilities(logits, token_ids, replace(sampling, temperature=1.0)) > 0
    scores = penalized(logits, token_ids, sampling.repetition_penalty)
    return softmax(np.where(left, scores / sampling.temperature, -np.inf))


def nucleus(p: np.ndarray, top_p: float) -> np.ndarray:
    """Which of the probabilities [V] belong to the smallest set, best first, whose mass reaches `top_p`.

    The token that reaches it belongs to the set (Holtzman et al. 2020).
    """
    order = np.argsort(-p, kind="stable")
    before = np.cumsum(p[order]) - p[order]
    inside = np.zeros(p.size, bool)
    inside[order[before < top_p]] = True
    return inside


def choose(logits: np.ndarray, token_ids: Sequence[int], sampling: Sampling, rng: np.random.Generator) -> int:
    """The next token after `token_ids`: argmax (the lowest id of a tie) at temperature 0, else one draw."""
    return draw(probabilities(logits, token_ids, sampling), rng)


def draw(p: np.ndarray, rng: np.random.Generator) -> int:
    """One draw from probabilities [V]: the first token, by id, whose cumulated mass passes one uniform random number.

    One number is used whatever the probabilities are, so that the noise of a seed can be told without them.
    """
    cumulated = np.cumsum(p)
    return int(np.searchsorted(cumulated, rng.random() * cumulated[-1], side="right").clip(0, int(np.flatnonzero(p)[-1])))
