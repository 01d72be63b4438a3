"""Log-probabilities as servers give them, a list of (id, value) a position, made into rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from logitproof.engines._http import ServerError
from logitproof.rows.top import top_rows

LEAST = -87.0
"""Nats: a server that takes the logarithm of a float32 probability has lost what lies below its smallest normal number."""
SUM_ERROR = 1e-3
"""How far the probabilities of a whole row may be from 1 by rounding."""
Entries = list[tuple[int, float]]


def entry(token: Any, value: Any, where: str) -> tuple[int, float]:
    """One entry, if it is a token id and a number."""
    if isinstance(token, bool) or not isinstance(token, int):
        raise ServerError(f"{where}: {token!r} is no token id")
    # A whole number of JSON may be larger than any float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not (value == -math.inf or -1e300 < value <= 1e-3):
        raise ServerError(f"{where}: the log-probability of token {token} is {value!r}")
    return token, float(value)


def best_entries(entries: Entries, asked: int, vocab_size: int, where: str, *, least: float = -math.inf) -> Entries:
    """The best `asked` entries, best first; as many as were asked for, none outside the vocabulary, none twice.

    Those below `least` are left out once their number was checked: their values mean nothing.
    """
    wanted = min(asked, vocab_size)
    if len(entries) < wanted:
        raise ServerError(f"{where}: {len(entries)} log-probabilities, {wanted} were asked for")
    if outside := [token for token, _ in entries if not 0 <= token < vocab_size]:
        raise ServerError(f"{where}: token {outside[0]} is outside the vocabulary of {vocab_size} that the model has")
    ordered = sorted(entries, key=lambda pair: (-pair[1], pair[0]))[:wanted]
    if len({token for token, _ in ordered}) < wanted:
        raise ServerError(f"{where}: a token stands twice among the log-probabilities")
    return [pair for pair in ordered if pair[1] >= least]


def chosen_first(entries: Entries, token: int, where: str) -> Entries:
    """The entries with the token that the server took in front; a ServerError if another one was better."""
    value = dict(entries).get(token)
    if value is None or value < entries[0][1]:
        raise ServerError(f"{where}: the server took token {token}, its best is {entries[0][0]}: it does not decode greedily")
    return [(token, value), *(pair for pair in entries if pair[0] != token)]


def as_rows(positions: Sequence[Entries], vocab_size: int) -> np.ndarray:
    """Whole rows float32 [T, V] where every position names every token, else `toprows.TOP` [T, K]."""
    if not positions:
        return np.empty((0, vocab_size), np.float32)
    if all(len(entries) == vocab_size for entries in positions):
        rows = np.empty((len(positions), vocab_size), np.float32)
        for position, (row, entries) in enumerate(zip(rows, positions, strict=True)):
            if abs(total := math.fsum(math.exp(value) for _, value in entries) - 1) > SUM_ERROR:
                text = f"position {position}: the probabilities of the whole vocabulary sum to {total + 1:.6g}"
                raise ServerError(f"{text}: are these logits, or sampled ones?")
            row[[token for token, _ in entries]] = [value for _, value in entries]
        return rows
    width = max(len(entries) for entries in positions)
    ids, values = np.full((len(positions), width), -1, np.int32), np.full((len(positions), width), np.nan, np.float32)
    for n, entries in enumerate(positions):
        ids[n, : len(entries)] = [token for token, _ in entries]
        values[n, : len(entries)] = [value for _, value in entries]
    return top_rows(ids, values)
