"""Activations of one side put into the other at a named tap: whether the difference of the logits comes through it.

A wrong tensor suggests a cause. If the reference, given the candidate's tensor, gives the candidate's logits, the cause is
proven: nothing that is wrong enters anywhere else.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from logitproof.errors import ContractError
from logitproof.localization.localize import CARRIED, expected, relative
from logitproof.localization.tap_dump import TapDump
from logitproof.localization.tapped import Tapped
from logitproof.protocol import taps
from logitproof.protocol.precision import Precision

Arrays = Mapping[str, np.ndarray]
Into = Literal["reference", "candidate"]
Came = Literal["all", "part", "nothing", "no difference"]
BROKEN = "broken"
"""Stands for every operation that was found wrong."""
LITTLE = 0.1
"""A smaller share of the difference than this is none: what is put in moves the rest a little, too."""


@dataclass(frozen=True)
class Sides:
    """Taps of both sides; `under` is given to the reference in every pass."""

    reference: Arrays
    candidate: Arrays
    under: Arrays


@dataclass(frozen=True)
class Patched:
    """The logits of one side with the other's activations at `taps`, and how far they are from the other's logits, relative.

    `floor` is what arithmetic alone leaves. `came` says how much of the difference comes through the taps.
    """

    what: str
    taps: tuple[str, ...]
    into: Into
    before: float
    after: float
    floor: float
    came: Came

    @property
    def share(self) -> float:
        """The share of the difference that comes through the taps; below 0 where the logits go further apart."""
        return 1 - self.after / self.before if self.before else 0.0

    @property
    def text(self) -> str:
        """What it proves."""
        if self.came == "no difference":
            return "the logits do not differ"
        if self.came == "all" and self.into == "reference":
            return "proven: with these activations the reference gives the candidate's logits"
        if self.came == "all":
            return "proven: with the reference's activations the candidate is right"
        if self.came == "part":
            return f"{self.share:.0%} of the difference comes through it"
        return "the difference does not come through it"


def expanded(patch: Sequence[str]) -> list[str]:
    """Patterns of the taps that are to be read for these patches."""
    return [*(pattern for pattern in patch if pattern != BROKEN), "logits"] if patch else []


def patched(
    reference: Tapped,
    candidate: Tapped | TapDump,
    sides: Sides,
    patch: Sequence[str],
    broken: Sequence[str],
    precision: Precision,
) -> Iterator[Patched]:
    """Every pattern by itself and, of several, all together, from the candidate into the reference and where it can be back.

    Raises ContractError where there are no logits, no such tap, or the
    reference takes no activations.
    """
    if not patch:
        return
    whole, candidate_taps = sides.reference, sides.candidate
    _has_logits(whole, candidate_taps)
    places = {pattern: _named(pattern, whole, candidate_taps, broken) for pattern in dict.fromkeys(patch)}
    if len(places) > 1:
        places["together"] = list(dict.fromkeys(tap for names in places.values() for tap in names))
    floor = CARRIED * expected("logits", precision)
    for what, names in places.items():
        if not names:
            continue
        made = reference.replay({**sides.under, **{name: candidate_taps[name] for name in names}}, ["logits"])
        if made is None:
            text, remedy = "the reference cannot be given another engine's activations", "use transformers as the reference"
            raise ContractError(text, where="--patch", remedy=remedy)
        yield _patched(what, names, "reference", (whole, candidate_taps), made, floor)
        values = {name: whole[name] for name in names if name in whole}
        takes = isinstance(candidate, Tapped) and len(values) == len(names)
        back = candidate.replay(values, ["logits"]) if takes and isinstance(candidate, Tapped) else None
        if back is not None:
            yield _patched(what, names, "candidate", (candidate_taps, whole), back, floor)


def _patched(what: str, names: Sequence[str], into: Into, sides: tuple[Arrays, Arrays], made: Arrays, floor: float) -> Patched:
    """`sides` are the taps of what the activations go into and of what they come from."""
    plain, wanted = sides[0]["logits"], sides[1]["logits"]
    before, after = relative(plain, wanted, "logits"), relative(made["logits"], wanted, "logits")
    came: Came = "part"
    if before <= floor:
        came = "no difference"
    elif after <= floor:
        came = "all"
    elif not 1 - after / before >= LITTLE:
        came = "nothing"
    return Patched(what, tuple(names), into, before, after, floor, came)


def _has_logits(whole: Arrays, candidate_taps: Arrays) -> None:
    for side, arrays in (("the reference", whole), ("the candidate", candidate_taps)):
        if "logits" not in arrays:
            raise ContractError(f"{side} has no logits among its taps", where="--patch", remedy="dump `logits`, too")
    if whole["logits"].size != candidate_taps["logits"].size:
        text = f"logits of {list(candidate_taps['logits'].shape)} where the reference has {list(whole['logits'].shape)}"
        raise ContractError(text, where="--patch", remedy="compare two sides of one vocabulary")


def _named(pattern: str, whole: Arrays, candidate_taps: Arrays, broken: Sequence[str]) -> list[str]:
    """The taps of both sides that a pattern names and whose shapes agree; of logits it would prove nothing."""
    if pattern == BROKEN:
        return [name for name in broken if name in candidate_taps and name != "logits"]
    shared = [name for name in whole if name in candidate_taps and whole[name].size == candidate_taps[name].size]
    names = [name for name in shared if name != "logits" and taps.wanted(name, [pattern])]
    if not names:
        near = difflib.get_close_matches(pattern, [name for name in shared if name != "logits"], n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        remedy = "name a tap of both sides, or a pattern such as layers.*.attn.q_rope (docs/taps.md)"
        raise ContractError(f"both sides have no tap {pattern!r}{hint}", where="--patch", remedy=remedy)
    return names
