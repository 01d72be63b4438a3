"""Metrics: one number a position (or a prompt) that says how far the candidate is from the reference.

To add one, put a file here (or in a package of yours, under the entry-point group `logitproof.metrics`).
The file's name is the metric's name in a contract; the one subclass of `Metric` in it is the metric; its
dataclass fields are its options; its docstring is its help. It computes from the statistics that
`rowstats` has read already (see `rowstats.STATS` for every field), so it costs nothing:

    @dataclass
    class MaxLogit(Metric):
        "The candidate's largest logit less the reference's."
        unit: ClassVar[str] = "logits"
        better: ClassVar[Better] = "zero"
        formula: ClassVar[str] = "max z_t - max z_r"

        def compute(self, stats):
            return stats.max_candidate - stats.max_reference

z_r and z_t are the logits of reference and candidate, p = softmax(z_r), q = softmax(z_t), y is the next
token. NaN means not measured: it is counted apart and never averaged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

if TYPE_CHECKING:
    from logitproof.rows.routing import Routing
    from logitproof.rows.statistics import RowStats

Better = Literal["lower", "higher", "zero", "one", "none"]
"""Which way is good. `zero` and `one`: the nearer the better; `none`: it describes the reference alone."""


class Metric:
    """One value a position. Subclasses are dataclasses of options."""

    unit: ClassVar[str]
    better: ClassVar[Better]
    formula: ClassVar[str]
    least: ClassVar[float] = -math.inf
    greatest: ClassVar[float] = math.inf
    """Between which values it lies whatever the rows are; what is calculated for it lies there too."""

    def compute(self, stats: RowStats) -> np.ndarray:
        """float64 [T] from the statistics of T positions; NaN where it cannot be measured."""
        raise NotImplementedError


class RowMetric(Metric):
    """One value a position, from both rows themselves where the statistics do not hold it."""

    def compute(self, stats: RowStats) -> np.ndarray:
        """Not measured without the rows."""
        return np.full(len(stats), np.nan)

    def compute_rows(self, reference: np.ndarray, candidate: np.ndarray) -> np.ndarray:
        """float64 [T] from the rows [T, V] of both sides; NaN where it cannot be measured."""
        raise NotImplementedError


class TiedMetric(Metric):
    """Whether two rows agree but for ties of the reference: 1 where `shortfall` is at most what makes a tie, else 0.

    `strict` and `shortfall` are metrics by name: what it is without the leave for ties, and the distance in the reference's
    logits by which the two disagree. The verdict takes the tie margin of the cell's band; alone, only equal logits are a tie.
    """

    strict: ClassVar[str]
    shortfall: ClassVar[str]

    def compute(self, stats: RowStats) -> np.ndarray:
        """Ties of equal logits alone."""
        from logitproof import catalog

        return self.judged(np.asarray(catalog.load("metrics", self.shortfall)().compute(stats), np.float64), np.zeros(1))

    @staticmethod
    def judged(shortfall: np.ndarray, margins: np.ndarray) -> np.ndarray:
        """float64 [T] by the margins [T] or [1], in logits."""
        return np.where(np.isnan(shortfall), np.nan, shortfall <= margins)


class RoutingMetric:
    """One value a position, from what the routers of both sides chose. Subclasses are dataclasses of options.

    It is measured where a gate of the contract asks for one and both engines offer the taps of their routers.
    """

    unit: ClassVar[str]
    better: ClassVar[Better]
    formula: ClassVar[str]
    least: ClassVar[float] = -math.inf
    greatest: ClassVar[float] = math.inf

    def compute(self, reference: Routing, candidate: Routing) -> np.ndarray:
        """float64 [T] from the routing of the same layers of both sides."""
        raise NotImplementedError


class PromptMetric:
    """One value a prompt, from two free-running greedy continuations. Subclasses are dataclasses of options."""

    unit: ClassVar[str]
    better: ClassVar[Better]
    formula: ClassVar[str]
    least: ClassVar[float] = -math.inf
    greatest: ClassVar[float] = math.inf

    def compute(self, reference_ids: Sequence[int], candidate_ids: Sequence[int], margins: np.ndarray | None = None) -> float:
        """One number from the new ids of both; NaN where it cannot be measured.

        `margins` [N] are the reference's top-1 less top-2 logits at each of its new tokens.
        """
        raise NotImplementedError
