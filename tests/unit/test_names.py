"""A value is called by the noun of what it holds, never by a pronoun or a participle that stands for anything.

Loop variables, functions and imports among them. What needs a name of its own has a noun, or a verb if it is a function.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest
from import_graph import PACKAGE

PRONOUNS = frozenset({
    "one", "found", "said", "told", "theirs", "ours", "other", "mine", "each", "another", "both", "either", "neither", "some",
    "something", "anything", "everything", "it", "them", "this", "that", "these", "those",
})  # fmt: skip


def bound_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of all that a statement, loop, comprehension, `with`, `except`, `case`, parameter, `def` or import binds.

    Fields of a class are not among them: files and callers know them by name.
    """
    bodies = [node.body for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    fields = {id(field.target) for body in bodies for field in body if isinstance(field, ast.AnnAssign)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and id(node) not in fields:
            yield node.lineno, node.id
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((node.lineno, (alias.asname or alias.name).partition(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            yield node.lineno, node.name


def pronouns() -> Iterator[str]:
    """Place of every pronoun that is bound."""
    for path in [*sorted(PACKAGE.rglob("*.py")), PACKAGE.parent / "logitproof_pytest.py"]:
        for line, name in bound_names(ast.parse(path.read_text("utf-8"))):
            if name.lstrip("_") in PRONOUNS:
                yield f"{path.relative_to(PACKAGE.parent)}:{line}: {name}"


def test_no_value_is_called_by_a_pronoun() -> None:
    assert [*pronouns()] == []


@pytest.mark.parametrize(
    "statement",
    [
        "one = 1",
        "one: int = 1",
        "one += 1",
        "for one in (): pass",
        "for n, (one, m) in (): pass",
        "names = [one for one in ()]",
        "names = {one: n for n, one in ()}",
        "if one := 1: pass",
        "with open('') as one: pass",
        "def f(one): pass",
        "def f(*, one=1): pass",
        "key = lambda one: 1",
        "try: pass\nexcept OSError as one: pass",
        "match 1:\n    case int() as one: pass",
        "match ():\n    case [_, *one]: pass",
        "class C:\n    def f(self, one): pass",
        "def one(): pass",
        "async def one(): pass",
        "class C:\n    def one(self): pass",
        "import one",
        "import numbers as one",
        "import one.two",
        "from numbers import one",
    ],
)
def test_every_way_to_bind_a_name_is_seen(statement: str) -> None:
    assert "one" in [name for _, name in bound_names(ast.parse(statement))]


@pytest.mark.parametrize("statement", ["class C:\n    one: int = 1", "C.one = 1", "print(one)", "f(one=1)", "text = 'one'"])
def test_a_field_and_a_use_bind_nothing(statement: str) -> None:
    assert "one" not in [name for _, name in bound_names(ast.parse(statement))]
