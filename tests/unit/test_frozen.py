"""What is judged cannot be changed afterwards: every noun of the packages that judge is frozen."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import logitproof

PACKAGE = Path(logitproof.__file__).parent
FOLDERS = ("verdict", "bands", "contract", "comparison", "calibration", "rows")
MODULES = [
    path for folder in FOLDERS for path in sorted((PACKAGE / folder).glob("*.py")) if "@dataclass" in path.read_text("utf-8")
]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_noun_is_frozen(path: Path) -> None:
    """Read from the source, since a module may load what takes seconds."""
    tree = ast.parse(path.read_text("utf-8"))
    made = [word for noun in ast.walk(tree) if isinstance(noun, ast.ClassDef) for word in noun.decorator_list]
    words = [ast.unparse(word) for word in made if "dataclass" in ast.unparse(word)]
    assert words
    assert all("frozen=True" in word for word in words), words
