"""What `logitproof calibrate` prints: bands and gates as YAML, with the calculated numbers and what they would catch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from logitproof.bands.calculated import calculated_band, gate_bound
from logitproof.bands.power import Places, Power, Stretch, power_of_band, power_of_gate
from logitproof.calibration.calibrate import Calibrated
from logitproof.contract.contract import Gate, OpenContract
from logitproof.contract.isa import NATIVE
from logitproof.contract.scope import parse_scope
from logitproof.documents.answer import Answer
from logitproof.documents.document import Document
from logitproof.documents.section import Line, Text, Verdict
from logitproof.errors import ContractError

KIND = "calibrate"


@dataclass(frozen=True)
class CalibratedCell:
    """One cell as JSON has it. `match` are the narrowest and the widest band, in logits; `beyond` a share of positions."""

    cell: str
    path: Path | None
    reason: str
    basis: str = ""
    match: tuple[float, float] | None = None
    beyond: float | None = None
    power: Power | None = None


def document(opened: OpenContract, found: Sequence[Calibrated]) -> Document:
    """`bands:` and `gates:` as a contract would hold them, with the calculated numbers beside them."""
    yaml = Text(tuple(Line(line) for line in _yaml(opened, found)), verbatim=True)
    title = f"How far a healthy engine may be, for {opened.contract.contract}"
    following = f"logitproof check {opened.path}" if _written(found) else ""
    return Document(title, verdict(found), (yaml,), following)


def verdict(found: Sequence[Calibrated]) -> Verdict:
    """How many cells have a band, and why the first that has none has none."""
    written, kept = len(_written(found)), sum(one.path is not None for one in found)
    without = next((f"; {cell.cell.id} has none: {cell.reason}" for cell in found if cell.path is None), "")
    reason = f"{written} calibrations for {kept} of {len(found)} cells{without}"
    return Verdict("CALIBRATED" if written else "NOT MEASURED", reason, "good" if written else "unsure")


def answer(opened: OpenContract, found: Sequence[Calibrated]) -> Answer:
    """Every cell with its file, the band at its narrowest and widest, and what it would catch."""
    cells = [_cell(cell) for cell in found]
    return Answer(KIND, str(opened.path), 0 if _written(found) else 3, {"cells": cells})


def _written(found: Sequence[Calibrated]) -> set[Path]:
    return {cell.path for cell in found if cell.path}


def _cell(found: Calibrated) -> CalibratedCell:
    if found.calibration is None:
        return CalibratedCell(found.cell.id, found.path, found.reason)
    band = calculated_band(found.calibration, found.sequences)
    flat = np.concatenate(list(band.match.values()))
    effects, places = found.effects, [Stretch(tokens) for tokens in found.sequences]
    power = None if effects is None else power_of_band(band, effects, places)
    wide = (float(flat.min()), float(flat.max()))
    return CalibratedCell(found.cell.id, found.path, found.reason, found.calibration.basis, wide, band.beyond, power)


def _yaml(opened: OpenContract, found: Sequence[Calibrated]) -> Iterator[str]:
    yield "bands:"
    for cell in found:
        yield from _band_lines(cell)
    yield "gates:"
    for gate in opened.contract.gates:
        for cell in found:
            if gate.selects(cell.cell.axes):
                yield from _gate_lines(gate, cell)


def _band_lines(one: Calibrated) -> Iterator[str]:
    if one.calibration is None:
        yield f"  # {one.cell.id}: {one.reason}"
        return
    band = calculated_band(one.calibration, one.sequences)
    flat = np.concatenate(list(band.match.values()))
    where = ", ".join(f"{axis}: {name}" for axis, name in one.cell.axes.items() if name and (axis, name) != ("isa", NATIVE))
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
