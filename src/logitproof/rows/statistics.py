"""Both logit rows of a position, read from memory once, reduced to its sufficient statistics in float64.

Per position: one pass from memory (sums, extrema, top-k), one over the rows now in cache (exponentials,
centred moments), one over the exponentials (Jensen-Shannon, total variation, which need both masses).
With z_r, z_t the logits of reference and candidate, p = softmax(z_r), q = softmax(z_t) and
delta = z_t - z_r, every field of STATS is one number per position, or `TOP_K` of them.

An id whose logit is -inf in both rows is outside the support: left out, and missing from `support`.
Anything else that is not finite is counted per row; such a position has no statistics, only NaN.

Importing this module imports numba: only verbs do, when they need it. The first use compiles (seconds),
later ones load numba's cache.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from logitproof.files.mapped import let_go
from logitproof.rows.kernel import measure

TOP_K = 10
POSITIONS = 8  # per task: enough to amortize a call, few enough that mapped pages stay few

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


def row_statistics(reference: np.ndarray, candidate: np.ndarray, labels: np.ndarray, threads: int | None = None) -> RowStats:
    """STATS of every position of two logit arrays [T, V]; `labels` [T] holds the next token or -1.

    Memory-mapped arrays are streamed: their pages are let go behind the reader. `threads` defaults to
    the processors this process may use; the result does not depend on it.
    """
    threads = threads or len(os.sched_getaffinity(0))
    stats = np.zeros(len(labels), STATS)
    stats["label"] = labels
    for name in _floats():
        stats[name] = np.nan
    top, ids = np.full((len(labels), 2, TOP_K), np.nan), np.full((len(labels), 2, TOP_K), -1)
    lanes = max(1, min(threads, -(-len(labels) // POSITIONS)))
    with ThreadPoolExecutor(lanes) as pool:
        turns = [slice(lane, None, lanes) for lane in range(lanes)]
        jobs = [pool.submit(_stream, reference, candidate, stats, top, ids, turn) for turn in turns]
    for job in jobs:
        job.result()
    return _finished(stats, top, ids)


def _stream(
    reference: np.ndarray, candidate: np.ndarray, stats: np.ndarray, top: np.ndarray, ids: np.ndarray, lane: slice
) -> None:
    """Fill every n-th block of positions, `lane` saying which."""
    scratch = np.empty((2, reference.shape[1]))
    for start in range(0, len(stats), POSITIONS)[lane]:
        part = slice(start, start + POSITIONS)
        reference_rows, candidate_rows = reference[part], candidate[part]
        rows_r, rows_t = _readable(reference_rows), _readable(candidate_rows)
        measure(rows_r, rows_t, stats["label"][part].copy(), stats[part], top[part], ids[part], scratch)
        let_go(reference_rows)
        let_go(candidate_rows)


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


def _readable(rows: np.ndarray) -> np.ndarray:
    """Rows as the kernel is compiled for: native float32 or float64, contiguous, read-only."""
    kind = np.float32 if rows.dtype.itemsize <= 4 else np.float64
    ready = np.require(rows, kind, ["C", "A"]).view(np.ndarray)
    ready.flags.writeable = False
    return ready
