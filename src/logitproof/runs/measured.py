"""What of a contract a run was measured by: all but the bounds. Judging again judges these traces and no others.

A hash of each part is kept in run.json, since an engine's environment may hold secrets; a difference is named by its part.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from logitproof.contract.contract import EngineUse
from logitproof.contract.opened import OpenContract
from logitproof.errors import ContractError
from logitproof.files.atomic import content_key
from logitproof.jobs.plan import matrix_cells
from logitproof.jobs.sides import path_of
from logitproof.weights.model import weights_sha256

JUDGED = {"arithmetic", "expect", "build_id", "deadline", "may_be_exact", "may_be_vacuous", "only", "timeout"}
"""Fields of an engine's use that change no trace; which cells there are is compared by their ids."""
REMEDY = "run `logitproof check` again: `judge` changes bounds, waivers and gates only"


def measured_by(opened: OpenContract) -> dict[str, str]:
    """The hash of every part that can change a trace, by its place in the contract; the files that it names are left out."""
    contract = opened.contract
    parts: dict[str, Any] = {
        "preflight": contract.preflight.model_dump(mode="json") if contract.preflight else None,
        "error_bar": contract.error_bar.model_dump(mode="json"),
    }
    uses: dict[str, EngineUse] = {"reference": contract.reference}
    uses |= {f"reference {name}": contract.reference_of(name) for name in contract.others}
    uses |= {f"candidates.{name}": use for name, use in contract.candidates.items()}
    uses |= {"witness": contract.witness} if contract.witness else {}
    parts |= {name: use.model_dump(mode="json", exclude=JUDGED) for name, use in uses.items()}
    return {name: content_key({"part": part}) for name, part in parts.items()}


@dataclass(frozen=True)
class Ran:
    """What a run had: `parts` as `measured_by` gives them (none of a run of earlier versions), and hashes of its files."""

    cells: frozenset[str]
    parts: Mapping[str, str]
    suites: Mapping[str, str]
    weights: Mapping[tuple[str, str], str]


def refuse_another(opened: OpenContract, ran: Ran) -> None:
    """Raise ContractError where the contract is no longer that of the run in anything but its bounds; says in what."""
    for where, text in _differences(opened, ran):
        raise ContractError(f"{text}, so nothing of the run says anything about it", where=where, remedy=REMEDY)


def _differences(opened: OpenContract, ran: Ran) -> Iterable[tuple[str, str]]:
    cells = {cell.id for cell in matrix_cells(opened)}
    if added := sorted(cells - ran.cells):
        yield opened.where("matrix"), f"the cell {added[0]} was not in the run ({len(added)} such cells)"
    if gone := sorted(ran.cells - cells):
        yield opened.where("matrix"), f"the run measured {gone[0]}, which this contract does not have ({len(gone)} such cells)"
    now = measured_by(opened) if ran.parts else {}
    for name in sorted({*now, *ran.parts}):
        if now.get(name) != ran.parts.get(name):
            yield opened.where(*name.split(".", 1)), f"{name} is not what the run had"
    suites = {suite.suite: suite.sha256 for suite in opened.suites}
    for name in sorted({*suites, *ran.suites}):
        if suites.get(name) != ran.suites.get(name):
            yield opened.where("suites"), f"the suite {name!r} is not what the run had"
    yield from _other_weights(opened, ran)


def _other_weights(opened: OpenContract, ran: Ran) -> Iterable[tuple[str, str]]:
    """Weights that are here and are others; those of a run on another machine need not be here."""
    for (model, label), sha256 in ran.weights.items():
        path: Path = path_of(opened, model, label) if label in opened.contract.models.get(model, {}) else Path()
        where = opened.where("models", model, label)
        if path == Path():
            yield where, f"the weights {label!r} of {model!r} are not named any more"
        elif path.exists() and weights_sha256(path) != sha256:
            yield where, f"the weights {label!r} of {model!r} are not the file that the run measured"
