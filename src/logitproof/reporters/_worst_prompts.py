"""The worst prompts of a report with their texts, in Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from logitproof.documents.wording import code, number, words
from logitproof.report.report import Report, parting, position_record
from logitproof.reporters._table_lines import table_lines
from logitproof.traces.trace import Trace
from logitproof.verdict.compared import Compared
from logitproof.verdict.judge import CellVerdict

WORST = 8
"""Prompts that are shown with their texts."""
TEXTS = 3
"""Scored prompts of them whose text is shown."""
COMMON = 160
"""Characters of the text before the token where two continuations part."""


def worst_prompts(report: Report) -> Iterator[str]:
    """Prompts by their worst position, worst first; those of controls are wrong on purpose and left out."""
    ranked = []
    for cell in report.verdict.cells:
        for row in report.compared[cell.cell]:
            if row.comparison is not None and not cell.expected and _measured(row).size:
                ranked.append((float(_measured(row).max()), cell, row))
    if not ranked:
        return
    ranked.sort(key=lambda entry: -entry[0])
    greedy = [entry for entry in ranked if entry[1].cell.mode == "greedy"]
    yield "## Worst prompts"
    yield ""
    for _, cell, row in greedy[:WORST]:
        yield from _parting(report, cell, row)
    for _, cell, row in [entry for entry in ranked if entry[1].cell.mode != "greedy"][:TEXTS]:
        yield from _worst_text(report, cell, row)
    head = ["cell", "prompt", "position", "KL (nats)", "token that follows", "reference's top 5", "candidate's top 5"]
    teacher = [entry for entry in ranked if entry[1].cell.mode != "greedy"][:WORST]
    yield from table_lines(head, (_worst_row(report, cell, row) for _, cell, row in teacher))


def _measured(row: Compared) -> np.ndarray:
    values = row.comparison.metrics["kl_divergence"] if row.comparison else np.empty(0)
    return values[~np.isnan(values)]


def _worst_row(report: Report, cell: CellVerdict, row: Compared) -> list[str]:
    assert row.comparison is not None
    at = int(np.nanargmax(row.comparison.metrics["kl_divergence"]))
    record = position_record(row.comparison, at)
    label = code(report.text(cell.cell.model, [record["label"]])) if record["label"] >= 0 else "–"
    return [
        code(cell.cell.id),
        words(row.pair.prompt.id),
        str(at),
        number(record["metrics"]["kl_divergence"]),
        label,
        _top5(report, cell, record["top5_reference"]),
        _top5(report, cell, record["top5_candidate"]),
    ]


def _worst_text(report: Report, cell: CellVerdict, row: Compared) -> Iterator[str]:
    """The text of a scored prompt up to its worst position, and what follows there on both sides."""
    assert row.comparison is not None
    at = int(np.nanargmax(row.comparison.metrics["kl_divergence"]))
    record, model = position_record(row.comparison, at), cell.cell.model
    yield f"### {words(row.pair.prompt.id)} in {code(cell.cell.id)}"
    yield ""
    before = report.text(model, row.token_ids[: row.start + at + 1])
    yield f"The text up to position {at}, where KL is largest: {code(before[-COMMON:])}" if before else f"At position {at}:"
    yield ""
    if record["label"] >= 0:
        yield f"- the text goes on: {code(report.text(model, [record['label']]))}"
    for side in ("reference", "candidate"):
        best = record[f"top5_{side}"][0][0]
        if best >= 0:
            yield f"- the {side} expects: {code(report.text(model, [best]))}"
    yield ""


def _parting(report: Report, cell: CellVerdict, row: Compared) -> Iterator[str]:
    """Both texts of a free-running prompt and the token where they part."""
    reference, candidate = report.results[row.pair.reference], report.results[row.pair.candidate]
    if not isinstance(reference, Trace) or not isinstance(candidate, Trace) or row.comparison is None:
        return
    model, (shared, reference_rest, candidate_rest) = cell.cell.model, parting(reference, candidate)
    yield f"### {words(row.pair.prompt.id)} in {code(cell.cell.id)}"
    yield ""
    yield f"Prompt: {code(report.text(model, reference.token_ids)[-COMMON:])}"
    yield ""
    if not reference_rest and not candidate_rest:
        yield f"Both continue with the same {len(shared)} tokens: {code(report.text(model, shared)[:COMMON])}"
        yield ""
        return
    yield f"{len(shared)} tokens in common: {code(report.text(model, shared)[-COMMON:])}" if shared else "They part at once."
    yield ""
    yield f"- reference goes on: {code(report.text(model, reference_rest)[:COMMON]) if reference_rest else 'it ends here'}"
    yield f"- candidate goes on: {code(report.text(model, candidate_rest)[:COMMON]) if candidate_rest else 'it ends here'}"
    parted = len(shared)
    if parted < row.comparison.positions:
        record = position_record(row.comparison, parted)
        yield f"- regret {number(record['metrics']['regret'])} nats, KL {number(record['metrics']['kl_divergence'])} nats"
        yield f"- reference's top 5: {_top5(report, cell, record['top5_reference'])}"
        yield f"- candidate's top 5: {_top5(report, cell, record['top5_candidate'])}"
    yield ""


def _top5(report: Report, cell: CellVerdict, top: list[list[Any]]) -> str:
    return ", ".join(f"{code(report.text(cell.cell.model, [token]))} {logit:.3f}" for token, logit in top if token >= 0)
