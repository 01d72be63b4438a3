"""What the floor plan of the package is, counted from its syntax trees, and what one thing more costs.

`packages` are folders with a place in the table of layers, `flat_modules` the modules beside them. `circles` are groups of
modules that import each other, `upward_imports` imports against the table of tests/unit/test_layers.py. `longest_chain` counts
packages along the longest way of imports from one to the next, `longest_module_chain` modules. A function's length is from its
`def` to its last line, its parameters all that it takes but `self` and `cls`. `private_reaches` are uses of a name that begins
with an underscore where another module, or a private module of another package, has it. `files_to_add` adds a file of each kind
to a copy of the repository and counts the other files that the copy's tests then ask for (see `_house_entries.py`).

    python benchmarks/house.py [--out benchmarks/results/house.json]
"""

from __future__ import annotations

import argparse
import ast
import datetime
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "unit"))

from _house_entries import ADDITIONS, Copy
from import_graph import PACKAGE, circles, longest_chain, module_name, package_imports
from test_layers import PLACE

Function = ast.FunctionDef | ast.AsyncFunctionDef


def main() -> None:
    """Count, print, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "house.json")
    options = parser.parse_args()
    result = {
        "benchmark": "house",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "how": " ".join((__doc__ or "").split("\n\n    python")[0].split()),
        **plan(),
        **sizes(),
        **additions(),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    for name, value in result.items():
        if name not in ("how", "additions"):
            print(f"{name:<22}{value if not isinstance(value, list) else len(value)}")


def plan() -> dict[str, Any]:
    """How the modules stand to each other."""
    edges = package_imports()
    across = [edge for edge in edges if edge.own != edge.other and edge.own in PLACE]
    packages = [path for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()]
    groups = circles()
    upward = [str(edge) for edge in across if PLACE[edge.other] >= PLACE[edge.own]]
    ways = [(edge.own, edge.other) for edge in across if PLACE[edge.other] < PLACE[edge.own]]
    modules = [] if groups else longest_chain((edge.importer, edge.imported) for edge in edges)
    return {
        "packages": len(packages),
        "flat_modules": len([path for path in PACKAGE.glob("*.py") if path.stem not in ("__init__", "__main__")]),
        "circles": len(groups),
        "upward_imports": len(upward),
        "longest_chain": len(chain := longest_chain(ways)),
        "chain": chain,
        "longest_module_chain": len(modules) if modules else None,
        "module_chain": modules,
        "in_circles": groups,
        "upward": upward,
    }


def sizes() -> dict[str, Any]:
    """How large what stands in the modules is, and who takes what is private to another."""
    trees = {path: ast.parse(path.read_text("utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}
    lines = {path: len(path.read_text("utf-8").splitlines()) for path in trees}
    functions = [(path, node) for path, tree in trees.items() for node in ast.walk(tree) if isinstance(node, Function)]
    largest = max(lines, key=lambda path: lines[path])
    longest_path, longest = max(functions, key=lambda pair: _length(pair[1]))
    widest_path, widest = max(functions, key=lambda pair: _parameters(pair[1]))
    mutations = [path for path in trees if path.is_relative_to(PACKAGE / "mutations") and not path.name.startswith("_")]
    reaches = sorted(private_reaches(trees))
    return {
        "modules": len(trees),
        "functions": len(functions),
        "largest_module": {"lines": lines[largest], "module": module_name(largest)},
        "longest_function": {"lines": _length(longest), "function": f"{module_name(longest_path)}.{longest.name}"},
        "most_parameters": {"parameters": _parameters(widest), "function": f"{module_name(widest_path)}.{widest.name}"},
        "lines": sum(lines.values()),
        "mutation_files": len(mutations),
        "private_reaches": len(reaches),
        "reaches": reaches,
    }


def additions() -> dict[str, Any]:
    """What one entry more of each kind touches, tried in a copy."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Copy(Path(folder))
        changes = {addition.kind: copy.touched(addition) for addition in ADDITIONS}
    return {
        "files_to_add": {kind: change.files for kind, change in changes.items()},
        "additions": {kind: change.as_json() for kind, change in changes.items()},
    }


def private_reaches(trees: dict[Path, ast.Module]) -> Iterator[str]:
    """Where a module takes a private name of another, by import or as an attribute."""
    for edge in package_imports():
        is_module = edge.imported.rpartition(".")[2] == edge.name
        if _is_private(edge.name) and not (is_module and _package(edge.imported) == _package(edge.importer)):
            yield f"{edge.file.relative_to(PACKAGE)}:{edge.line}: {edge.name} of {edge.imported}"
    owned = {path: set(_private_names(tree)) for path, tree in trees.items()}
    ours = set().union(*owned.values())
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr in ours - owned[path] and not _is_self(node.value):
                yield f"{path.relative_to(PACKAGE)}:{node.lineno}: {ast.unparse(node)}"


def _private_names(tree: ast.Module) -> Iterator[str]:
    """The private functions, classes, fields and variables that a module makes."""
    for node in ast.walk(tree):
        if isinstance(node, Function | ast.ClassDef) and _is_private(node.name):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and _is_private(node.id):
            yield node.id
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and _is_private(node.attr)
            and _is_self(node.value)
        ):
            yield node.attr


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and not name.endswith("_")


def _is_self(node: ast.expr) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id == "super"
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def _package(module: str) -> str:
    return module.partition(".")[0]


def _length(node: Function) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _parameters(node: Function) -> int:
    given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    more = [argument for argument in (node.args.vararg, node.args.kwarg) if argument]
    return len([argument for argument in given if argument.arg not in ("self", "cls")]) + len(more)


if __name__ == "__main__":
    main()
