"""The tables of docs/engines.md: engines on the zoo as it is, on the probes of new families, and on quantized files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import _page
from _engines_kept import Cell, axis_of

MODES = ("prefill", "decode")
MARKS = {"PASS": "ok", "FAIL": "**FAIL**", "ERROR": "error", "NOT-MEASURED": "–", "NOT-TAKEN": "·"}


def write(result: Mapping[str, Any]) -> None:
    """Put all three into the page."""
    for name, text in tables(result).items():
        _page.write("engines.md", name, text)


def tables(result: Mapping[str, Any]) -> dict[str, str]:
    """By mark of the page."""
    cells = {axis: [cell for cell in result["cells"] if axis_of(cell) == axis] for axis in ("zoo", "probes", "quantizations")}
    return {
        "bench": zoo(cells["zoo"]),
        "bench probes": matrix(cells["probes"], "probe", result["probes"]),
        "bench probes causes": causes(cells["probes"], "probe"),
        "bench quantizations": matrix(cells["quantizations"], "quantization", result["quantizations"]),
        "bench quantizations causes": causes(cells["quantizations"], "quantization"),
        "bench formats": formats(result),
    }


def zoo(cells: Sequence[Cell]) -> str:
    """One row for each engine and family."""
    rows = []
    for label, version, family in dict.fromkeys((cell["engine"], cell["version"], cell["family"]) for cell in cells):
        pair = {cell["mode"]: cell for cell in cells if (cell["engine"], cell["family"]) == (label, family)}
        both = [pair[mode] for mode in MODES if mode in pair]
        top1 = [cell["top1"] for cell in both if cell["top1"] is not None]
        statuses, reasons = ({cell[key]: None for cell in both if cell[key]} for key in ("status", "cause"))
        figures = [figure(pair.get(mode, {}).get("kl_divergence_mean")) for mode in MODES]
        rows.append(
            [
                label,
                version,
                family,
                *figures,
                f"{min(top1):.3f}" if top1 else "–",
                " / ".join(statuses),
                plain("; ".join(reasons)),
            ]
        )
    return _page.table(["engine", "version", "family", "prefill KL", "decode KL", "top-1", "verdict", "cause"], rows)


def formats(result: Mapping[str, Any]) -> str:
    """Types of tensors in the files of each format, and of which families there is none, with the reason."""
    rows = []
    for kind in result["quantizations"]:
        types = {kind: None for held in result.get("formats", {}).get(kind, {}).values() for kind in held if kind != "F32"}
        whys: dict[str, list[str]] = {}
        for family, why in result.get("not_made", {}).get(kind, {}).items():
            whys.setdefault(why.replace(family, "…"), []).append(family)
        reasons = [f"{', '.join(names)}: {plain(why)}" for why, names in whys.items()]
        if kind in result["not_measured"]:
            reasons.append("not measured yet")
        rows.append([f"`{kind}`", ", ".join(types) or "–", "; ".join(reasons)])
    return _page.table(["file", "types of its tensors", "families without one"], rows)


def matrix(cells: Sequence[Cell], axis: str, order: Sequence[str]) -> str:
    """One row for each value of the axis, one column for each engine: its worst status, and its largest mean KL divergence."""
    labels = list(dict.fromkeys(cell["engine"] for cell in cells))
    rows = []
    for name in (name for name in order if any(cell[axis] == name for cell in cells)):
        shown = [entry([cell for cell in cells if (cell["engine"], cell[axis]) == (label, name)]) for label in labels]
        rows.append([f"`{name}`", *shown])
    return _page.table([axis, *labels], rows)


def entry(cells: Sequence[Cell]) -> str:
    """Worst status of several cells and the largest mean KL divergence; nothing where there is none."""
    if not cells:
        return ""
    worst = next(
        status
        for status in ("FAIL", "ERROR", "PASS", "NOT-MEASURED", "NOT-TAKEN")
        if any(cell["status"] == status for cell in cells)
    )
    known = [cell["kl_divergence_mean"] for cell in cells if cell["kl_divergence_mean"] is not None]
    return f"{MARKS[worst]} {figure(max(known))}" if known else MARKS[worst]


def causes(cells: Sequence[Cell], axis: str) -> str:
    """What stands behind every cell that is no PASS: each cause once, with the values that it holds for."""
    held: dict[tuple[str, str, str], list[str]] = {}
    for cell in (cell for cell in cells if cell["status"] != "PASS"):
        where = f"{cell['family']}" if axis == "quantization" else ""
        names = held.setdefault((cell["engine"], where, _of_any(cell)), [])
        if cell[axis] not in names:
            names.append(cell[axis])
    rows = [[label, ", ".join(filter(None, [where, *names])), plain(cause)] for (label, where, cause), names in held.items()]
    return _page.table(["engine", "where", "cause"], rows)


def _of_any(cell: Cell) -> str:
    """The cause of a cell that is not taken without the names of its model, so that one sentence stands for many."""
    if cell["status"] != "NOT-TAKEN":
        return str(cell["cause"])
    return re.sub(r"'[\w.-]+'|architecture [\w.-]+|[\w.-]+-F32\.gguf", "…", cell["cause"], count=2)


def plain(text: str) -> str:
    """Words of an engine as they stand in a table."""
    return text.replace("|", "\\|").replace("<", "&lt;")


def figure(kl: float | None) -> str:
    """A KL divergence in nats."""
    return "–" if kl is None else f"{kl:.1e}"
