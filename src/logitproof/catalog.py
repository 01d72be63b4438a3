"""Finds the entry of a catalogue by its name: the folder is the registry.

An entry is a file of `logitproof/<catalogue>/` (or of a package that registers the entry-point group
`logitproof.<catalogue>`); its path is its name. Listing reads the files' syntax and imports nothing, so
an engine may import what it likes; only `load` imports, in the process that needs the entry.
"""

from __future__ import annotations

import ast
import difflib
import functools
import importlib
import importlib.metadata
import importlib.util
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from logitproof.errors import ContractError

Catalogue = Literal["engines", "lint", "metrics", "mutations", "preflight", "readers", "reporters"]
CATALOGUES: tuple[Catalogue, ...] = ("engines", "lint", "metrics", "mutations", "preflight", "readers", "reporters")


@dataclass(frozen=True)
class Option:
    """One dataclass field of an entry: its name, its type as written and its default as written."""

    name: str
    type: str
    default: str | None


@dataclass(frozen=True)
class Entry:
    """One entry of a catalogue, read from its file without importing it."""

    name: str
    module: str
    file: Path
    class_name: str
    base: str
    help: str
    options: tuple[Option, ...]
    pins: dict[str, Any] = field(default_factory=dict)
    """Of an engine: how it is pinned to each instruction set, as `isa.Pin` reads it."""
    arithmetic: dict[str, Any] = field(default_factory=dict)
    """Of an engine: how it computes, as `arithmetic.arithmetic_of` reads it."""

    @property
    def option_names(self) -> list[str]:
        return [option.name for option in self.options]


def entries(catalogue: Catalogue) -> dict[str, Entry]:
    """All entries of a catalogue by name, sorted; a name claimed twice is an error."""
    return dict(_entries(catalogue))


@functools.cache
def _entries(catalogue: Catalogue) -> dict[str, Entry]:
    folder = Path(__file__).parent / catalogue
    found: dict[str, Entry] = {}
    files = [(path, _module_name(catalogue, path.relative_to(folder))) for path in sorted(folder.rglob("*.py"))]
    files += _plugin_files(catalogue)
    for path, module in files:
        if path.name.startswith("_"):
            continue
        entry = _read(path, module, catalogue)
        if entry.name in found:
            raise ContractError(
                f"two files claim the name {entry.name!r} in {catalogue}: {found[entry.name].file} and {path}",
                remedy="rename one of them or remove the plugin",
            )
        found[entry.name] = entry
    return dict(sorted(found.items()))


def find(catalogue: Catalogue, name: str, *, where: str = "") -> Entry:
    """The entry called `name`; raises ContractError with the nearest names if there is none."""
    known = entries(catalogue)
    if name not in known:
        raise ContractError(
            f"no {catalogue.removesuffix('s')} is called {name!r}{did_you_mean(name, list(known))}",
            where=where,
            remedy=f"`logitproof list {catalogue}` shows what there is",
        )
    return known[name]


def load(catalogue: Catalogue, name: str) -> type[Any]:
    """Import the entry called `name` and return its class."""
    entry = find(catalogue, name)
    return getattr(importlib.import_module(entry.module), entry.class_name)


def did_you_mean(wrong: str, known: list[str]) -> str:
    """'; did you mean …?' for the nearest of `known`, or what there is if it is little, or nothing."""
    near = difflib.get_close_matches(wrong, known, n=1, cutoff=0.55)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known: {', '.join(sorted(known))}" if 0 < len(known) <= 24 else ""


def _module_name(catalogue: str, path: Path) -> str:
    return ".".join(["logitproof", catalogue, *path.with_suffix("").parts])


def _plugin_files(catalogue: str) -> list[tuple[Path, str]]:
    files = []
    for point in importlib.metadata.entry_points(group=f"logitproof.{catalogue}"):
        spec = importlib.util.find_spec(point.module)
        if spec is None or spec.origin is None:
            raise ContractError(
                f"the plugin {point.name!r} of {catalogue} points at {point.module!r}, which cannot be found",
                remedy="reinstall or remove the package that registers it",
            )
        files.append((Path(spec.origin), point.module))
    return files


def _read(path: Path, module: str, catalogue: str) -> Entry:
    classes = [node for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, ast.ClassDef)]
    public = [node for node in classes if not node.name.startswith("_") and node.bases]
    if len(public) != 1:
        raise ContractError(
            f"an entry of {catalogue} has exactly one public class with a base, this file has {len(public)}",
            where=str(path),
            remedy="start the names of helper classes with an underscore",
        )
    (node,) = public
    prefix = f"logitproof.{catalogue}."
    name = module.removeprefix(prefix) if module.startswith(prefix) else module.rpartition(".")[2]
    return Entry(
        name=_public_name(name, node),
        module=module,
        file=path,
        class_name=node.name,
        base=ast.unparse(node.bases[0]),
        help=ast.get_docstring(node) or "",
        options=tuple(_options(node)),
        pins=_attribute(node, "instruction_sets") or {},
        arithmetic=_attribute(node, "arithmetic") or {},
    )


def _public_name(name: str, node: ast.ClassDef) -> str:
    """An entry whose name is no Python identifier (`top-5`) says so in a class attribute `name`."""
    return str(_attribute(node, "name") or name)


def _attribute(node: ast.ClassDef, name: str) -> Any:
    """A class attribute that is written out, or None."""
    for statement in node.body:
        if isinstance(statement, ast.Assign) and [ast.unparse(target) for target in statement.targets] == [name]:
            return ast.literal_eval(statement.value)
        if isinstance(statement, ast.AnnAssign) and statement.value and ast.unparse(statement.target) == name:
            return ast.literal_eval(statement.value) if ast.unparse(statement.annotation).startswith("ClassVar") else None
    return None


def _options(node: ast.ClassDef) -> list[Option]:
    options = []
    for statement in node.body:
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        kind = ast.unparse(statement.annotation)
        if kind.startswith("ClassVar") or statement.target.id.startswith("_") or _is_hidden(statement.value):
            continue
        default = ast.unparse(statement.value) if statement.value is not None else None
        options.append(Option(statement.target.id, kind, default))
    return options


def _is_hidden(value: ast.expr | None) -> bool:
    """A dataclass `field(init=False)` is state, not an option."""
    return isinstance(value, ast.Call) and any(
        keyword.arg == "init" and isinstance(keyword.value, ast.Constant) and keyword.value.value is False
        for keyword in value.keywords
    )
