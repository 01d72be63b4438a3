"""What the catalogues hold, read from their files without importing them; and a contract to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from logitproof import catalog
from logitproof.documents.document import Document
from logitproof.documents.section import Column, Line, Row, Table, Text, Verdict
from logitproof.errors import ContractError
from logitproof.files.atomic import write_atomically

UNSOURCED = "no public thread that is known"
STARTER = """\
# Paths are relative to this file. `logitproof list engines` shows every engine and its options.
contract: my-engine
version: 0.1.0
reference: {engine: transformers, options: {dtype: float32}}
candidates:
  mine: {engine: llamacpp}
models:
  my-model: {original: path/to/hf-folder, F32: path/to/model-f32.gguf}
suites: [smoke-10]
matrix: {quantization: [F32], mode: [prefill, decode, greedy]}
bands:
  - {match: 1.0e-4, wrong: 1.0e-2, basis: "two float32 engines that differ in the order of their sums"}
gates:
  - {id: kl, metric: kl_divergence, at_most: 1.0e-6, basis: "far above float32 rounding, far below any bug"}
"""


def rows(what: str) -> list[dict[str, Any]]:
    """The entries of a catalogue, or the shipped suites: name, help and options."""
    if what == "suites":
        from logitproof.contract.suite import Suite, shipped_suites
        from logitproof.files.yaml import read_yaml

        suites = {name: read_yaml(path, Suite, "suite")[0] for name, path in shipped_suites().items()}
        return [
            {"name": name, "help": f"{len(suite.prompts)} prompts. {suite.about}", "options": []}
            for name, suite in suites.items()
        ]
    return [
        {
            "name": entry.name,
            "help": entry.help,
            "options": [{"name": option.name, "type": option.type, "default": option.default} for option in entry.options],
        }
        for entry in catalog.entries(what).values()  # type: ignore[arg-type]
    ]


def mutation(name: str) -> dict[str, Any]:
    """The record of one known bug, read from its file's syntax, so that no framework is needed."""
    entry = catalog.find("mutations", name)
    fields = ("bug", "shows", "seen_in", "first_tap", "remedy", "needs", "equivalent", "grid")
    options = [{"name": option.name, "type": option.type, "default": option.default} for option in entry.options]
    known = {key: entry.record[key] for key in fields if entry.record.get(key) or key == "seen_in"}
    return {"name": name, **known, "options": options}


def record_document(record: dict[str, Any]) -> Document:
    """A record with a line a field; a bug that no public thread tells of says so."""
    titles = {"seen_in": "seen in", "first_tap": "first tap"}
    fields: dict[str, Any] = record | {"seen_in": record["seen_in"] or UNSOURCED}
    lines = []
    for key, value in fields.items():
        if key != "options" and value:
            shown = ", ".join(map(str, value)) if isinstance(value, tuple | list) else value
            lines.append(f"{titles.get(key, key) + ':':<12}{shown}")
    lines += [f"{'option:':<12}{option['name']}: {option['type']} = {option['default']}" for option in record["options"]]
    reason = str(record.get("bug", ""))
    return Document(record["name"], Verdict("KNOWN BUG", reason), (Text(tuple(map(Line, lines)), verbatim=True),))


def document(what: str, entries: list[dict[str, Any]]) -> Document:
    """One row an entry: its name and the first paragraph of its help, and below it its options."""
    rows = []
    for row in entries:
        text = row["help"].split(chr(10) * 2)[0].replace(chr(10), " ")
        rows.append(Row((row["name"], text), notes=tuple(Line(_option(option)) for option in row["options"])))
    table = Table((Column("", "code"), Column("")), tuple(rows))
    return Document(f"The catalogue of {what}", Verdict("LISTED", f"{len(entries)} entries"), (table,))


def _option(option: dict[str, Any]) -> str:
    default = f" = {option['default']}" if option["default"] is not None else "  (required)"
    return f"{option['name']}: {option['type']}{default}"


def write_starter(path: Path) -> None:
    """Write a commented contract; never over an existing file."""
    if path.exists():
        raise ContractError("exists already", where=str(path), remedy="give another name")
    write_atomically(path, STARTER)
