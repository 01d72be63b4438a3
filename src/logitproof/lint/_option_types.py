"""Whether a value fits the type that an engine's source writes for an option; the engine is not imported for it."""

from __future__ import annotations

import ast
import functools
from pathlib import Path
from typing import Any, Literal, Union

from pydantic import TypeAdapter, ValidationError

from logitproof.files.worded import in_words

PLAIN: dict[str, Any] = {
    "int": int, "float": float, "str": str, "bool": bool, "None": None, "Any": Any, "Path": Path, "list": list, "dict": dict,
    "tuple": tuple, "Sequence": list, "Mapping": dict,
}  # fmt: skip


class _Unknown(Exception):
    """A name that only the engine's module could resolve."""


def option_fault(written: str, value: Any, file: Path, name: str) -> str:
    """What is wrong with the value of an option whose type is `written` in a file, in words; nothing where it fits.

    A type that only the module itself could resolve is not judged.
    """
    try:
        kind = _type(ast.parse(written, mode="eval").body, _aliases(file))
    except (_Unknown, SyntaxError):
        return ""
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        return in_words(error, name)
    return ""


@functools.cache
def _aliases(file: Path) -> dict[str, ast.expr]:
    """Names that the module gives a value at its top: `Fault = Literal[...]`."""
    names: dict[str, ast.expr] = {}
    for statement in ast.parse(file.read_text("utf-8")).body:
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1 and isinstance(statement.targets[0], ast.Name):
            names[statement.targets[0].id] = statement.value
    return names


def _type(node: ast.expr, aliases: dict[str, ast.expr]) -> Any:
    """The type of an expression of plain names, `|`, subscripts and literals; _Unknown for anything else."""
    if isinstance(node, ast.Constant) and node.value is None:
        return None
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return _type(ast.parse(node.value, mode="eval").body, aliases)
    if isinstance(node, ast.Name):
        if node.id in PLAIN:
            return PLAIN[node.id]
        if node.id in aliases:
            return _type(aliases[node.id], {name: value for name, value in aliases.items() if name != node.id})
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return Union[_type(node.left, aliases), _type(node.right, aliases)]  # noqa: UP007 of values, not of names
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if node.value.id == "Literal":
            return Literal[tuple(ast.literal_eval(part) for part in inner)]  # type: ignore[valid-type]
        if node.value.id in PLAIN:
            return PLAIN[node.value.id][tuple(_type(part, aliases) for part in inner)]
    raise _Unknown
