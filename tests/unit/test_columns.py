"""Arrays as columns and back, and no pandas on the way."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from logitproof.documents.columns import array, column, table_of, texts

NUMBERS = (
    np.arange(7),
    np.array([1.5, np.nan, -np.inf, 0.0]),
    np.arange(6, dtype=np.float32)[::2],
    np.arange(5, dtype=">i8"),
    np.empty(0),
    np.arange(8.0).reshape(4, 2),
    np.arange(12).reshape(4, 3)[:, :2],
    np.empty((0, 5), np.int64),
    np.array([True, False]),
)


@pytest.mark.parametrize("values", NUMBERS, ids=lambda values: f"{values.dtype.str[1:]}{list(values.shape)}")
def test_a_column_is_what_pyarrow_makes_of_an_array_and_gives_it_back(values: np.ndarray) -> None:
    made = column(values)
    native = values.astype(values.dtype.newbyteorder("="))
    wanted = pa.array(native.reshape(-1))
    assert (made.flatten() if values.ndim == 2 else made).type == wanted.type
    assert made.null_count == 0
    back = array(made)
    assert back.dtype == native.dtype and back.flags.writeable
    np.testing.assert_array_equal(back, native)
    parts = pa.chunked_array([made.slice(1, 2), made.slice(0, 1)]) if len(values) > 2 else pa.chunked_array([made])
    np.testing.assert_array_equal(array(parts), np.concatenate([native[1:3], native[:1]]) if len(values) > 2 else native)


def test_what_is_missing_in_a_column_is_not_a_number() -> None:
    given = array(pa.array([1.0, None, 3.0]))
    assert given[0] == 1 and np.isnan(given[1]) and given[2] == 3


def test_strings_are_those_that_came() -> None:
    values = ["MATCH", "", "größer", "𝛿"]
    assert texts(values).equals(pa.array(values, pa.string()))
    assert texts([]).to_pylist() == []


def test_comparing_imports_no_pandas() -> None:
    pytest.importorskip("pandas", reason="pandas is not installed: nothing could import it")
    program = """
import sys
import numpy as np
from logitproof.comparison.compare import compare
rows = np.random.default_rng(0).standard_normal((4, 30)).astype(np.float32)
comparison = compare(rows, rows + 0.1 * rows[::-1], labels=[1, 2, 3, -1])
assert comparison.metrics["kl_divergence"].min() > 0 and not len(comparison.nonfinite)
print("pandas" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_table_keeps_the_order_of_its_columns() -> None:
    table = table_of({"b": np.arange(2), "a": np.zeros((2, 5))})
    assert table.column_names == ["b", "a"]
    assert table.schema.field("a").type == pa.list_(pa.float64(), 5)


def test_a_run_imports_no_pandas_and_nothing_of_a_cluster(project: Any) -> None:
    """Each takes a tenth of the time of a run that finds everything in its store."""
    pytest.importorskip("pandas", reason="pandas is not installed: nothing could import it")
    candidates = {"good": project.toy(noise=1e-7), "noisy": project.toy(noise=2.0)}
    path = project.contract(candidates=candidates, matrix={"mode": ["prefill", "greedy"]})
    program = """
import sys
from logitproof.cli import main
try:
    main(sys.argv[1:], standalone_mode=False)
finally:
    print({"pandas", "ray", "logitproof.jobs.cluster.executor"} & set(sys.modules))
"""
    argv = [sys.executable, "-c", program, "check", str(path), "--out", str(project.folder / "run")]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "set()", done.stderr
