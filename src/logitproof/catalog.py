"""Finds the entry of a catalogue by its name: the folder is the registry.

An entry is a file of `logitproof/<catalogue>/` (or of a package that registers the entry-point group
`logitproof.<catalogue>`); its path is its name. In `mutations` a file may hold several entries, each a class with an `id`,
which is its name. Listing reads the files' syntax and imports nothing, so an engine may import what it likes; only `load`
imports, in the process that needs the entry.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.metadata
import importlib.util
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from logitproof.errors import ContractError, did_you_mean

Catalogue = Literal["engines", "lint", "metrics", "mutations", "preflight", "readers", "reporters"]
CATALOGUES: tuple[Catalogue, ...] = ("engines", "lint", "metrics", "mutations", "preflight", "readers", "reporters")


MECHANISMS: tuple[Catalogue, ...] = ("mutations",)
"""Catalogues whose files may hold several entries, each a class with an `id`."""
IDS = ", or give every entry an `id`"


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
    record: dict[str, Any] = field(default_factory=dict)
    """Of a known bug: what its class says of it and, in `grid`, the values at which its options are tried."""

    @property
    def place(self) -> str:
        """Where it is written down."""
        return f"{self.class_name} in {self.file}"

    @property
    def option_names(self) -> list[str]:
        return [option.name for option in self.options]


def entries(catalogue: Catalogue) -> dict[str, Entry]:
    """All entries of a catalogue by name, sorted; a name claimed twice is an error."""
    return dict(_entries(catalogue))


@functools.cache
def _entries(catalogue: Catalogue) -> dict[str, Entry]:
    folder = Path(__file__).parent / catalogue
    by_name: dict[str, Entry] = {}
    files = [(path, _module_name(catalogue, path.relative_to(folder))) for path in sorted(folder.rglob("*.py"))]
    files += _plugin_files(catalogue)
    for path, module in files:
        if path.name.startswith("_"):
            continue
        for entry in _read(path, module, catalogue):
            if entry.name in by_name:
                raise ContractError(
                    f"two classes claim the name {entry.name!r} in {catalogue}: {by_name[entry.name].place} and {entry.place}",
                    remedy="rename one of them or remove the plugin",
                )
            by_name[entry.name] = entry
    _statements.cache_clear()
    return dict(sorted(by_name.items()))


def find(catalogue: Catalogue, name: str, *, where: str = "") -> Entry:
    """The entry called `name`; raises ContractError with the nearest names if there is none."""
    if (own := _by_file(catalogue, name)) is not None:
        return own
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


@functools.cache
def _by_file(catalogue: Catalogue, name: str) -> Entry | None:
    """The entry whose file says its name, read without all others: the process of an engine looks for one alone.

    None where a file may hold several, or where a package adds entries, one of which might claim the name too.
    """
    parts = name.split(".")
    if catalogue in MECHANISMS or not all(part.isidentifier() and not part.startswith("_") for part in parts):
        return None
    path = (Path(__file__).parent / catalogue).joinpath(*parts).with_suffix(".py")
    if not os.path.isfile(path) or _is_added_to(catalogue):
        return None
    entry = _read(path, _module_name(catalogue, Path(*parts).with_suffix(".py")), catalogue)[0]
    return entry if entry.name == name else None


@functools.cache
def _is_added_to(catalogue: Catalogue) -> bool:
    """Whether a package that is installed adds entries."""
    return bool(importlib.metadata.entry_points(group=f"logitproof.{catalogue}"))


def _module_name(catalogue: str, path: Path) -> str:
    return ".".join(["logitproof", catalogue, *path.with_suffix("").parts])


def _plugin_files(catalogue: str) -> list[tuple[Path, str]]:
    """The file of every module that is registered, once, however many entry points name it."""
    files = {}
    for point in importlib.metadata.entry_points(group=f"logitproof.{catalogue}"):
        spec = importlib.util.find_spec(point.module)
        if spec is None or spec.origin is None:
            raise ContractError(
                f"the plugin {point.name!r} of {catalogue} points at {point.module!r}, which cannot be found",
                remedy="reinstall or remove the package that registers it",
            )
        files[point.module] = Path(spec.origin)
    return [(path, module) for module, path in files.items()]


def _read(path: Path, module: str, catalogue: str) -> list[Entry]:
    """The entries of a file: its classes with an `id` where the catalogue has such, else its one public class."""
    public = [node for node in _classes(path).values() if not node.name.startswith("_") and node.bases]
    named = [node for node in public if _id(node, path)] if catalogue in MECHANISMS else []
    if named:
        if nameless := [node.name for node in public if node not in named]:
            raise ContractError(
                f"the class {nameless[0]} has no id, the other entries of this file have one",
                where=str(path),
                remedy="give it one, or start the names of helper classes with an underscore",
            )
        return [_entry(node, _id(node, path), path, module, catalogue) for node in named]
    if len(public) != 1:
        raise ContractError(
            f"an entry of {catalogue} has exactly one public class with a base, this file has {len(public)}",
            where=str(path),
            remedy="start the names of helper classes with an underscore" + IDS * (catalogue in MECHANISMS),
        )
    prefix = f"logitproof.{catalogue}."
    name = module.removeprefix(prefix) if module.startswith(prefix) else module.rpartition(".")[2]
    return [_entry(public[0], _public_name(name, public[0]), path, module, catalogue)]


def _entry(node: ast.ClassDef, name: str, path: Path, module: str, catalogue: str) -> Entry:
    lineage = _lineage(node, path) if catalogue in MECHANISMS else [node]
    options = {option.name: option for above in lineage for option in _options(above)}
    return Entry(
        name=name,
        module=module,
        file=path,
        class_name=node.name,
        base=ast.unparse(node.bases[0]),
        help=ast.get_docstring(node) or "",
        options=tuple(options.values()),
        pins=_attribute(node, "instruction_sets") or {},
        arithmetic=_attribute(node, "arithmetic") or {},
        record=_record(lineage) if catalogue in MECHANISMS else {},
    )


@functools.cache
def _statements(path: Path) -> list[ast.stmt]:
    """A file's statements; kept while a catalogue is read, since many entries inherit from few files."""
    return ast.parse(path.read_text("utf-8")).body


