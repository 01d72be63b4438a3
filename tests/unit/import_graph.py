"""The imports of the package by the package, read from the syntax trees; nothing is imported."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src/logitproof"


@dataclass(frozen=True)
class Import:
    """One import statement of the package: the module that makes it, the module that it names."""

    file: Path
    line: int
    importer: str
    imported: str
    name: str
    """What is taken, as the statement calls it."""

    @property
    def own(self) -> str:
        return self.importer.partition(".")[0]

    @property
    def other(self) -> str:
        return self.imported.partition(".")[0]

    def __str__(self) -> str:
        return f"{self.file.relative_to(PACKAGE)}:{self.line}: {self.own} imports {self.other}"


def package_imports() -> list[Import]:
    """Every import of the package by the package, at the top of a module or inside a function."""
    return [edge for path in sorted(PACKAGE.rglob("*.py")) for edge in _imports_of(path)]


def modules() -> dict[str, set[str]]:
    """The modules that each module imports."""
    graph: dict[str, set[str]] = {}
    for edge in package_imports():
        graph.setdefault(edge.importer, set()).add(edge.imported)
    return graph


def circles() -> list[list[str]]:
    """Groups of modules that reach each other by imports (Tarjan's strongly connected components of two and more)."""
    graph = modules()
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    components: list[list[str]] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for other in sorted(graph.get(module, set()) - {module}):
            if other not in index:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], index[other])
        if low[module] == index[module]:
            start = stack.index(module)
            components.append(sorted(stack[start:]))
            del stack[start:]

    for module in sorted(graph):
        if module not in index:
            visit(module)
    return [component for component in components if len(component) > 1]


def longest_chain(edges: Iterable[tuple[str, str]]) -> list[str]:
    """The longest way along (importer, imported) pairs without circles, the importer of all first."""
    graph: dict[str, set[str]] = {}
    for importer, imported in edges:
        if importer != imported:
            graph.setdefault(importer, set()).add(imported)
    chains: dict[str, list[str]] = {}

    def chain(name: str) -> list[str]:
        if name not in chains:
            below = [chain(other) for other in sorted(graph.get(name, ()))]
            chains[name] = [name, *max(below, key=len, default=[])]
        return chains[name]

    return max((chain(name) for name in sorted(graph)), key=len, default=[])


def module_name(path: Path) -> str:
    """The dotted name of a file of the package, without `logitproof.`."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts) or "__init__"


def exists(module: str) -> bool:
    """Whether the package has a module or a folder of this dotted name."""
    path = PACKAGE / module.replace(".", "/")
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def _imports_of(path: Path) -> Iterator[Import]:
    importer = module_name(path)
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "logitproof":
            base = (node.module or "").removeprefix("logitproof").lstrip(".")
            for alias in node.names:
                inner = f"{base}.{alias.name}".lstrip(".")
                imported = inner if exists(inner) else base
                if imported:
                    yield Import(path, node.lineno, importer, imported, alias.name)
