"""Where a divergence starts: every tap judged twice, accumulated and isolated.

*Accumulated* is how far the candidate's tensor is from the reference's. *Isolated* is how far it is from what the
reference's operation makes of the candidate's own input, so that an operation that is right is not blamed for what it
was given, and three bugs are three findings. Both are relative: the norm of the difference over the norm of what is right.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np

from logitproof.documents.shown import Shown
from logitproof.localization.axes import Axis, axes
from logitproof.localization.compounding import Compounding, compounding
from logitproof.localization.layout import explained_by_layout
from logitproof.protocol import taps
from logitproof.protocol.precision import Precision

Arrays = Mapping[str, np.ndarray]
Status = Literal["same", "carried", "differs", "not comparable"]
Verdict = Literal["same", "located", "only accumulated", "nothing compared"]
ROUNDING: dict[Precision, float] = {"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8, "quantized": 2.0**-7}
"""Half a step of the type that results are rounded to; for quantized weights what blocks of 8-bit activations lose."""
AMPLIFIED: dict[str, float] = {
    "attn.q_proj": 8, "attn.k_proj": 8, "attn.v_proj": 8, "attn.scores": 8, "attn.probs": 8, "attn.context": 8, "attn.out": 8,
    "linear_attn.qkv": 8, "linear_attn.z": 8, "linear_attn.a": 8, "linear_attn.b": 8, "linear_attn.out": 8,
    "linear_attn.conv": 8, "linear_attn.core": 24, "linear_attn.norm": 8, "mlp.gate": 8, "mlp.up": 8, "mlp.out": 8,
    "moe.router": 8, "moe.weights": 8, "moe.out": 12, "moe.shared": 12, "logits": 12,
}  # fmt: skip
"""How many roundings an operation makes relative to one that is done entry by entry; all others count as 4."""
EXPECTED = 4.0
READS_THE_CACHE = ("attn.scores", "attn.probs", "attn.context")
LIMIT = 4.0
"""An operation differs where its isolated error is this often what is expected of it."""
CARRIED = 40.0
"""Without isolated errors, the accumulated error of a tap may be this often what one operation is expected to make."""


@dataclass(frozen=True)
class Row:
    """One tap. Errors are relative, `isolated` is None where the reference could not be given the candidate's input."""

    tap: str
    accumulated: float
    isolated: float | None
    expected: float
    status: Status
    suspicion: str = ""
    axes: tuple[Axis, ...] = ()
    """of a tap that differs: its error by position, head, rotary pair, expert and key"""

    @property
    def ratio(self) -> float:
        """The error that is judged, over what is expected."""
        error = self.accumulated if self.isolated is None else self.isolated
        return error / self.expected


@dataclass(frozen=True)
class Growth:
    """Standard deviation and root mean square of the residual stream after a layer, of both sides."""

    tap: str
    reference: tuple[float, float]
    candidate: tuple[float, float]


@dataclass(frozen=True)
class Localization(Shown):
    """Rows in the order of computation, and which operations are wrong by themselves."""

    LAYOUT: ClassVar[str] = "logitproof.localization.text"

    verdict: Verdict
    rows: tuple[Row, ...]
    growth: tuple[Growth, ...]
    missing: tuple[str, ...] = ()
    precision: Precision = "float32"
    """the candidate's coarsest arithmetic, by which its errors were judged"""
    compounding: tuple[Compounding, ...] = ()
    """the accumulated error of every boundary, token by token"""

    @property
    def broken(self) -> list[str]:
        """Taps whose own operation differs; of the three results of a router only the first."""
        names: list[str] = []
        for row in self.rows:
            layer, leaf = taps.split(row.tap)
            same_router = [name for name in names if taps.split(name)[0] == layer and taps.split(name)[1] in taps.ROUTING]
            if row.status == "differs" and not (leaf in taps.ROUTING and same_router):
                names.append(row.tap)
        return names

    @property
    def first(self) -> str | None:
        """The first operation that differs; where only accumulated errors are known, the first tap that does."""
        return next(iter(self.broken), None)

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"first": self.first, "broken": self.broken, **asdict(self)}


