"""Every position of a report as the page's script reads it: numbers of four digits, ids, and the text of each id once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from logitproof.comparison.compare import SHOWN, Comparison
from logitproof.documents.section import Explorer
from logitproof.documents.wording import number_of
from logitproof.report.report import Report, parting
from logitproof.traces.trace import Trace
from logitproof.verdict.compared import Compared
from logitproof.verdict.judge import CellVerdict, PromptVerdict

MOST = 24_000
"""Positions that a page holds the best five of, so that it stays a file that a browser opens at once."""
CODES = {"MATCH": "M", "TIE-FLIP": "T", "DRIFT": "D", "WRONG": "W", "NOT-MEASURED": "N"}
VALUES = {"kl": "kl_divergence", "delta": "max_delta_logit", "margin": "margin", "regret": "regret"}
BEYOND = SHOWN + 1
"""The rank of a token that is not among the best five."""


def explorer(report: Report) -> Explorer | None:
    """The heat map and the tokens of every cell; nothing where no prompt was looked at."""
    cells = [(cell, report.compared[cell.cell]) for cell in report.verdict.cells if report.compared[cell.cell]]
    if not cells:
        return None
    total = sum(row.comparison.positions for _, rows in cells for row in rows if row.comparison is not None)
    only_bad = total > MOST
    left_out = (
        f"The page holds {MOST} positions whole; the best five of this one stand in positions.parquet." if only_bad else ""
    )
    data: dict[str, Any] = {"cells": [_cell(report, cell, rows, only_bad) for cell, rows in cells], "left_out": left_out}
    data["words"] = {
        model: {key: text for key, text in known.items() if "," not in key} for model, known in report.words.items()
    }
    data["start"] = start(report, [cell for cell, _ in cells])
    alt = (
        f"{number_of(total, 'position')} of {number_of(len(cells), 'cell')}. "
        "Choose a prompt or a square; the text below is the reference's, and each "
        "token is tinted by how far the candidate is from the reference where it predicts that token."
    )
    return Explorer(data, alt, "Prompts, positions and tokens")


def start(report: Report, cells: Sequence[CellVerdict]) -> list[int]:
    """Cell and prompt that a page opens with: the worst prompt of the first cell that is not as expected."""
    chosen = next((n for n, cell in enumerate(cells) if not cell.as_expected and not cell.expected), 0)
    return [chosen, worst_prompt(report.compared[cells[chosen].cell])]


def worst_prompt(rows: Sequence[Compared]) -> int:
    """The index of the prompt with the largest KL divergence."""
    largest = [_largest(row) for row in rows]
    return int(np.argmax(largest)) if largest else 0


def differs_first(comparison: Comparison) -> int | None:
    """The first position at which the best tokens of both sides are not the same."""
    if "top1" not in comparison.names:
        return None
    apart = np.flatnonzero(np.asarray(comparison.metrics["top1"]) == 0.0)
    return int(apart[0]) if apart.size else None


def _largest(row: Compared) -> float:
    values = row.comparison.metrics.get("kl_divergence", np.empty(0)) if row.comparison is not None else np.empty(0)
    values = values[~np.isnan(values)]
    return float(values.max()) if values.size else -1.0


def _cell(report: Report, verdict: CellVerdict, rows: Sequence[Compared], only_bad: bool) -> dict[str, Any]:
    cell = verdict.cell
    prompts = [_prompt(report, verdict, prompt, row, only_bad) for prompt, row in zip(verdict.prompts, rows, strict=True)]
    return {"id": cell.id, "model": cell.model, "status": verdict.status, "prompts": prompts}


def _prompt(report: Report, verdict: CellVerdict, prompt: PromptVerdict, row: Compared, only_bad: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": prompt.pair.prompt.id,
        "status": prompt.status,
        "s": "",
        "lead": "",
        "label": [],
        "first": None,
    }
    shown |= {name: [] for name in (*VALUES, "rank")}
    if prompt.failure is not None:
        shown["failure"] = prompt.failure.text
    if row.comparison is None:
        return shown
    table = row.comparison.table
    shown["s"] = "".join(CODES[status] for status in prompt.statuses)
    shown["label"] = table["label"].to_pylist()
    shown["first"] = differs_first(row.comparison)
    for name, column in VALUES.items():
        values = row.comparison.metrics.get(column)
        shown[name] = [_digits(value) for value in values.tolist()] if values is not None else [None] * len(prompt.statuses)
    best = [table[f"top{SHOWN}_{what}_{side}"].to_pylist() for side in ("reference", "candidate") for what in ("ids", "logits")]
    shown["rank"] = [_rank(reference_ids, candidate_ids) for reference_ids, candidate_ids in zip(best[0], best[2], strict=True)]
    whole = range(len(prompt.statuses))
    shown["top"] = [
        None if only_bad and prompt.statuses[at] == "MATCH"
        else [best[0][at], [*map(_digits, best[1][at])], best[2][at], [*map(_digits, best[3][at])]]
        for at in whole
    ]  # fmt: skip
    shown["lead"] = report.text(verdict.cell.model, row.token_ids[: row.start + 1])
    shown["parting"] = _parting(report, verdict, row)
    return shown


def _rank(reference: Sequence[int], candidate: Sequence[int]) -> int | None:
    """Where the reference's best token stands in the candidate's best; `BEYOND` where it is not among them."""
    if reference[0] < 0 or candidate[0] < 0:
        return None
    return candidate.index(reference[0]) + 1 if reference[0] in candidate else BEYOND


def _parting(report: Report, verdict: CellVerdict, row: Compared) -> list[str]:
    """How two free-running texts go on after what they share."""
    reference, candidate = report.results[row.pair.reference], report.results[row.pair.candidate]
    if not row.whole or not isinstance(reference, Trace) or not isinstance(candidate, Trace):
        return []
    shared, reference_rest, candidate_rest = parting(reference, candidate)
    if not reference_rest and not candidate_rest:
        return [f"Both continue with the same {len(shared)} tokens."]
    model = verdict.cell.model
    sides = (("reference", reference_rest), ("candidate", candidate_rest))
    return [
        f"{len(shared)} tokens in common, then they part.",
        *(f"{side} goes on: {report.text(model, tokens) if tokens else '(it ends here)'}" for side, tokens in sides),
    ]


def _digits(value: float | None) -> float | None:
    return None if value is None or value != value else float(f"{value:.4g}")
