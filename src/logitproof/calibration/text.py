"""What `logitproof calibrate` prints: bands and gates as YAML, with the calculated numbers and what they would catch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from logitproof.bands.calculated import calculated_band, gate_bound
from logitproof.bands.power import Places, Power, Stretch, power_of_band, power_of_gate
from logitproof.calibration.calibrate import Calibrated
from logitproof.contract.contract import Gate
from logitproof.contract.isa import NATIVE
from logitproof.contract.opened import OpenContract
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


def document(opened: OpenContract, calibrated: Sequence[Calibrated]) -> Document:
    """`bands:` and `gates:` as a contract would hold them, with the calculated numbers beside them."""
    yaml = Text(tuple(Line(line) for line in _yaml(opened, calibrated)), verbatim=True)
    title = f"How far a healthy engine may be, for {opened.contract.contract}"
    following = f"logitproof check {opened.path}" if _written(calibrated) else ""
    return Document(title, verdict(calibrated), (yaml,), following)


def verdict(calibrated: Sequence[Calibrated]) -> Verdict:
    """How many cells have a band, and why the first that has none has none."""
    written, kept = len(_written(calibrated)), sum(cell.path is not None for cell in calibrated)
    without = next((f"; {cell.cell.id} has none: {cell.reason}" for cell in calibrated if cell.path is None), "")
    reason = f"{written} calibrations for {kept} of {len(calibrated)} cells{without}"
    return Verdict("CALIBRATED" if written else "NOT MEASURED", reason, "good" if written else "unsure")


def answer(opened: OpenContract, calibrated: Sequence[Calibrated]) -> Answer:
    """Every cell with its file, the band at its narrowest and widest, and what it would catch."""
    cells = [_cell(cell) for cell in calibrated]
    return Answer(KIND, str(opened.path), 0 if _written(calibrated) else 3, {"cells": cells})


def _written(calibrated: Sequence[Calibrated]) -> set[Path]:
    return {cell.path for cell in calibrated if cell.path}


def _cell(cell: Calibrated) -> CalibratedCell:
    if cell.calibration is None:
        return CalibratedCell(cell.cell.id, cell.path, cell.reason)
    band = calculated_band(cell.calibration, cell.sequences)
    flat = np.concatenate(list(band.match.values()))
    effects, places = cell.effects, [Stretch(tokens) for tokens in cell.sequences]
    power = None if effects is None else power_of_band(band, effects, places)
    wide = (float(flat.min()), float(flat.max()))
    return CalibratedCell(cell.cell.id, cell.path, cell.reason, cell.calibration.basis, wide, band.beyond, power)


def _yaml(opened: OpenContract, calibrated: Sequence[Calibrated]) -> Iterator[str]:
    yield "bands:"
    for cell in calibrated:
        yield from _band_lines(cell)
    yield "gates:"
    for gate in opened.contract.gates:
        for cell in calibrated:
            if gate.selects(cell.cell.axes):
                yield from _gate_lines(gate, cell)


def _band_lines(cell: Calibrated) -> Iterator[str]:
    if cell.calibration is None:
        yield f"  # {cell.cell.id}: {cell.reason}"
        return
    band = calculated_band(cell.calibration, cell.sequences)
    flat = np.concatenate(list(band.match.values()))
    where = ", ".join(f"{axis}: {name}" for axis, name in cell.cell.axes.items() if name and (axis, name) != ("isa", NATIVE))
    yield f"  - where: {{{where}}}"
    yield "    bound: calibrated"
    yield f"    basis: {_quoted(cell.calibration.basis)}"
    yield f"    # match {flat.min():.3g} to {flat.max():.3g} logits, at most {band.beyond:.2%} of positions beyond"
    if cell.effects is not None:
        yield from _power_lines(power_of_band(band, cell.effects, [Stretch(tokens) for tokens in cell.sequences]))


def _gate_lines(gate: Gate, cell: Calibrated) -> Iterator[str]:
    if cell.calibration is None or cell.cell.mode == "greedy":
        return
    scope, side = parse_scope(gate.scope), "at_most" if gate.at_most is not None else "at_least"
    places: Places = [
        (tokens, 0, scope.positions(len(tokens), length)) for tokens, length in zip(cell.sequences, cell.lengths, strict=True)
    ]
    try:
        chosen = [(tokens, rows) for tokens, _, rows in places]
        bound = gate_bound(cell.calibration, gate.metric, gate.statistic, chosen, at_most=side == "at_most")
    except ContractError as error:
        yield f"  # {gate.id} in {cell.cell.id}: {error.text}"
        return
    limit = "calibrated" if gate.is_calibrated else f"{gate.bound:.3g}"
    yield f"  # {gate.id} in {cell.cell.id}: {side} {limit}, calculated is {bound:.3g}"
    if cell.effects is not None:
        judged = gate.bounded_by(bound, "calculated") if gate.is_calibrated else gate
        yield from _power_lines(power_of_gate(judged, cell.effects, places))


def _power_lines(power: Power | None) -> Iterator[str]:
    if power is not None:
        missed = ", ".join(f"{name} {size:.2g}" for name, size in sorted(power.missed.items(), key=lambda item: -item[1]))
        yield f"    # would catch {power}"
        yield f"    # would miss, of those above the noise: {missed or 'none'}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
