"""What becomes of a row of logits, whatever position it stands at: a scale, a cap, an order, a few entries, a direction."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from logitproof.diagnosis.difference import Difference
from logitproof.diagnosis.found import Finding
from logitproof.diagnosis.shape_order import permuted, reordered
from logitproof.rows.distance import rms

NEARLY = 0.99
"""Share of the squared difference that one direction must hold to be told."""
PAIRS = 200_000
"""Pairs of logits from which a function of one logit is read."""
SHOWN = 8
"""Ids that a sentence names."""
ROWS_READ = 256
FITTED = 8
"""Entries of the vocabulary for each number of a hidden state that is fitted to them."""


def probabilities(difference: Difference) -> Finding | None:
    """Rows are in [0, 1] and sum to one."""
    rows = np.concatenate(difference.candidate)
    off = float(np.abs(rows.sum(axis=1) - 1.0).max())
    if rows.min() < 0.0 or off > 1e-2:
        return None
    text = f"every row is in [0, 1] and sums to 1 within {off:.2g}: these are probabilities, not logits"
    return Finding("probabilities", text, {"largest": float(rows.max()), "off": off})


def scaled(difference: Difference) -> Finding | None:
    """All logits times one number."""
    right, candidate = difference.stacked()
    factor = float((right * candidate).sum() / (right**2).sum())
    left = difference.left(factor * right, candidate)
    if left > difference.limit or abs(factor - 1.0) < 1e-6:
        return None
    text = f"all logits are the reference's times {factor:.6g} ({left:.2g} logits left): a temperature or a scale of the head"
    return Finding("scale", text, {"factor": factor, "left": left})


def scaled_by_row(difference: Difference) -> Finding | None:
    """The logits of each row times a number of its own."""
    right, candidate = difference.stacked()
    factors = (right * candidate).sum(axis=1) / (right**2).sum(axis=1)
    left = difference.left(factors[:, None] * right, candidate)
    spread = float(factors.std())
    if left > difference.limit or spread < 1e-5:
        return None
    text = (
        f"each row is the reference's times a number of its own, {factors.min():.4g} to {factors.max():.4g} "
        f"({left:.2g} logits left): the last norm, or a scale that depends on the position"
    )
    return Finding("scale by row", text, {"factors": [float(factor) for factor in factors[:64]], "left": left})


def function_of_a_logit(difference: Difference) -> Finding | None:
    """Each logit is one smooth function of the right one: a soft-cap, a clamp, a rounding of the last step."""
    right, candidate = (np.concatenate(rows).ravel() for rows in (difference.right, difference.candidate))
    step = max(1, len(right) // PAIRS)
    order = np.argsort(right[::step])
    x, y = right[::step][order], candidate[::step][order]
    # by its neighbours on both sides, and not in the tails, where these stand too far away
    between = np.interp(x[1:-1:2], x[::2], y[::2]) - y[1:-1:2]
    jump = rms(between[len(between) // 20 : -len(between) // 20])
    slopes = np.polyfit(x, y, 1)
    straight = rms(y - np.polyval(slopes, x))
    if jump > difference.limit or straight <= difference.limit:
        return None
    cap = min(np.geomspace(1.0, 200.0, 400), key=lambda value: rms(y - value * np.tanh(x / value)))
    left = rms(y - cap * np.tanh(x / cap))
    formula = f", {cap:.3g} tanh(z / {cap:.3g}) but for {left:.2g}" if left < straight / 2 else ""
    text = f"every logit is one function of the right one{formula}: a soft-cap, a clamp or another curve on the logits"
    return Finding("function of a logit", text, {"cap": float(cap), "left": left, "straight": straight})


def few_ids(difference: Difference) -> Finding | None:
    """Only some entries of the rows differ."""
    delta = np.concatenate(difference.candidate) - np.concatenate(difference.right)
    delta -= np.median(delta, axis=1, keepdims=True)
    size = np.sqrt((delta**2).mean(axis=0))
    wrong = np.flatnonzero(size > difference.limit)
    if not len(wrong) or len(wrong) * 2 > len(size):
        return None
    block = int(wrong[-1] - wrong[0]) + 1 == len(wrong)
    span = f"{wrong[0]} to {wrong[-1]}" if block and len(wrong) > 2 else ", ".join(str(token) for token in wrong[:SHOWN])
    text = f"only the logits of {len(wrong)} of {len(size)} ids differ ({span}): rows of the head, a shard, a list of tokens"
    return Finding("certain ids", text, {"ids": [int(token) for token in wrong[:64]], "count": len(wrong)})


def tokens_that_came(difference: Difference) -> Finding | None:
    """Only the logits of tokens that stand in the sequence so far differ."""
    before, by, elsewhere = [], [], []
    for ids, right, candidate in zip(difference.sequences, difference.right, difference.candidate, strict=True):
        came = np.zeros(right.shape, bool)
        for position, token in enumerate(ids):
            came[position:, token] = True
        if came.all(axis=1).any():
            return None
        delta = candidate - right
        delta = delta - np.nanmedian(np.where(came, np.nan, delta), axis=1, keepdims=True)
        before.append(right[came])
        by.append(delta[came])
        elsewhere.append(float((delta[~came] ** 2).mean()))
    logits, change = np.concatenate(before), np.concatenate(by)
    if float(np.mean(elsewhere)) ** 0.5 > difference.limit or rms(change) <= difference.limit:
        return None
    middle = float(np.median(change))
    positive = logits > np.median(np.abs(logits))
    factor = float(np.median(1.0 + change[positive] / logits[positive])) if positive.any() else 1.0
    how = "by numbers of their own"
    if rms(change - middle) <= difference.limit:
        how = f"by {middle:.4g} each"
    elif positive.any() and rms(change[positive] - (factor - 1.0) * logits[positive]) <= difference.limit:
        how = f"positive ones times {factor:.4g}"
    text = f"only the logits of tokens that have come before differ, {how}: a penalty of the sampler is in what is reported"
    return Finding("tokens that came", text, {"change": middle, "factor": factor, "entries": len(change)})


def same_vector(difference: Difference) -> Finding | None:
    """One vector is added to every row."""
    right, candidate = difference.stacked()
    delta = candidate - right
    mean = delta.mean(axis=0)
    left = rms(delta - mean)
    if len(delta) < 3 or left > difference.limit or rms(mean) <= difference.limit:
        return None
    text = f"the same vector is added to every row ({left:.2g} logits left): a bias of the head, or of logits"
    return Finding("same vector", text, {"size": rms(mean), "left": left})


def one_direction(difference: Difference) -> Finding | None:
    """The difference of all rows lies along one direction of the vocabulary."""
    right, candidate = difference.stacked()
    delta = (candidate - right)[:ROWS_READ]
    values = np.linalg.eigvalsh(delta @ delta.T)
    share = float(values[-1] / max(values.sum(), 1e-300))
    if len(delta) < 4 or share < NEARLY:
        return None
    text = f"rank one: {100 * share:.4g} % of the difference is one direction of the vocabulary, larger or smaller by position"
    return Finding("rank one", text, {"share": share})


def span_of_the_head(difference: Difference) -> Finding | None:
    """Whether the right head could give these logits at all, from whatever hidden state."""
    if difference.head is None or difference.head.shape[0] <= difference.head.shape[1] + 1:
        return None
    rows = np.concatenate(difference.candidate)[:ROWS_READ]
    left = rms(rows - _nearest_of_head(difference.head, rows))
    if left > difference.limit:
        text = (
            f"no hidden state gives these logits through the right head ({left:.3g} of them lie outside its span): "
            "the fault is in the head or after it, or content that the model cannot make"
        )
        return Finding("outside the head's span", text, {"left": left})
    text = f"the right head gives these logits from another hidden state ({left:.2g} left): the fault lies before the head"
    return Finding("before the head", text, {"left": left})


def _nearest_of_head(head: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Rows [N, V] that the head [V, E] gives from the hidden states, and constants, that fit best.

    They are fitted to a sample of the vocabulary, `FITTED` entries for each of their numbers, and given for all of it: the
    whole of a large head would take minutes, and what is left grows by no more than a tenth.
    """
    vocabulary, width = head.shape
    count = min(vocabulary, FITTED * (width + 1))
    chosen = np.sort(np.random.default_rng(0).permutation(vocabulary)[:count])
    columns = np.column_stack([head[chosen].astype(np.float64), np.ones(count)])
    states = np.linalg.lstsq(columns, rows[:, chosen].T, rcond=None)[0].T
    fitted = (states[:, :-1].astype(head.dtype) @ head.T).astype(np.float64)
    return np.asarray(fitted + states[:, -1:])


ROWS: tuple[Callable[[Difference], Finding | None], ...] = (
    probabilities,
    scaled,
    scaled_by_row,
    function_of_a_logit,
    permuted,
    reordered,
    few_ids,
    tokens_that_came,
    same_vector,
    one_direction,
    span_of_the_head,
)
