"""Too good to be true: a candidate that is nearer to the reference than its weights and its arithmetic can be.

Rounding leaves traces. Where they are missing, the file was not read, the engine is the reference under another name, or the
arithmetic is not the one that was declared, and the band rests on a word that does not hold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from logitproof.bands.calculated import CLUSTERED, CalculatedBand, tokens_sha256
from logitproof.contract.contract import Contract
from logitproof.jobs.cell import Cell
from logitproof.jobs.sides import label_read
from logitproof.verdict.compared import Compared, values_of

FILES = ("dump", "golden")
"""Engines that read what another has written: to give the very same again is what they are frozen for."""
FAR_BELOW = 1 / 20
"""Of the predicted error, the median over all positions: no known pair of engines is further below (docs/bands.md)."""
NOTHING = 1 / 200
"""Of the predicted error, at a single position. The error is a sum of many: with two of them free, a share of `NOTHING`² of
all positions would be as near by chance."""
CHANCE = 1e-3
"""Probability below which so many positions are not chance."""


def suspicion_of(
    contract: Contract, cell: Cell, rows: Sequence[Compared], band: object = None, *, same_arithmetic: bool = True
) -> str:
    """Why a cell is too good to be true, in one sentence; nothing where it is not, or where the contract says why it may be.

    With a calculated `band` of two arithmetics that differ, errors far below what the noise of them makes count too.
    """
    use = contract.candidates[cell.candidate]
    if use.may_be_exact or use.expect or cell.is_between or cell.mode == "self" or any(row.failure for row in rows):
        return ""
    if rows and all(_is_equal(row) for row in rows):
        return _of_equals(contract, cell)
    if isinstance(band, CalculatedBand) and not same_arithmetic:
        return _of_noise(rows, band)
    return ""


def _is_equal(row: Compared) -> bool:
    values = values_of(row, "max_delta_logit")
    return bool(values.size) and bool((values == 0.0).all())


def _of_equals(contract: Contract, cell: Cell) -> str:
    """What it means that a candidate gives the reference's logits, bit for bit."""
    reference, use = contract.reference_of(cell.against), contract.candidates[cell.candidate]
    files = contract.models[cell.model]
    if files[cell.quantization] != files[label_read(contract, cell.quantization, cell.against)]:
        return f"reads other weights ({cell.quantization}) and gives the reference's logits bit for bit: it read the original"
    if reference.engine in FILES and use.engine not in FILES:
        return ""
    is_another_engine = reference.engine != use.engine
    if cell.mode == "decode" and not is_another_engine:
        return ""
    kept = ("engine", "options", "environment", "python")
    if cell.mode == "greedy" and all(getattr(reference, name) == getattr(use, name) for name in kept):
        return ""
    what = "another engine" if is_another_engine else "the same engine with other settings"
    return f"gives the reference's logits bit for bit, as {what}: it may be the reference under another name"


def _of_noise(rows: Sequence[Compared], band: CalculatedBand) -> str:
    """What it means that errors are far below those that the declared arithmetic makes."""
    ratios = _ratios(rows, band)
    if not ratios.size:
        return ""
    median, nothing = float(np.median(ratios)), int((ratios < NOTHING).sum())
    declared = "the weights were not read, or the arithmetic is not what was declared"
    if median < FAR_BELOW:
        return f"its errors are {median:.2g} of what its arithmetic must make (median of {ratios.size} positions): {declared}"
    if nothing and _at_least(nothing, CLUSTERED * ratios.size * NOTHING**2) < CHANCE:
        share = f"{nothing} of {ratios.size} positions have less than {NOTHING:.1%}"
        return f"{share} of the error that its arithmetic must make: {declared}"
    return ""


def _ratios(rows: Sequence[Compared], band: CalculatedBand) -> np.ndarray:
    """Observed over predicted RMS error of every position of the rows, where both are known."""
    ratios = []
    for row in rows:
        observed = values_of(row, "rms_delta_logit")
        predicted = band.expected.get(tokens_sha256(row.token_ids), np.empty(0))[row.start : row.start + len(observed)]
        if len(predicted) == len(observed):
            kept = (predicted > 0) & np.isfinite(observed)
            ratios.append(observed[kept] / predicted[kept])
    return np.concatenate(ratios) if ratios else np.empty(0)


def _at_least(count: int, mean: float) -> float:
    """The probability of `count` or more, where `mean` are expected (Poisson)."""
    return 1.0 - sum(math.exp(-mean) * mean**n / math.factorial(n) for n in range(count))
