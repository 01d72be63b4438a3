"""Rows of a finished run in about a third of their bytes: every KL divergence that was measured comes out of them again.

A trace is written row by row in the fewest bits that will do. What will do is measured, not reckoned: each row is read back,
and its divergence from what it was, and from and to every row that the run compared it with, must be what it was to
`TOLERANCE` nats. Codes are nudged by one step where that brings the sum back; a row for which no width will do stays as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from logitproof.files.atomic import environment_errors
from logitproof.files.hashes import file_sha256
from logitproof.files.mapped import let_go
from logitproof.rows.probability import softmax
from logitproof.rows.processors import processors
from logitproof.traces.compact import CompactWriter, open_compact
from logitproof.traces.fewbits import WIDTHS, Coded, as_it_was, encode
from logitproof.traces.trace import Trace
from logitproof.verdict.compared import Compared

FOLDER = "rows"
TOLERANCE = 1e-6
"""Nats by which a divergence may change when both of its sides are compact."""
FIRST = 0.25
"""Share of the tolerance for the side that is written first, so that the other one has room whatever it is."""
HUGE = 1e100
"""No logit is larger (`rows.statistics`)."""
MEMORY = 1 << 25
"""Bytes that the rows which are being written may take together, where one row does not take more."""
WORK = 80
"""Bytes an entry that a row takes while its codes are sought: ten arrays of float64, at the most."""
ROUNDS = 3
"""Times that codes are moved, since a divergence is not quite straight."""


@dataclass
class Partner:
    """Another trace that the first `rows` rows of one were compared with; `compact` is what has been written of it so far."""

    whole: np.ndarray
    rows: int
    is_reference: bool
    compact: np.ndarray | None = None


@dataclass
class _Row:
    """A row that is being written, what it weighs, and what it is compared with."""

    row: np.ndarray
    weight: np.ndarray
    label: int
    pairs: list[_Pair] = field(default_factory=list)


@dataclass
class _Pair:
    """A row's counterpart: as it was, as it is written if it is, which side it is, and the divergence that both have."""

    whole: np.ndarray
    now: np.ndarray
    is_reference: bool
    wanted: float
    allowed: float


def write_compact(folder: Path, traces: Mapping[str, Trace], rows: Iterable[Compared]) -> dict[str, str]:
    """Write a file a trace; the sha256 of each by the trace's key. `rows` are what the run compared."""
    pairs = {(row.pair.reference, row.pair.candidate, row.comparison.positions) for row in rows if row.comparison is not None}
    partners = {key: [pair for pair in sorted(pairs) if key in pair[:2] and pair[0] != pair[1]] for key in traces}
    written: dict[str, np.ndarray] = {}
    hashes: dict[str, str] = {}
    with environment_errors(folder):
        (folder / FOLDER).mkdir(parents=True, exist_ok=True)
        # those with most counterparts first: each of the others can then make up for what is left of one alone
        for key in sorted(traces, key=lambda key: (-len(partners[key]), key)):
            path, counterparts = place_of(folder, key), []
            for reference, candidate, count in partners[key]:
                counterpart = candidate if reference == key else reference
                if counterpart in traces:
                    whole = traces[counterpart].logits
                    counterparts.append(Partner(whole, count, counterpart == reference, written.get(counterpart)))
            _write(path, traces[key], counterparts)
            hashes[key] = file_sha256(path)
            written[key] = open_compact(path, hashes[key])
    return hashes


def place_of(folder: Path, key: str) -> Path:
    """Where the compact rows of a trace lie, in the folder of what was kept."""
    return folder / FOLDER / f"{key}.rows"


