"""Diagnoses of a finished run: every WRONG cell is explained by the known bugs, where they can."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from logitproof.contract.arithmetic import arithmetic_of
from logitproof.contract.contract import ORIGINAL
from logitproof.diagnosis.diagnose import Asked, diagnose_cells, diagnose_logits
from logitproof.diagnosis.found import Diagnosis, Known, Mode
from logitproof.diagnosis.text import KIND, answer, document
from logitproof.errors import ContractError
from logitproof.jobs.cell import Cell
from logitproof.jobs.sides import adapter_of, label_read, path_of, planted_in
from logitproof.readers import open_dump
from logitproof.reference.planted import Planted
from logitproof.report.report import Report
from logitproof.runs.place import withdraw
from logitproof.runs.workspace import Workspace
from logitproof.traces.trace import Trace, whole
from logitproof.verdict.compared import Compared, known_distance
from logitproof.verdict.judge import CellVerdict

LONGEST = 128
"""Positions of a sequence that a diagnosis looks at."""
SEQUENCES = 4
ENTRIES = 2**23
"""Logits of one side that a diagnosis holds."""
SHORTEST = 16
"""Positions of a sequence that are looked at, however large the vocabulary."""
TOGETHER = 4
"""Cells in whose model bugs are planted once; the logits of all of them lie in memory."""
MODES = ("prefill", "decode")


def diagnose_run(
    folder: Path,
    on_progress: Callable[[str], None] = lambda text: None,
    on_found: Callable[[str, Diagnosis], None] = lambda name, diagnosis: None,
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
    diagnoses: dict[str, Diagnosis] = {}
    for group in _groups(report, wrong):
        names = [cell.cell.id for cell in group.cells]
        on_progress(f"diagnosing {', '.join(names)}")
        for name, diagnosis in zip(names, _diagnosed(report, group), strict=True):
            diagnoses[name] = diagnosis
            on_found(name, diagnosis)
            answer(diagnoses, str(folder)).write(folder / "diagnosis.json")
    if not wrong:
        answer(diagnoses, str(folder)).write(folder / "diagnosis.json")
    else:
        space.keep(report, KIND, document(diagnoses, folder))
    return diagnoses


@dataclass(frozen=True)
class _Group:
    """WRONG cells in whose model bugs are planted once for all: one folder, one file and adapter or none, the same tokens."""

    folder: Path
    weights: Path | None
    adapter: Path | None
    cells: tuple[CellVerdict, ...]


def _groups(report: Report, wrong: Sequence[CellVerdict]) -> list[_Group]:
    """The cells that are diagnosed together, in the order of the first of each."""
    groups: dict[tuple[Any, ...], list[CellVerdict]] = {}
    for verdict in wrong:
        cell, opened = verdict.cell, report.opened
        own = path_of(opened, cell.model, label_read(opened.contract, cell.quantization))
        tokens = frozenset(tuple(trace.token_ids) for _, trace in _traces(report, cell))
        groups.setdefault((*planted_in(opened, cell.model, own), adapter_of(opened), tokens), []).append(verdict)
    return [
        _Group(folder, weights, adapter, tuple(cells[begin : begin + TOGETHER]))
        for (folder, weights, adapter, _), cells in groups.items()
        for begin in range(0, len(cells), TOGETHER)
    ]


def _refuse_what_was_not_measured(folder: Path, cells: Sequence[CellVerdict]) -> None:
    """Refuse to call a run "same" if its cells could not be measured, or are WRONG in modes that have no logits."""
    if not cells:
        raise ContractError("has no such cell", where=str(folder), remedy="see `logitproof judge RUN` for their names")
    failed = [cell for cell in cells if cell.status in ("SET-UP ERROR", "ENGINE ERROR")]
    if failed:
        first = failed[0]
        text = f"{len(failed)} of {len(cells)} cells were not measured: {first.cell.id} is a {first.status}"
        raise ContractError(text, where=str(folder), remedy="mend what `logitproof judge RUN` says of them, and check again")
    wrong = [cell for cell in cells if cell.status == "WRONG"]
    if wrong:
        text = f"{wrong[0].cell.id} is WRONG, and its mode has no logits of given tokens that a bug could be read from"
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


def _diagnosed(report: Report, group: _Group) -> Iterator[Diagnosis]:
    """The diagnoses of a group's cells, in their order."""
    chosen = _worst(report, [cell.cell for cell in group.cells])
    longest = _longest(chosen)
    sequences = [list(rows[0][1].token_ids)[:longest] for rows in chosen]
    asked = []
    for place, verdict in enumerate(group.cells):
        rows = [of_prompt[place] for of_prompt in chosen]
        logits = [np.asarray(trace.logits[:longest]) for _, trace in rows]
        known = replace(_known(report, verdict), other=_other_mode(report, verdict.cell, rows, longest))
        asked.append(Asked(logits, _mode(verdict.cell.mode), known))
    return diagnose_cells(Planted.opened(group.folder, sequences, group.weights, adapter=group.adapter), asked)


def _longest(chosen: Sequence[Sequence[tuple[Compared, Trace]]]) -> int:
    """Positions of each sequence that fit: of a large vocabulary fewer are looked at, and no fewer than `SHORTEST`."""
    (_, trace), *_ = chosen[0]
    rows = ENTRIES // (trace.logits.shape[-1] if trace.logits.ndim == 2 else 1)
    return min(LONGEST, max(rows // len(chosen), SHORTEST))


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
        return Known(source="arithmetic", wrong=True, bits=arithmetic.bits, arithmetic=arithmetic.in_mode(cell.mode))
    return Known(source="bfloat16", wrong=True, at_most=match)


def _other_mode(report: Report, cell: Cell, rows: Sequence[tuple[Compared, Trace]], longest: int) -> list[np.ndarray]:
    """The candidate's rows of the same sequences in the other mode; empty ones where it has none."""
    twin_cell = replace(cell, mode="prefill" if cell.mode == "decode" else "decode")
    twin_rows = []
    for row, trace in rows:
        answers = [
            report.results[twin.pair.candidate]
            for twin in report.compared.get(twin_cell, ())
            if twin.comparison is not None and (twin.pair.suite, twin.pair.prompt_idx) == (row.pair.suite, row.pair.prompt_idx)
        ]
        same = [twin for twin in answers if isinstance(twin, Trace) and list(twin.token_ids) == list(trace.token_ids)]
        twin_rows.append(np.asarray(same[0].logits[:longest]) if same else np.empty((0, 0)))
    return twin_rows


def _traces(report: Report, cell: Cell) -> list[tuple[Compared, Trace]]:
    """The prompts of a cell that were compared, with the candidate's traces."""
    rows = [(row, report.results[row.pair.candidate]) for row in report.compared[cell] if row.comparison is not None]
    return [(row, whole(trace)) for row, trace in rows if isinstance(trace, Trace)]


def _worst(report: Report, cells: Sequence[Cell]) -> list[list[tuple[Compared, Trace]]]:
    """The prompts that are furthest from the reference, all cells taken together, with the trace of each cell."""
    by_tokens: dict[tuple[int, ...], list[tuple[Compared, Trace]]] = {}
    for cell in cells:
        for row, trace in {tuple(trace.token_ids): (row, trace) for row, trace in _traces(report, cell)}.values():
            by_tokens.setdefault(tuple(trace.token_ids), []).append((row, trace))
    return sorted(by_tokens.values(), key=lambda rows: sum(known_distance(row) for row, _ in rows), reverse=True)[:SEQUENCES]


def _mode(mode: str) -> Mode:
    return "decode" if mode == "decode" else "prefill"
