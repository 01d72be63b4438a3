"""What a machine must have to run an engine: known before it is started, so that whoever chooses the machine can read it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Needs:
    """`instruction_sets` are names of `contract/isa.py`, `gpus` how many cards, `engine` what must be installed.

    `memory` is in bytes and a lower bound: what the weights take on disk. Nothing here can change a logit, so no key holds it.
    """

    instruction_sets: tuple[str, ...] = ()
    gpus: int = 0
    memory: int = 0
    engine: str = ""


def together(needs: Iterable[Needs]) -> Needs:
    """What one machine must have to run all of them, one after another."""
    listed = list(needs)
    return Needs(
        instruction_sets=tuple(sorted({isa for need in listed for isa in need.instruction_sets})),
        gpus=max((need.gpus for need in listed), default=0),
        memory=max((need.memory for need in listed), default=0),
        engine=next((need.engine for need in listed if need.engine), ""),
    )
