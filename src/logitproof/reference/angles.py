"""Errors in the angles of rotary positions: one for each frequency, and so the same at every position of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from logitproof.contract.arithmetic import Arithmetic

HALF_UNIT = 2.0**-24
"""Largest relative error of rounding to float32."""


@contextmanager
def disturbed(tables: Sequence[Any], arithmetic: Arithmetic, seed: int) -> Iterator[None]:
    """Rotary modules with the frequencies that an engine of this arithmetic has, until the context is left."""
    before = [table.inv_freq for table in tables]
    random = np.random.default_rng(seed)
    for table in tables if arithmetic.rope != "exact" else ():
        table.inv_freq = table.inv_freq * (1 + torch.from_numpy(_errors(table.inv_freq.numpy(), arithmetic, random)))
    try:
        yield
    finally:
        for table, old in zip(tables, before, strict=True):
            table.inv_freq = old


def _errors(frequencies: np.ndarray, arithmetic: Arithmetic, random: np.random.Generator) -> np.ndarray:
    """Relative errors [D/2]: a rounded table, or ggml's, which multiplies on by a rounded step.

    A frequency of 1 is a power of zero, and right in every type.
    """
    errors = np.where(frequencies == 1, 0.0, HALF_UNIT * random.uniform(-1, 1, len(frequencies)))
    if arithmetic.rope == "table":
        return errors
    step = HALF_UNIT * random.uniform(-1, 1)
    return np.asarray(np.arange(len(frequencies)) * step + np.cumsum(errors) - errors[0])