def _classes(path: Path) -> dict[str, ast.ClassDef]:
    """The classes of a file by name."""
    return {node.name: node for node in _statements(path) if isinstance(node, ast.ClassDef)}


def _id(node: ast.ClassDef, path: Path) -> str:
    """The `id` that a class is given where it begins, or nothing."""
    for keyword in node.keywords:
        if keyword.arg == "id":
            if isinstance(keyword.value, ast.Constant) and isinstance(keyword.value.value, str):
                return keyword.value.value
            raise ContractError(
                f"the id of the class {node.name} is not written out",
                where=f"{path}:{node.lineno}",
                remedy="write it as one string, so that it is found by a search",
            )
    return ""


def _lineage(node: ast.ClassDef, path: Path) -> list[ast.ClassDef]:
    """The class after those that it inherits from, as far as they stand in its own file or in this package."""
    lineage: list[ast.ClassDef] = []
    for base in reversed(node.bases):
        for source, name in _places(ast.unparse(base), path):
            if (above := _classes(source).get(name)) is not None:
                lineage += [ancestor for ancestor in _lineage(above, source) if ancestor not in lineage]
    return [*lineage, node]


def _places(name: str, path: Path) -> list[tuple[Path, str]]:
    """Where a class of that name may stand: in the file itself, or in a module of this package that it is imported from."""
    if name in _classes(path):
        return [(path, name)]
    places = []
    for node in _statements(path):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("logitproof."):
            source = Path(__file__).parent.joinpath(*str(node.module).split(".")[1:])
            file = source / "__init__.py" if source.is_dir() else source.with_suffix(".py")
            places += [(file, alias.name) for alias in node.names if (alias.asname or alias.name) == name and file.is_file()]
    return places


def _record(lineage: list[ast.ClassDef]) -> dict[str, Any]:
    """What is written out of a known bug: its sentence, its class attributes, its `Record`, the grid of its options."""
    record: dict[str, Any] = {"bug": " ".join((ast.get_docstring(lineage[-1]) or "").split("\n\n")[0].split())}
    grid: dict[str, Any] = {}
    for node in lineage:
        for name, value in _assigned(node):
            if isinstance(value, ast.Call) and ast.unparse(value.func) == "Record":
                record |= {keyword.arg: _written(keyword.value) for keyword in value.keywords if keyword.arg}
            elif isinstance(value, ast.Call) and ast.unparse(value.func) == "swept":
                grid.update((name, _written(keyword.value)) for keyword in value.keywords if keyword.arg == "grid")
            elif (written := _written(value)) is not None:
                record[name] = written
    return record | ({"grid": grid} if grid else {})


def _assigned(node: ast.ClassDef) -> list[tuple[str, ast.expr]]:
    """The names that a class body gives a value, and the value."""
    pairs = []
    for statement in node.body:
        if isinstance(statement, ast.AnnAssign) and statement.value is not None:
            pairs.append((ast.unparse(statement.target), statement.value))
        elif isinstance(statement, ast.Assign):
            pairs += [(ast.unparse(target), statement.value) for target in statement.targets]
    return pairs


def _written(value: ast.expr) -> Any:
    """A value that is written out, or None."""
    try:
        return ast.literal_eval(value)
    except ValueError:
        return None


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
        options.append(Option(statement.target.id, kind, _default(statement.value)))
    return options


def _default(value: ast.expr | None) -> str | None:
    """The default as written, of a swept option the first argument of `swept`."""
    if isinstance(value, ast.Call) and ast.unparse(value.func) == "swept" and value.args:
        return ast.unparse(value.args[0])
    return ast.unparse(value) if value is not None else None


def _is_hidden(value: ast.expr | None) -> bool:
    """A dataclass `field(init=False)` is state, not an option."""
    return isinstance(value, ast.Call) and any(
        keyword.arg == "init" and isinstance(keyword.value, ast.Constant) and keyword.value.value is False
        for keyword in value.keywords
    )
