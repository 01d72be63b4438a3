"""Rows that are no logits, or not those that were asked for: recognized by what they are, with the transform named.

`by_themselves` needs the rows alone; `between` says by which transform the rows of one engine become those of another. A
transform is told only where it leaves a tenth of the difference, in the shape of the given rows themselves: no scale, and no
rows that are merely small, make it fit. Log-probabilities are logits whose constant was chosen, and are no fault.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from logitproof.files.mapped import ROWS, in_blocks, let_go, picked

LEFT = 0.1
"""Share of the difference, and of the given rows' own spread, that a transform may leave."""
CLOSE = 0.02
"""Share of the right rows' spread below which a difference is nothing that a transform explains."""
FLAT = 0.01
"""Share of the right rows' spread below which rows are nearly flat."""
OFF = 1e-2
"""How far a sum of probabilities may be off: float16 rounds each of them."""
COLUMNS, FEWEST_COLUMNS = 4096, 64
ENTRIES = 1 << 17
"""Numbers of all rows that are looked at, as far as that leaves `FEWEST_COLUMNS` of a row."""
SHIFTS = (1, -1, 2, -2)
FEWEST = 3
"""Rows that must overlap for a shift to be told."""
LARGEST = 1e5
"""No logit is larger; most numbers whose bytes are swapped are, or are nearly nothing."""
Kind = Literal["no logits", "byte order", "place", "prompt", "curve"]
GIVE = "give logits: the output of the last matrix product, before softmax or any other function"

ORDER = "column i is the logit of token id i: hand them over in that order"
ROUNDED = 1e-5
"""Share of a row's spread by which its sorted numbers may be off, for them to be the same ones: float32 rounds to 1e-7."""
REORDERED = 4
"""Rows of which every number is looked at."""
AFTER = "look at what is done to the logits after the head"


@dataclass(frozen=True)
class Transform:
    """What rows are instead: a name, a sentence with its evidence, and what to do. A `curve` may be a bug of the model."""

    kind: Kind
    name: str
    text: str
    remedy: str


def by_themselves(rows: np.ndarray) -> Transform | None:
    """What rows [T, V] of any float type are, where that shows without another engine's."""
    if rows.ndim != 2 or not rows.size or rows.shape[1] < 2:
        return None
    if (swapped := bytes_swapped(rows)) is not None:
        return swapped
    # one row tells for most rows that there is nothing to see
    for check in (_probabilities, _logarithms):
        if check(rows[:1]) is not None and (transform := check(rows)) is not None:
            return transform
    return None


