"""`assert_parity`: one assertion for a test of one's own, without a contract.

    assert_parity(reference_logits, candidate_logits)

It is the quick door. A contract says more: which files were compared, under which settings, and where a
bound comes from.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from logitproof.bands.band import Band
from logitproof.comparison.compare import SHOWN, Comparison, compare
from logitproof.errors import ContractError, EngineGarbage
from logitproof.rows.distance import first_difference
from logitproof.traces.capture import open_capture
from logitproof.traces.trace import Trace, whole

MAX_KL = 1e-6
"""Nats, at every position. Two float32 engines that differ in the order of their sums stay orders of magnitude below."""
MAX_RMS_DELTA_LOGIT = 1.5e-3
"""Logits, at every position: √(2·MAX_KL), the deviation whose KL is MAX_KL when it is spread evenly. KL does not
look at tokens that nobody expects; this does."""
BASIS = "two float32 engines on the same weights: only the order of sums may differ (KL ≈ ½σ², so 1e-6 nats is σ = 1.4e-3)"


@dataclass(frozen=True)
class Bounds:
    """What `assert_parity` allows. `flips` is the share of positions whose top-1 may differ beyond a tie."""

    max_kl: float = MAX_KL
    max_rms_delta_logit: float = MAX_RMS_DELTA_LOGIT
    max_flips: float = 0.0
    basis: str = ""

    def __post_init__(self) -> None:
        for name, strict in (("max_kl", MAX_KL), ("max_rms_delta_logit", MAX_RMS_DELTA_LOGIT), ("max_flips", 0.0)):
            value = getattr(self, name)
            if not (isinstance(value, int | float) and math.isfinite(value) and value >= 0):
                raise ContractError(f"{value!r} bounds nothing", where=name, remedy="give a finite number, 0 or more")
            if value > strict and len(self.basis.strip()) < 10:
                raise ContractError(
                    f"{value:g} is looser than the default {strict:g} and has no reason",
                    where=name,
                    remedy='say why in basis="…", for instance which quantization loses that much',
                )
        if self.max_flips >= 1:
            raise ContractError(f"{self.max_flips:g} lets every token differ", where="max_flips", remedy="give a share below 1")

    @property
    def band(self) -> Band:
        """For its rule on ties: a flip is one where the reference rates the two tokens alike."""
        return Band(self.max_rms_delta_logit, self.max_rms_delta_logit, 0.0, self.basis or BASIS)


@dataclass(frozen=True)
class Parity:
    """What was measured: the largest KL (nats) and RMS (logits) of any position, and flips beyond a tie.

    `comparisons` has one entry a prompt, by its name.
    """

    positions: int
    kl_divergence: float
    rms_delta_logit: float
    flips: int
    comparisons: tuple[tuple[str, Comparison], ...]


def assert_parity(
    reference: Any,
    candidate: Any,
    *,
    max_kl: float = MAX_KL,
    max_rms_delta_logit: float = MAX_RMS_DELTA_LOGIT,
    max_flips: float = 0.0,
    basis: str = "",
) -> Parity:
    """Assert that two sets of logits are the same model's; every position must hold.

    Each side is an array [T, V] (NumPy, or what `numpy.asarray` takes, or a torch tensor), a Trace, or the
    folder of a capture. A bound looser than its default needs a `basis`. Raises AssertionError with what was
    observed, what is allowed, where, and the top five of both there; NaN, another shape or nothing at all is
    one too. Raises ContractError where the call itself is wrong.
    """
    bounds = Bounds(max_kl, max_rms_delta_logit, max_flips, basis)
    measured = tuple(
        (name, _compared(name, reference_rows, candidate_rows))
        for name, reference_rows, candidate_rows in _pairs(reference, candidate)
    )
    if not measured:
        raise AssertionError("nothing was compared: the captures hold no prompt")
    kl, rms, flipped = (
        np.concatenate([_column(comparison, column, bounds) for _, comparison in measured]) for column in _COLUMNS
    )
    failing = ~(kl <= bounds.max_kl) | ~(rms <= bounds.max_rms_delta_logit)
    flips = int(flipped.sum())
    if not flips <= bounds.max_flips * len(kl):
        failing |= flipped > 0
    if failing.any():
        raise AssertionError(_complaint(bounds, measured, kl, rms, flips, np.flatnonzero(failing)))
    return Parity(len(kl), float(kl.max()), float(rms.max()), flips, measured)


_COLUMNS = ("kl_divergence", "rms_delta_logit", "flip")


def _pairs(reference: Any, candidate: Any) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """What is compared with what: name of the prompt (none for arrays), logits of both."""
    folders = [isinstance(side, str | os.PathLike) for side in (reference, candidate)]
    if all(folders):
        return _captured(Path(reference), Path(candidate))
    if any(folders):
        raise ContractError("a capture is compared with a capture only", where="assert_parity")
    if isinstance(reference, Trace) and isinstance(candidate, Trace):
        if "generate" in (reference.kind, candidate.kind):
            raise ContractError(
                "free-running traces are comparable up to their first divergence only",
                where="assert_parity",
                remedy="score the same tokens with both",
            )
        if reference.token_ids != candidate.token_ids:
            raise AssertionError(_other_tokens("", reference.token_ids, candidate.token_ids))
    return [("", _array(reference, "reference"), _array(candidate, "candidate"))]


def _captured(reference: Path, candidate: Path) -> list[tuple[str, np.ndarray, np.ndarray]]:
    if reference.resolve() == candidate.resolve():
        raise ContractError("is both reference and candidate, which proves nothing", where=str(reference))
    (reference_capture, left), (candidate_capture, right) = open_capture(reference), open_capture(candidate)
    by_id = {prompt.id: trace for prompt, trace in zip(candidate_capture.prompts, right, strict=True)}
    if odd := sorted({prompt.id for prompt in reference_capture.prompts} ^ set(by_id)):
        raise AssertionError(f"the prompt {odd[0]!r} is in one capture only ({len(odd)} such)")
    pairs = []
    for prompt, trace in zip(reference_capture.prompts, left, strict=True):
        counterpart = by_id[prompt.id]
        if trace.token_ids != counterpart.token_ids:
            raise AssertionError(_other_tokens(f"prompt {prompt.id}: ", trace.token_ids, counterpart.token_ids))
        pairs.append((prompt.id, trace.logits, counterpart.logits))
    return pairs


def _other_tokens(place: str, reference: Sequence[int], candidate: Sequence[int]) -> str:
    at = first_difference(reference, candidate)
    return (
        f"{place}the engines were fed different tokens ({len(reference)} and {len(candidate)}), the first difference at index "
        f"{at}: reference {list(reference[at : at + 4])}, candidate {list(candidate[at : at + 4])}"
    )


def _array(side: Any, name: str) -> np.ndarray:
    if isinstance(side, Trace):
        return whole(side).logits
    if hasattr(side, "detach"):  # a torch tensor: NumPy has no bfloat16 and reads no other device's memory
        side = side.detach().cpu()
        side = side.float() if str(side.dtype) == "torch.bfloat16" else side
    array = np.asarray(side)
    if array.dtype.kind not in "fiu":
        raise AssertionError(f"the {name} holds {array.dtype}, allowed are real numbers")
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)


def _compared(prompt: str, reference: np.ndarray, candidate: np.ndarray) -> Comparison:
    """The comparison of one prompt; whatever cannot be compared is an AssertionError that says so."""
    place = f"prompt {prompt}: " if prompt else ""
    for name, side in (("reference", reference), ("candidate", candidate)):
        if side.ndim != 2 or 0 in side.shape:
            raise AssertionError(f"{place}the {name} has the shape {list(side.shape)}, allowed is [T, V] with T and V above 0")
    if reference.shape != candidate.shape:
        observed, allowed = list(candidate.shape), list(reference.shape)
        raise AssertionError(
            f"{place}the candidate has the shape {observed}, the reference {allowed}: nothing can be paired up"
        )
    if reference.shape[1] < 2:
        raise AssertionError(f"{place}a vocabulary of {reference.shape[1]} has one distribution only, so nothing could fail")
    if np.shares_memory(reference, candidate):
        raise AssertionError(
            f"{place}reference and candidate are the same memory, so nothing was compared; "
            "an engine that reuses its buffer needs a copy of each result"
        )
    if (silent := np.flatnonzero(~np.any(reference != reference[:, :1], axis=1))).size:
        raise AssertionError(
            f"{place}the reference gives every token the same logit at position {silent[0]} ({silent.size} such): "
            "that is no prediction to agree with"
        )
    try:
        comparison = compare(reference, candidate, labels=np.full(len(reference), -1))
    except EngineGarbage as error:
        raise AssertionError(f"{place}{error}") from None
    if (bad := comparison.nonfinite).size:
        at = int(bad[0])
        broken = "reference" if comparison.table["nonfinite_reference"][at].as_py() else "candidate"
        raise AssertionError(
            f"{place}{bad.size} of {comparison.positions} positions hold NaN or an infinity, the first at position {at} "
            f"in the {broken}: nothing can be said of them"
        )
    return comparison


def _column(comparison: Comparison, name: str, bounds: Bounds) -> np.ndarray:
    """[T] of a metric; `flip` is 1.0 where the top-1 differs and the reference does not rate both alike."""
    metrics = comparison.metrics
    if name != "flip":
        return np.asarray(metrics[name], np.float64)
    return np.where((metrics["top1"] == 1.0) | (metrics["regret"] <= bounds.band.tie_margin), 0.0, 1.0)


def _complaint(
    bounds: Bounds,
    measured: Sequence[tuple[str, Comparison]],
    kl: np.ndarray,
    rms: np.ndarray,
    flips: int,
    failing: np.ndarray,
) -> str:
    worst = int(failing[np.argmax(kl[failing])])
    tie = bounds.band.tie_margin
    share = f", {bounds.max_flips:.2%} of them are allowed" if bounds.max_flips else ", allowed 0"
    return "\n".join(
        [
            f"not the same model: {len(failing)} of {len(kl)} positions are out of bounds",
            f"  kl_divergence    observed {kl.max():.6g} nats at {_place(measured, int(kl.argmax()))}, "
            f"allowed {bounds.max_kl:g}",
            f"  rms_delta_logit  observed {rms.max():.6g} logits at {_place(measured, int(rms.argmax()))}, "
            f"allowed {bounds.max_rms_delta_logit:g}",
            f"  top-1            observed {flips} flips{share} (a flip within {tie:.3g} logits is a tie)",
            f"  where            worst at {_place(measured, worst)}, first at {_place(measured, int(failing[0]))}",
            f"  basis            {bounds.basis or BASIS}",
            f"  top {SHOWN} at {_place(measured, worst)}:",
            *_top(measured, worst),
        ]
    )


def _place(measured: Sequence[tuple[str, Comparison]], index: int) -> str:
    """Prompt and position of an index into all positions together."""
    name, _, position = _comparison_at(measured, index)
    return f"prompt {name}, position {position}" if name else f"position {position}"


def _comparison_at(measured: Sequence[tuple[str, Comparison]], index: int) -> tuple[str, Comparison, int]:
    for name, comparison in measured:
        if index < comparison.positions:
            return name, comparison, index
        index -= comparison.positions
    raise IndexError(index)


def _top(measured: Sequence[tuple[str, Comparison]], index: int) -> list[str]:
    _, comparison, position = _comparison_at(measured, index)
    row = comparison.table.slice(position, 1).to_pylist()[0]
    lines = [f"    {'reference':>24}   {'candidate':>24}"]
    for rank in range(SHOWN):
        cells = [
            f"{row[f'top{SHOWN}_ids_{side}'][rank]:>10} {row[f'top{SHOWN}_logits_{side}'][rank]:>13.6g}"  # -1 and nan: no such
            for side in ("reference", "candidate")
        ]
        lines.append("    " + "   ".join(cells))
    return lines