def localize(
    reference: Arrays,
    candidate: Arrays,
    replayed: Arrays | None,
    *,
    precision: Precision = "float32",
    stepped: bool = False,
) -> Localization:
    """Judge every tap that the candidate has.

    `replayed` is what the reference's operations made of the candidate's taps; without it errors are accumulated only.
    `precision` is the candidate's coarsest arithmetic; `stepped` says that passes went through a
    cache. Raises nothing: what cannot be compared is a row that says so.
    """
    names = sorted(set(reference) & set(candidate), key=taps.order)
    own = _with_own_sum(reference, candidate, replayed) if replayed is not None else None
    rows = [_row(name, reference, candidate, own, precision) for name in names]
    rows = _with_lost_layers(rows, reference, candidate)
    rows = _without_what_read_a_wrong_cache(rows) if stepped else rows
    judged = [row for row in rows if row.status != "not comparable"]
    if any(row.status == "differs" for row in rows):
        verdict: Verdict = "located" if own is not None else "only accumulated"
    else:
        verdict = "same" if judged else "nothing compared"
    growth = [_growth(name, reference, candidate) for name in names if name.endswith(".out") and taps.split(name)[1] == "out"]
    missing = sorted(set(reference) - set(candidate), key=taps.order)
    by_token = compounding(names, reference, candidate)
    return Localization(verdict, tuple(rows), tuple(growth), tuple(missing), precision, by_token)


def _with_lost_layers(rows: list[Row], reference: Arrays, candidate: Arrays) -> list[Row]:
    """The first wrong row after layers that the candidate has no taps of says so: they may not have been run."""
    candidate_layers = {taps.split(name)[0] for name in candidate}
    lost = sorted({layer for name in reference if (layer := taps.split(name)[0]) is not None and layer not in candidate_layers})
    wrong = next((row for row in rows if row.status == "differs" and lost and taps.order(row.tap)[0] > lost[0]), None)
    if wrong is None:
        return rows
    text = f"there are no taps of layer {', '.join(map(str, lost))}: was it run?"
    return [replace(row, suspicion=text) if row is wrong else row for row in rows]


def _without_what_read_a_wrong_cache(rows: list[Row]) -> list[Row]:
    """Attention over a cache that is wrong cannot be judged: what its slots held at earlier steps is not known."""
    wrong = {taps.split(row.tap)[0] for row in rows if row.status == "differs" and taps.split(row.tap)[1] in taps.CACHED}
    text = "it read a cache that is wrong, and what that held at earlier steps is not known"
    return [
        replace(row, status="not comparable", suspicion=text, axes=())
        if row.status == "differs" and taps.split(row.tap)[0] in wrong and taps.split(row.tap)[1] in READS_THE_CACHE
        else row
        for row in rows
    ]


def relative(candidate: np.ndarray, right: np.ndarray, leaf: str) -> float:
    """Relative difference of two tensors of one size: ||candidate - right|| / ||right||.

    For expert numbers it is the share that differs.
    Scores of keys that come later are left out: no mask has seen them, and what they are is nobody's promise.
    """
    a, b = (np.asarray(tensor, np.float64).reshape(right.shape) for tensor in (candidate, right))
    if leaf == "moe.index":
        return float((a != b).any(-1).mean())
    if leaf == "attn.scores":
        a, b = np.tril(a), np.tril(b)
    scale = float(np.linalg.norm(b))
    distance = float(np.linalg.norm(a - b))
    if not math.isfinite(distance):
        return math.inf
    return distance / scale if scale else (0.0 if distance == 0 else math.inf)


def expected(leaf: str, precision: Precision) -> float:
    """The relative error that an operation of this kind makes in this precision."""
    if leaf == "moe.index":
        # narrow arithmetic chooses otherwise where two experts are nearly tied
        return 1e-3 if precision == "float32" else 2e-2
    # what rounds its inputs adds no more than a step or two to what float32 sums up
    amplified = AMPLIFIED.get(leaf, EXPECTED)
    if precision == "float32":
        return amplified * ROUNDING["float32"]
    return ROUNDING[precision] * (1.0 if amplified <= EXPECTED else 1.5 if leaf != "linear_attn.core" else 4.0)


