"""What is left of a run whose rows are not all kept: every number that was measured of a position, without its logits.

`check --keep` says of which prompts the rows stay: of all, of those that fail, or of none. Of the others RUN/kept/ holds the
comparison as it was measured, so that `judge` judges it by other bounds, and run.json the record of each trace. With `compact`
RUN/kept/rows/ has the rows in a third of their bytes (`runs/compact.py`), of which KL divergence can be measured again.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from logitproof.comparison.compare import Comparison
from logitproof.documents.columns import array, table_of
from logitproof.errors import ContractError
from logitproof.files.arrays import read_arrays, write_arrays
from logitproof.files.atomic import content_key, environment_errors
from logitproof.files.untrusted import Number, refusal, validated
from logitproof.jobs.cell import Cell, Pair, keys_of
from logitproof.report.report import Report
from logitproof.rows.top import is_top
from logitproof.runs.compact import place_of
from logitproof.traces.compact import open_compact
from logitproof.traces.trace import Failure, Trace, record_model
from logitproof.verdict.compared import Compared

Keep = Literal["all", "compact", "failing", "none"]
Rows = Mapping[Cell, Sequence[Compared]]
FORMAT = 1
FOLDER = "kept"
REMEDY = "run `logitproof check` again"
GOOD = frozenset({"MATCH", "TIE-FLIP"})


class _Row(BaseModel):
    """A prompt of a cell; `index` is its place among the cell's pairs, `rows` how many rows it has."""

    model_config = ConfigDict(extra="forbid")
    index: Number
    rows: Number
    prompt_length: Number
    failure: Failure | None
    whole: dict[str, float | None]
    token_ids: list[Number]
    start: Number
    planned: Number
    unrouted: str = ""


class _Kept(BaseModel):
    model_config = ConfigDict(extra="forbid")
    format: Number
    cell: str
    names: list[str]
    columns: list[str]
    rows: list[_Row]


def dropped(report: Report, keep: Keep) -> dict[str, dict[str, Any]]:
    """Records of the traces whose rows need not stay, by key.

    Rows of which an engine gives the best entries or some positions alone are small and stay, with all that they are compared
    with.
    """
    if keep == "all":
        return {}
    rows = [row for cell_rows in report.compared.values() for row in cell_rows]
    pairs = [row.pair for row in rows] + [pair for cell in report.yardsticks for pair in cell.pairs]
    staying = {key for pair in pairs if _is_partial(pair, report) for key in keys_of(pair)}
    if keep == "failing":
        staying |= {key for row in _failing(report) for key in keys_of(row.pair)}
    gone = {key for pair in pairs for key in keys_of(pair)} - staying
    traces = {key: report.results[key] for key in sorted(gone)}
    return {key: trace.record() for key, trace in traces.items() if isinstance(trace, Trace) and trace.logits.size}


def write_kept(folder: Path, looked: Rows, gone: Iterable[str]) -> None:
    """Write the comparisons that cannot be made again without these traces; in place of all that was there."""
    keys = set(gone)
    with environment_errors(folder):
        shutil.rmtree(folder / FOLDER, ignore_errors=True)
        for cell, rows in looked.items():
            kept = {index: row for index, row in enumerate(rows) if keys & set(keys_of(row.pair))}
            if kept:
                write_arrays(_place(folder, cell), *_laid_out(cell, kept))


def read_kept(folder: Path, cells: Iterable[Cell], gone: Iterable[str]) -> dict[str, dict[int, Compared]]:
    """By cell and number of the prompt: every comparison that was kept in place of its rows.

    Raises ContractError where one of them is not there, or its file is damaged.
    """
    keys, kept = set(gone), {}
    for cell in cells:
        wanted = [index for index, pair in enumerate(cell.pairs) if keys & set(keys_of(pair))]
        if wanted:
            kept[name_of(cell)] = _read(_place(folder, cell), cell, wanted)
    return kept


def bare(record: Mapping[str, Any], path: Path, compact: str | None = None) -> Trace:
    """A trace without its rows, out of its record in run.json; with those of the sha256 `compact`, where they were kept so.

    Raises ContractError where these are gone, damaged, or not of the record's shape.
    """
    shape = validated(path, record_model(), dict(record), remedy=REMEDY).logits.shape  # type: ignore[attr-defined]
    if compact is None:
        return Trace(**{**record, "routing": None, "logits": np.empty((0, shape[1]), np.float32)})
    place = place_of(path.parent / FOLDER, str(record["key"]))
    rows = open_compact(place, compact)
    if rows.shape != tuple(shape):
        raise refusal(place, "shape", f"is {list(rows.shape)}, its record says {list(shape)}", REMEDY)
    return Trace(**{**record, "routing": None, "logits": rows})


