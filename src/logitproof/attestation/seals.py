"""Seals: the sha256 of each part of a statement, so that an edited part has a name. What proves anything is the signature."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from logitproof.files.atomic import content_key


def parts_of(statement: Mapping[str, Any]) -> dict[str, Any]:
    """Every part of a statement by its name; a cell without its prompts, and each of these."""
    parts: dict[str, Any] = {}
    for name, part in _parts(statement):
        while name in parts:
            name += " (again)"
        parts[name] = part
    return parts


def sealed(parts: Mapping[str, Any]) -> dict[str, str]:
    """The seal of each part."""
    return {name: content_key({"part": part}) for name, part in parts.items()}


def edited(statement: Mapping[str, Any]) -> list[str]:
    """Names of the parts that are not what their seals say, or that have none."""
    seals = statement["predicate"]["seals"]
    now = sealed(parts_of(statement))
    return [name for name in sorted({*seals, *now}) if seals.get(name) != now.get(name)]


def _parts(statement: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for subject in statement["subject"]:
        yield f"subject {subject['name']}", subject
    for key, value in statement["predicate"].items():
        if key == "cells":
            for cell in value:
                yield f"cells.{cell['id']}", {name: part for name, part in cell.items() if name != "rows"}
                for number, row in enumerate(cell["rows"]):
                    yield f"cells.{cell['id']}.rows.{number}", row
        elif key == "gates":
            for gate in value:
                yield f"gates.{gate['id']} on {gate['cell'] or 'no cell'}", gate
        elif key in ("contract", "engines", "models"):
            for name, part in value.items():
                yield f"{key}.{name}", part
        elif key != "seals":
            yield key, value
