"""JSON Schemas of the files that others write and read; `python -m logitproof.report.schema` writes them again.

contract.schema.json     a contract, for editors that complete and check YAML
suite.schema.json        a suite
verdict.schema.json      verdict.json, for whoever reads it
protocol.schema.json     the messages of the engine protocol
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from logitproof.contract.contract import Contract
from logitproof.contract.scope import PATTERN
from logitproof.contract.suite import Suite
from logitproof.files.atomic import write_atomically
from logitproof.protocol import messages as protocol
from logitproof.report.record import verdict_schema

DRAFT = "https://json-schema.org/draft/2020-12/schema"
FOLDER = Path(__file__).parent / "schemas"
NAME = {"pattern": "^[^/]+$", "not": {"const": "reference"}}
"""What may be a part of a cell's id."""


def contract() -> dict[str, Any]:
    """Schema of a contract. Whether its names agree is checked when it is opened, not here."""
    schema = Contract.model_json_schema()
    gate, axes = schema["$defs"]["Gate"], schema["$defs"]["Filter"]["properties"]
    # What the models accept before they look: one value where a list is meant.
    gate["properties"]["if_fails"] = _one_or_many(gate["properties"]["if_fails"])
    schema["$defs"]["Filter"]["properties"] = {axis: _one_or_many(kind, least=1) for axis, kind in axes.items()}
    # What they demand of several keys at once.
    gate["oneOf"] = [_given("at_most"), _given("at_least")]
    gate["properties"]["scope"]["pattern"] = PATTERN
    nothing: dict[str, Any] = {"type": "null"}
    calibrated, typed = _given("bound"), _given("match", "wrong")
    calibrated["properties"] |= {"match": nothing, "wrong": nothing, "allow": {"const": 0}}
    typed["properties"]["bound"] = nothing
    schema["$defs"]["BandEntry"]["oneOf"] = [calibrated, typed]
    amendment = schema["$defs"]["Amendment"]
    amendment["if"] = {"properties": {"kind": {"const": "decided"}}}
    amendment["then"] = {"required": ["alternatives"], "properties": {"alternatives": {"minItems": 1}}}
    amendment["else"] = {"properties": {"alternatives": {"maxItems": 0}}}
    for key in ("candidates", "models"):
        schema["properties"][key]["propertyNames"] = NAME
    schema["$defs"]["Matrix"]["properties"]["quantization"]["items"] |= NAME
    return {"$schema": DRAFT, **schema}


def suite() -> dict[str, Any]:
    """Schema of a suite."""
    schema = Suite.model_json_schema()
    text = {"required": ["text"], "properties": {"text": {"type": "string", "minLength": 1}, "token_ids": {"type": "null"}}}
    ids = {"required": ["token_ids"], "properties": {"token_ids": {"type": "array", "minItems": 1}, "text": {"type": "null"}}}
    schema["$defs"]["Prompt"]["oneOf"] = [text, ids]
    return {"$schema": DRAFT, **schema}


def verdict() -> dict[str, Any]:
    """Schema of verdict.json."""
    return {"$schema": DRAFT, **verdict_schema()}


def protocol_messages() -> dict[str, Any]:
    """Schema of every message of the engine protocol."""
    return protocol.json_schema()


SCHEMAS: dict[str, Callable[[], dict[str, Any]]] = {
    "contract": contract,
    "suite": suite,
    "verdict": verdict,
    "protocol": protocol_messages,
}


def as_text(name: str) -> str:
    """The file of one schema, as it stands in the package."""
    return json.dumps(SCHEMAS[name](), indent=1, ensure_ascii=False) + "\n"


def path(name: str) -> Path:
    """Where a schema stands."""
    return FOLDER / f"{name}.schema.json"


def _given(*keys: str) -> dict[str, Any]:
    """That keys are there, and not null."""
    return {"required": [*keys], "properties": {key: {"not": {"type": "null"}} for key in keys}}


def _one_or_many(schema: dict[str, Any], least: int = 0) -> dict[str, Any]:
    """The schema of a list of at least so many, or of a list or null, that one item may stand for."""
    kinds = schema.get("anyOf", [schema])
    items = [kind["items"] for kind in kinds if "items" in kind]
    kept = [{key: value for key, value in kind.items() if key not in ("default", "title")} for kind in kinds]
    kept = [{**kind, "minItems": least} if least and "items" in kind else kind for kind in kept]
    return {**{key: schema[key] for key in ("default", "title") if key in schema}, "anyOf": [*items, *kept]}


if __name__ == "__main__":
    for name in SCHEMAS:
        write_atomically(path(name), as_text(name))
