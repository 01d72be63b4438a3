"""What the command line and the package offer is documented, and the page of commands is what they say of themselves."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

import logitproof
from logitproof.cli import COMMANDS, main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def script(module_of: Callable[[Path], Any]) -> Any:
    return module_of(ROOT / "docs/commands_table.py")


def test_the_page_of_commands_is_current(script: Any) -> None:
    assert (ROOT / "docs/commands.md").read_text("utf-8") == script.page(), "run `python docs/commands_table.py`"


def test_every_command_and_every_option_has_help(script: Any) -> None:
    every = dict(script.commands())
    bare = [name for name, command in every.items() if not (command.help or "").strip()]
    options = [
        (name, option) for name, command in every.items() for option in command.params if isinstance(option, click.Option)
    ]
    bare += [f"{name} {option.opts[0]}" for name, option in options if not option.help]
    assert len(every) >= len(main.list_commands(click.Context(main))) and options
    assert not bare


def test_every_command_has_its_row_of_exit_codes(script: Any) -> None:
    assert set(script.EXITS) == set(dict(script.commands()))
    assert all(passed for passed, _, _ in script.EXITS.values())


@pytest.mark.parametrize("path", sorted(COMMANDS.glob("[!_]*.py")), ids=lambda path: path.stem)
def test_an_exit_code_that_a_command_ends_with_is_in_the_table(path: Path, script: Any) -> None:
    """Every number that stands in a `sys.exit` of the file has its meaning in a row of the command."""
    calls = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
    exits = [node for node in calls if ast.unparse(node.func) == "sys.exit"]
    codes = {number.value for call in exits for number in _outcomes(call.args[0]) if isinstance(number.value, int)}
    rows = [name for name in script.EXITS if name.split()[0] == path.stem.replace("_", "-")]
    assert rows
    for code in codes - {0}:
        meanings = [script.TWO.get(name) if code == 2 else script.EXITS[name][1 if code == 1 else 2] for name in rows]
        assert any(meanings), f"{path.stem} ends with {code}, which no row of the table has"


def _outcomes(expression: ast.expr) -> list[ast.Constant]:
    """The constants that an expression can come to."""
    if isinstance(expression, ast.IfExp):
        return [*_outcomes(expression.body), *_outcomes(expression.orelse)]
    return [expression] if isinstance(expression, ast.Constant) else []


@pytest.mark.parametrize("group", [(), ("engines",), ("mutations",), ("protocol",), ("suite",)])
def test_what_a_command_does_fits_its_line(group: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(main, [*group, "--help"], terminal_width=80, prog_name="logitproof")
    assert shown.exit_code == 0
    listed = shown.output.partition("Commands:\n")[2].splitlines()
    assert listed and not [line for line in listed if "..." in line or not line.startswith("  ") or line.startswith("    ")]


def test_the_public_face_is_small_and_documented() -> None:
    assert 10 < len(logitproof.__all__) <= 25
    assert logitproof.__all__ == sorted(set(logitproof.__all__)) == dir(logitproof)
    for name in logitproof.__all__:
        value = getattr(logitproof, name)
        assert inspect.isclass(value) or inspect.isfunction(value), name
        assert (value.__doc__ or "").strip() and not (value.__doc__ or "").startswith(f"{name}("), f"{name} has no docstring"


def test_what_is_not_in_the_face_is_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        logitproof.nothing  # noqa: B018
