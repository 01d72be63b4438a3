"""Which source files a module of this package rests on: what must be known to know what it computes."""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from logitproof.files.hashes import State, file_state

PACKAGE = Path(__file__).parents[1]
BODIES = ("body", "orelse", "finalbody", "handlers", "cases")
"""Fields of a statement that hold statements, or what holds them."""


def import_closure(*files: Path) -> tuple[Path, ...]:
    """These files and every module of this package that they import, directly or not, at the top or inside a function.

    Sorted. A folder's `__init__` counts with its modules. The syntax is read, nothing is imported.
    """
    closure: set[Path] = set()
    waiting = [file.resolve() for file in files]
    while waiting:
        path = waiting.pop()
        if path not in closure:
            closure.add(path)
            waiting += _read(path)[0]
    return tuple(sorted(closure))


def sources_sha256(files: Iterable[Path]) -> str:
    """sha256 over the names and contents of these files."""
    digest = hashlib.sha256()
    for path in files:
        name = path.relative_to(PACKAGE).as_posix() if path.is_relative_to(PACKAGE) else path.name
        digest.update(f"{name}\0{_read(path)[1]}\n".encode())
    return digest.hexdigest()


def _read(path: Path) -> tuple[list[Path], str]:
    """The modules of this package that a file imports, and the sha256 of its content."""
    return _read_once(path, file_state(path))


@functools.cache
def _read_once(path: Path, state: State) -> tuple[list[Path], str]:
    content = path.read_bytes()
    modules: list[str] = []
    for node in _statements(ast.parse(content)):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    own = [module for module in modules if module.partition(".")[0] == PACKAGE.name]
    return [file for module in own for file in _files_of(module)], hashlib.sha256(content).hexdigest()


def _statements(module: ast.Module) -> Iterator[ast.AST]:
    """Every statement, those inside of others too; an import is one, and expressions are most of a tree."""
    waiting: list[ast.AST] = [*module.body]
    while waiting:
        node = waiting.pop(0)
        yield node
        for name in BODIES:
            waiting += getattr(node, name, ())


def _files_of(module: str) -> list[Path]:
    """The file of a module of this package and the `__init__` of each folder that it stands in, but for the package's own."""
    parts = module.split(".")[1:]
    if not parts:
        return []
    folders = [PACKAGE.joinpath(*parts[:depth], "__init__.py") for depth in range(1, len(parts) + 1)]
    return [path for path in [*folders, PACKAGE.joinpath(*parts).with_suffix(".py")] if path.is_file()]
