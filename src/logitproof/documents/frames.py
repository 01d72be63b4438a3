"""An Arrow table as the frame that somebody works with; each kind of frame is an extra of the package."""

from __future__ import annotations

import importlib
from typing import Any, Literal, get_args

import pyarrow as pa

from logitproof.errors import ContractError, EnvironmentFailed

Frame = Literal["arrow", "pandas", "polars"]


def frame(table: pa.Table, kind: Frame) -> Any:
    """The table itself, or the same rows as a DataFrame of pandas or polars.

    Raises ContractError for a kind that there is not, EnvironmentFailed where its package is not installed.
    """
    if kind == "arrow":
        return table
    if kind not in get_args(Frame):
        *first, last = get_args(Frame)
        raise ContractError(f"no frame is called {kind!r}", where="positions", remedy=f"name {', '.join(first)} or {last}")
    try:
        package = importlib.import_module(kind)
    except ImportError as error:
        text = f"a frame of {kind} was asked for, and {kind} cannot be imported: {error}"
        raise EnvironmentFailed(text, where="positions", remedy=f"pip install 'logitproof[{kind}]'") from None
    return package.from_arrow(table) if kind == "polars" else table.to_pandas()