def name_of(cell: Cell) -> str:
    """What tells a cell from all others, also from those that the reference's own error is measured in."""
    return f"{cell.id} of {cell.reference_name} and {cell.candidate_name}"


def without(cell: Cell, kept: Mapping[int, Compared]) -> Cell:
    """The cell with the pairs alone that are compared by their rows."""
    return replace(cell, pairs=tuple(pair for index, pair in enumerate(cell.pairs) if index not in kept))


def together(cell: Cell, kept: Mapping[int, Compared], rows: Sequence[Compared]) -> list[Compared]:
    """Rows of all pairs of the cell, in their order."""
    others = iter(rows)
    return [kept[index] if index in kept else next(others) for index in range(len(cell.pairs))]


def _failing(report: Report) -> Iterable[Compared]:
    for verdict in report.verdict.cells:
        for prompt, row in zip(verdict.prompts, report.compared[verdict.cell], strict=True):
            if prompt.failure is not None or row.comparison is None or not set(prompt.statuses) <= GOOD:
                yield row
    failed = {gate.cell for gate in report.verdict.gates if gate.status != "PASS"}
    yield from (row for cell, rows in report.compared.items() if cell.id in failed for row in rows)


def _is_partial(pair: Pair, report: Report) -> bool:
    traces = [report.results[key] for key in keys_of(pair)]
    return any(isinstance(trace, Trace) and (trace.positions or is_top(trace.logits)) for trace in traces)


def _place(folder: Path, cell: Cell) -> Path:
    return folder / FOLDER / f"{content_key({'cell': name_of(cell)})[:32]}.npz"


def _laid_out(cell: Cell, kept: Mapping[int, Compared]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Facts of every row, and the columns of all comparisons one behind the other."""
    tables = [row.comparison.table for row in kept.values() if row.comparison is not None]
    names = next((row.comparison.names for row in kept.values() if row.comparison is not None), ())
    columns = tables[0].column_names if tables else []
    arrays = {
        f"column {number}": np.concatenate([array(table[name]) for table in tables]) for number, name in enumerate(columns)
    }
    facts = [_facts(index, row) for index, row in kept.items()]
    return {"format": FORMAT, "cell": name_of(cell), "names": list(names), "columns": columns, "rows": facts}, arrays


def _facts(index: int, row: Compared) -> dict[str, Any]:
    return {
        "index": index,
        "rows": 0 if row.comparison is None else row.comparison.positions,
        "prompt_length": row.prompt_length,
        "failure": None if row.failure is None else asdict(row.failure),
        "whole": {name: None if np.isnan(value) else value for name, value in row.whole.items()},
        "token_ids": [int(token) for token in row.token_ids],
        "start": row.start,
        "planned": row.planned,
        "unrouted": row.unrouted,
    }


def _read(path: Path, cell: Cell, wanted: Sequence[int]) -> dict[int, Compared]:
    content = read_arrays(path, REMEDY)
    if content is None:
        text = f"holds nothing of {cell.id}, of which rows were not kept"
        raise ContractError(text, where=str(path.parent), remedy=REMEDY)
    about, arrays = content
    facts = validated(path, _Kept, about, remedy=REMEDY)
    if facts.format != FORMAT or facts.cell != name_of(cell) or sorted(row.index for row in facts.rows) != sorted(wanted):
        raise refusal(path, "about", "is not of this cell of this run, or of another version", REMEDY)
    total = sum(row.rows for row in facts.rows)
    columns = {name: arrays.get(f"column {number}") for number, name in enumerate(facts.columns)}
    if any(values is None or values.ndim not in (1, 2) or len(values) != total for values in columns.values()):
        raise refusal(path, "columns", f"are not of {total} rows each", REMEDY)
    if total and not {"position", "label", "support", *facts.names} <= set(columns):
        raise refusal(path, "columns", "lack some that every comparison has", REMEDY)
    rows, at = {}, 0
    for row in facts.rows:
        part = slice(at, at + row.rows)
        at += row.rows
        table = table_of({name: values[part] for name, values in columns.items() if values is not None})
        comparison = Comparison(table, tuple(facts.names)) if row.failure is None else None
        rows[row.index] = Compared(
            cell.pairs[row.index], row.prompt_length, comparison, row.failure,
            {name: float("nan") if value is None else value for name, value in row.whole.items()},
            tuple(row.token_ids), row.start, row.planned, unrouted=row.unrouted,
        )  # fmt: skip
    return rows
