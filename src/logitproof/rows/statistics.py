"""Both logit rows of a position, read from memory once, reduced to its sufficient statistics in float64.

Per position: one pass from memory (sums, extrema, top-k, and in float32 both masses), one over the rows now in cache (centred
moments, exponentials, and what needs both masses: Jensen-Shannon and total variation, which the exact masses then correct).
With z_r, z_t the logits of reference and candidate, p = softmax(z_r), q = softmax(z_t) and
delta = z_t - z_r, every field of STATS is one number per position, or `TOP_K` of them.

An id whose logit is -inf in both rows is outside the support: left out, and missing from `support`.
Anything else that is not finite is counted per row; such a position has no statistics, only NaN.

Importing this module imports numba: only verbs do, when they need it. The first use compiles (seconds),
later ones load numba's cache.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from logitproof.files.mapped import let_go, rows_at_once
from logitproof.rows.kernel import measure, widen
from logitproof.rows.processors import processors

TOP_K = 10
BFLOAT16 = np.dtype(np.uint16)
"""How rows of bfloat16 are handed over, for which NumPy has no type: by their bits."""
POSITIONS = 8  # per task, at most: enough to amortize a call, few enough that mapped pages stay few
WIDENED = 1 << 20  # bytes of a side that are widened at a time, where one row does not take more: they stay in the cache

STATS = np.dtype(
    [
        ("label", "i8"),  # token that follows, -1 where there is none
        ("support", "i8"),  # ids that are not masked in both rows
        ("nonfinite_reference", "i8"),  # logits that are NaN, infinite or beyond 1e100
        ("nonfinite_candidate", "i8"),
        ("max_reference", "f8"),  # logit
        ("max_candidate", "f8"),
        ("log_mass_reference", "f8"),  # log sum exp(z - max), nats; log-sum-exp is max + log_mass
        ("log_mass_candidate", "f8"),
        ("p_delta", "f8"),  # sum p (delta - shift), shift = max_candidate - max_reference, logits
        ("q_delta", "f8"),  # sum q (delta - shift)
        ("entropy_reference", "f8"),  # nats
        ("entropy_candidate", "f8"),
        ("abs_difference", "f8"),  # sum |p - q|
        ("jensen_shannon", "f8"),  # nats
        ("mean_reference", "f8"),  # over the support, logit
        ("mean_candidate", "f8"),
        ("square_reference", "f8"),  # sum z_r^2
        ("square_candidate", "f8"),
        ("product", "f8"),  # sum z_r z_t
        ("centred_square_reference", "f8"),  # the same three with the row's mean taken off
        ("centred_square_candidate", "f8"),
        ("centred_product", "f8"),
        ("square_delta", "f8"),  # sum delta^2
        ("centred_square_delta", "f8"),  # sum (delta - mean delta)^2: the shift removed is the mean of delta
        ("max_centred_delta", "f8"),  # max |delta - mean delta|
        ("scale", "f8"),  # a and b of least squares z_t ~ a z_r + b; NaN for a constant reference
        ("offset", "f8"),
        ("label_reference", "f8"),  # logit of the label; NaN without one
        ("label_candidate", "f8"),
        ("reference_at_candidate_top1", "f8"),  # z_r[argmax z_t]
        ("candidate_at_reference_top1", "f8"),
        ("rank_of_reference_top1", "i8"),  # its rank in the candidate, from 1; 0 where not finite
        ("rank_of_candidate_top1", "i8"),
        ("ids_reference", "i8", (TOP_K,)),  # largest first, ties by lowest id; -1 beyond the support
        ("ids_candidate", "i8", (TOP_K,)),
        ("top_reference", "f8", (TOP_K,)),  # their logits; NaN beyond the support
        ("top_candidate", "f8", (TOP_K,)),
    ]
)
RowStats = np.recarray[Any, Any]  # of STATS, [T]


Look = Callable[[slice, np.ndarray, np.ndarray], None]
"""What else is done with some rows while they are in memory: which positions they are, and both sides [n, V], read-only."""


def row_statistics(
    reference: np.ndarray, candidate: np.ndarray, labels: np.ndarray, threads: int | None = None, look: Look | None = None
) -> RowStats:
    """STATS of every position of two logit arrays [T, V]; `labels` [T] holds the next token or -1.

    The arrays are float64, float32, float16, or bfloat16 as its bits (`BFLOAT16`), each side its own.

    Memory-mapped arrays are streamed: their pages are let go behind the reader. `threads` defaults to
    the processors this process may use; the result does not depend on it. `look` is shown all rows, by several threads.
    """
    threads = threads or processors()
    stats = np.zeros(len(labels), STATS)
    stats["label"] = labels
    for name in _floats():
        stats[name] = np.nan
    top, ids = np.full((len(labels), 2, TOP_K), np.nan), np.full((len(labels), 2, TOP_K), -1)
    sides = (reference, candidate)
    step = min(rows_at_once(side, _most(side)) for side in sides)
    lanes = max(1, min(threads, -(-len(labels) // step)))
    with ThreadPoolExecutor(lanes) as pool:
        turns = [range(0, len(labels), step)[lane::lanes] for lane in range(lanes)]
        jobs = [pool.submit(_stream, sides, (stats, top, ids), turn, step, look) for turn in turns]
    for job in jobs:
        job.result()
    return _finished(stats, top, ids)


def _stream(
    rows: tuple[np.ndarray, np.ndarray],
    out: tuple[np.ndarray, np.ndarray, np.ndarray],
    turn: range,
    step: int,
    look: Look | None,
) -> None:
    """Fill STATS, the top-k and their ids (`out`) for the blocks of `step` positions that begin where `turn` says."""
    stats, top, ids = out
    sides = [_Rows(side, step) for side in rows]
    for first in turn:
        part = slice(first, min(first + step, len(stats)))
        reference, candidate = (side.ready(part) for side in sides)
        measure(reference, candidate, stats["label"][part].copy(), stats[part], top[part], ids[part])
        if look is not None:
            look(part, reference, candidate)
        for side in rows:
            let_go(side[part])


def _most(rows: np.ndarray) -> int:
    """Positions of a side that are looked at together, at most."""
    return min(POSITIONS, max(1, WIDENED // (4 * rows.shape[1]))) if _is_half(rows) else POSITIONS


def _is_half(rows: np.ndarray) -> bool:
    return rows.dtype in (np.float16, BFLOAT16)


class _Rows:
    """Rows [T, V] of one side, as the kernel is compiled for; those of 16 bits are widened, at most `count` at a time."""

    def __init__(self, rows: np.ndarray, count: int) -> None:
        self.rows = rows
        self.is_half = _is_half(rows)
        self.wide = np.empty((count if self.is_half else 0, rows.shape[1]), np.float32)

    def ready(self, part: slice) -> np.ndarray:
        """Native float32 or float64, contiguous, read-only; good until the next are asked for."""
        rows = self.rows[part]
        if self.is_half:
            bits = np.require(rows.view(rows.dtype.str.replace("f", "u")), np.uint16, ["C", "A"]).view(np.ndarray)
            made = self.wide[: len(rows)]
            widen(bits.reshape(-1), rows.dtype == BFLOAT16, made.view(np.uint32).reshape(-1))
        else:
            kind = np.float32 if rows.dtype.itemsize <= 4 else np.float64
            made = np.require(rows, kind, ["C", "A"]).view(np.ndarray)
        made = made.view()
        made.flags.writeable = False
        return made


def _finished(stats: np.ndarray, top: np.ndarray, ids: np.ndarray) -> RowStats:
    """Put the top-k in place; a position that was not measured has no statistics at all."""
    measured = (stats["nonfinite_reference"] + stats["nonfinite_candidate"] == 0) & (stats["support"] > 0)
    for side, name in enumerate(("reference", "candidate")):
        present = measured[:, None] & (ids[:, side] >= 0)
        stats[f"ids_{name}"] = np.where(present, ids[:, side], -1)
        stats[f"top_{name}"] = np.where(present, top[:, side], np.nan)
    for name in _floats():
        stats[name][~measured] = np.nan
    for name in ("rank_of_reference_top1", "rank_of_candidate_top1"):
        stats[name][~measured] = 0
    return stats.view(np.recarray)


def _floats() -> list[str]:
    return [name for name in STATS.names or () if STATS[name].base == np.float64]
