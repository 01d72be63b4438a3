"""Strict YAML: a file checked against a pydantic model, every complaint with its file, line and remedy."""

from __future__ import annotations

import tomllib
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
    # A typo is an unknown key and a missing one; only the first of the two leads to it.
    first = next((one for one in error.errors() if one["type"] == "extra_forbidden"), error.errors()[0])
    keys = tuple(first["loc"])
    where = place(path, lines, *keys) if keys else str(path)
    others = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        known = _known_keys(kind, keys[:-1])
        return ContractError(f"unknown key {str(keys[-1])!r}{did_you_mean(str(keys[-1]), known)}{others}", where=where)
    if first["type"] == "missing":
        return ContractError(
            f"the key {str(keys[-1])!r} is missing{others}", where=where, remedy="add it; see docs/contract.md"
        )
    text = first["msg"].removeprefix("Value error, ")
    got = f", got {first['input']!r}" if not isinstance(first["input"], dict | list) else ""
    return ContractError(f"{text}{got}{others}", where=where)


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
        if found := _inner_model(argument):
            return found
    return None
