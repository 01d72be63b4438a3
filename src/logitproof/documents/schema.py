"""JSON Schemas of answers, made from the types that they are written from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, make_dataclass
from typing import Any, get_type_hints

from pydantic import TypeAdapter

from logitproof.documents.answer import FORMAT, Envelope

DRAFT = "https://json-schema.org/draft/2020-12/schema"


@dataclass(frozen=True)
class Shape:
    """What stands beside the envelope: keys with their types, those that may be absent, and what any other key holds."""

    keys: Mapping[str, Any] = field(default_factory=dict)
    optional: Mapping[str, Any] = field(default_factory=dict)
    others: Any = None


def record(called: str, like: type | None = None, /, **more: Any) -> type:
    """A type like a dataclass, with further fields or other types of those that it has."""
    types = get_type_hints(like) if like else {}
    known = {member.name: types[member.name] for member in fields(like)} if like else {}  # type: ignore[arg-type]
    return make_dataclass(called, list({**known, **more}.items()), frozen=True, kw_only=True)


def answer_schema(kind: str, shape: Shape) -> dict[str, Any]:
    """The schema of every answer of one kind.

    A number may be null, as it is where what was measured is not finite. An object has no key that its type does not have.
    """
    name = kind.replace("-", " ")
    body = record(name, None, **shape.keys, **shape.optional, **({"others_": shape.others} if shape.others else {}))
    schema = TypeAdapter(body).json_schema(mode="serialization", by_alias=True)
    top = TypeAdapter(Envelope).json_schema(mode="serialization")
    properties = {**top["properties"], **schema.get("properties", {})}
    properties["kind"], properties["format"] = {"const": kind}, {"const": FORMAT}
    others = properties.pop("others_", None)
    required = [*top["required"], *(key for key in shape.keys if key not in top["required"])]
    definitions = {key: _nullable(value) for key, value in schema.get("$defs", {}).items()}
    made: dict[str, Any] = {
        "$schema": DRAFT,
        "title": f"logitproof {name}",
        "description": " ".join((Envelope.__doc__ or "").split()),
        "type": "object",
        "properties": {key: _nullable(value) for key, value in properties.items()},
        "required": required,
        "additionalProperties": False if others is None else _nullable(others),
    }
    return {**made, "$defs": definitions} if definitions else made


def _nullable(schema: Any) -> Any:
    """The same with null beside every number, closed, and without titles, which only say the key again."""
    if isinstance(schema, list):
        return [_nullable(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("type") == "number":
        return {"type": ["number", "null"]}
    made = {
        key: {name: _nullable(part) for name, part in value.items()} if key == "properties" else _nullable(value)
        for key, value in schema.items()
        if key not in ("title", "default")
    }
    return {**made, "additionalProperties": False} if "properties" in made else made
