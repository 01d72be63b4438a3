"""positions.parquet: every metric at every position of every cell."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from logitproof.documents.columns import column, texts
from logitproof.documents.wording import encodable
from logitproof.files.atomic import environment_errors
from logitproof.jobs.cell import AXES
from logitproof.report.report import Report
from logitproof.reporters import Reporter
from logitproof.verdict.judge import CellVerdict


class Positions(Reporter):
    """positions.parquet: one row a position, with its cell, prompt, status, metrics and the top five of both."""

    def render(self, report: Report, folder: Path) -> Path:
        path = folder / "positions.parquet"
        whole = self.table(report)
        with environment_errors(path):
            handle, name = tempfile.mkstemp(dir=folder, prefix=".positions.")
            os.close(handle)
            try:
                pq.write_table(whole, name, compression="zstd")
                os.chmod(name, 0o644)
                os.replace(name, path)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise
        return path

    def table(self, report: Report) -> pa.Table:
        """The same rows without a file."""
        tables = [table for cell in report.verdict.cells for table in _tables(report, cell)]
        # cells that run free show no router, and have no column of what it chose
        return pa.concat_tables(tables, promote_options="default") if tables else _nothing()


def _tables(report: Report, cell: CellVerdict) -> list[pa.Table]:
    tables = []
    for prompt, row in zip(cell.prompts, report.compared[cell.cell], strict=True):
        if row.comparison is None:
            continue
        count = row.comparison.positions
        place: dict[str, str | int] = {
            **cell.cell.axes,
            "suite": prompt.pair.suite,
            "prompt_idx": prompt.pair.prompt_idx,
            "prompt_id": prompt.pair.prompt.id,
        }
        columns = {name: _constant(value, count) for name, value in place.items()}
        table = pa.table({**columns, "status": texts(list(prompt.statuses))})
        for name in row.comparison.table.column_names:
            table = table.append_column(name, row.comparison.table[name])
        tables.append(table)
    return tables


def _constant(value: str | int, count: int) -> pa.Array:
    values = column(np.array([value], np.int64)) if isinstance(value, int) else texts([encodable(value)])
    return pa.repeat(values[0], count)


def _nothing() -> pa.Table:
    """A table without a row still says which columns place one."""
    kinds = {**dict.fromkeys([*AXES, "suite", "prompt_id", "status"], pa.string()), "prompt_idx": pa.int64()}
    return pa.schema({**kinds, "position": pa.int64()}).empty_table()
