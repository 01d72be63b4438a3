"""What a difference shows by itself, where no known bug explains it: tests of its shape, each with its evidence.

To add a test, write a function `Difference -> Finding | None` here (positions, tokens, modes) or in `shape_rows.py` (what
becomes of a row), and name it in its tuple.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from logitproof.diagnosis.difference import Difference
from logitproof.diagnosis.found import Finding
from logitproof.diagnosis.shape_rows import ROWS
from logitproof.rows.distance import distances, rms

PEAK = 5.0
"""How many times larger the difference at every n-th position must be than elsewhere."""
FEWEST = 8
"""Wrong positions that a trend is read from."""
TREND = 0.8
"""Least rank correlation of the difference with the position."""


def shape_of(difference: Difference) -> Iterator[Finding]:
    """Everything that the tests find."""
    checks: tuple[Callable[[Difference], Finding | None], ...] = POSITIONS + (ROWS if difference.whole else ())
    for check in checks:
        if (finding := check(difference)) is not None:
            yield finding


def only_decode(difference: Difference) -> Finding | None:
    """The candidate's other mode is right."""
    pairs = [
        (right, twin) for right, twin in zip(difference.right, difference.other, strict=False) if right.shape == twin.shape
    ]
    if not pairs:
        return None
    far = rms(*(distances(right, twin) for right, twin in pairs))
    here = rms(*difference.by_position())
    if not far * PEAK <= here:
        return None
    mode, right = difference.mode, "prefill" if difference.mode == "decode" else "decode"
    text = f"only in {mode}: {here:.3g} logits there, {far:.3g} in {right} of the same tokens"
    return Finding(f"only {mode}", text, {"here": here, "there": far})


def from_position(difference: Difference) -> Finding | None:
    """Exact before one position, the same in every sequence that is long enough."""
    firsts = _firsts(difference)
    wrong = {first for first in firsts if first is not None}
    if len(wrong) != 1 or (first := min(wrong)) == 0:
        return None
    if any(place is None and len(ids) > first for place, ids in zip(firsts, difference.sequences, strict=True)):
        return None
    text = f"exact before position {first}, wrong from there on, in {sum(place is not None for place in firsts)} sequences"
    return Finding("from a position", text, {"position": first})


def few_positions(difference: Difference) -> Finding | None:
    """Single positions are wrong, and others after them right."""
    wrong = [values > difference.limit for values in difference.by_position()]
    total, count = sum(len(flags) for flags in wrong), sum(int(flags.sum()) for flags in wrong)
    after = [flags[int(np.argmax(flags)) :] for flags in wrong if flags.any()]
    if not count or count * 2 > total or all(flags.all() for flags in after):
        return None
    places = [[int(place) for place in np.flatnonzero(flags)][:12] for flags in wrong]
    text = f"only {count} of {total} positions differ: {'; '.join(str(row)[1:-1] or 'none' for row in places)}"
    return Finding("few positions", text, {"positions": places})


def every_nth(difference: Difference) -> Finding | None:
    """Larger at every n-th position than anywhere else, as at the edges of chunks, blocks and tiles."""
    by_position = difference.by_position()
    best: tuple[float, int, int] | None = None
    for period in range(2, min(129, max(len(values) for values in by_position) // 3 + 1)):
        for rest in range(period):
            score = _peak(by_position, period, rest, difference.limit)
            if score > PEAK and (best is None or score > 1.5 * best[0]):
                best = (score, period, rest)
    if best is None:
        return None
    score, period, rest = best
    places = f"{rest}, {rest + period}, {rest + 2 * period}, …"
    text = f"every {period} positions, at {places}: {score:.3g} times larger than elsewhere"
    return Finding("every n-th position", text, {"period": period, "first": rest, "times": score})


def grows(difference: Difference) -> Finding | None:
    """Grows with the position."""
    for values, ids in zip(difference.by_position(), difference.sequences, strict=True):
        places = np.flatnonzero((values > difference.limit) & np.isfinite(values) & (np.arange(len(ids)) > 0))
        if len(places) < FEWEST:
            continue
        size = values[places]
        rank = float(np.corrcoef(places, np.argsort(np.argsort(size)))[0, 1])
        if rank >= TREND:
            power = float(np.polyfit(np.log(places), np.log(size), 1)[0])
            trend = f"rank correlation {rank:.2f} over {len(places)} positions"
            text = f"grows with the position, as position^{power:.2g} ({trend})"
            return Finding("grows with position", text, {"power": power, "correlation": rank})
    return None


def certain_tokens(difference: Difference) -> Finding | None:
    """Exact until one of a few tokens comes, in sequences in which they stand at different places."""
    firsts = _firsts(difference)
    wrong = [(ids, first) for ids, first in zip(difference.sequences, firsts, strict=True) if first is not None]
    tokens = {ids[first] for ids, first in wrong}
    clean = {
        token
        for ids, first in zip(difference.sequences, firsts, strict=True)
        for token in (ids if first is None else ids[:first])
    }
    places = {first for _, first in wrong}
    apart = len(places) > 1 or any(first is None for first in firsts)
    if not wrong or tokens & clean or not apart or len(tokens) > max(1, len(wrong) // 2):
        return None
    listing = ", ".join(str(token) for token in sorted(tokens))
    text = f"exact until token {listing} comes, at positions {', '.join(map(str, sorted(places)))}: wrong from it on"
    return Finding("certain tokens", text, {"token_ids": sorted(tokens), "positions": sorted(places)})


POSITIONS: tuple[Callable[[Difference], Finding | None], ...] = (
    only_decode,
    from_position,
    few_positions,
    every_nth,
    grows,
    certain_tokens,
)


def _firsts(difference: Difference) -> list[int | None]:
    """The first wrong position of every sequence."""
    flags = [values > difference.limit for values in difference.by_position()]
    return [int(np.argmax(wrong)) if wrong.any() else None for wrong in flags]


def _peak(by_position: list[np.ndarray], period: int, rest: int, limit: float) -> float:
    """How many times the smallest difference at these positions exceeds the usual one elsewhere; 0 of too few positions."""
    at, elsewhere = [], []
    for values in by_position:
        # a period shows at twice its length, so the first one of a sequence, at which nothing came before, is not asked
        chosen = (np.arange(len(values)) % period == rest) & (np.arange(len(values)) >= min(period, rest + 1))
        at.append(values[chosen])
        elsewhere.append(values[~chosen & (np.arange(len(values)) > 0)])
    here, there = np.concatenate(at), np.concatenate(elsewhere)
    if len(here) < 3 or not len(there) or here.min() <= limit:
        return 0.0
    return float(np.median(here) / max(float(np.median(there)), limit)) if here.min() > np.median(there) * 2 else 0.0
