"""Right logits that stand at the wrong ids: the order of the vocabulary, or of the entries of each row.

Which id each column comes from is read from the columns themselves: two of one token agree at all positions, within noise.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from logitproof.diagnosis.difference import Difference
from logitproof.diagnosis.found import Finding
from logitproof.rows.distance import rms

ROWS_READ = 256
NEIGHBOURS = 6
"""Columns on either side, in the order of their sums, that a column is compared with: noise exchanges near ones."""
ENTRIES = 2**22
"""Numbers of a comparison that lie in memory at once."""
MATCHED = 0.8
"""Share of the columns that must come from some id, for the others may be of tokens that the reference has not."""
RUNS = 8
"""Runs of ids moved by one number that a sentence names."""
SHOWN = 8
KINDS_OF_BLOCKS = 3
"""Lengths of blocks, of which one may be the rest."""


def permuted(difference: Difference) -> Finding | None:
    """The right logits stand at other ids, the same at every position; a number may be added to a row (log-probabilities)."""
    right, candidate = (np.concatenate(rows)[:ROWS_READ] for rows in (difference.right, difference.candidate))
    if len(right) < 2 or right.shape != candidate.shape or rms(candidate - right) <= difference.limit:
        return None
    finding = _permuted(right, candidate, difference.limit)
    return finding or _permuted(_centred(right), _centred(candidate), difference.limit)


def reordered(difference: Difference) -> Finding | None:
    """Each row holds the right logits in an order of its own, such as from the largest down."""
    right, candidate = (np.concatenate(rows)[:ROWS_READ] for rows in (difference.right, difference.candidate))
    if right.shape != candidate.shape or rms(candidate - right) <= difference.limit:
        return None
    left = rms(np.sort(candidate, axis=1) - np.sort(right, axis=1))
    steps = np.diff(candidate, axis=1)
    order = "from the largest down" if (steps <= 0).all() else "from the smallest up" if (steps >= 0).all() else ""
    if left > difference.limit or not (order or permuted(difference) is None):
        return None
    text = f"each row holds the right logits {order or 'in another order'} ({left:.2g} logits left): they no longer stand by id"
    return Finding("sorted" if order else "reordered by row", text, {"left": left, "order": order})


def _permuted(right: np.ndarray, candidate: np.ndarray, limit: float) -> Finding | None:
    place, far = _sources(right, candidate)
    # a logit that stands where it should, and another like it, is one that was not moved
    still = np.sqrt(((candidate - right) ** 2).mean(axis=0)) <= limit
    place[still], known = np.flatnonzero(still), still | (far <= limit)
    moved = np.flatnonzero(known & (place != np.arange(len(place))))
    # each comes from an id of its own: rows of flat logits would come from any
    if known.mean() < MATCHED or not len(moved) or len(set(place[known].tolist())) < MATCHED * known.sum():
        return None
    left = rms((candidate - right[:, place])[:, known])
    lost = "" if known.all() else f"; {int((~known).sum())} ids have logits of their own"
    change = f"{_change(place, known)} ({left:.2g} logits left){lost}"
    runs = [list(run) for run in _runs(place, known)[:64]]
    text = f"the right logits at the wrong ids, {change}: the order of the vocabulary"
    return Finding("permutation", text, {"moved": len(moved), "left": left, "runs": runs})


def _centred(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows - rows.mean(axis=1, keepdims=True))


def _sources(right: np.ndarray, candidate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The id [V] of the right column nearest to each of the candidate's, and the RMS difference from it."""
    size = right.shape[1]
    mix = np.random.default_rng(1).normal(size=len(right)) / len(right) ** 0.5
    sums, order = mix @ right, np.argsort(mix @ right, kind="stable")
    middle = np.searchsorted(sums[order], mix @ candidate)
    around = np.clip(middle[:, None] + np.arange(-NEIGHBOURS, NEIGHBOURS + 1), 0, size - 1)
    place, far = np.empty(size, int), np.empty(size)
    step = max(1, ENTRIES // (len(right) * around.shape[1]))
    for begin in range(0, size, step):
        columns = slice(begin, begin + step)
        nearest = order[around[columns]]
        apart = ((right[:, nearest] - candidate[:, columns, None]) ** 2).mean(axis=0)
        best = apart.argmin(axis=1)
        place[columns] = nearest[np.arange(len(best)), best]
        far[columns] = np.sqrt(apart[np.arange(len(best)), best])
    return place, far


def _change(place: np.ndarray, known: np.ndarray) -> str:
    """How the ids were moved, in the simplest words that say it all."""
    size, ids = len(place), np.flatnonzero(known)
    shift = (ids - place[ids]) % size
    if (shift == shift[0]).all():
        return f"shifted by {int(shift[0]) if 2 * int(shift[0]) <= size else int(shift[0]) - size} ids"
    if (ids + place[ids] == size - 1).all():
        return "in reverse"
    runs = [run for run in _runs(place, known) if run[2]]
    if len(runs) <= RUNS:
        listing = "; ".join(f"ids {first} to {last} hold those of {first - by} to {last - by}" for first, last, by in runs)
        return f"moved in {len(runs)} runs: {listing}"
    return f"{sum(last - first + 1 for first, last, _ in runs)} of {size} {_scattered(place, ids, runs)}"


def _scattered(place: np.ndarray, ids: np.ndarray, runs: list[tuple[int, int, int]]) -> str:
    """The pattern of many runs: parts that are interleaved, blocks of one length, or none that is seen."""
    strides = (place[ids[1:]] - place[ids[:-1]])[np.diff(ids) == 1] % (len(place) - 1)
    values, counts = np.unique(strides, return_counts=True)
    stride = int(values[counts.argmax()])
    if stride != 1 and counts.max() * 4 >= 3 * len(strides):
        return f"moved: neighbours come from {stride} ids apart, as parts that are interleaved"
    lengths = {last - first + 1 for first, last, _ in runs}
    if min(lengths) > 1 and len(lengths) <= KINDS_OF_BLOCKS:
        return f"moved in {len(runs)} blocks of {', '.join(map(str, sorted(lengths)))} ids"
    places = [int(token) for token in ids if place[token] != token]
    examples = ", ".join(f"{int(place[token])} at {token}" for token in places[:SHOWN])
    return f"stand elsewhere: the logit of {examples}{', …' if len(places) > SHOWN else ''}"


def _runs(place: np.ndarray, known: np.ndarray) -> list[tuple[int, int, int]]:
    """(first id, last id, ids that it was moved by) of each run of neighbours that were moved alike; unknown ones end none."""
    return list(_each_run(place, known))


def _each_run(place: np.ndarray, known: np.ndarray) -> Iterator[tuple[int, int, int]]:
    ids = np.flatnonzero(known)
    by = ids - place[ids]
    ends = np.flatnonzero(np.diff(by) != 0)
    for begin, end in zip([0, *(ends + 1)], [*ends, len(ids) - 1], strict=True):
        yield int(ids[begin]), int(ids[end]), int(by[begin])
