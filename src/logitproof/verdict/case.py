"""A case: one cell with everything that its verdict rests on, worked out beforehand.

`band_of`, `bounds_of` and `waivers_of` find in a contract what holds for one cell.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

from logitproof.bands.band import Band
from logitproof.bands.calculated import CalculatedBand, Calibration, calculated_band, gate_bound
from logitproof.bands.power import Effects
from logitproof.contract.contract import Contract
from logitproof.contract.waiver import Waiver
from logitproof.jobs.cell import Cell
from logitproof.verdict.compared import Compared
from logitproof.verdict.gate_rows import can_measure, chosen


@dataclass(frozen=True)
class Bound:
    """A calculated bound of a gate, in the unit of its statistic, and what it was calculated from."""

    value: float
    basis: str


@dataclass(frozen=True)
class OwnError:
    """What a gate would observe of the reference against itself, and in which of its runs that was worst."""

    value: float
    run: str


@dataclass(frozen=True)
class Case:
    """One cell to be judged: its rows, and what they are judged by.

    `bounds` and `own_errors` are by the id of a gate: bounds where the contract has them calculated, the reference's own
    errors where they were measured. `witness` says what a second engine says, `effects` what known bugs would do here.
    """

    cell: Cell
    rows: Sequence[Compared]
    band: Band | CalculatedBand | None = None
    bounds: Mapping[str, Bound] = field(default_factory=dict)
    own_errors: Mapping[str, OwnError] = field(default_factory=dict)
    witness: str = ""
    effects: Effects | None = None
    suspicion: str = ""
    """why it is too good to be true, or nothing"""
    same_arithmetic: bool = True
    """whether both sides round alike, so that they may agree bit for bit; that of a band that was typed is not known"""

    @property
    def has_failures(self) -> bool:
        """Whether a prompt has a failure in place of a comparison."""
        return any(row.failure for row in self.rows)

    @property
    def planned(self) -> int:
        """Positions that its prompts have."""
        return sum(row.planned or (row.comparison.positions if row.comparison else 0) for row in self.rows)

    @property
    def positions(self) -> int:
        """Positions that were fed to both sides."""
        return sum(row.comparison.positions for row in self.rows if row.comparison)

    @property
    def is_held_in_part(self) -> bool:
        """Whether the reference holds some of the positions only."""
        return not self.has_failures and self.planned < self.positions

    def without(self, prompts: Container[str]) -> Case:
        """The case without some prompts, by their ids."""
        return replace(self, rows=_without(self.rows, prompts))


def band_of(
    contract: Contract, cell: Cell, rows: Sequence[Compared] = (), calibration: Calibration | None = None
) -> Band | CalculatedBand | None:
    """The last band whose filter selects the cell, so that a special case stands after the general one.

    One that the contract has calculated is that of the sequences of the rows; None where there is no band, or no calibration.
    """
    selecting = [band for band in contract.bands if band.where.selects(cell.axes)]
    if not selecting:
        return None
    if (match := selecting[-1].match) is None or (wrong := selecting[-1].wrong) is None:
        sequences = [row.token_ids for row in rows if row.comparison is not None]
        return calculated_band(calibration, sequences) if calibration is not None else None
    return Band(match, wrong, selecting[-1].allow, selecting[-1].basis)


def bounds_of(
    contract: Contract, cell: Cell, rows: Sequence[Compared], calibration: Calibration | None, today: date
) -> dict[str, Bound]:
    """By gate: the bounds that are calculated for the positions which the gate looks at in this cell.

    A prompt that is waived on `today` counts in none; where one failed, nothing is judged and nothing calculated.
    Raises ContractError of a gate whose metric no repetition has.
    """
    if calibration is None or any(row.failure for row in rows):
        return {}
    counting = _without(rows, waivers_of(contract, cell, rows, today))
    bounds: dict[str, Bound] = {}
    for gate in contract.gates:
        if gate.is_calibrated and gate.selects(cell.axes) and can_measure(gate, counting):
            places = [(row.token_ids, [row.start + at for at in chosen(gate, row)]) for row in counting]
            value = gate_bound(calibration, gate.metric, gate.statistic, places, at_most=gate.at_most is not None)
            bounds[gate.id] = Bound(value, calibration.basis)
    return bounds


def waivers_of(contract: Contract, cell: Cell, rows: Sequence[Compared], today: date) -> dict[str, Waiver]:
    """The waiver of each prompt that has one on this day; a control and a failed prompt have none."""
    if contract.candidates[cell.candidate].expect is not None:
        return {}
    prompts = [row.pair.prompt for row in rows if row.failure is None]
    return {prompt.id: waiver for prompt in prompts for waiver in contract.waivers if waiver.covers(cell.id, prompt, today)}


def _without(rows: Sequence[Compared], prompts: Container[str]) -> list[Compared]:
    return [row for row in rows if row.pair.prompt.id not in prompts]
