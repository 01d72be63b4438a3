"""Two logit arrays in, metrics of every position out; and the summary of many prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from logitproof.documents.columns import array, table_of
from logitproof.documents.frames import Frame, frame
from logitproof.documents.shown import Shown
from logitproof.errors import EngineGarbage
from logitproof.metrics import Metric, RowMetric
from logitproof.rows.bounds import known_row, measure, nonfinite, ranked
from logitproof.rows.top import is_top

SHOWN = 5  # best tokens of both rows in the table
_COLUMNS = ("position", "label", "support", "nonfinite_reference", "nonfinite_candidate")


@dataclass(frozen=True)
class Comparison(Shown):
    """Candidate against reference, position by position.

    `table` has one row a position: `position`, `label` (-1: none), `support` (ids not masked), a float64
    column of each metric of `names`, `top5_ids_*` and `top5_logits_*` of both sides, and
    `nonfinite_reference` and `nonfinite_candidate`: how many logits are not finite. A position that has
    any is not measured (NaN in every metric), and its engine has failed. In a notebook it shows what they come to.
    """

    LAYOUT: ClassVar[str] = "logitproof.comparison.text"

    table: pa.Table
    names: tuple[str, ...]

    @property
    def positions(self) -> int:
        return int(self.table.num_rows)

    def frame(self, kind: Frame = "arrow") -> Any:
        """`table`, or the same rows as a DataFrame of pandas or polars, which must be installed then."""
        return frame(self.table, kind)

    @property
    def metrics(self) -> dict[str, np.ndarray]:
        """float64 [T] of every metric; NaN where it was not measured."""
        return {name: array(self.table[name]) for name in self.names}

    @property
    def nonfinite(self) -> np.ndarray:
        """Positions at which either row holds a logit that is not finite, or both hold nothing but -inf."""
        bad = array(self.table["nonfinite_reference"]) + array(self.table["nonfinite_candidate"])
        return np.flatnonzero((bad > 0) | (array(self.table["support"]) == 0))


def compare(
    reference: np.ndarray,
    candidate: np.ndarray,
    metrics: Mapping[str, Metric] | None = None,
    *,
    labels: Sequence[int] | np.ndarray,
    threads: int | None = None,
) -> Comparison:
    """Compare two logit arrays [T, V]; `labels` [T] holds the token that follows each position or -1.

    `metrics` are by name; without them every metric of the catalogue that has one value a position is
    computed, with its default options. Rows that cannot be paired raise EngineGarbage. Where a side holds
    the best entries of its rows only (`toprows.TOP`), KL divergence is bounded and what these entries do
    not settle is not measured.
    """
    following = np.asarray(labels, np.int64)
    if is_top(reference) or is_top(candidate):
        _pair_up_top(reference, candidate, following)
        return _compare_top(reference, candidate, following, tuple(all_metrics() if metrics is None else metrics))
    _pair_up(reference, candidate, following)
    return compare_logits(reference, candidate, following, all_metrics() if metrics is None else metrics, threads)


def prepare() -> None:
    """Import the compiled comparison, which takes as long as an engine takes to start; whoever waits for one may do it then."""
    from logitproof.rows.statistics import row_statistics

    row_statistics(np.zeros((1, 2), np.float32), np.zeros((1, 2), np.float32), np.zeros(1, np.int64))


def compare_logits(
    reference: np.ndarray,
    candidate: np.ndarray,
    labels: np.ndarray,
    metrics: Mapping[str, Metric],
    threads: int | None = None,
) -> Comparison:
    """`compare` for arrays that are known to pair up; of bfloat16 the bits are taken too, as uint16."""
    from logitproof.rows.statistics import row_statistics

    of_rows = {name: metric for name, metric in metrics.items() if isinstance(metric, RowMetric)}
    seen = {name: np.full(len(labels), np.nan) for name in of_rows}

    def look(part: slice, reference_rows: np.ndarray, candidate_rows: np.ndarray) -> None:
        for name, metric in of_rows.items():
            seen[name][part] = metric.compute_rows(reference_rows, candidate_rows)

    stats = row_statistics(reference, candidate, labels, threads, look if of_rows else None)
    values = {name: _values(stats, seen[name] if name in seen else metrics[name].compute(stats)) for name in metrics}
    columns: dict[str, Any] = {"position": np.arange(len(labels))}
    columns |= {name: np.ascontiguousarray(stats[name]) for name in _COLUMNS[1:]} | values
    for side in ("reference", "candidate"):
        for shown, field in (("ids", "ids"), ("logits", "top")):
            columns[f"top{SHOWN}_{shown}_{side}"] = stats[f"{field}_{side}"][:, :SHOWN]
    return Comparison(table_of(columns), tuple(values))


def spread(comparison: Comparison, positions: Sequence[int], labels: np.ndarray) -> Comparison:
    """The comparison of some `positions` as that of all T of `labels` [T]; the others are not measured."""
    index = np.full(len(labels), -1)
    index[list(positions)] = np.arange(len(positions))
    taken = comparison.table.take(pa.array([None if at < 0 else at for at in index.tolist()], pa.int64()))
    fixed = {"position": np.arange(len(labels)), "label": labels}
    # a position that nobody gave is no fault of its row: nothing in it is infinite, and its support is not empty
    fixed |= {name: array(taken[name].fill_null(int(name == "support"))) for name in _COLUMNS[2:]}
    fixed |= {name: array(taken[name].fill_null(np.nan)) for name in comparison.names}
    for side in ("reference", "candidate"):
        for shown, empty in (("ids", -1), ("logits", np.nan)):
            name = f"top{SHOWN}_{shown}_{side}"
            values = np.full((len(labels), SHOWN), empty)
            values[list(positions)] = array(comparison.table[name])
            fixed[name] = values
    return Comparison(table_of({name: fixed[name] for name in comparison.table.column_names}), comparison.names)


def _values(stats: Any, values: np.ndarray) -> np.ndarray:
    """float64 [T] of a metric; nothing where a row is not finite."""
    bad = stats.nonfinite_reference + stats.nonfinite_candidate > 0
    return np.where(bad, np.nan, np.asarray(values, np.float64))


def all_metrics() -> dict[str, Metric]:
    """Every metric of the catalogue that has one value a position, with its default options, by name."""
    from logitproof import catalog

    kinds = {name: catalog.load("metrics", name) for name in catalog.entries("metrics")}
    return {name: kind() for name, kind in kinds.items() if issubclass(kind, Metric)}


def _pair_up(reference: np.ndarray, candidate: np.ndarray, labels: np.ndarray) -> None:
    """Raise EngineGarbage, saying observed, allowed and where, unless the rows can be compared."""
    for side, logits in (("reference", reference), ("candidate", candidate)):
        if logits.ndim != 2 or logits.dtype.kind != "f":
            raise _unpaired(side, f"{logits.dtype} of shape {list(logits.shape)}", "floating point of shape [T, V]")
    if 0 in reference.shape:
        raise _unpaired("reference", f"logits of shape {list(reference.shape)}", "at least one position and one token")
    if candidate.shape[1] != reference.shape[1]:
        raise _unpaired(
            "candidate", f"a vocabulary of {candidate.shape[1]}", f"the reference's {reference.shape[1]}", "logits, axis V"
        )
    if candidate.shape[0] != reference.shape[0]:
        raise _unpaired(
            "candidate", f"{candidate.shape[0]} positions", f"the reference's {reference.shape[0]}", "logits, axis T"
        )
    if labels.shape != (reference.shape[0],):
        raise _unpaired("labels", f"shape {list(labels.shape)}", f"shape [{reference.shape[0]}]")
    wrong = np.flatnonzero((labels < -1) | (labels >= reference.shape[1]))
    if wrong.size:
        at = int(wrong[0])
        allowed = f"ids from 0 to {reference.shape[1] - 1}, or -1 where there is none"
        raise _unpaired("labels", f"id {labels[at]}", allowed, f"position {at}")


def _compare_top(reference: np.ndarray, candidate: np.ndarray, labels: np.ndarray, names: tuple[str, ...]) -> Comparison:
    """`compare` where a side holds the best entries of its rows only."""
    sides = {"reference": reference, "candidate": candidate}
    vocab = next((rows.shape[1] for rows in sides.values() if not is_top(rows)), None)
    columns: dict[str, Any] = {"position": np.arange(len(labels)), "label": labels}
    columns |= {name: np.zeros(len(labels), np.int64) for name in _COLUMNS[2:]}
    columns |= {name: np.full(len(labels), np.nan) for name in names}
    best = {side: (np.full((len(labels), SHOWN), -1), np.full((len(labels), SHOWN), np.nan)) for side in sides}
    for at, label in enumerate(labels.tolist()):
        bad = {side: nonfinite(rows[at]) for side, rows in sides.items()}
        for side, count in bad.items():
            columns[f"nonfinite_{side}"][at] = count
        if any(bad.values()):
            continue
        known = {side: known_row(rows[at], vocab) for side, rows in sides.items()}
        columns["support"][at] = max(len(np.union1d(known["reference"].ids, known["candidate"].ids)), 1)
        if not all(len(row.ids) for row in known.values()):
            continue
        for name, value in measure(known["reference"], known["candidate"], label).items():
            if name in columns:
                columns[name][at] = value
        for side, (ids, values) in best.items():
            chosen = ranked(known[side])[:SHOWN]
            ids[at, : len(chosen)] = chosen
            values[at, : len(chosen)] = known[side].log_p[np.searchsorted(known[side].ids, chosen)]
    for side, pair in best.items():
        for shown, values in zip(("ids", "logits"), pair, strict=True):
            columns[f"top{SHOWN}_{shown}_{side}"] = values
    return Comparison(table_of(columns), names)


def _pair_up_top(reference: np.ndarray, candidate: np.ndarray, labels: np.ndarray) -> None:
    """`_pair_up` where a side has no vocabulary to compare; what it names must be inside the other's."""
    sides = {"reference": reference, "candidate": candidate}
    for side, rows in sides.items():
        if rows.ndim != 2 or 0 in rows.shape or not (is_top(rows) or rows.dtype.kind == "f"):
            raise _unpaired(side, f"{rows.dtype} of shape {list(rows.shape)}", "rows of shape [T, V], or best entries [T, K]")
        if len(rows) != len(reference):
            raise _unpaired(side, f"{len(rows)} positions", f"the reference's {len(reference)}", "logits, axis T")
    if labels.shape != (len(reference),):
        raise _unpaired("labels", f"shape {list(labels.shape)}", f"shape [{len(reference)}]")
    vocab = next((rows.shape[1] for rows in sides.values() if not is_top(rows)), None)
    for side, rows in sides.items():
        if vocab is not None and is_top(rows) and (largest := int(rows["id"].max())) >= vocab:
            raise _unpaired(side, f"id {largest}", f"ids below the other side's vocabulary of {vocab}", "best entries")


def _unpaired(side: str, observed: str, allowed: str, place: str = "") -> EngineGarbage:
    return EngineGarbage(
        f"observed {observed}, allowed {allowed}",
        where=f"{side}, {place}" if place else side,
        remedy="both engines must score the same tokens with the same vocabulary, one row a position",
    )
