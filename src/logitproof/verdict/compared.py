"""The rows of a cell: what two traces of one prompt differ by, or why there is no comparison."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from logitproof import catalog
from logitproof.comparison.compare import Comparison, compare, spread
from logitproof.documents.columns import array
from logitproof.errors import EngineError, EngineGarbage, LogitproofError
from logitproof.jobs.cell import Cell, Pair
from logitproof.metrics import PromptMetric
from logitproof.rows.distance import first_difference
from logitproof.traces.trace import Failure, Trace
from logitproof.verdict.routed import with_routing

Results = Mapping[str, Trace | Failure]


def compare_cells(cells: Iterable[Cell], results: Results) -> dict[Cell, list[Compared]]:
    """Compare every pair of traces of every cell."""
    return {cell: [_planned(_compare_pair(pair, cell, results), results) for pair in cell.pairs] for cell in cells}


def _planned(row: Compared, results: Results) -> Compared:
    """The row with what was planned: all that the reference gives; where both run free, up to where they part."""
    reference = results[row.pair.reference]
    if isinstance(reference, Failure):
        return row
    return replace(row, planned=row.comparison.positions if row.whole and row.comparison else len(reference.held))


def _compare_pair(pair: Pair, cell: Cell, results: Results) -> Compared:
    """Compare the two traces of a prompt; any failure stands where the comparison would."""
    reference, candidate = results[pair.reference], results[pair.candidate]
    if isinstance(reference, Failure):
        return Compared(pair, failure=reference)
    if isinstance(candidate, Failure):
        return Compared(pair, failure=candidate)
    if pair.tokenized is not None and (failure := _tokenized_otherwise(pair, results)):
        return Compared(pair, failure=failure)
    try:
        if cell.mode == "greedy":
            return _compare_greedy(pair, reference, candidate)
        labels = np.array([*reference.token_ids[1:], -1], np.int64)
        source = results[pair.source]
        length = source.prompt_length if isinstance(source, Trace) else reference.prompt_length
        comparison, unrouted = with_routing(_of_held(reference, candidate, labels), reference, candidate)
        return Compared(pair, length, comparison, token_ids=tuple(reference.token_ids), unrouted=unrouted)
    except EngineError as error:
        return Compared(pair, failure=_failure(pair.candidate, cell, error))


def _of_held(reference: Trace, candidate: Trace, labels: np.ndarray) -> Comparison:
    """The comparison of the rows that both sides hold; a position that one does not hold is not measured."""
    if not (reference.positions or candidate.positions):
        return _finite(compare(reference.logits, candidate.logits, labels=labels), reference, candidate)
    sides = {"reference": reference, "candidate": candidate}
    if reference.logits.shape[0] != candidate.logits.shape[0]:
        text = f"{candidate.logits.shape[0]} positions, the reference has {reference.logits.shape[0]}"
        raise EngineGarbage(text, where=candidate.engine, remedy="both must score the same tokens")
    common = sorted(set(reference.held) & set(candidate.held))
    if not common:
        words = "; ".join(f"the {side} holds {list(trace.held)[:8]}" for side, trace in sides.items())
        raise EngineGarbage(f"no position is held by both sides: {words}", where=candidate.engine, remedy="dump the same ones")
    rows = compare(reference.logits[common], candidate.logits[common], labels=labels[common])
    return spread(_finite(rows, reference, candidate), common, labels)


def _compare_greedy(pair: Pair, reference: Trace, candidate: Trace) -> Compared:
    """Free-running rows are comparable up to and including the first divergence."""
    tokens, candidate_tokens = reference.new_token_ids, candidate.new_token_ids
    if not tokens:
        return Compared(
            pair,
            failure=Failure(
                pair.reference,
                reference.engine,
                "setup",
                "the reference continued by no token",
                remedy="raise the suite's max_new_tokens or drop the greedy mode",
            ),
        )
    same = first_difference(tokens, candidate_tokens)
    rows = min(same + 1, len(tokens), len(candidate_tokens))
    if rows == 0:
        return Compared(pair, failure=Failure(pair.candidate, candidate.engine, "engine", "the candidate generated no token"))
    labels = np.array(tokens[:rows], np.int64)
    comparison = _finite(compare(reference.logits[:rows], candidate.logits[:rows], labels=labels), reference, candidate)
    margins = comparison.metrics["margin"]
    whole = {name: float(metric.compute(tokens, candidate_tokens, margins)) for name, metric in _prompt_metrics().items()}
    sequence = (*reference.token_ids, *tokens)
    return Compared(pair, 0, comparison, None, whole, token_ids=sequence, start=len(reference.token_ids) - 1)


def _finite(comparison: Comparison, reference: Trace, candidate: Trace) -> Comparison:
    """The comparison, unless a position holds what no engine may give: a masked entry in one row only, say."""
    if (bad := comparison.nonfinite).size == 0:
        return comparison
    at = int(bad[0])
    side = "reference" if comparison.table["nonfinite_reference"][at].as_py() else "candidate"
    trace = reference if side == "reference" else candidate
    raise EngineGarbage(
        f"{bad.size} positions cannot be compared, the first at {at}: the {side} is infinite where the other is not",
        where=trace.engine,
        remedy="mask the same vocabulary entries in both engines, or none",
    )


@functools.cache
def _prompt_metrics() -> dict[str, PromptMetric]:
    kinds = {name: catalog.load("metrics", name) for name in catalog.entries("metrics")}
    return {name: kind() for name, kind in kinds.items() if issubclass(kind, PromptMetric)}


def _tokenized_otherwise(pair: Pair, results: Results) -> Failure | None:
    """Whether the candidate would feed itself other tokens than it is scored on: a set-up fault."""
    own, source = results[pair.tokenized or ""], results[pair.source]
    if isinstance(own, Failure):
        return own
    if not isinstance(source, Trace) or own.token_ids == source.token_ids:
        return None
    token_ids, candidate_ids = source.token_ids, own.token_ids
    at = first_difference(token_ids, candidate_ids)
    return Failure(
        pair.candidate,
        own.engine,
        "setup",
        f"tokenizes the prompt otherwise than the reference: at index {at} it has {candidate_ids[at : at + 4]}, "
        f"the reference {token_ids[at : at + 4]} ({len(candidate_ids)} tokens against {len(token_ids)})",
        where=f"prompt {pair.prompt.id}",
        remedy="look at BOS, special tokens and the pre-tokenizer of the candidate's file",
    )


def _failure(key: str, cell: Cell, error: LogitproofError) -> Failure:
    return Failure(key, cell.candidate_name, "engine", error.text, error.where, error.remedy)


@dataclass(frozen=True)
class Compared:
    """One prompt of one cell: the comparison of its two traces, or the failure that stands in its place.

    `whole` holds metrics with one value a prompt (greedy match, first divergence). Row t is position `start` + t of
    the sequence `token_ids`.
    """

    pair: Pair
    prompt_length: int = 0
    comparison: Comparison | None = None
    failure: Failure | None = None
    whole: Mapping[str, float] = field(default_factory=dict)
    token_ids: tuple[int, ...] = ()
    start: int = 0
    planned: int = 0
    """rows that the reference gives; 0 where it gives none"""
    remark: str = ""
    """what became of the right rows, where one transform says it"""
    unrouted: str = ""
    """why nobody sees which experts were chosen, where a gate asks for that"""


def known_distance(row: Compared) -> float:
    """How far a prompt's rows are from the reference in the mean, by what is known of them; 0 where nothing is."""
    for name in ("rms_delta_logit", "rms_delta_known", "kl_divergence_lower"):
        values = np.asarray(row.comparison.metrics.get(name, ()) if row.comparison else (), np.float64)
        if (measured := values[np.isfinite(values)]).size:
            return float(measured.mean())
    return 0.0


def values_of(row: Compared, metric: str) -> np.ndarray:
    """[T] values of a metric in one prompt: one a position, or a single one for metrics of whole prompts."""
    if metric in row.whole:
        return np.array([row.whole[metric]], np.float64)
    if row.comparison is not None and metric in row.comparison.names:
        return np.asarray(array(row.comparison.table[metric]), np.float64)
    return np.empty(0)
