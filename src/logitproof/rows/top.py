"""Rows of which only the best entries are known, as one array like any other: `TOP` [T, K].

Its elements are (id, log-probability), best first; a row with fewer than K entries is filled up with id -1,
and a row without any is one that the engine could not measure.
A log-probability is over the whole vocabulary; NaN where an engine says which token it chose and no more.
Arithmetic on such an array is a TypeError: nobody takes it for logits by accident.
"""

from __future__ import annotations

import numpy as np

TOP = np.dtype([("id", "<i4"), ("log_probability", "<f4")])
SLACK = 2e-6
"""Nats that a log-probability may be off: float32 holds -16 to 1e-6, and servers take their softmax in float32."""
SUM_ERROR = 1e-4
"""What probabilities may sum to above 1 by rounding."""


def is_top(rows: np.ndarray) -> bool:
    """Whether these are the best entries of each row, not whole rows of logits."""
    return rows.dtype == TOP


def top_rows(ids: np.ndarray, log_probabilities: np.ndarray | None) -> np.ndarray:
    """`TOP` [T, K] from ids [T, K] (-1: no entry) and their log-probabilities; without these, ids alone."""
    rows = np.empty(ids.shape, TOP)
    rows["id"] = ids
    rows["log_probability"] = np.nan if log_probabilities is None else log_probabilities
    return rows


def best(row: np.ndarray) -> int:
    """The id that greedy decoding chooses from one row, whole or not."""
    return int(row["id"][0]) if is_top(row) else int(np.argmax(row))


def row_fault(ids: np.ndarray, values: np.ndarray, vocab_size: int | None, normalized: bool, slack: float) -> str:
    """What cannot be true of the best entries of one row, empty where they can be."""
    if not len(ids) or not np.isfinite(values).all():
        return "it is empty, or a value is NaN or infinite"
    if len(set(ids.tolist())) != len(ids) or (vocab_size is not None and ids.max() >= vocab_size):
        return "an id stands twice, or is outside the vocabulary"
    if (np.diff(values) > 2 * slack).any():
        return "the values do not fall"
    if normalized and (total := np.exp(values).sum()) > 1 + SUM_ERROR + 2 * slack:
        return f"the probabilities sum to {total:.6g}"
    return ""


def top_fault(rows: np.ndarray, vocab_size: int | None) -> tuple[int, str] | None:
    """The first row of `TOP` rows that cannot be true, and why; None where all can. Some row must hold something."""
    if not (rows["id"] >= 0).any():
        return 0, "no row has an entry"
    for position, row in enumerate(rows):
        kept = row[row["id"] >= 0]
        if not len(kept) and rows.shape[1] > 1:
            continue
        values = kept["log_probability"].astype(np.float64)
        if np.isnan(rows["log_probability"]).all() and rows.shape[1] == 1:
            values = np.zeros(len(kept))  # the chosen token alone
        if text := row_fault(kept["id"], values, vocab_size, True, SLACK):
            return position, text
    return None