def _row(name: str, reference: Arrays, candidate: Arrays, own: Arrays | None, precision: Precision) -> Row:
    leaf, allowed = taps.split(name)[1], expected(taps.split(name)[1], precision)
    right, tensor = reference[name], candidate[name]
    if right.size != tensor.size:
        text = f"{list(tensor.shape)} where the reference has {list(right.shape)}"
        return Row(name, math.inf, None, allowed, "differs", text)
    accumulated = relative(tensor, right, leaf)
    if own is None or name not in own:
        if own is not None or accumulated <= CARRIED * allowed:
            return Row(name, accumulated, None, allowed, "same" if own is None else "not comparable")
        where = axes(name, candidate, reference, reference, CARRIED * allowed)
        return Row(name, accumulated, None, allowed, "differs", axes=where)
    isolated = _of_same_experts(name, candidate, own) if leaf == "moe.weights" else relative(tensor, own[name], leaf)
    if isolated > LIMIT * allowed:
        suspicion = explained_by_layout(name, tensor, own, allowed * LIMIT)
        where = axes(name, candidate, own, candidate, LIMIT * allowed)
        return Row(name, accumulated, isolated, allowed, "differs", suspicion, where)
    return Row(name, accumulated, isolated, allowed, "same" if accumulated <= LIMIT * allowed else "carried")


def _of_same_experts(name: str, candidate: Arrays, own: Arrays) -> float:
    """The error of the weights of experts at positions where both chose the same: another choice is its own finding."""
    index = name.replace("weights", "index")
    weights, right = candidate[name], own[name]
    if index in candidate and index in own:
        same = (candidate[index].reshape(right.shape) == own[index]).all(-1)
        weights, right = weights.reshape(right.shape)[same], right[same]
    return relative(weights, right, "moe.weights") if right.size else 0.0


def _with_own_sum(reference: Arrays, candidate: Arrays, replayed: Arrays) -> dict[str, np.ndarray]:
    """The replay with each layer's output computed from the candidate's own sum after attention.

    A replay adds what it was given to a stream that it carries itself, so a candidate that adds wrongly after attention
    would be blamed twice.
    """
    own = dict(replayed)
    for name in replayed:
        layer, leaf = taps.split(name)
        middle = f"layers.{layer}.residual"
        given, size = candidate.get(middle), replayed[name].size
        # a model of several streams adds into each of them otherwise
        if leaf == "out" and given is not None and middle in replayed and given.size == replayed[middle].size == size:
            shift = np.asarray(candidate[middle], np.float64).reshape(replayed[middle].shape) - replayed[middle]
            own[name] = replayed[name] + shift.reshape(replayed[name].shape)
    return own


def _growth(name: str, reference: Arrays, candidate: Arrays) -> Growth:
    def of(values: np.ndarray) -> tuple[float, float]:
        wide = np.asarray(values, np.float64)
        return float(wide.std()), float(np.sqrt((wide**2).mean()))

    return Growth(name, of(reference[name]), of(candidate[name]))


@dataclass(frozen=True)
class Stage:
    """One tap of three or more sources: who stands apart, and by how much. `odd` is empty where all agree or none do."""

    tap: str
    odd: str
    apart: float
    together: float
    disagree: bool


def stages(sources: Mapping[str, Arrays], precision: Precision = "float32") -> list[Stage]:
    """For every tap that all sources have, the source that is furthest from its nearest neighbour.

    This source stands apart if it is further than `CARRIED` times the expected error from every other source, and all others
    are within that distance of each other.
    """
    if len(sources) < 3:
        return []
    shared = set.intersection(*(set(arrays) for arrays in sources.values()))
    return [_stage(name, sources, precision) for name in sorted(shared, key=taps.order)]


def _stage(name: str, sources: Mapping[str, Arrays], precision: Precision) -> Stage:
    leaf = taps.split(name)[1]
    limit = CARRIED * expected(leaf, precision)
    names = list(sources)
    far = {(a, b): _between(sources[a][name], sources[b][name], leaf) for a in names for b in names if a != b}
    nearest = {a: min(far[a, b] for b in names if b != a) for a in names}
    odd = max(names, key=lambda source: nearest[source])
    rest = [far[a, b] for a in names for b in names if a != b and odd not in (a, b)]
    together = max(rest, default=0.0)
    apart = nearest[odd] > limit and together <= limit
    return Stage(name, odd if apart else "", nearest[odd], together, max(far.values()) > limit)


def _between(a: np.ndarray, b: np.ndarray, leaf: str) -> float:
    return math.inf if a.size != b.size else relative(a, b, leaf)


def first_odd(every_stage: Sequence[Stage]) -> Stage | None:
    """The first stage at which the sources do not agree."""
    return next((stage for stage in every_stage if stage.disagree), None)
