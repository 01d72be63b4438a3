"""Free-running greedy agreement: match rates with Wilson intervals, where continuations part, and at what cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from logitproof.comparison.chance import wilson
from logitproof.rows.distance import first_difference

EDGES = (0, 1, 5, 10, 25, 50, 100, 200)


@dataclass(frozen=True)
class Continuation:
    """One prompt's two free-running continuations. `shared` tokens agree; `margin` and `regret` are the reference's
    logit margin and the candidate's regret in nats where they part (None where they do not)."""

    prompt: str
    bucket: str
    reference: tuple[int, ...]
    candidate: tuple[int, ...]
    margin: float | None = None
    regret: float | None = None

    @property
    def shared(self) -> int:
        return first_difference(self.reference, self.candidate)

    @property
    def parted(self) -> bool:
        return self.reference != self.candidate

    def matched(self, n: int, tie: float = 0.0) -> tuple[int, int]:
        """(tokens that agree, tokens compared) among the first `n`.

        A continuation that ended early is compared as far as the longer one goes. After the first divergence
        nothing agrees: what follows answers another text. With `tie`, a prompt that parts where the reference's own
        margin is at most `tie` logits is compared up to there: neither token is wrong, and what follows says nothing.
        """
        length = min(n, max(len(self.reference), len(self.candidate)))
        if tie and self.parted and self.margin is not None and self.margin <= tie:
            return min(self.shared, length), min(self.shared, length)
        return min(self.shared, length), length


@dataclass(frozen=True)
class Rate:
    """A share with its 95 % Wilson interval."""

    hits: int
    trials: int

    @property
    def value(self) -> float:
        return self.hits / self.trials if self.trials else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.hits, self.trials)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.2%} ({self.hits} of {self.trials}; 95 % {low:.2%} to {high:.2%})"


def token_rate(continuations: Sequence[Continuation], n: int, tie: float = 0.0) -> Rate:
    """Share of the first `n` tokens of all prompts that agree."""
    counts = [continuation.matched(n, tie) for continuation in continuations]
    return Rate(sum(hits for hits, _ in counts), sum(trials for _, trials in counts))


def prompt_rate(continuations: Sequence[Continuation], n: int, tie: float = 0.0) -> Rate:
    """Share of prompts whose first `n` tokens all agree."""
    counts = [continuation.matched(n, tie) for continuation in continuations]
    return Rate(sum(hits == trials for hits, trials in counts), len(counts))


def histogram(continuations: Sequence[Continuation]) -> dict[str, int]:
    """How many prompts part at which new token (from 0), and how many never do."""
    counts = {_label(low, high): 0 for low, high in _bins()} | {"never": 0}
    for continuation in continuations:
        if not continuation.parted:
            counts["never"] += 1
        else:
            counts[
                next(
                    _label(low, high)
                    for low, high in _bins()
                    if low <= continuation.shared and (high is None or continuation.shared < high)
                )
            ] += 1
    return counts


def worst(continuations: Sequence[Continuation], count: int = 10) -> list[Continuation]:
    """Prompts that part first, those with the larger regret before the others."""
    parted = [continuation for continuation in continuations if continuation.parted]
    return sorted(parted, key=lambda continuation: (continuation.shared, -(continuation.regret or 0.0)))[:count]


def _bins() -> list[tuple[int, int | None]]:
    return list(zip(EDGES, [*EDGES[1:], None], strict=True))


def _label(low: int, high: int | None) -> str:
    return f"{low}+" if high is None else str(low) if high == low + 1 else f"{low}-{high - 1}"
