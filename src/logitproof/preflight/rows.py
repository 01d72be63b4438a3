"""The logits as a dump: rows that were written once each, in their order, by a computation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

import numpy as np

from logitproof.preflight import Check, Finding, Seen
from logitproof.rows.top import is_top
from logitproof.traces.trace import Trace

COLUMNS = 4096
"""Entries of a row that are looked at, evenly spaced."""
NEEDED = 4
"""Positions from which on a shift of the rows can be told."""
SHARE = 0.1
"""Distance that shifting may leave of what there was, for the rows to count as shifted."""


class Rows(Check):
    """Every row finite, no row of one value, none written twice, none in the place of its neighbour."""

    codes: ClassVar[Mapping[str, str]] = {
        "PF501": "logits that are not finite",
        "PF502": "a row of one value",
        "PF503": "a row stands twice",
        "PF504": "rows stand in the place of their neighbours",
    }

    def look(self, seen: Seen) -> Iterator[Finding]:
        if seen.mode == "greedy":
            return
        tables = {"reference": _sample(seen.reference), "candidate": _sample(seen.candidate)}
        tables = {side: table for side, table in tables.items() if table.shape[1] > 1}
        for side, table in tables.items():
            trace = seen.reference if side == "reference" else seen.candidate
            yield from _own(side, trace, table, seen.prompt_id)
        is_whole = not (seen.reference.positions or seen.candidate.positions)
        if is_whole and seen.mode != "self" and len({table.shape for table in tables.values()}) == 1 < len(tables):
            yield from _shifted(tables["reference"], tables["candidate"], seen)


def _sample(trace: Trace) -> np.ndarray:
    """float64 [T, at most COLUMNS] of the logits that it holds; of best entries, their log-probabilities as they fall."""
    if is_top(trace.logits):
        return np.where(trace.logits["id"] >= 0, trace.logits["log_probability"], -np.inf).astype(np.float64)
    step = max(1, -(-trace.logits.shape[1] // COLUMNS))
    return np.asarray(trace.logits[trace.held, ::step] if trace.positions else trace.logits[:, ::step], np.float64)


def _own(side: str, trace: Trace, table: np.ndarray, prompt: str) -> Iterator[Finding]:
    ids = np.asarray(trace.token_ids)
    code, text = _fault(table, ids[trace.positions] if trace.positions else ids)
    if code:
        values = (text, "–") if side == "reference" else ("–", text)
        remedy = "look at how the rows are written: buffer, offset and order"
        yield Finding(code, "logits", *values, trace.engine, f"prompt {prompt}", remedy, f"of the {side}")


def _fault(table: np.ndarray, ids: np.ndarray) -> tuple[str, str]:
    bad = np.flatnonzero(np.isnan(table).any(axis=1) | np.isposinf(table).any(axis=1))
    if bad.size:
        return "PF501", f"position {bad[0]} is not finite"
    finite = np.isfinite(table)
    flat = np.flatnonzero(finite.any(axis=1) & (np.ptp(np.where(finite, table, 0.0), axis=1) == 0))
    if flat.size:
        return "PF502", f"position {flat[0]} has one value, {table[flat[0], 0]:g}"
    twice = np.flatnonzero((table[1:] == table[:-1]).all(axis=1) & (ids[1:] != ids[:-1]) & finite[1:].any(axis=1))
    if twice.size:
        return "PF503", f"position {twice[0] + 1} equals position {twice[0]}, after another token"
    return "", ""


def _shifted(reference: np.ndarray, candidate: np.ndarray, seen: Seen) -> Iterator[Finding]:
    if len(reference) < NEEDED or not (np.isfinite(reference).all() and np.isfinite(candidate).all()):
        return
    a, b = (table - table.mean(axis=1, keepdims=True) for table in (reference, candidate))
    here = float(np.linalg.norm(a[1:-1] - b[1:-1]))
    for offset, text in ((1, "row t is the reference's row t+1"), (-1, "row t is the reference's row t-1")):
        there = float(np.linalg.norm(a[1 + offset : len(a) - 1 + offset] - b[1:-1]))
        if there < SHARE * here:
            yield Finding(
                "PF504", "logits", "row t predicts token t+1", text, seen.candidate.engine, f"prompt {seen.prompt_id}",
                "hand over the row that was computed after token t, for every t",
            )  # fmt: skip
