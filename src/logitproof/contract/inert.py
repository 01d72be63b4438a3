"""Gates that no engine could break: what can never fail proves nothing, and is refused before anything runs."""

from __future__ import annotations

from logitproof import catalog
from logitproof.contract.contract import Gate
from logitproof.contract.opened import OpenContract
from logitproof.errors import ContractError, raise_all

BREAKABLE = "give a bound that a bug would break, or take the gate out"


def refuse_inert(opened: OpenContract) -> None:
    """Raise ContractError for every gate whose bound its metric cannot pass, or that looks at no engine."""
    raise_all(
        [
            ContractError(f"the gate {gate.id!r} can never fail: {text}", where=opened.where("gates", index), remedy=BREAKABLE)
            for index, gate in enumerate(opened.contract.gates)
            if (text := why_inert(gate))
        ]
    )


def why_inert(gate: Gate) -> str:
    """Why no engine could break a gate, or nothing."""
    kind = catalog.load("metrics", gate.metric)
    if getattr(kind, "better", "") == "none":  # a metric of a plugin may not say
        return f"{gate.metric} describes the reference alone"
    if gate.at_most is not None and gate.bound >= kind.greatest:
        return f"{gate.metric} is at most {kind.greatest:g} whatever the rows are"
    if gate.at_least is not None and gate.bound <= kind.least:
        return f"{gate.metric} is at least {kind.least:g} whatever the rows are"
    return ""
