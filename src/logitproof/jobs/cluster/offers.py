"""What this machine offers a Ray cluster: the resources that jobs ask for by name."""

from __future__ import annotations

from logitproof.contract.isa import INSTRUCTION_SETS, lacking
from logitproof.jobs.cluster.placing import ENGINE
from logitproof.jobs.doctor import EngineState


def offers(engines: tuple[EngineState, ...]) -> dict[str, int]:
    """Every engine that answers and every instruction set of this processor, as `ray start --resources` takes them."""
    answering = [f"{ENGINE}{engine.name}" for engine in engines if not engine.problem]
    return dict.fromkeys([*answering, *(isa for isa in INSTRUCTION_SETS if not lacking(isa))], 1)
