"""What one error quotes of another is one line in our words: no remedy within a text, no exception of Python."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner

from logitproof.cli import main
from logitproof.errors import ContractError
from logitproof.files.causes import cause_of
from logitproof.report import schema

SOURCE = Path(__file__).parents[2] / "src/logitproof"
OWN = {"LogitproofError", "ContractError", "ModelError", "EngineError", "EngineGarbage", "EnvironmentFailed"}
RAW = {"KeyError", "TypeError", "AttributeError", "IndexError", "LookupError"}
QUOTING = ("engines", "diagnosis", "parity.py", "cli.py", "weights/adapter.py", "files/yaml_text.py", "gguf/tensors.py")
"""Where what a program or a library says of itself is quoted, or where the whole error is what is shown."""


def raise_(error: Exception) -> Any:
    raise error


CAUSES: dict[str, tuple[Any, str]] = {
    "one of ours": (lambda: raise_(ContractError("is cut off", where="a.json", remedy="fetch it")), "a.json: is cut off"),
    "a key": (lambda: {}["gates"], "it has no 'gates'"),
    "a key that is a number": (lambda: {}[14], "14 is not known"),
    "a type": (lambda: len(5), "a value in it is of another type than it must be"),  # type: ignore[arg-type]
    "an index": (lambda: np.zeros((2, 3))[:, [7]], "there are fewer entries than an index names"),
    "a shape": (lambda: np.zeros(12).reshape(5, 2), "12 numbers do not fill the shape (5,2)"),
    "axes": (lambda: np.zeros((2, 3)).transpose(0, 1, 2), "it has other axes than are named"),
    "a file": (lambda: open("/gone/away"), "it is not there"),  # noqa: SIM115
    "bytes": (lambda: b"ab\xff".decode(), "byte 2 is not UTF-8 text"),
    "a number": (lambda: 1 / 0, "a number in it is too large, or nothing where it must not be"),
    "a sentence": (lambda: raise_(ValueError("the\nend")), "the end"),
}


@pytest.mark.parametrize("name", CAUSES)
def test_a_cause_is_one_line_in_our_words(name: str) -> None:
    act, words = CAUSES[name]
    with pytest.raises(Exception) as raised:
        act()
    assert cause_of(raised.value) == words


def test_no_text_quotes_an_exception_as_it_is() -> None:
    raw = []
    for path in SOURCE.rglob("*.py"):
        if str(path.relative_to(SOURCE)).startswith(QUOTING):
            continue
        for handler in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(handler, ast.ExceptHandler) and handler.name and handler.type is not None:
                caught = {node.id for node in ast.walk(handler.type) if isinstance(node, ast.Name)}
                if caught & (OWN | RAW):
                    raw += [f"{path}:{node.lineno}" for node in ast.walk(handler) if is_quoted(node, handler.name)]
    assert not raw, f"say {{cause_of(error)}}: {raw}"


def is_quoted(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.FormattedValue) and isinstance(node.value, ast.Name) and node.value.id == name


REFUSED: dict[str, tuple[list[str], int]] = {
    "a file that is not there": (["check", "gone.yaml", "--json"], 2),
    "an option with a typo": (["check", "toys.parity.yaml", "--jsn", "--json"], 2),
    "no argument": (["judge", "--json"], 2),
    "a run that is none": (["judge", ".", "--json"], 2),
    "a command of a group": (["history", "compare", "a", "b", "--json"], 2),
    "many faults": (["check", "wrong.yaml", "--json"], 2),
    "a cell that is not there": (["check", "toys.parity.yaml", "--only", "zzz", "--json"], 2),
    "an engine that is none": (["acid", "nosuch", "--json"], 2),
    "files of no format": (["compare", "toy.json", "suite.yaml", "--json"], 2),
    "catalogues": (["list", "nosuch", "--json"], 2),
}


@pytest.mark.parametrize("name", REFUSED)
def test_whoever_asks_for_json_gets_one_envelope_of_a_refusal_too(project: Any, monkeypatch: Any, name: str) -> None:
    words, code = REFUSED[name]
    monkeypatch.chdir(project.folder)
    project.contract()
    project.write("wrong.yaml", {"contract": "x", "candidates": {}, "gates": 5})
    done = CliRunner().invoke(main, words)
    assert done.exit_code == code and done.stderr.strip(), "people are told as before"
    answer = json.loads(done.stdout)
    jsonschema.Draft202012Validator(json.loads(schema.path("error").read_text("utf-8"))).validate(answer)
    assert answer["kind"] == "error" and answer["exit_code"] == code and answer["faults"]
    assert len(answer["faults"]) > 3 if name == "many faults" else len(answer["faults"]) == 1
    assert all(fault["text"] and fault["remedy"] and "remedy:" not in fault["text"] for fault in answer["faults"]), answer


def test_without_it_nothing_stands_on_stdout(project: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(project.folder)
    for words in (
        ["check", "gone.yaml"],
        ["protocol", "test", "nosuch", "--json", "out.json"],
        ["history", "bisect", "x", "--", "--json"],
    ):
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 2 and done.stdout == "", words


@pytest.mark.parametrize(
    "words",
    [["freeze", "toys.parity.yaml", "--out", "toy.json/x"], ["pin", "toys.parity.yaml", "--out", "toy.json/x.pins.yaml"]],
)
def test_a_file_where_a_folder_must_be_is_named_with_what_to_do(project: Any, monkeypatch: Any, words: list[str]) -> None:
    monkeypatch.chdir(project.folder)
    project.contract()
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 3 and "toy.json" in done.stderr and "take away what is in the way" in done.stderr
    assert "file" in done.stderr and "see what the system says" not in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["check", "toys.parity.yaml", "--out", ""],
        ["check", "toys.parity.yaml", "--out="],
        ["check", ""],
        ["judge", ""],
        ["lint", "toys.parity.yaml", ""],
        ["convert", "toy.json", ""],
        ["history", "bisect", "", "--good", "a", "--bad", "b", "--", "true", ""],
    ],
    ids=" ".join,
)
def test_a_path_that_is_an_empty_text_is_not_the_folder_here(project: Any, monkeypatch: Any, words: list[str]) -> None:
    monkeypatch.chdir(project.folder)
    project.contract()
    before = sorted(project.folder.iterdir())
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2 and "empty text" in done.stderr and sorted(project.folder.iterdir()) == before


def test_an_empty_text_that_is_no_path_is_taken() -> None:
    done = CliRunner().invoke(main, ["lint", "gone.yaml", "--json"])
    assert "empty text" not in CliRunner().invoke(main, ["check", "gone.yaml", "--only", ""]).stderr and done.exit_code == 2
