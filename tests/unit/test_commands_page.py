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
from logitproof.commands._exits import exits_of

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


def test_every_command_says_what_its_exit_codes_mean(script: Any) -> None:
    every = dict(script.commands())
    assert not [name for name, command in every.items() if exits_of(command) is None]
    for name, command in every.items():
        shown = CliRunner().invoke(command, ["--help"], terminal_width=200).output
        assert f"Exit codes: 0 {exits_of(command).passed}" in " ".join(shown.split()), name


@pytest.mark.parametrize("path", sorted(COMMANDS.glob("[!_]*.py")), ids=lambda path: path.stem)
def test_an_exit_code_that_a_command_ends_with_is_said(path: Path, script: Any) -> None:
    """Every number that stands in a `sys.exit` of the file has its meaning in an `ends_with` of a command of the file."""
    calls = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
    leaving = [node for node in calls if ast.unparse(node.func) == "sys.exit"]
    codes = {number.value for call in leaving for number in _outcomes(call.args[0]) if isinstance(number.value, int)}
    own = [command for name, command in script.commands() if name.split()[0] == path.stem.replace("_", "-")]
    known = [exits for command in own if (exits := exits_of(command)) is not None]
    assert known
    for code in codes - {0}:
        meanings = [{1: exits.failed, 2: exits.wrong, 3: exits.nothing}[code] for exits in known]
        assert any(meanings), f"{path.stem} ends with {code}, which none of its commands speaks of"


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
