"""Adapters: on both sides, or on none, and with the same scale in every matrix."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from logitproof.contract.contract import EngineUse
from logitproof.errors import LogitproofError
from logitproof.gguf.adapter import read_gguf_adapter
from logitproof.preflight import Check, Finding, Setting, Setup
from logitproof.preflight.precision import options_of
from logitproof.weights.adapter import Pair, read_adapter, scales_of
from logitproof.weights.model import is_gguf

NAMES = ("adapter", "lora", "lora_path", "lora_scaled", "peft")
SAME = 1e-3
"""Share by which two sizes of a delta may differ: that of a file in float16."""
REMEDY = "write the adapter again with `logitproof lora`, which keeps the scale of every matrix"


class Adapters(Check):
    """A LoRA adapter that one engine is asked to apply and the other is not, or that the two have by other scales."""

    codes: ClassVar[Mapping[str, str]] = {
        "PF405": "an adapter on one side only",
        "PF406": "an adapter of other matrices, or by another scale, than the reference's",
    }

    def examine(self, setup: Setup) -> Iterator[Setting | Finding]:
        ours, theirs = _named(setup.reference_use), _named(setup.candidate_use)
        both = bool(ours) == bool(theirs)
        yield Setting("adapter", ours or "none", theirs or "none", "differs" if not both else "listed" if ours else "same")
        if not both:
            side = setup.candidate_name if ours else "reference"
            remedy = "give the adapter to both engines, or merge it into the weights that both read"
            yield Finding("PF405", "adapter", ours or "none", theirs or "none", "contract", f"{side}.options", remedy)
        elif ours:
            yield from _compared(setup, Path(ours), Path(theirs))


def _compared(setup: Setup, ours: Path, theirs: Path) -> Iterator[Setting | Finding]:
    """The scale of every matrix: that of the reference as its config says it, the candidate's by the size of what it adds."""
    base = setup.original.path
    if not ours.exists() or not theirs.exists():
        yield Setting("adapter scales", "", "", "not compared", "a path is not there from this folder")
        return
    try:
        right, other = _pairs(ours, base), _pairs(theirs, base)
    except LogitproofError as error:
        # the engine refuses it in its own words; here it only is not compared
        yield Setting("adapter scales", "", "", "not compared", error.text)
        return
    names = sorted(set(right) | set(other))
    found = [(name, _scale(right, right, name), _scale(right, other, name)) for name in names]
    wrong = [row for row in found if not abs(row[1] - row[2]) <= SAME * max(abs(row[1]), abs(row[2]))]
    shown = (
        _shown(right),
        _shown({name: Pair(other[name].a, other[name].b, scale) for name, _, scale in found if name in other}),
    )
    yield Setting("adapter scales", *shown, "differs" if wrong else "same")
    for name, left, scale in wrong[:1]:
        text = f"{len(wrong)} of {len(names)} matrices, the first {name}"
        yield Finding("PF406", "adapter scales", f"{left:.4g}", f"{scale:.4g}", str(theirs), name, REMEDY, text)


def _pairs(path: Path, base: Path) -> dict[str, Pair]:
    return read_gguf_adapter(path, base) if is_gguf(path) else read_adapter(path)


def _scale(right: Mapping[str, Pair], pairs: Mapping[str, Pair], name: str) -> float:
    """The scale by which the reference's B A would give what is added; 0 where nothing is."""
    if name not in pairs:
        return 0.0
    if name not in right:
        return pairs[name].scale
    size = right[name].size
    return right[name].scale * pairs[name].size / size if size else pairs[name].scale


def _shown(pairs: Mapping[str, Pair]) -> str:
    return ", ".join(f"{scale:.4g} in {len(names)}" for scale, names in scales_of(dict(_rounded(pairs))).items())


def _rounded(pairs: Mapping[str, Pair]) -> Iterator[tuple[str, Pair]]:
    for name, pair in pairs.items():
        yield name, Pair(pair.a, pair.b, float(f"{pair.scale:.4g}"))


def _named(use: EngineUse) -> str:
    return next((str(value) for name, value in options_of(use) if name in NAMES and value), "")
