"""Diagnoses of a finished run: every WRONG cell is explained by the known bugs, where they can."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from logitproof.contract.arithmetic import arithmetic_of
from logitproof.contract.contract import ORIGINAL
from logitproof.diagnosis.diagnose import diagnose_logits
from logitproof.diagnosis.found import Diagnosis, Known, Mode
from logitproof.diagnosis.text import KIND, answer, document
from logitproof.errors import ContractError
from logitproof.jobs.cell import Cell
from logitproof.jobs.sides import label_read, path_of, planted_in
from logitproof.readers import open_dump
from logitproof.reference.planted import Planted
from logitproof.report.report import Report
from logitproof.runs.place import withdraw
from logitproof.runs.workspace import Workspace
from logitproof.traces.trace import Trace
from logitproof.verdict.compared import Compared
from logitproof.verdict.judge import CellVerdict

LONGEST = 128
"""Positions of a sequence that a diagnosis looks at."""
SEQUENCES = 4
MODES = ("prefill", "decode")


def diagnose_run(
    folder: Path,
    on_progress: Callable[[str], None] = lambda text: None,
    on_found: Callable[[str, Diagnosis], None] = lambda name, found: None,
    only: str = "*",
) -> dict[str, Diagnosis]:
    """Explain every WRONG cell of a run folder whose id fits `only`, and write diagnosis.json after each of them.

    Raises ContractError where the folder is no run, where nothing that could be explained was measured, or where the model
    of a cell has no HF folder to plant bugs in.
    """
    withdraw(folder, ("diagnosis.json",))
    space = Workspace(folder)
    report = space.judge_again()
    chosen = [cell for cell in report.verdict.cells if fnmatch.fnmatchcase(cell.cell.id, only)]
    wrong = [cell for cell in chosen if cell.status == "WRONG" and cell.cell.mode in MODES]
    if not wrong:
        _refuse_what_was_not_measured(folder, chosen)
    found: dict[str, Diagnosis] = {}
    for cell in wrong:
        on_progress(f"diagnosing {cell.cell.id}")
        found[cell.cell.id] = _diagnose_cell(report, cell)
        on_found(cell.cell.id, found[cell.cell.id])
        answer(found, str(folder)).write(folder / "diagnosis.json")
    if not wrong:
        answer(found, str(folder)).write(folder / "diagnosis.json")
    else:
        space.keep(report, KIND, document(found, folder))
    return found


def _refuse_what_was_not_measured(folder: Path, cells: Sequence[CellVerdict]) -> None:
    """A run without a WRONG cell is no "same" where cells could not be measured, or are WRONG in ways without logits."""
    if not cells:
        raise ContractError("has no such cell", where=str(folder), remedy="see `logitproof judge RUN` for their names")
    failed = [cell for cell in cells if cell.status in ("SET-UP ERROR", "ENGINE ERROR")]
    if failed:
        first = failed[0]
        text = f"{len(failed)} of {len(cells)} cells were not measured: {first.cell.id} is a {first.status}"
        raise ContractError(text, where=str(folder), remedy="mend what `logitproof judge RUN` says of them, and check again")
    other = [cell for cell in cells if cell.status == "WRONG"]
    if other:
        text = f"{other[0].cell.id} is WRONG, and its mode has no logits of given tokens that a bug could be read from"
        raise ContractError(text, where=str(folder), remedy="check the modes prefill and decode, and diagnose those")


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


def _diagnose_cell(report: Report, verdict: CellVerdict) -> Diagnosis:
    cell, opened = verdict.cell, report.opened
    rows = _worst(report, cell)
    traces = [trace for _, trace in rows]
    sequences = [trace.token_ids[:LONGEST] for trace in traces]
    own = path_of(opened, cell.model, label_read(opened.contract, cell.quantization))
    folder, weights = planted_in(opened, cell.model, own)
    model = Planted.opened(folder, sequences, weights).model
    logits = [np.asarray(trace.logits[:LONGEST]) for trace in traces]
    known = replace(_known(report, verdict), other=_other_mode(report, cell, rows))
    return diagnose_logits(model, sequences, logits, mode=_mode(cell.mode), noise=known)


def _known(report: Report, verdict: CellVerdict) -> Known:
    """The noise that the cell is judged by: its calculated band, else the arithmetic of its engine, else nothing better.

    A file of another quantization than the planted weights is judged by its band in any case: no arithmetic knows its noise.
    """
    cell, contract = verdict.cell, report.opened.contract
    bands = [band for band in contract.bands if band.where.selects(cell.axes)]
    match = verdict.band.match if verdict.band else None
    if match is not None and bands and bands[-1].bound is not None:
        return Known(match, "calculated band", wrong=True)
    if cell.quantization != ORIGINAL and label_read(contract, cell.quantization) == ORIGINAL and match is not None:
        return Known(match, "band of the contract", wrong=True)
    use = contract.candidates[cell.candidate]
    arithmetic = use.arithmetic or arithmetic_of(use.engine, use.options)
    if arithmetic is not None:
        return Known(source="arithmetic", wrong=True, bits=arithmetic.bits)
    return Known(source="bfloat16", wrong=True, at_most=match)


def _other_mode(report: Report, cell: Cell, rows: Sequence[tuple[Compared, Trace]]) -> list[np.ndarray]:
    """The candidate's rows of the same sequences in the other mode; empty ones where it has none."""
    other = replace(cell, mode="prefill" if cell.mode == "decode" else "decode")
    found = []
    for row, trace in rows:
        theirs = [
            report.results[twin.pair.candidate]
            for twin in report.compared.get(other, ())
            if twin.comparison is not None and (twin.pair.suite, twin.pair.prompt_idx) == (row.pair.suite, row.pair.prompt_idx)
        ]
        same = [twin for twin in theirs if isinstance(twin, Trace) and list(twin.token_ids) == list(trace.token_ids)]
        found.append(np.asarray(same[0].logits[:LONGEST]) if same else np.empty((0, 0)))
    return found


def _worst(report: Report, cell: Cell) -> list[tuple[Compared, Trace]]:
    """The prompts that are furthest from the reference, with the candidate's traces."""
    rows = [row for row in report.compared[cell] if row.comparison is not None]
    rows.sort(key=_distance, reverse=True)
    found = [(row, report.results[row.pair.candidate]) for row in rows[:SEQUENCES]]
    return [(row, trace) for row, trace in found if isinstance(trace, Trace)]


def _distance(row: Any) -> float:
    """How far a prompt's rows are from the reference, by what is known of them."""
    for name in ("rms_delta_logit", "rms_delta_known", "kl_divergence_lower"):
        values = np.asarray(row.comparison.metrics.get(name, ()), np.float64)
        if np.isfinite(values).any():
            return float(np.nanmean(values))
    return 0.0


def _mode(mode: str) -> Mode:
    return "decode" if mode == "decode" else "prefill"