def bytes_swapped(rows: np.ndarray) -> Transform | None:
    """Whether numbers are nonsense as they stand, and logits with the bytes of each in the other order."""
    sample = picked(rows, slice(None, None, max(1, rows.shape[1] // _columns(rows))))
    if sample.dtype.kind != "f" or _are_sane(sample):
        return None
    swapped = sample.byteswap()
    if not _are_sane(swapped):
        return None
    with np.errstate(invalid="ignore"):
        low, high = float(swapped.min()), float(swapped.max())
    text = f"with the bytes of every number swapped they are logits, {low:.3g} to {high:.3g}: they were written big-endian"
    return Transform("byte order", "byte-swapped", text, "write little-endian numbers")


def between(
    right: np.ndarray, given: np.ndarray, others: Mapping[str, Callable[[], np.ndarray]] | None = None
) -> Transform | None:
    """By which transform the right rows [T, V] became the given ones; `others` are right rows of other prompts, by name.

    None where they are near enough, where nothing fits, and where shapes or numbers do not allow to say.
    """
    if right.shape != given.shape or right.ndim != 2 or right.shape[1] < 2 or not right.size:
        return None
    columns = np.arange(0, right.shape[1], max(1, right.shape[1] // _columns(right)))
    sides = picked(right, columns), picked(given, columns)
    # what either side masks, such as the padding of a vocabulary, is no part of any shape
    known = np.isfinite(sides[0]).all(axis=0) & np.isfinite(sides[1]).all(axis=0)
    columns = columns[known]
    if len(columns) < 2:
        return None
    # what is masked elsewhere, or too large to be squared, fits nothing
    with np.errstate(all="ignore"):
        pair = _Pair(_wide(sides[0][:, known]), _wide(sides[1][:, known]))
        if pair.base <= CLOSE * _size(pair.centred):
            return None
        transform = _exponentials(pair) or _nearly_flat(pair) or _transposed(pair, given, columns) or _moved(pair)
        if transform is None and others:
            transform = _of_another(pair, others, columns)
        curve = transform or next((curve for curve in _curves(pair) if curve is not None), None)
        return curve or _reordered(right, given)


class _Pair:
    """Rows of both sides, their means taken off, and how far they are apart."""

    def __init__(self, right: np.ndarray, given: np.ndarray) -> None:
        self.right, self.given = right, given
        self.centred, self.target = _centred(right), _centred(given)
        self.base = _size(self.centred - self.target)

    def fits(self, rows: np.ndarray, target: np.ndarray | None = None, base: float | None = None) -> float | None:
        """How much transformed rows leave, as a share of the given rows' own spread; None where that is too much."""
        aim = self.target if target is None else target
        left = _size(_centred(rows) - aim)
        return left / _size(aim) if left <= LEFT * min(self.base if base is None else base, _size(aim)) else None


def _columns(rows: np.ndarray) -> int:
    """How many numbers of each row are looked at."""
    return min(COLUMNS, max(FEWEST_COLUMNS, ENTRIES // len(rows)))


def _by_row(rows: np.ndarray, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """float64 [T] of a function of float64 rows, a few of which are in memory at a time."""
    return np.concatenate([function(_wide(block)) for _, block in in_blocks(rows)])


def _wide(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows, np.float64)


def _centred(rows: np.ndarray) -> np.ndarray:
    return rows - rows.mean(axis=1, keepdims=True)


def _size(rows: np.ndarray) -> float:
    # not by BLAS, whose threads wait for one another longer than this takes
    return float(np.sqrt(np.einsum("ij,ij->", rows, rows)))


def _are_sane(rows: np.ndarray) -> bool:
    """Whether numbers could be logits: finite, none huge, and most of them not next to nothing."""
    with np.errstate(invalid="ignore", over="ignore"):
        finite = np.isfinite(rows)
        masked = np.isneginf(rows)
        large = np.abs(rows[finite]) > LARGEST
        tiny = (rows[finite] != 0) & (np.abs(rows[finite]) < 1e-20)
    return bool((finite | masked).all() and finite.any() and not large.any() and tiny.mean() < 0.5)


def _probabilities(rows: np.ndarray) -> Transform | None:
    with np.errstate(invalid="ignore", over="ignore"):
        sums = _by_row(rows, lambda block: block.sum(axis=1))
        least = _by_row(rows, lambda block: block.min(axis=1)).min()
        spread = _by_row(rows, lambda block: np.ptp(block, axis=1))
    if not (least >= -1e-6 and np.isfinite(sums).all()) or not (spread > 0).all():
        return None
    for whole, name in ((1.0, "probabilities"), (100.0, "percentages")):
        off = float(np.abs(sums - whole).max()) / whole
        if off <= OFF:
            bounds = f"every row is in [0, {whole:g}] and sums to {whole:g} within {off * whole:.2g}"
            text = f"{bounds}: these are {name}, not logits"
            return Transform("no logits", name, text, GIVE)
    return None


def _logarithms(rows: np.ndarray) -> Transform | None:
    """Logarithms of probabilities to another base than e, or without their sign."""
    for base, sign, name in ((2.0, 1, "to base 2"), (10.0, 1, "to base 10"), (np.e, -1, "without their sign (surprisals)")):
        if _by_row(rows, functools.partial(_largest, sign)).max() > 1e-6:
            continue
        with np.errstate(over="ignore", under="ignore"):
            sums = _by_row(rows, functools.partial(_powers, base, sign))
        off = float(np.abs(sums - 1.0).max())
        if off <= OFF:
            text = f"they are log-probabilities {name} (their probabilities sum to 1 within {off:.2g}), not natural logarithms"
            return Transform("no logits", f"log-probabilities {name}", text, "give logits, or natural logarithms")
    return None


def _largest(sign: int, rows: np.ndarray) -> np.ndarray:
    return np.asarray((sign * rows).max(axis=1))


def _powers(base: float, sign: int, rows: np.ndarray) -> np.ndarray:
    """float64 [T]: what the probabilities of such logarithms sum to."""
    return np.asarray((base ** (sign * rows)).sum(axis=1))


def _exponentials(pair: _Pair) -> Transform | None:
    """Known by their logarithms, however small they are: rows that are nearly flat may still be exponentials."""
    if not pair.given.min() > 0 or (left := pair.fits(np.log(pair.given), pair.centred, np.inf)) is None:
        return None
    return Transform("no logits", "exponentials", f"they are exponentials of the logits (all but {left:.1%})", GIVE)


def _nearly_flat(pair: _Pair) -> Transform | None:
    share = _size(pair.target) / max(_size(pair.centred), 1e-300)
    if share > FLAT:
        return None
    text = f"the rows are nearly flat: their spread is {share:.2g} of the reference's"
    remedy = "look for a head that is not applied, zero weights, or a softmax over everything"
    return Transform("curve", "nearly flat", text, remedy)


def _transposed(pair: _Pair, given: np.ndarray, columns: np.ndarray) -> Transform | None:
    count, size = given.shape
    if count < 2:
        return None
    flat = np.reshape(given, -1)
    rows = []
    for start in range(0, count, ROWS):
        rows.append(np.array(flat[columns[None, :] * count + np.arange(start, min(start + ROWS, count))[:, None]]))
        let_go(flat)
    turned = _centred(_wide(np.concatenate(rows)))
    if pair.fits(pair.centred, turned) is None or _size(turned) == 0:
        return None
    shapes = f"[{size}, {count}] (vocabulary, positions) where [{count}, {size}] was asked for"
    text = f"the file holds the rows transposed: {shapes}"
    return Transform("place", "transposed", text, "write row after row, in C order: all of the vocabulary for one position")


def _moved(pair: _Pair) -> Transform | None:
    """Rows of other positions: shifted, or in reverse."""
    count = len(pair.right)
    for shift in SHIFTS:
        if count - abs(shift) < FEWEST:
            continue
        right = pair.centred[shift:] if shift > 0 else pair.centred[:shift]
        target = pair.target[:-shift] if shift > 0 else pair.target[-shift:]
        here = pair.centred[:-shift] if shift > 0 else pair.centred[-shift:]
        if pair.fits(right, target, _size(here - target)) is not None:
            text = f"row t is the reference's row t{shift:+d}: the rows are shifted by {abs(shift)}"
            remedy = "hand over the row that was computed after token t, for every t"
            return Transform("place", f"shifted by {shift:+d}", text, remedy)
    if count >= FEWEST and pair.fits(pair.centred[::-1]) is not None:
        return Transform("place", "reversed", "the rows stand in reverse: the last position comes first", "write them in order")
    return None


def _of_another(
    pair: _Pair, others: Mapping[str, Callable[[], np.ndarray]], columns: np.ndarray
) -> Transform | None:
    """Rows of another prompt, at least three of them."""
    for name, open_rows in others.items():
        rows = open_rows()
        count = min(len(rows), len(pair.given))
        if rows.ndim != 2 or count < FEWEST or rows.shape[1] <= columns[-1]:
            continue
        right = _wide(picked(rows[:count], columns))
        base = _size(pair.centred[:count] - pair.target[:count])
        if np.isfinite(right).all() and pair.fits(right, pair.target[:count], base) is not None:
            text = f"these are the rows of {name}, not of the tokens that were asked for"
            return Transform("prompt", "of another prompt", text, "answer with the rows of this request's own token ids")
    return None


def _curves(pair: _Pair) -> Iterator[Transform | None]:
    """One function of every logit: a factor, an exponential, a squashing, a cap."""
    factor = float((pair.centred * pair.target).sum() / (pair.centred**2).sum())
    if (left := pair.fits(factor * pair.centred)) is not None:
        what = "negated" if factor < 0 else "a temperature, or a scale of the head"
        text = f"every logit is the reference's times {factor:.4g} (all but {left:.1%}): {what}"
        yield Transform("curve", "scaled", text, AFTER)
    low, high = float(pair.given.min()), float(pair.given.max())
    for name, kind, rows in _functions(pair.right, low, high):
        if (left := pair.fits(rows)) is not None:
            text = f"every number is {name} of the reference's logit (all but {left:.1%})"
            yield Transform(kind, name, text, GIVE if kind == "no logits" else AFTER)
    yield _scaled_by_row(pair)


def _functions(right: np.ndarray, low: float, high: float) -> Iterator[tuple[str, Kind, np.ndarray]]:
    with np.errstate(over="ignore"):
        yield "the sigmoid", "no logits", 1.0 / (1.0 + np.exp(-right))
    yield "tanh", "curve", np.tanh(right)
    yield "max(z, 0)", "no logits", np.maximum(right, 0.0)
    yield "the absolute value", "no logits", np.abs(right)
    yield f"the value cut off at {low:.3g} and {high:.3g}", "curve", np.clip(right, low, high)
    cap = max(abs(low), abs(high))
    for times in (1.0, 1.05, 1.3, 2.0):
        size = max(cap * times, 1e-30)
        yield f"the cap {size:.3g} tanh(z / {size:.3g})", "curve", size * np.tanh(right / size)


def _scaled_by_row(pair: _Pair) -> Transform | None:
    factors = (pair.centred * pair.target).sum(axis=1) / np.maximum((pair.centred**2).sum(axis=1), 1e-300)
    if len(factors) < FEWEST or pair.fits(factors[:, None] * pair.centred) is None:
        return None
    text = f"each row is the reference's times a number of its own, {factors.min():.4g} to {factors.max():.4g}"
    return Transform("curve", "scaled by row", text, "look at the last norm, and at a scale that depends on the position")


def _reordered(right: np.ndarray, given: np.ndarray) -> Transform | None:
    """The right numbers of every row in the columns of others. Sorted they are equal, which rows of other models never are."""
    chosen = np.unique(np.linspace(0, len(right) - 1, REORDERED).astype(int))
    orders = {_order(_wide(right[row]), _wide(given[row])) for row in chosen}
    if "" in orders:
        return None
    order = orders.pop() if len(orders) == 1 else "another one in each row"
    text = f"every row has the reference's numbers in other columns: {order}"
    return Transform("curve", "reordered", text, ORDER)


def _order(right: np.ndarray, given: np.ndarray) -> str:
    """How the numbers of a row [V] were put into another order; nothing where they are not the same numbers."""
    right, given = right - right.mean(), given - given.mean()
    near = ROUNDED * np.ptp(right)
    if np.abs(right - given).max() <= near:
        return ""
    for shift in SHIFTS:
        here, there = (right[shift:], given[:-shift]) if shift > 0 else (right[:shift], given[-shift:])
        if len(here) >= FEWEST and np.ptp(here - there) <= near:
            return f"column i is the reference's column i{shift:+d}"
    if not near > 0 or not np.abs(np.sort(right) - np.sort(given)).max() <= near:
        return ""
    for order, falls in (("sorted, the largest first", -given), ("sorted, the smallest first", given)):
        if (np.diff(falls) >= 0).all():
            return order
    if np.abs(right[::-1] - given).max() <= near:
        return "the last of the vocabulary comes first"
    shift = int((given.argmax() - right.argmax()) % len(right))
    if np.abs(np.roll(right, shift) - given).max() <= near:
        return f"moved by {min(shift, shift - len(right), key=abs):+d} columns"
    return "they are exchanged"
