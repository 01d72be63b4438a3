"""The logits as a dump: rows that were written once each, in their order, by a computation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

import numpy as np

from logitproof.files.mapped import picked
from logitproof.preflight import Check, Finding, Seen
from logitproof.rows.top import is_top
from logitproof.rows.transform import Kind, Transform, between, by_themselves
from logitproof.traces.trace import Trace

COLUMNS = 4096
"""Entries of a row that are looked at, evenly spaced."""
ENTRIES, FEWEST = 1 << 20, 256
"""Entries of all rows that are looked at, unless that left fewer of a row than so many."""
CODES: Mapping[Kind, str] = {"place": "PF504", "no logits": "PF505", "byte order": "PF506", "prompt": "PF507"}
"""What each kind of transform is called here; a curve may be a bug of the engine, and is no fault of the set-up."""


class Rows(Check):
    """Every row finite, of logits, with more than one value, none written twice, none in the place of another."""

    codes: ClassVar[Mapping[str, str]] = {
        "PF501": "logits that are not finite",
        "PF502": "a row of one value",
        "PF503": "a row stands twice",
        "PF504": "rows stand in the place of others: shifted, in reverse or transposed",
        "PF505": "rows that are no logits: probabilities, or another function of them",
        "PF506": "rows whose numbers have their bytes in the other order",
        "PF507": "rows of another prompt",
    }

    def look(self, seen: Seen) -> Iterator[Finding]:
        for side, trace in (("reference", seen.reference), ("candidate", seen.candidate)):
            if not is_top(trace.logits) and (transform := by_themselves(trace.logits)) is not None:
                yield _transformed(transform, trace, seen, f"of the {side}")
                return
        if seen.mode == "greedy":
            return
        tables = {"reference": _sample(seen.reference), "candidate": _sample(seen.candidate)}
        tables = {side: table for side, table in tables.items() if table.shape[1] > 1}
        for side, table in tables.items():
            trace = seen.reference if side == "reference" else seen.candidate
            yield from _own(side, trace, table, seen.prompt_id)
        is_whole = not (seen.reference.positions or seen.candidate.positions)
        if is_whole and seen.mode != "self" and not is_top(seen.reference.logits) and not is_top(seen.candidate.logits):
            transform = between(seen.reference.logits, seen.candidate.logits, seen.others)
            if transform is not None and transform.kind in CODES:
                yield _transformed(transform, seen.candidate, seen)


def _sample(trace: Trace) -> np.ndarray:
    """float64 [T, at most COLUMNS] of the logits that it holds; of best entries, their log-probabilities as they fall."""
    if is_top(trace.logits):
        return np.where(trace.logits["id"] >= 0, trace.logits["log_probability"], -np.inf).astype(np.float64)
    step = max(1, -(-trace.logits.shape[1] // min(COLUMNS, max(FEWEST, ENTRIES // max(len(trace.logits), 1)))))
    table = picked(trace.logits, slice(None, None, step))
    return np.asarray(table[trace.held] if trace.positions else table, np.float64)


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


def _transformed(transform: Transform, trace: Trace, seen: Seen, whose: str = "") -> Finding:
    wanted = "row t predicts token t+1" if transform.kind == "place" else "logits of the prompt's tokens"
    place = f"prompt {seen.prompt_id}"
    return Finding(CODES[transform.kind], "logits", wanted, transform.text, trace.engine, place, transform.remedy, whose)
