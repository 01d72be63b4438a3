"""Calibrations on disk: beside the contract, one file for each pair of weights and arithmetics.

CONTRACT.bands/KEY.npz      what every repetition gave, so that a gate may change without computing anything again
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from logitproof.bands.calculated import METRIC, Calibration, Repeated, calibration_key
from logitproof.bands.power import Effects, read_effects
from logitproof.contract.arithmetic import Arithmetic, arithmetic_of
from logitproof.contract.contract import ORIGINAL, EngineUse
from logitproof.contract.opened import OpenContract
from logitproof.errors import Missing
from logitproof.files.arrays import read_arrays, write_arrays
from logitproof.jobs.cell import Cell
from logitproof.jobs.sides import label_read, path_of
from logitproof.weights.model import Model, weights_sha256

Weights = Mapping[tuple[str, str], str]
"""sha256 of weights by model and label."""


@dataclass(frozen=True)
class Sides:
    """What a calibration is of: weights by their labels, and how both engines compute.

    `truth` are the weights that the reference reads; the candidate's own are `label`. Where a cell compares a candidate with
    itself (its decode with its prefill, one instruction set with another), both sides are the candidate.
    """

    model: str
    label: str
    truth: str
    reference: Arithmetic
    candidate: Arithmetic

    def key(self, weights: Weights) -> str:
        return calibration_key(
            {
                "truth": weights[self.model, self.truth],
                "own": weights[self.model, self.label],
                "config": weights.get((self.model, ORIGINAL), ""),
                "reference": self.reference.identity(),
                "candidate": self.candidate.identity(),
            }
        )


def weights_of(opened: OpenContract, models: Mapping[str, Model]) -> dict[tuple[str, str], str]:
    """sha256 by model and label of the models that were opened, by absolute path."""
    names = [(name, label) for name, files in opened.contract.models.items() for label in files]
    paths = {(name, label): str(path_of(opened, name, label)) for name, label in names}
    weights = {place: models[path].sha256 for place, path in paths.items() if path in models}
    for name, files in opened.contract.models.items():
        # without an original the first file says what the config is, whether or not it is compared
        first = path_of(opened, name, next(iter(files)))
        if ORIGINAL not in files and first.exists():
            weights[name, ORIGINAL] = weights_sha256(first)
    return weights


def folder_of(opened: OpenContract) -> Path:
    """Where the calibrations of a contract lie."""
    return opened.folder / f"{opened.path.stem}.bands"


def sides_of(opened: OpenContract, cell: Cell) -> Sides | Missing:
    """What the calibration of a cell is of; why not where it cannot have one."""
    contract = opened.contract
    use = contract.candidates[cell.candidate]
    candidate = _arithmetic(use)
    if cell.is_between and cell.mode == "greedy":
        return Missing("what a candidate continues by is not known before it runs")
    if candidate is None:
        return Missing(f"it is not known how {cell.candidate} ({use.engine}) computes: say `arithmetic:`")
    if is_own(cell):
        first = candidate.in_mode("prefill" if cell.mode == "self" else cell.mode)
        return Sides(cell.model, cell.quantization, cell.quantization, first, candidate.in_mode(cell.mode))
    compared = contract.reference_of(cell.against)
    if (reference := _arithmetic(compared)) is None:
        return Missing(f"it is not known how the reference ({compared.engine}) computes: say `arithmetic:`")
    truth = label_read(contract, cell.quantization, cell.against)
    return Sides(cell.model, cell.quantization, truth, reference.in_mode("prefill"), candidate.in_mode(cell.mode))


def is_own(cell: Cell) -> bool:
    """Whether a cell compares a candidate with itself."""
    return cell.is_between or cell.mode == "self"


def wants_calibration(opened: OpenContract, cell: Cell) -> bool:
    """Whether the contract judges a cell by something calculated."""
    contract = opened.contract
    bands = [band for band in contract.bands if band.where.selects(cell.axes)]
    gates = [gate for gate in contract.gates if gate.is_calibrated and gate.selects(cell.axes)]
    return bool(gates) or (bool(bands) and bands[-1].bound is not None)


def find_calibrations(opened: OpenContract, cells: Iterable[Cell], weights: Weights) -> dict[str, Calibration | Missing]:
    """By cell: the calibration that it is judged by, or why there is none; nothing of a cell that wants none."""
    return {cell.id: _calibration_of(opened, cell, weights) for cell in cells if wants_calibration(opened, cell)}


def _calibration_of(opened: OpenContract, cell: Cell, weights: Weights) -> Calibration | Missing:
    sides = sides_of(opened, cell)
    if isinstance(sides, Missing):
        return sides
    calibration = read_calibration(folder_of(opened), sides.key(weights))
    if calibration is None:
        return Missing(f"the cell has no calibration of these weights in {folder_of(opened).name}")
    return replace(calibration, about={**calibration.about, "word": _whose_word(opened, cell)})


def _whose_word(opened: OpenContract, cell: Cell) -> str:
    """Who says how the engines of a cell compute: the band is worth what that word is."""
    uses: dict[str, EngineUse] = {cell.candidate: opened.contract.candidates[cell.candidate]}
    if not is_own(cell):
        uses = {"the reference": opened.contract.reference, **uses}
    words = {name: "the contract" if use.arithmetic else f"the engine {use.engine}" for name, use in uses.items()}
    return "arithmetic by the word of " + ", ".join(f"{whose} ({name})" for name, whose in words.items())


def find_effects(opened: OpenContract, cells: Iterable[Cell], weights: Weights) -> dict[str, Effects]:
    """By cell: what known bugs would do there, where `logitproof calibrate --power` measured it.

    Nothing of a cell that compares a candidate with itself: a bug would be on both sides of it.
    """
    known: dict[str, Effects | None] = {}
    effects: dict[str, Effects] = {}
    for cell in cells if folder_of(opened).is_dir() else ():
        sides = sides_of(opened, cell)
        if isinstance(sides, Missing) or is_own(cell):
            continue
        key = sides.key(weights)
        if key not in known:
            known[key] = read_effects(folder_of(opened), key)
        if (of_cell := known[key]) is not None:
            effects[cell.id] = of_cell
    return effects


def _arithmetic(use: EngineUse) -> Arithmetic | None:
    return use.arithmetic or arithmetic_of(use.engine, use.options)


def write_calibration(folder: Path, calibration: Calibration) -> Path:
    """Write `folder`/KEY.npz in one step."""
    arrays: dict[str, np.ndarray] = {}
    for name, repeated in calibration.sequences.items():
        arrays |= {f"{name}/fixed/{metric}": np.asarray(values, np.float64) for metric, values in repeated.fixed.items()}
        if repeated.free is not repeated.fixed:
            arrays |= {f"{name}/free/{metric}": np.asarray(values, np.float64) for metric, values in repeated.free.items()}
        arrays[f"{name}/flipped"] = np.packbits(repeated.flipped, axis=1)
    return write_arrays(folder / f"{calibration.key}.npz", calibration.about, arrays)


def read_calibration(folder: Path, key: str) -> Calibration | None:
    """The calibration of that name, or None; raises ContractError where the file is damaged."""
    content = read_arrays(folder / f"{key}.npz", "run `logitproof calibrate` again")
    return None if content is None else Calibration(key, content[0], _sequences(content[1]))


def _sequences(arrays: Mapping[str, np.ndarray]) -> dict[str, Repeated]:
    by_sequence: dict[str, dict[str, dict[str, np.ndarray]]] = {}
    for path, values in arrays.items():
        name, kind, *metric = path.split("/")
        by_sequence.setdefault(name, {}).setdefault(kind, {})[metric[0] if metric else ""] = values
    repeated = {}
    for name, parts in by_sequence.items():
        length = parts["fixed"][METRIC].shape[1]
        flipped = np.unpackbits(parts["flipped"][""], axis=1, count=length).astype(bool)
        repeated[name] = Repeated(parts["fixed"], parts.get("free", parts["fixed"]), flipped)
    return repeated
