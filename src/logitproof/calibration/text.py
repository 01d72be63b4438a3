"""What `logitproof calibrate` prints: bands and gates as YAML, with the calculated numbers and what they would catch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from logitproof.bands.calculated import calculated_band, gate_bound
from logitproof.bands.power import Places, Power, Stretch, power_of_band, power_of_gate
from logitproof.calibration.calibrate import Calibrated
from logitproof.contract.contract import Gate, OpenContract
from logitproof.contract.isa import NATIVE
from logitproof.contract.scope import parse_scope
from logitproof.errors import ContractError


def as_yaml(opened: OpenContract, found: Sequence[Calibrated]) -> str:
    """`bands:` and `gates:` as a contract would hold them, with the calculated numbers beside them."""
    gates = [(gate, one) for gate in opened.contract.gates for one in found if gate.where.selects(one.cell.axes)]
    lines = ["bands:", *(line for one in found for line in _band_lines(one)), "gates:"]
    return "\n".join([*lines, *(line for gate, one in gates for line in _gate_lines(gate, one))])


def _band_lines(one: Calibrated) -> Iterator[str]:
    if one.calibration is None:
        yield f"  # {one.cell.id}: {one.reason}"
        return
    band = calculated_band(one.calibration, one.sequences)
    flat = np.concatenate(list(band.match.values()))
    where = ", ".join(f"{axis}: {name}" for axis, name in one.cell.axes.items() if (axis, name) != ("isa", NATIVE))
    yield f"  - where: {{{where}}}"
    yield "    bound: calibrated"
    yield f"    basis: {_quoted(one.calibration.basis)}"
    yield f"    # match {flat.min():.3g} to {flat.max():.3g} logits, at most {band.beyond:.2%} of positions beyond"
    if one.effects is not None:
        yield from _power_lines(power_of_band(band, one.effects, [Stretch(tokens) for tokens in one.sequences]))


def _gate_lines(gate: Gate, one: Calibrated) -> Iterator[str]:
    if one.calibration is None or one.cell.mode == "greedy":
        return
    scope, side = parse_scope(gate.scope), "at_most" if gate.at_most is not None else "at_least"
    places: Places = [
        (tokens, 0, scope.positions(len(tokens), length)) for tokens, length in zip(one.sequences, one.lengths, strict=True)
    ]
    try:
        chosen = [(tokens, rows) for tokens, _, rows in places]
        bound = gate_bound(one.calibration, gate.metric, gate.statistic, chosen, at_most=side == "at_most")
    except ContractError as error:
        yield f"  # {gate.id} in {one.cell.id}: {error.text}"
        return
    said = "calibrated" if gate.is_calibrated else f"{gate.bound:.3g}"
    yield f"  # {gate.id} in {one.cell.id}: {side} {said}, calculated is {bound:.3g}"
    if one.effects is not None:
        judged = gate.bounded_by(bound, "calculated") if gate.is_calibrated else gate
        yield from _power_lines(power_of_gate(judged, one.effects, places))


def _power_lines(power: Power | None) -> Iterator[str]:
    if power is not None:
        missed = ", ".join(f"{name} {size:.2g}" for name, size in sorted(power.missed.items(), key=lambda item: -item[1]))
        yield f"    # would catch {power}"
        yield f"    # would miss, of those above the noise: {missed or 'none'}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
