"""A run as the history keeps it, read from its verdict.json, and what changed from one run to another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from logitproof.errors import ContractError
from logitproof.files.causes import cause_of
from logitproof.files.untrusted import read_object

KEPT = ("mean", "p99", "max")
"""Statistics of a cell's metrics that the history keeps."""


@dataclass(frozen=True)
class Recorded:
    """One run. `gates` and `cells` are by name, `pins` and `versions` flat, each value as text."""

    run_id: str
    contract: str
    contract_version: str
    commit: str
    status: str
    exit_code: int
    reason: str
    made_at: str
    machine: str
    folder: str
    seconds: float
    gates: Mapping[str, Mapping[str, Any]]
    cells: Mapping[str, Mapping[str, Any]]
    pins: Mapping[str, str]
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Change:
    """Something that is not the same in two runs; `what` is the kind, and nothing is an empty text."""

    what: str
    name: str
    before: str
    after: str


def recorded(verdict: Mapping[str, Any], folder: str = "", commit: str = "") -> Recorded:
    """A run out of the content of its verdict.json."""
    host = verdict.get("host", {})
    return Recorded(
        run_id=verdict["run_id"],
        contract=verdict["contract"],
        contract_version=verdict["contract_version"],
        commit=commit,
        status=verdict["status"],
        exit_code=verdict["exit_code"],
        reason=verdict.get("reason", ""),
        made_at=verdict["made_at"],
        machine=" ".join(str(host[key]) for key in ("system", "machine", "cores") if host.get(key) is not None),
        folder=folder,
        seconds=verdict.get("seconds", 0.0),
        gates={f"{gate['id']} on {gate['cell'] or 'no cell'}": _gate(gate) for gate in verdict["gates"]},
        cells={cell["id"]: _cell(cell) for cell in verdict["cells"]},
        pins=dict(_pins(verdict.get("pins", {}))),
        versions=dict(_versions(verdict)),
    )


def recorded_in(folder: Path) -> Recorded:
    """The run whose verdict.json lies in a folder; ContractError where there is none, or it is damaged."""
    path = folder / "verdict.json"
    if not path.is_file():
        raise ContractError("holds no verdict.json", where=str(folder), remedy="name a run folder or the id of a run")
    try:
        return recorded(read_object(path), str(folder.resolve()))
    except (KeyError, TypeError, AttributeError) as error:
        remedy = "run `logitproof judge` on its folder"
        text = f"is no verdict that this version reads: {cause_of(error)}"
        raise ContractError(text, where=str(path), remedy=remedy) from None


def changes(before: Recorded, after: Recorded) -> list[Change]:
    """What is not the same: the verdict, cells, gates with what they observed, pins and versions."""
    differences = [
        Change("run", name, str(getattr(before, name)), str(getattr(after, name)))
        for name in ("status", "contract", "contract_version", "commit", "machine")
        if getattr(before, name) != getattr(after, name)
    ]
    for what, earlier, later in (("cell", before.cells, after.cells), ("gate", before.gates, after.gates)):
        differences += _different(
            what, {key: _words(value) for key, value in earlier.items()}, {k: _words(v) for k, v in later.items()}
        )
    differences += _different("pin", before.pins, after.pins)
    differences += _different("version", before.versions, after.versions)
    return differences


def _different(what: str, before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[Change]:
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            yield Change(what, name, before.get(name, ""), after.get(name, ""))


def _words(entry: Mapping[str, Any]) -> str:
    """A gate or a cell in a few words."""
    if "observed" in entry:
        observed = "nothing" if entry["observed"] is None else f"{entry['observed']:.4g}"
        sign = "≤" if entry["operator"] == "at_most" else "≥"
        bound = "–" if entry["bound"] is None else f"{entry['bound']:.4g}"
        return f"{entry['status']} {observed} {sign} {bound}"
    kl = entry["metrics"].get("kl_divergence", {})
    number = "" if kl.get("mean") is None else f", mean KL {kl['mean']:.4g}"
    return f"{entry['status']}, {entry['positions']} positions{number}"


def _gate(gate: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: gate[key] for key in ("id", "cell", "metric", "statistic", "operator", "status", "observed", "bound", "control")
    }


def _cell(cell: Mapping[str, Any]) -> dict[str, Any]:
    metrics = {name: {key: summary[key] for key in KEPT if key in summary} for name, summary in cell["metrics"].items()}
    return {"status": cell["status"], "positions": cell["positions"], "reason": cell["reason"], "metrics": metrics}


def _pins(pins: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for model, files in pins.get("models", {}).items():
        yield from ((f"{model} {label}", pin["sha256"]) for label, pin in files.items())
    yield from ((f"suite {name}", sha256) for name, sha256 in pins.get("suites", {}).items())


def _versions(verdict: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield from verdict.get("versions", {}).items()
    for name, engine in verdict.get("engines", {}).items():
        yield from ((f"{name}: {key}", str(value)) for key, value in engine.get("versions", {}).items())