def _write(path: Path, trace: Trace, partners: Sequence[Partner]) -> None:
    logits = trace.logits
    threads = min(processors(), max(1, MEMORY // (WORK * max(1, logits.shape[1]))))
    labels = [*trace.token_ids[1:], -1] if trace.kind == "score" else list(trace.new_token_ids)
    shape, kind = (len(logits), logits.shape[1]), logits.dtype
    with CompactWriter(path, shape, kind) as writer, ThreadPoolExecutor(threads) as pool:
        # a row a thread in memory, with what it was compared with; a thread of its own would keep memory of its own
        work = map if threads == 1 else pool.map
        for start in range(0, len(logits), threads):
            places = range(start, min(start + threads, len(logits)))
            for data in work(lambda at: _fitted(_row(np.array(logits[at]), labels[at], partners, at)), places):
                writer.write(data)
            for rows in (logits, *(partner.whole for partner in partners)):
                let_go(rows[places.start : places.stop])


def _row(row: np.ndarray, label: int, partners: Sequence[Partner], at: int) -> _Row:
    """A row with the rows that it was compared with; it weighs what any of them gives a token."""
    made = _Row(row, _mass(row), label)
    for partner in partners:
        if at >= partner.rows:
            continue
        whole = np.array(partner.whole[at])
        now = whole if partner.compact is None else partner.compact[at]
        allowed = TOLERANCE * FIRST if partner.compact is None else TOLERANCE
        sides = (whole, row) if partner.is_reference else (row, whole)
        made.pairs.append(_Pair(whole, now, partner.is_reference, float(_divergences([sides])[0]), allowed))
        made.weight = np.maximum(made.weight, _mass(whole))
    return made


def _fitted(row: _Row) -> bytes:
    """The first width that holds, or the row as it was."""
    whole = as_it_was(row.row)
    for width in WIDTHS if _is_logits(row.row) else ():
        coded = _nudged(row, encode(row.row, row.weight, row.label, width))
        data = coded.as_bytes()
        if len(data) >= len(whole):
            break
        if _holds(row, coded.decoded()):
            return data
    return whole


def _nudged(row: _Row, coded: Coded) -> Coded:
    """The codes, moved until the row's divergences are what they were."""
    for _ in range(ROUNDS):
        back = coded.decoded()
        errors = _errors(row, back)
        measured = [(pair, error) for pair, error in zip(row.pairs, errors, strict=True) if np.isfinite(error)]
        if all(abs(error) <= pair.allowed / 2 for pair, error in measured):
            break
        slopes = np.array([_slope(back, pair) / pair.allowed for pair, _ in measured])
        coded = coded.nudged(slopes, np.array([error / pair.allowed for pair, error in measured]))
    return coded


def _holds(row: _Row, back: np.ndarray) -> bool:
    """Whether every divergence is what it was; one that nobody can measure still is none."""
    itself = float(_divergences([(row.row, back)])[0])
    pairs = zip(row.pairs, _errors(row, back), strict=True)
    return abs(itself) <= TOLERANCE and all(abs(error) <= pair.allowed or _is_none(error, pair) for pair, error in pairs)


def _is_none(error: float, pair: _Pair) -> bool:
    return bool(np.isnan(error) and np.isnan(pair.wanted))


def _errors(row: _Row, back: np.ndarray) -> list[float]:
    """How far each divergence of the row as it comes back is from what it was, signed, in nats."""
    sides = [(pair.now, back) if pair.is_reference else (back, pair.now) for pair in row.pairs]
    return [float(value) - pair.wanted for value, pair in zip(_divergences(sides), row.pairs, strict=True)]


def _slope(row: np.ndarray, pair: _Pair) -> np.ndarray:
    """d KL / d logit [V] of the row: q - p of a candidate, p (log p - log q - KL) of a reference."""
    p, q = (_mass(pair.now), _mass(row)) if pair.is_reference else (_mass(row), _mass(pair.now))
    if pair.is_reference:
        return q - p
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(p > 0, np.log(p) - np.log(q), 0.0)
    return np.asarray(np.nan_to_num(p * (ratio - float((p * ratio).sum())), nan=0.0, posinf=0.0, neginf=0.0))


def _divergences(sides: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """KL(reference ‖ candidate) in nats of pairs of rows, NaN where it is not measured."""
    from logitproof.rows.statistics import row_statistics

    values = []
    for reference, candidate in sides:
        stats: Any = row_statistics(reference[None], candidate[None], np.full(1, -1), threads=1)
        values.append(float((stats.log_mass_candidate - stats.log_mass_reference - stats.p_delta)[0]))
    return np.array(values)


def _mass(row: np.ndarray) -> np.ndarray:
    """float64 [V]: what a row gives every token; nothing at all where it is none."""
    return softmax(np.asarray(row, np.float64)) if _is_logits(row) else np.zeros(len(row))


def _is_logits(row: np.ndarray) -> bool:
    """Whether a row holds numbers of which softmax can be taken; masks of -inf are such."""
    largest = float(row.max())
    return bool(np.isfinite(largest)) and abs(largest) <= HUGE  # the largest of NaN is NaN
