"""Arrays as columns of a table, and back, without pandas.

pyarrow's own conversions import pandas wherever that is installed, to see whether it was given a Series: half a second and
25 MB of a process that has none. What is neither a whole nor a floating-point number goes that way all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa


def column(values: np.ndarray) -> pa.Array:
    """Numbers [T] as a column, or [T, n] as one of lists; NaN stays NaN, and nothing is copied that lies in order."""
    if values.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(column(values.reshape(-1)), values.shape[1])
    if values.dtype.kind not in "iuf":
        return pa.array(values)
    ordered = np.ascontiguousarray(values, values.dtype.newbyteorder("="))
    return pa.Array.from_buffers(pa.from_numpy_dtype(ordered.dtype), len(ordered), [None, pa.py_buffer(ordered)])


def texts(values: Sequence[str]) -> pa.Array:
    """Strings as a column."""
    coded = [value.encode() for value in values]
    ends = np.cumsum([0, *map(len, coded)], dtype=np.int32)
    return pa.StringArray.from_buffers(len(coded), pa.py_buffer(ends), pa.py_buffer(b"".join(coded)))


def table_of(columns: Mapping[str, np.ndarray]) -> pa.Table:
    """A table of such columns, in their order."""
    return pa.table({name: column(values) for name, values in columns.items()})


def array(column: Any) -> np.ndarray:
    """The numbers [T] of a column, or [T, n] of one of lists; a copy."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_fixed_size_list(whole.type):
        return array(whole.flatten()).reshape(len(whole), whole.type.list_size)
    is_number = pa.types.is_integer(whole.type) or pa.types.is_floating(whole.type)
    if not is_number or whole.null_count or not len(whole):
        return np.array(whole.to_numpy(zero_copy_only=False))
    return np.array(np.from_dlpack(whole))
