"""Strict YAML: a file checked against a pydantic model, every complaint with its file, line and remedy."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from logitproof.errors import ContractError, did_you_mean
from logitproof.files.worded import quoted, together
from logitproof.files.yaml_text import Lines, parse_yaml, yaml_text

M = TypeVar("M", bound=BaseModel)
Sort = Literal["contract", "suite", "pins", "taps"]
SORTS: dict[Sort, tuple[str, frozenset[str], str]] = {
    "suite": (
        "a suite of prompts",
        frozenset({"prompts"}),
        "name it under `suites:` of a contract",
    ),
    "contract": ("a contract", frozenset({"candidates"}), "`logitproof check` runs it; wanted is a file of another sort"),
    "pins": ("a file of pins", frozenset({"pins", "engines"}), "`logitproof verify` compares it with what is there"),
    "taps": ("a description of tap dumps", frozenset({"token_ids", "taps"}), "`logitproof localize` takes its folder"),
}
"""Files that people give for one another: what each is called, the keys that only it has, and what to do with it."""
GGUF = b"GGUF"
TAKE_OUT = "take it out"
QUOTE = "put it in quotes, if this is the text that is meant; see docs/contract.md"
KNOWN = f"{TAKE_OUT}; known here: "


def read_yaml(
    path: Path, kind: type[M], sort: Sort | None = None, *, command: str = "", whole_keys: bool = False
) -> tuple[M, Lines]:
    """Parse and validate a file; also the line of every path in it, for later complaints.

    Raises ContractError for a missing file, broken YAML, a file of another sort, an unknown key (with the nearest
    valid one), a value of the wrong type, or a rule of the model that is broken.
    """
    if sort is not None and is_model(path):
        raise ContractError(f"is a model, not {SORTS[sort][0]}", where=str(path), remedy=contract_of_model(path))
    data, lines = parse_yaml(yaml_text(path, command), path, whole_keys=whole_keys)
    if not isinstance(data, dict):
        raise ContractError("is empty or not a mapping", where=str(path), remedy="see docs/contract.md")
    if sort is not None:
        _refuse_other_sort(data, path, sort, kind)
    return _validated(data, path, lines, kind), lines


def is_model(path: Path) -> bool:
    """Whether what somebody gives for a file of settings is a model: a GGUF file, or a folder with a config."""
    if not path.is_file():
        return (path / "config.json").is_file()
    try:
        with path.open("rb") as file:
            return file.read(len(GGUF)) == GGUF
    except OSError:
        return False


def contract_of_model(path: Path) -> str:
    """What to do with a model that is given for a contract or its run."""
    return f"write a contract of it with `logitproof new -m {path}`, which `logitproof check` runs"


def read_toml(path: Path, kind: type[M], sort: Sort | None = None, *, command: str = "") -> M:
    """Parse and validate a TOML file; raises what `read_yaml` raises, without lines."""
    text = yaml_text(path, command)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ContractError(f"not valid TOML: {error}", where=str(path)) from None
    except (ValueError, RecursionError) as error:
        raise ContractError(f"not valid TOML: {type(error).__name__}: {error}", where=str(path)) from None
    if sort is not None:
        _refuse_other_sort(data, path, sort, kind)
    return _validated(data, path, {}, kind)


def _validated(data: Any, path: Path, lines: Lines, kind: type[M]) -> M:
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise _complaint(error, data, path, lines, kind) from None


def _refuse_other_sort(data: Mapping[str, Any], path: Path, sort: Sort, kind: type[BaseModel]) -> None:
    """Raise ContractError for a file that is right, and not what is wanted here."""
    if SORTS[sort][1] <= set(data):
        return
    wanted = SORTS[sort][0]
    if {"format", "kind", "made_at"} <= set(data):
        remedy = f"give {wanted}; `logitproof new` writes a contract to start from"
        raise ContractError(f"is an answer of logitproof ({data['kind']!s:.40}), not {wanted}", where=str(path), remedy=remedy)
    for name, keys, remedy in SORTS.values():
        if keys <= set(data):
            raise ContractError(f"is {name}, not {wanted}", where=str(path), remedy=remedy)
    if data and not set(data) & set(kind.model_fields):
        remedy = f"its keys are {', '.join(kind.model_fields)}"
        raise ContractError(f"is not {wanted}: it has no key of one", where=str(path), remedy=remedy)


def place(path: Path, lines: Lines, *keys: str | int) -> str:
    """`file:line: key.path` of an entry, or of its nearest parent that has a line."""
    keys_with_line = next((keys[:n] for n in range(len(keys), 0, -1) if keys[:n] in lines), ())
    line = f":{lines[keys_with_line]}" if keys_with_line else ""
    return f"{path}{line}: {'.'.join(str(key) for key in keys)}"


def parts_of(where: str, path: Path) -> tuple[str, int, str]:
    """File, line and key of a place as `place` wrote it; the first line of `path` where it names none."""
    named, _, key = where.partition(": ")
    file, _, line = named.rpartition(":")
    return (file, int(line), key) if line.isdigit() else (named or str(path), 1, key)


def _complaint(error: ValidationError, data: Any, path: Path, lines: Lines, kind: type[BaseModel]) -> ContractError:
    """Every fault, each with its line; the first is the one that leads to the others."""
    # A typo is an unknown key and a missing one; only the first of the two leads to it.
    faults = sorted(together(error, data), key=lambda entry: entry[2]["type"] != "extra_forbidden")
    complaints = [_fault(keys, text, fault, path, lines, kind) for keys, text, fault in faults]
    lists: set[str] = set()
    for complaint in complaints:
        if complaint.remedy in lists:
            complaint.remedy = TAKE_OUT
        elif complaint.remedy.startswith(KNOWN):
            lists.add(complaint.remedy)
    first, *others = complaints
    text, where, remedy = first.text, first.where, first.remedy
    return ContractError(text, where=where, remedy=remedy, others=tuple(others))


def _fault(
    keys: tuple[str | int, ...], text: str, fault: Mapping[str, Any], path: Path, lines: Lines, kind: type[BaseModel]
) -> ContractError:
    where = place(path, lines, *keys) if keys else str(path)
    if fault["type"] == "extra_forbidden":
        known = _known_keys(kind, keys[:-1])
        remedy = f"{KNOWN}{', '.join(known)}" if known else TAKE_OUT
        return ContractError(f"unknown key {str(keys[-1])!r}{did_you_mean(str(keys[-1]), known)}", where=where, remedy=remedy)
    if fault["type"] == "missing":
        text = f"the key {str(keys[-1])!r} is missing" if isinstance(keys[-1], str) else f"entry {keys[-1] + 1} is missing"
        return ContractError(text, where=where, remedy="add it; see docs/contract.md")
    is_unquoted = fault["type"] == "string_type" and isinstance(fault["input"], bool | int | float | date)
    remedy = QUOTE if is_unquoted else "correct it; see docs/contract.md"
    return ContractError(f"{text}{quoted(fault['input'])}", where=where, remedy=remedy)


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
