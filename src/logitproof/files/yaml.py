"""Strict YAML: a file checked against a pydantic model, every complaint with its file, line and remedy."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from logitproof.catalog import did_you_mean
from logitproof.errors import ContractError
from logitproof.files.yaml_text import Lines, parse_yaml, yaml_text

M = TypeVar("M", bound=BaseModel)


def read_yaml(path: Path, kind: type[M], *, command: str = "") -> tuple[M, Lines]:
    """Parse and validate a file; also the line of every path in it, for later complaints.

    Raises ContractError for a missing file, broken YAML, an unknown key (with the nearest valid one), a
    value of the wrong type, or a rule of the model that is broken.
    """
    data, lines = parse_yaml(yaml_text(path, command), path)
    if not isinstance(data, dict):
        raise ContractError("is empty or not a mapping", where=str(path), remedy="see docs/contract.md")
    try:
        return kind.model_validate(data), lines
    except ValidationError as error:
        raise _complaint(error, path, lines, kind) from None


def read_toml(path: Path, kind: type[M], *, command: str = "") -> M:
    """Parse and validate a TOML file; raises what `read_yaml` raises, without lines."""
    text = yaml_text(path, command)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ContractError(f"not valid TOML: {error}", where=str(path)) from None
    except (ValueError, RecursionError) as error:
        raise ContractError(f"not valid TOML: {type(error).__name__}: {error}", where=str(path)) from None
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise _complaint(error, path, {}, kind) from None


def place(path: Path, lines: Lines, *keys: str | int) -> str:
    """`file:line: key.path` of an entry, or of its nearest parent that has a line."""
    keys_with_line = next((keys[:n] for n in range(len(keys), 0, -1) if keys[:n] in lines), ())
    line = f":{lines[keys_with_line]}" if keys_with_line else ""
    return f"{path}{line}: {'.'.join(str(key) for key in keys)}"


def _complaint(error: ValidationError, path: Path, lines: Lines, kind: type[BaseModel]) -> ContractError:
    """Every fault, each with its line; the first is the one that leads to the others."""
    # A typo is an unknown key and a missing one; only the first of the two leads to it.
    faults = sorted(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
    first, *others = (_fault(fault, path, lines, kind) for fault in faults)
    text, where, remedy = first.text, first.where, first.remedy
    return ContractError(text, where=where, remedy=remedy, others=tuple(others))


def _fault(fault: Mapping[str, Any], path: Path, lines: Lines, kind: type[BaseModel]) -> ContractError:
    keys = tuple(fault["loc"])
    where = place(path, lines, *keys) if keys else str(path)
    if fault["type"] == "extra_forbidden":
        known = _known_keys(kind, keys[:-1])
        remedy = f"take it out; known here: {', '.join(known)}" if known else "take it out"
        return ContractError(f"unknown key {str(keys[-1])!r}{did_you_mean(str(keys[-1]), known)}", where=where, remedy=remedy)
    if fault["type"] == "missing":
        return ContractError(f"the key {str(keys[-1])!r} is missing", where=where, remedy="add it; see docs/contract.md")
    text = _worded(fault)
    got = f", got {fault['input']!r}" if not isinstance(fault["input"], dict | list) else ""
    return ContractError(f"{text}{got}", where=where, remedy="correct it; see docs/contract.md")


WORDS = {
    "too_short": "needs at least {min_length} entries",
    "too_long": "may have at most {max_length} entries",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "dict_type": "must be a mapping",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "string_type": "must be a text",
    "string_too_short": "needs at least {min_length} letters",
    "string_pattern_mismatch": "must have the form {pattern}",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "literal_error": "must be {expected}",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "date_type": "must be a date, such as 2026-12-31",
    "date_parsing": "must be a date, such as 2026-12-31",
    "date_from_datetime_parsing": "must be a date, such as 2026-12-31",
}
"""What is wrong, by pydantic's name for it: its own words are not for people."""


def _worded(fault: Mapping[str, Any]) -> str:
    words = WORDS.get(fault["type"])
    return words.format(**fault.get("ctx", {})) if words else str(fault["msg"]).removeprefix("Value error, ")


def _known_keys(kind: type[BaseModel], keys: tuple[str | int, ...]) -> list[str]:
    """The keys that are allowed at a place, following the models down."""
    current: Any = kind
    for key in keys:
        fields = getattr(current, "model_fields", None)
        annotation = fields[key].annotation if fields and key in fields else current
        current = _inner_model(annotation) or current
    return list(getattr(current, "model_fields", {}))


def _inner_model(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        if inner := _inner_model(argument):
            return inner
    return None
