"""The structure is what its page says, and keeps its laws."""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "transformers", "llama_cpp", "onnxruntime", "vllm"}
PURE = ("band", "cell", "compare", "judge", "rowstats", "rowkernel", "scope", "waiver")
"""Modules that compute a verdict: none of them may reach an engine, a file of a run or a terminal."""


def _load() -> Any:
    spec = importlib.util.spec_from_file_location("import_map", ROOT / "docs/import_map.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["import_map"] = module
    spec.loader.exec_module(module)
    return module


import_map = _load()


def test_the_page_has_the_map() -> None:
    text = import_map.PAGE.read_text("utf-8")
    assert import_map.page(text) == text, "run `python docs/import_map.py`"


@pytest.mark.parametrize("name", PURE)
def test_what_judges_reaches_no_engine(name: str) -> None:
    seen, todo = set(), [name]
    while todo:
        module = todo.pop()
        if module not in seen:
            seen.add(module)
            todo += import_map.imports()[module]
    assert not seen & {"worker", "run", "check", "workspace", "cli", "commands", "reporters", "progress"}


def test_nothing_of_the_library_imports_the_command_line() -> None:
    users = {name for name, used in import_map.imports().items() if used & {"cli", "commands"}}
    assert users <= {"commands"}


def test_reporters_only_render() -> None:
    assert not import_map.imports()["reporters"] & {"worker", "run", "check", "plan", "workspace"} - {"plan"}


def test_frameworks_are_imported_where_engines_live_and_nowhere_else() -> None:
    """A heavy import at the top of a core module would be paid by every command."""
    allowed = {"engines", "mutations"}
    heavy = {
        f"{path.relative_to(import_map.PACKAGE)}: {name}"
        for path in import_map.PACKAGE.rglob("*.py")
        if path.relative_to(import_map.PACKAGE).parts[0] not in allowed
        for name in _imported_at_the_top(path)
        if name in HEAVY
    }
    assert not heavy


def _imported_at_the_top(path: Path) -> set[str]:
    names = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names
