"""Adapters: on both sides, or on none, and with the same scale in every matrix."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
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
        reference, candidate = _named(setup.reference_use), _named(setup.candidate_use)
        is_alike = bool(reference) == bool(candidate)
        yield Setting(
            "adapter",
            reference or "none",
            candidate or "none",
            "differs" if not is_alike else "listed" if reference else "same",
        )
        if not is_alike:
            side = setup.candidate_name if reference else "reference"
            remedy = "give the adapter to both engines, or merge it into the weights that both read"
            yield Finding("PF405", "adapter", reference or "none", candidate or "none", "contract", f"{side}.options", remedy)
        elif reference:
            yield from _compared(setup, Path(reference), Path(candidate))


def _compared(setup: Setup, reference: Path, candidate: Path) -> Iterator[Setting | Finding]:
    """Compare the scale of every matrix: the reference's is what its config says, the candidate's the size of what it adds."""
    base = setup.original.path
    if not reference.exists() or not candidate.exists():
        yield Setting("adapter scales", "", "", "not compared", "a path is not there from this folder")
        return
    try:
        reference_pairs, candidate_pairs = _pairs(reference, base), _pairs(candidate, base)
    except LogitproofError as error:
        # the engine refuses it in its own words; here it only is not compared
        yield Setting("adapter scales", "", "", "not compared", error.text)
        return
    names = sorted(set(reference_pairs) | set(candidate_pairs))
    scales = [
        (name, _scale(reference_pairs, reference_pairs, name), _scale(reference_pairs, candidate_pairs, name)) for name in names
    ]
    wrong = [row for row in scales if not abs(row[1] - row[2]) <= SAME * max(abs(row[1]), abs(row[2]))]
    scaled = {name: replace(candidate_pairs[name], scale=scale) for name, _, scale in scales if name in candidate_pairs}
    yield Setting("adapter scales", _shown(reference_pairs), _shown(scaled), "differs" if wrong else "same")
    for name, left, scale in wrong[:1]:
        text = f"{len(wrong)} of {len(names)} matrices, the first {name}"
        yield Finding("PF406", "adapter scales", f"{left:.4g}", f"{scale:.4g}", str(candidate), name, REMEDY, text)


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
