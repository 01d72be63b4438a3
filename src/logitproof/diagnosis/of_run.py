"""Diagnoses of a finished run: every WRONG cell is explained by the known bugs, where they can."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from logitproof.contract.contract import ORIGINAL
from logitproof.diagnosis.diagnose import Diagnosis, Mode, diagnose_logits
from logitproof.diagnosis.text import KIND, answer, document
from logitproof.errors import ContractError
from logitproof.jobs.sides import path_of
from logitproof.readers import open_dump
from logitproof.report.report import Report
from logitproof.runs.workspace import Workspace
from logitproof.traces.trace import Trace

LONGEST = 128
"""Positions of a sequence that a diagnosis looks at."""
SEQUENCES = 4


def diagnose_run(folder: Path, on_progress: Callable[[str], None] = lambda text: None) -> dict[str, Diagnosis]:
    """Explain every WRONG cell of a run folder, and write diagnosis.json into it.

    Raises ContractError where the folder is no run, or the model of a cell has no HF folder to plant bugs in.
    """
    space = Workspace(folder)
    report = space.judge_again()
    found: dict[str, Diagnosis] = {}
    for cell in report.verdict.cells:
        if cell.status == "WRONG" and cell.cell.mode in ("prefill", "decode"):
            on_progress(f"diagnosing {cell.cell.id}")
            found[cell.cell.id] = _diagnose_cell(report, cell.cell.id)
    answer(found, str(folder)).write(folder / "diagnosis.json")
    if found:
        space.keep(report, KIND, document(found, folder))
    return found


def diagnose_dump(path: Path, model: Path, mode: str = "prefill") -> Diagnosis:
    """Explain a dump of whole rows of logits by the bugs of the HF model in `model`."""
    dump = open_dump(path)
    whole = [prompt for prompt in dump.prompts if prompt.logits is not None]
    prompts = [prompt for prompt in whole if len(prompt.positions) == len(prompt.token_ids)]
    if not prompts:
        remedy = "dump the whole vocabulary at every position"
        raise ContractError("holds no prompt with logits at every position", where=str(path), remedy=remedy)
    chosen = prompts[:SEQUENCES]
    sequences = [list(prompt.token_ids)[:LONGEST] for prompt in chosen]
    rows = [np.asarray(prompt.logits[:LONGEST]) for prompt in chosen if prompt.logits is not None]
    return diagnose_logits(model, sequences, rows, mode=_mode(mode))


def _diagnose_cell(report: Report, name: str) -> Diagnosis:
    cell = next(one for one in report.verdict.cells if one.cell.id == name)
    where = report.opened.where("models", cell.cell.model, ORIGINAL)
    model = path_of(report.opened, cell.cell.model)
    if not model.is_dir():
        raise ContractError("is no Hugging Face folder, in which bugs could be planted", where=where)
    traces = _worst(report, name)
    sequences = [trace.token_ids[:LONGEST] for trace in traces]
    rows = [np.asarray(trace.logits[:LONGEST]) for trace in traces]
    noise = cell.band.match if cell.band and cell.cell.quantization != ORIGINAL else None
    return diagnose_logits(model, sequences, rows, mode=_mode(cell.cell.mode), noise=noise)


def _worst(report: Report, name: str) -> Sequence[Trace]:
    """The candidate's traces of the prompts that are furthest from the reference."""
    cell = next(one for one in report.compared if one.id == name)
    rows = [row for row in report.compared[cell] if row.comparison is not None]
    rows.sort(key=_distance, reverse=True)
    found = [report.results[row.pair.candidate] for row in rows[:SEQUENCES]]
    return [one for one in found if isinstance(one, Trace)]


def _distance(row: Any) -> float:
    """How far a prompt's rows are from the reference, by what is known of them."""
    for name in ("rms_delta_logit", "rms_delta_known", "kl_divergence_lower"):
        values = np.asarray(row.comparison.metrics.get(name, ()), np.float64)
        if np.isfinite(values).any():
            return float(np.nanmean(values))
    return 0.0


def _mode(mode: str) -> Mode:
    return "decode" if mode == "decode" else "prefill"
