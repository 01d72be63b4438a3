"""The rows of logits that an engine under test gave, however broken: read leniently, so that each rule judges one thing."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from logitproof.protocol import messages as protocol
from logitproof.rows.probability import kl_divergence, log_softmax
from logitproof.rows.transform import between

TURNED = 1e-2
"""Nats within which rows agree once they are turned: `rules.SAME_MODEL`."""
ROW_BY_ROW = "give one row a token id, of as many logits as the vocabulary has entries, also with a cache"
IN_ORDER = "write row after row, in C order: all of the vocabulary for one position"
REFERENCE, FIRST = "the reference's", "the first answer's"


@dataclass(frozen=True)
class Rows:
    """Rows as an engine wrote and announced them, values [T, V].

    `ids` [T, K] are there where only the best entries of a row were given; then `values` are their log-probabilities.
    """

    values: np.ndarray
    shape: tuple[int, ...]
    announced_bytes: int
    found_bytes: int
    path: Path
    asked: Path
    ids: np.ndarray | None = None
    token_ids: tuple[int, ...] = ()
    finish: str = ""

    def best(self, row: int) -> int:
        """The token that greedy decoding chooses from a row."""
        if row >= len(self.values):
            return -1
        return int(self.ids[row, 0]) if self.ids is not None else int(np.argmax(self.values[row]))

    def value(self, row: int, token: int) -> float:
        """Logit or log-probability of a token, -inf where it is not known."""
        if row >= len(self.values):
            return -np.inf
        if self.ids is None:
            return float(self.values[row, token]) if 0 <= token < self.values.shape[1] else -np.inf
        places = np.flatnonzero(self.ids[row] == token)
        return float(self.values[row, places[0]]) if len(places) else -np.inf


def read_rows(announced: protocol.Rows, asked: Path) -> Rows:
    """What was announced in an answer to a request for rows in the file `asked`."""
    tensor = announced.whole or announced.topk_logprobs or announced.topk_ids
    assert tensor is not None
    file = Path(tensor.path)
    return Rows(
        values=_lenient(tensor),
        shape=tensor.shape,
        announced_bytes=int(np.prod(tensor.shape)) * np.dtype(tensor.dtype).itemsize,
        found_bytes=file.stat().st_size if file.is_file() else 0,
        path=file if announced.whole is not None else Path(tensor.path.rpartition(".topk_")[0]),
        asked=asked,
        ids=_lenient(announced.topk_ids) if announced.topk_ids is not None else None,
        token_ids=tuple(getattr(announced, "token_ids", ())),
        finish=str(getattr(announced, "finish", "")),
    )


def last_of(rows: Rows, count: int) -> Rows:
    """The last `count` rows alone."""
    ids = rows.ids[-count:] if rows.ids is not None else None
    return replace(rows, values=rows.values[-count:], shape=(count, *rows.shape[1:]), ids=ids)


def apart(first: Rows, second: Rows, count: int) -> float:
    """The largest KL divergence of the first `count` rows in nats; of top-k rows the largest difference of their first.

    Infinite where one of them has fewer rows, or rows of another width.
    """
    if min(len(first.values), len(second.values)) < count or min(first.values.ndim, second.values.ndim) < 2:
        return float("inf")
    if first.ids is not None or second.ids is not None:
        pairs = [(first.value(row, first.best(row)), second.value(row, first.best(row))) for row in range(count)]
        return max(0.0 if np.isnan(a) and np.isnan(b) else abs(a - b) for a, b in pairs)
    p, q = (log_softmax(_without_infinities(rows.values[:count])) for rows in (first, second))
    return float(kl_divergence(p, q).max()) if p.shape == q.shape else float("inf")


def how_apart(first: Rows, second: Rows, count: int) -> tuple[str, str]:
    """What the first `count` rows of the second are to those of the first, where a transform or a shape says it.

    With the remedy for that; both are empty where nothing says it.
    """
    for rows in (first, second):
        if len(rows.values) < count:
            return f"one has {len(rows.values)} rows, {count} were asked for", ROW_BY_ROW
    if first.ids is not None or second.ids is not None:
        return "", ""
    if first.values.shape[1:] != second.values.shape[1:]:
        return f"rows of {first.values.shape[1:]} and {second.values.shape[1:]} entries", ROW_BY_ROW
    if apart(_turned(first), _turned(second), count) <= TURNED:
        return "read as [vocabulary, positions] they agree: the file holds the rows transposed", IN_ORDER
    transform = between(first.values[:count], second.values[:count])
    return (transform.text.replace(REFERENCE, FIRST), transform.remedy) if transform else ("", "")


def _turned(rows: Rows) -> Rows:
    """The rows, if their file holds them transposed."""
    return replace(rows, values=rows.values.reshape(rows.values.shape[::-1]).T)


def _without_infinities(values: np.ndarray) -> np.ndarray:
    return np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=-np.inf)


def largest_difference(first: Rows, second: Rows) -> str:
    if first.shape != second.shape:
        return f"of shape {list(first.shape)} and {list(second.shape)}"
    return f"{np.nanmax(np.abs(first.values - second.values)):.3g}"


def _lenient(tensor: protocol.Tensor) -> np.ndarray:
    """The tensor as announced, from a file that may be too short (then 0) or too long."""
    kind = np.dtype(tensor.dtype).newbyteorder("<")
    values = np.empty(0, kind)
    with contextlib.suppress(OSError):
        values = np.fromfile(tensor.path, kind, count=int(np.prod(tensor.shape)))
    whole = np.zeros(int(np.prod(tensor.shape)), kind)
    whole[: len(values)] = values
    return whole.reshape(tensor.shape)
