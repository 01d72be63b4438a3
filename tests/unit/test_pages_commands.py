"""What a page shows is taken: every command by the command line, with its options, and every whole contract by its reader."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from logitproof.cli import main
from logitproof.contract.opened import read_contract

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "probes/README.md", "zoo/README.md")),
    *sorted(page for page in (ROOT / "docs").rglob("*.md") if page.name != "commands.md"),  # made from the commands themselves
    *sorted((ROOT / "examples").glob("*/README.md")),
]
BLOCK = re.compile(r"^ *```(?:console|sh|bash|)\n(.*?)^ *```$|((?:^ {4}\S.*\n)+)", re.MULTILINE | re.DOTALL)
ENDS = {"|", ">", ">>", "&&", ";", "&", "2>"}


def commands(text: str) -> Iterator[list[str]]:
    """The arguments of every line of a block that begins with `logitproof`."""
    for fenced, indented in BLOCK.findall(text):
        block = (fenced or indented).replace("\\\n", " ")
        for line in block.splitlines():
            words = line.strip().removeprefix("$ ")
            if words.startswith("logitproof "):
                yield arguments(words)


def arguments(line: str) -> list[str]:
    """The words behind `logitproof` up to a pipe; of `a|b` the first, of `[--option X]` what is inside."""
    taken = []
    for word in shlex.split(line, comments=True)[1:]:
        if word in ENDS:
            break
        bare = word if "=" in word or "{" in word else word.strip("[]")
        first = bare.split("|")[0] if re.fullmatch(r"[a-z|-]+", bare) else bare
        if first.strip(".…"):
            taken.append(first)
    return taken


def fault(words: list[str]) -> str:
    """What the command line says against these words, or nothing; files that they name need not be there."""
    command: click.Command = main
    context = click.Context(main, info_name="logitproof")
    rest = list(words)
    try:
        while isinstance(command, click.Group):
            below = command.get_command(context, rest[0]) if rest else None
            if below is None:
                return f"no command is called {' '.join(rest[:1])!r}"
            command, context, rest = below, click.Context(below, info_name=rest[0], parent=context), rest[1:]
        given, left, _ = command.make_parser(context).parse_args(list(rest))
    except click.UsageError as error:
        return error.message
    lacks = [
        parameter.name
        for parameter in command.params
        if isinstance(parameter, click.Argument)
        and parameter.required
        and parameter.value_is_missing(given.get(parameter.name or ""))
    ]
    return f"too many words: {left}" if left else f"lacks {lacks}" if lacks else ""


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_every_command_of_a_page_is_one_that_there_is(page: Path) -> None:
    wrong = [f"logitproof {' '.join(words)}: {text}" for words in commands(page.read_text("utf-8")) if (text := fault(words))]
    assert not wrong, "\n".join(wrong)


def test_the_pages_show_many_commands() -> None:
    shown = [words for page in PAGES for words in commands(page.read_text("utf-8"))]
    assert len(shown) > 60 and len({words[0] for words in shown}) > 15


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("logitproof chek my.yaml", "chek"),
        ("logitproof check my.yaml --paralel 2", "paralel"),
        ("logitproof check my.yaml --out", "--out"),
        ("logitproof check", "lacks"),
        ("logitproof check a.yaml b.yaml c.yaml", "too many"),
        ("logitproof mutations lst", "no command"),
    ],
)
def test_a_command_that_there_is_not_is_found(line: str, word: str) -> None:
    assert word in fault(arguments(line))


@pytest.mark.parametrize(
    "line",
    [
        "logitproof check my.yaml --out runs | tee log  # a remark",
        "logitproof mutations list|show ID",
        "logitproof list engines",
    ],
)
def test_a_command_is_read_as_a_shell_reads_it(line: str) -> None:
    assert [*commands(f"```\n{line}\n```\n")] == [arguments(line)] and "no command" not in fault(arguments(line))


def contracts() -> list[tuple[str, str]]:
    """Page and text of every whole contract that a page shows."""
    pattern = re.compile(r"^```yaml\n(contract: .*?)^```$", re.MULTILINE | re.DOTALL)
    return [(str(page.relative_to(ROOT)), text) for page in PAGES for text in pattern.findall(page.read_text("utf-8"))]


@pytest.mark.parametrize("number", range(len(contracts())))
def test_every_whole_contract_of_a_page_is_read(number: int, tmp_path: Path) -> None:
    page, text = contracts()[number]
    path = tmp_path / "page.parity.yaml"
    path.write_text(text, "utf-8")
    contract = read_contract(path)[0]
    assert contract.gates and contract.candidates, page


def test_the_pages_show_whole_contracts() -> None:
    assert len(contracts()) >= 7 and len({page for page, _ in contracts()}) >= 6
