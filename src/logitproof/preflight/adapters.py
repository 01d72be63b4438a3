"""Adapters: on both sides, or on none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from logitproof.contract.contract import EngineUse
from logitproof.preflight import Check, Finding, Setting, Setup
from logitproof.preflight.precision import options_of

NAMES = ("adapter", "lora", "lora_path", "lora_scaled", "peft")


class Adapters(Check):
    """A LoRA adapter that one engine is asked to apply and the other is not."""

    codes: ClassVar[Mapping[str, str]] = {"PF405": "an adapter on one side only"}

    def examine(self, setup: Setup) -> Iterator[Setting | Finding]:
        ours, theirs = _named(setup.reference_use), _named(setup.candidate_use)
        both = bool(ours) == bool(theirs)
        yield Setting("adapter", ours or "none", theirs or "none", "differs" if not both else "listed" if ours else "same")
        if not both:
            side = setup.candidate_name if ours else "reference"
            remedy = "give the adapter to both engines, or merge it into the weights that both read"
            yield Finding("PF405", "adapter", ours or "none", theirs or "none", "contract", f"{side}.options", remedy)


def _named(use: EngineUse) -> str:
    return next((str(value) for name, value in options_of(use) if name in NAMES and value), "")
